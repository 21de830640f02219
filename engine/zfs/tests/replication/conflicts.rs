//! What somebody has to decide: it is told, and nothing is changed by it.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use backstay_core::units::Timestamp;
use backstay_zfs::guid::{DatasetGuid, SnapshotGuid};
use backstay_zfs::name::{OwnSnapshot, SnapshotName};
use backstay_zfs::plan::Conflict;
use backstay_zfs::replicate::{Arriving, Holder, HolderError, LocalHolder, Outcome, Report};
use backstay_zfs::state::DatasetKind;
use backstay_zfs::zfs::{Form, Stream, Zfs};

use crate::world::{World, name};

fn begun() -> World {
    let mut world = World::new(11);
    world.write("tank/m/a", 1);
    world.snapshot();
    world.replicate_all();
    world.write("tank/m/a", 2);
    world.write("tank/m/b", 2);
    world.snapshot();
    world
}

fn conflict_of<'r>(report: &'r Report, member: &str) -> &'r Conflict {
    let outcome = report.members.iter().find(|(found, _)| found.as_str() == member);
    match outcome {
        Some((_, Outcome::Conflict(conflict))) => conflict,
        other => panic!("{member}: {other:?}"),
    }
}

/// That the other members are at their newest.
fn others_are_done(report: &Report, member: &str) {
    let mut others = report.members.iter().filter(|(found, _)| found.as_str() != member);
    assert!(others.all(|(_, outcome)| matches!(outcome, Outcome::Done)), "{report:?}");
}

#[test]
fn a_replica_with_a_snapshot_of_its_own_has_diverged() {
    let world = begun();
    let a = name("pool/held/m/a");
    let own = SnapshotName::new(&a, "mine").unwrap();
    world.holder.snapshot(&[own]).unwrap();
    let before = world.holder.list(&a).unwrap();
    let report = world.replicate();
    let conflict = conflict_of(&report, "tank/m/a");
    assert!(
        matches!(conflict, Conflict::Diverged { only_there, .. } if only_there == &["mine"]),
        "{conflict}"
    );
    others_are_done(&report, "tank/m/a");
    assert_eq!(world.holder.list(&a).unwrap(), before, "something was changed");
}

#[test]
fn a_replica_that_was_written_to_is_not_rolled_back() {
    let world = begun();
    let a = name("pool/held/m/a");
    world.holder.host().write(&a, 99, Some(1)).unwrap();
    let report = world.replicate();
    assert!(matches!(conflict_of(&report, "tank/m/a"), Conflict::Modified { .. }));
    others_are_done(&report, "tank/m/a");
    assert!(world.holder.host().get(&a).unwrap().blocks.contains_key(&99));
}

#[test]
fn a_replica_without_a_snapshot_in_common_is_not_overwritten() {
    let world = begun();
    world.source.host().release_all(&name("tank/m/a"));
    let set = world.source.host().get(&name("tank/m/a")).unwrap().clone();
    for shot in &set.snapshots {
        let shot = SnapshotName::new(&name("tank/m/a"), &shot.mark).unwrap();
        world.source.host().destroy_snapshot(&shot).unwrap();
    }
    world.source.host().get_mut(&name("tank/m/a")).unwrap().bookmarks.clear();
    world.snapshot_by_hand("tank/m/a@new");
    let report = world.replicate();
    assert!(matches!(conflict_of(&report, "tank/m/a"), Conflict::NothingInCommon { .. }));
    others_are_done(&report, "tank/m/a");
}

#[test]
fn what_is_nobodys_replica_is_in_the_way() {
    let mut world = World::new(12);
    world.holder.host().create(&name("pool/held/m")).unwrap();
    world.holder.host().create(&name("pool/held/m/a")).unwrap();
    world.holder.host().write(&name("pool/held/m/a"), 1, Some(1)).unwrap();
    world.snapshot();
    let report = world.replicate();
    assert!(matches!(conflict_of(&report, "tank/m/a"), Conflict::Occupied { .. }));
    assert!(matches!(conflict_of(&report, "tank/m"), Conflict::Occupied { .. }));
}

