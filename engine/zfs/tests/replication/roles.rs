//! A replica takes over, and what was the source comes back as its replica.

use backstay_core::units::Timestamp;
use backstay_zfs::error::ZfsError;
use backstay_zfs::name::{FlowTarget, OwnSnapshot, SnapshotName};
use backstay_zfs::replicate::{
    LocalHolder, Outcome, Progress, ReplicateError, Replication, Report, replicate,
};
use backstay_zfs::role::{MountAt, RoleError, activate, yield_to};
use backstay_zfs::zfs::Zfs;

use crate::dying::{Dying, Life};
use crate::world::{World, contents, name};

/// Replicated once, and then in part again: the set is not whole there, and the source has written since.
fn broken_off_after() -> (World, OwnSnapshot) {
    for things in 0.. {
        let mut world = World::new(31);
        world.write("tank/m/a", 1);
        let whole = world.snapshot();
        world.replicate_all();
        (0..5).for_each(|block| world.write("tank/m/a", block));
        world.write("tank/m/b/c", 9);
        world.snapshot();
        let _ = world.try_replicate(Life::of(things));
        world.write("tank/m/b/c", 10);
        let replicas = world.holder.list(&world.place()).unwrap();
        let newer = replicas.iter().filter(|replica| replica.snapshots.len() > 1).count();
        if newer > 0 && newer < replicas.len() {
            return (world, whole);
        }
    }
    unreachable!("a run has an end")
}

fn at() -> MountAt {
    MountAt::Path("/srv/m".into())
}

#[test]
fn a_replica_becomes_writable_at_its_newest_complete_set_and_nothing_of_what_came_after_is_lost() {
    let (world, whole) = broken_off_after();
    let newer = world.holder.list(&world.place()).unwrap();
    let newer = newer.iter().find(|replica| replica.snapshots.len() > 1).unwrap();
    let (last, below) = (newer.newest().unwrap().clone(), newer.name.clone());
    let before = contents(&world.holder.host(), &SnapshotName::new(&below, &last.mark).unwrap());

    let activated = activate(&world.holder, &world.place(), &at()).unwrap();

    assert_eq!((activated.set, activated.mounted.len()), (whole, 4));
    for replica in world.holder.list(&world.place()).unwrap() {
        assert_eq!(replica.newest().unwrap().mark, whole.to_string(), "{}", replica.name);
        assert!(replica.is_mounted);
        assert_eq!(world.holder.host().get(&replica.name).unwrap().native.get("readonly").unwrap(), "off");
    }
    let aside = world.holder.list(&activated.kept.unwrap()).unwrap();
    let kept = aside.iter().find(|dataset| dataset.snapshot(last.guid).is_some()).unwrap();
    assert_eq!(contents(&world.holder.host(), &SnapshotName::new(&kept.name, &last.mark).unwrap()), before);
}

