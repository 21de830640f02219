//! Random histories: whatever happens to the datasets of a source and to the process, the next run that is left alone ends with everything alike.

use backstay_zfs::name::SnapshotName;
use backstay_zfs::plan::Snapshots;
use backstay_zfs::zfs::Zfs;

use crate::dying::Life;
use crate::world::{World, name};

const SEEDS: u64 = 300;
const STEPS: u64 = 40;

#[test]
fn whatever_happens_the_next_run_ends_with_everything_alike() {
    let seeds = match std::env::var("BACKSTAY_ZFS_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let told = std::panic::catch_unwind(|| history(seed));
        if let Err(panic) = told {
            eprintln!("BACKSTAY_ZFS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn history(seed: u64) {
    let mut world = World::new(seed);
    if seed % 2 == 1 {
        world.what.select = Snapshots::Newest;
    }
    world.what.at_once = 1 + usize::try_from(seed % 3).unwrap();
    for step in 0..STEPS {
        happen(&mut world, step);
    }
    world.snapshot();
    world.replicate_all();
    assert_eq!(world.replicate_all().sent_bytes, 0);
}

fn happen(world: &mut World, step: u64) {
    let (what, which, number) = {
        let mut host = world.source.host();
        (host.draw() % 100, host.draw(), host.draw())
    };
    let members = world.source.list(&name("tank/m")).unwrap();
    let member = &members[which as usize % members.len()];
    match what {
        0..30 => world.write(member.name.as_str(), number % 16),
        30..50 => drop(world.snapshot()),
        50..55 => {
            let mark = format!("by-hand-{step}");
            world.source.snapshot(&[SnapshotName::new(&member.name, &mark).unwrap()]).unwrap();
        }
        55..62 => {
            let by_age: Vec<_> = member.snapshots.iter().collect();
            if let Some(shot) = by_age.get(number as usize % by_age.len().max(1)) {
                let shot = SnapshotName::new(&member.name, &shot.mark).unwrap();
                let _ = world.source.destroy_snapshots(&[shot]);
            }
        }
        62..66 => {
            let new = member.name.join(&format!("n{step}")).unwrap();
            if members.len() < 10 {
                world.source.host().create(&new).unwrap();
            }
        }
        66..70 if member.name != name("tank/m") => {
            let target = &members[number as usize % members.len()];
            if target.name.below(&member.name).is_none() {
                let to = target.name.join(&format!("r{step}")).unwrap();
                let _ = world.source.rename(&member.name, &to);
            }
        }
        70..74 if member.name != name("tank/m") => {
            let mut host = world.source.host();
            host.release_all(&member.name);
            if host.destroy(&member.name).is_ok() && number.is_multiple_of(2) {
                host.create(&member.name).unwrap();
            }
        }
        74..76 => {
            if let Some(shot) = member.newest() {
                let of = SnapshotName::new(&member.name, &shot.mark).unwrap();
                let clone = name("tank/m").join(&format!("c{step}")).unwrap();
                if members.len() < 10 {
                    world.source.clone_of(&of, &clone).unwrap();
                }
            }
        }
        76..92 => drop(world.try_replicate(Life::of((number % 150) as i64))),
        _ => drop(world.replicate()),
    }
}