#[test]
fn a_replica_that_was_received_unencrypted_is_not_continued_raw() {
    let world = begun();
    world.source.host().get_mut(&name("tank/m/a")).unwrap().is_encrypted = true;
    let report = world.replicate();
    assert!(matches!(conflict_of(&report, "tank/m/a"), Conflict::NotRaw { .. }));
}

/// What a sender that lies could have received.
#[test]
fn a_stream_of_another_snapshot_than_was_said_is_refused_before_anything_of_it_is_received() {
    let world = begun();
    let source = name("tank/m/b");
    let newest = world.source.list(&source).unwrap()[0].newest().unwrap().clone();
    let snapshot = SnapshotName::new(&source, &newest.mark).unwrap();
    let stream = Stream { snapshot, base: None, form: Form::Plain, resume: None, held_by: None };
    let bytes = world.source.host().stream(&stream).unwrap();
    let clock = || Timestamp::EPOCH;
    let holder = LocalHolder::new(Arc::new(world.holder.clone()), world.place(), clock);
    let arriving = Arriving {
        member: DatasetGuid(1),
        replica: name("pool/held/m/lie"),
        mark: newest.mark,
        guid: newest.guid,
        form: Form::Plain,
        makes: Some((DatasetKind::Filesystem, None)),
    };
    let lies = [
        Arriving { guid: SnapshotGuid(newest.guid.0 + 1), ..arriving.clone() },
        Arriving { form: Form::Raw, ..arriving.clone() },
    ];
    for lie in lies {
        let refused = holder.receive(&lie).unwrap().write_all(&bytes);
        assert!(refused.is_err_and(|error| error.kind() == ErrorKind::InvalidData));
        assert!(world.holder.list(&lie.replica).unwrap().is_empty());
    }
    for outside in ["pool/held/other", "pool/held", "pool/held/mm"] {
        let outside = Arriving { replica: name(outside), ..arriving.clone() };
        assert!(matches!(holder.receive(&outside), Err(HolderError::Refused(_))));
    }
    let mut receiving = holder.receive(&arriving).unwrap();
    receiving.write_all(&bytes).unwrap();
    receiving.finish().unwrap();
}

/// What a source that lies could have the replica go on from.
#[test]
fn a_set_that_is_not_there_is_not_noted_as_complete() {
    let world = begun();
    let holder = LocalHolder::new(Arc::new(world.holder.clone()), world.place(), || Timestamp::EPOCH);
    let lie = OwnSnapshot { at: Timestamp::from_seconds(1_795_000_000), set: 99 };
    assert!(matches!(holder.complete(lie), Err(HolderError::Refused(_))));
    let there = OwnSnapshot::parse(&world.holder.list(&world.place()).unwrap()[0].snapshots[0].mark).unwrap();
    holder.complete(there).unwrap();
}

/// zrepl #484: what is wrong with one dataset delays the others.
#[test]
fn a_change_that_is_refused_keeps_only_whom_it_concerns() {
    let mut world = begun();
    world.source.host().release_all(&name("tank/m/a"));
    world.source.host().destroy(&name("tank/m/a")).unwrap();
    world.source.host().create(&name("tank/m/a")).unwrap();
    world.write("tank/m/b", 5);
    world.snapshot();
    // Nothing can be renamed to where it would be set aside.
    world.holder.host().is_full_of_names = true;
    let report = world.replicate();
    assert_eq!(report.undone.len(), 1, "{report:?}");
    others_are_done(&report, "tank/m/a");
    world.holder.host().is_full_of_names = false;
    world.replicate_all();
}

#[test]
fn a_pool_that_is_full_is_told_and_goes_on_when_there_is_room() {
    let world = begun();
    world.holder.host().room_bytes = 0;
    let report = world.replicate();
    let failed = report.members.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).count();
    assert_eq!(failed, 2, "{report:?}");
    let told = report.members.iter().map(|(_, outcome)| outcome.to_string()).collect::<String>();
    assert!(told.contains("make room"), "{told}");
    world.holder.host().room_bytes = u64::MAX;
    world.replicate_all();
}