#[test]
fn nothing_is_received_any_more_where_a_replica_is_active() {
    let (mut world, _) = broken_off_after();
    activate(&world.holder, &world.place(), &at()).unwrap();
    world.snapshot();
    match world.try_replicate(Life::of(i64::MAX)) {
        Err(ReplicateError::Holder(error)) => assert!(error.to_string().contains("active"), "{error}"),
        Ok(report) => {
            let failed = report.members.iter().filter(|(_, outcome)| !matches!(outcome, Outcome::Done));
            assert!(failed.count() > 0, "{report:?}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_replica_that_has_never_been_whole_is_not_activated() {
    let mut world = World::new(32);
    world.snapshot();
    let died = world.try_replicate(Life::of(14));
    assert!(died.is_err() || !died.unwrap().is_done());
    let refused = activate(&world.holder, &world.place(), &at());
    assert!(matches!(refused, Err(RoleError::NothingComplete(_) | RoleError::NotThere(_))), "{refused:?}");
}

/// The other way round: from what was the replica to what was the source.
fn replicate_back(world: &World) -> Result<Report, ReplicateError> {
    let what = Replication {
        root: world.place(),
        target: FlowTarget::Replica("one".to_owned()),
        ..world.what.clone()
    };
    let clock = || Timestamp::from_seconds(1_800_000_000);
    let holder = LocalHolder::new(std::sync::Arc::new(world.source.clone()), world.what.root.clone(), clock);
    replicate(&world.holder, &holder, &what, &Progress::default())
}

fn assert_came_back(world: &World, report: &Report) {
    assert!(report.is_done(), "{report:?}");
    for primary in world.holder.list(&world.place()).unwrap() {
        let back = match primary.name.below(&world.place()).unwrap() {
            "" => name("tank/m"),
            below => name("tank/m").join(below).unwrap(),
        };
        let back = world.source.list(&back).unwrap().remove(0);
        let (here, there) = (primary.newest().unwrap(), back.newest().unwrap());
        assert_eq!(here.guid, there.guid, "{}", back.name);
        let of = |zfs: &crate::model::ModelZfs, name, mark: &str| {
            contents(&zfs.host(), &SnapshotName::new(name, mark).unwrap())
        };
        assert_eq!(of(&world.holder, &primary.name, &here.mark), of(&world.source, &back.name, &there.mark));
        assert!(!back.is_mounted);
    }
}

/// Writes on the activated side and takes a set there.
fn go_on(world: &World) {
    let a = world.place().join("a").unwrap();
    (20..24).for_each(|block| world.holder.host().write(&a, block, Some(block)).unwrap());
    let own = OwnSnapshot { at: Timestamp::from_seconds(1_799_000_000), set: 77 };
    let members = world.holder.list(&world.place()).unwrap();
    let names: Vec<_> = members.iter().map(|member| own.of(&member.name).unwrap()).collect();
    world.holder.snapshot(&names).unwrap();
}

#[test]
fn what_was_the_source_comes_back_as_replica_without_a_full_send_and_keeps_what_was_never_sent() {
    let (world, whole) = broken_off_after();
    activate(&world.holder, &world.place(), &at()).unwrap();
    go_on(&world);
    let unsent = world.source.host().get(&name("tank/m/b/c")).unwrap().blocks.clone();

    let yielded = yield_to(&world.source, &name("tank/m"), whole).unwrap();
    let report = replicate_back(&world).unwrap();

    assert_came_back(&world, &report);
    assert!(report.sent_bytes < 3000, "{} bytes: fulls were sent", report.sent_bytes);
    // Once more, when what is newer than the set has come from the other side.
    let before = world.source.list(&name("tank/m")).unwrap();
    assert_eq!(yield_to(&world.source, &name("tank/m"), whole).unwrap().kept, None);
    assert_eq!(world.source.list(&name("tank/m")).unwrap(), before);
    let kept = yielded.kept.unwrap().join("b/c").unwrap();
    let kept = world.source.list(&kept).unwrap().remove(0);
    let newest = SnapshotName::new(&kept.name, &kept.newest().unwrap().mark).unwrap();
    let expected = unsent.iter().filter_map(|(block, found)| Some((*block, found.value?))).collect();
    assert_eq!(contents(&world.source.host(), &newest), expected);
}

#[test]
fn where_nothing_was_written_since_nothing_is_set_aside() {
    let mut world = World::new(33);
    world.write("tank/m/a", 1);
    let whole = world.snapshot();
    world.replicate_all();
    assert_eq!(activate(&world.holder, &world.place(), &at()).unwrap().kept, None);
    go_on(&world);
    assert_eq!(yield_to(&world.source, &name("tank/m"), whole).unwrap().kept, None);
    assert_came_back(&world, &replicate_back(&world).unwrap());
}

#[test]
fn a_death_at_any_step_of_taking_over_and_of_coming_back_is_repaired_by_doing_it_again() {
    for things in 0.. {
        let (world, whole) = broken_off_after();
        let life = Life::of(things);
        let dying = |zfs: &crate::model::ModelZfs| Dying { zfs: zfs.clone(), life: life.clone() };
        let died = |outcome: Result<(), RoleError>| match outcome {
            Ok(()) => false,
            Err(RoleError::Zfs(ZfsError::Worker { .. })) => true,
            Err(error) => panic!("after {things}: {error}"),
        };
        let take_over = |zfs: &dyn Zfs| activate(zfs, &world.place(), &at()).map(drop);
        let come_back = |zfs: &dyn Zfs| yield_to(zfs, &name("tank/m"), whole).map(drop);
        if died(take_over(&dying(&world.holder))) {
            if world.holder.list(&world.place()).unwrap().is_empty() {
                // Its name is free for a moment, and not for whoever sent to it before.
                let report = world.try_replicate(Life::of(i64::MAX));
                assert!(report.is_err() || !report.unwrap().is_done());
                assert!(world.holder.list(&world.place()).unwrap().is_empty());
            }
            assert!(!died(take_over(&world.holder)));
        }
        go_on(&world);
        if died(come_back(&dying(&world.source))) {
            assert!(!died(come_back(&world.source)));
        }
        assert_came_back(&world, &replicate_back(&world).unwrap());
        if !life.is_over() {
            assert!(things > 60, "only {things} things were done: something is not counted");
            return;
        }
    }
}
