//! A process dies after each thing that it does, and the next one goes on from what stands on the pools.

use crate::dying::Life;
use crate::world::World;

/// After a death the next run ends with everything as it has to be. Says how many deaths there were.
fn die_everywhere(prepare: impl Fn(&mut World)) -> i64 {
    for things in 0.. {
        let mut world = World::new(1);
        prepare(&mut world);
        let life = Life::of(things);
        let outcome = world.try_replicate(life.clone());
        if !life.is_over() {
            assert!(outcome.unwrap().is_done());
            world.assert_alike();
            return things;
        }
        world.assert_never_lost();
        world.replicate_all();
    }
    unreachable!("a run has an end")
}

#[test]
fn a_death_at_any_step_of_a_first_replication_is_repaired_by_the_next_run() {
    let deaths = die_everywhere(|world| {
        (0..6).for_each(|block| world.write("tank/m/a", block));
        world.write("tank/m/b/c", 7);
        world.snapshot();
    });
    assert!(deaths > 60, "only {deaths} deaths: something is not counted");
}

#[test]
fn a_death_at_any_step_of_an_incremental_is_repaired_by_the_next_run() {
    let deaths = die_everywhere(|world| {
        world.write("tank/m/a", 1);
        world.snapshot();
        world.replicate_all();
        (0..6).for_each(|block| world.write("tank/m/a", block));
        world.snapshot();
        world.write("tank/m", 3);
        world.snapshot();
    });
    assert!(deaths > 60, "only {deaths} deaths: something is not counted");
}

#[test]
fn two_deaths_are_repaired_like_one() {
    for first in (5..60).step_by(7) {
        for second in (5..60).step_by(11) {
            let mut world = World::new(2);
            (0..6).for_each(|block| world.write("tank/m/a", block));
            world.snapshot();
            let _ = world.try_replicate(Life::of(first));
            world.write("tank/m/a", 2);
            world.snapshot();
            let _ = world.try_replicate(Life::of(second));
            world.replicate_all();
        }
    }
}
