//! What happens to datasets, and what becomes of their replicas.

use backstay_zfs::name::{OwnSnapshot, SnapshotName};
use backstay_zfs::plan::{Snapshots, member_of};
use backstay_zfs::replicate::{Outcome, ReplicateError};
use backstay_zfs::token::Token;
use backstay_zfs::zfs::Zfs;

use crate::dying::Life;
use crate::world::{World, contents, name};

fn begun() -> World {
    let mut world = World::new(5);
    (0..4).for_each(|block| world.write("tank/m/a", block));
    world.snapshot();
    world.replicate_all();
    world
}

/// With a stream of 40 blocks that broke off at this one or soon after; the snapshot of which it was.
fn broken_off(block: u64) -> (World, OwnSnapshot) {
    for bytes in (0..).step_by(24) {
        let mut world = begun();
        (0..40).for_each(|block| world.write("tank/m/a", block));
        let set = world.snapshot();
        let outcome = world.try_replicate(Life::of_stream(bytes));
        let replica = world.holder.list(&name("pool/held/m/a")).unwrap().remove(0);
        let token = replica.resume_token.map(|token| Token::parse(&token).unwrap());
        if token.is_some_and(|token| token.resume.object >= block) {
            return (world, set);
        }
        assert!(outcome.is_err() || bytes < 2000, "none broke off");
    }
    unreachable!("a run has an end")
}

#[test]
fn nothing_is_sent_where_nothing_is_new() {
    let world = begun();
    assert_eq!(world.replicate_all().sent_bytes, 0);
}

#[test]
fn each_snapshot_that_waits_is_sent_in_turn_or_the_newest_alone() {
    for (select, expected) in [(Snapshots::All, 4), (Snapshots::Newest, 2)] {
        let mut world = begun();
        world.what.select = select;
        for block in 0..3 {
            world.write("tank/m/a", block);
            world.snapshot();
        }
        world.replicate_all();
        let replicas = world.holder.list(&name("pool/held/m/a")).unwrap();
        assert_eq!(replicas[0].snapshots.len(), expected, "{select:?}");
    }
}

#[test]
fn where_the_source_has_lost_its_snapshots_it_goes_on_from_the_bookmark() {
    let mut world = begun();
    // As an operator who wants the space back, holds or not.
    let root = name("tank/m");
    world.source.host().release_all(&root);
    for member in world.source.list(&root).unwrap() {
        let names: Vec<_> = member
            .snapshots
            .iter()
            .map(|shot| SnapshotName::new(&member.name, &shot.mark).unwrap())
            .collect();
        assert!(world.source.destroy_snapshots(&names).unwrap().is_empty());
    }
    world.write("tank/m/a", 9);
    world.snapshot();
    let sent = world.replicate_all().sent_bytes;
    assert!(sent < 2000, "{sent} bytes: a full was sent");
}

/// zrepl #644, #431: a token whose snapshot is gone blocks a file system until somebody aborts the receive by hand.
#[test]
fn a_resume_token_of_a_snapshot_that_is_gone_is_thrown_away() {
    let (mut world, lost) = broken_off(2);
    world.source.host().release_all(&name("tank/m"));
    let gone = lost.of(&name("tank/m/a")).unwrap();
    assert!(world.source.destroy_snapshots(&[gone]).unwrap().is_empty());
    world.write("tank/m/a", 2);
    world.snapshot();
    world.replicate_all();
}

#[test]
fn a_stream_that_broke_off_goes_on_where_it_was() {
    let sent_after = |block| broken_off(block).0.replicate_all().sent_bytes;
    // A record of the model has 24 bytes.
    assert!(sent_after(2) >= sent_after(22) + 20 * 24, "{} and {}", sent_after(2), sent_after(22));
}

#[test]
fn a_renamed_member_takes_its_replica_along() {
    let mut world = begun();
    world.source.rename(&name("tank/m/b"), &name("tank/m/a/moved")).unwrap();
    world.write("tank/m/a/moved/c", 4);
    world.snapshot();
    let sent = world.replicate_all().sent_bytes;
    assert!(sent < 2000, "{sent} bytes: a full was sent");
    assert!(world.holder.list(&name("pool/held/m/b")).unwrap().is_empty());
}

#[test]
fn two_members_that_change_names_change_the_places_of_their_replicas() {
    let mut world = begun();
    world.source.rename(&name("tank/m/a"), &name("tank/m/x")).unwrap();
    world.source.rename(&name("tank/m/b"), &name("tank/m/a")).unwrap();
    world.source.rename(&name("tank/m/x"), &name("tank/m/b")).unwrap();
    world.snapshot();
    world.replicate_all();
}

/// sanoid #979: a dataset that was made anew under its old name must not overwrite the replica of the old one.
#[test]
fn the_replica_of_a_dataset_that_was_made_anew_is_set_aside_and_not_overwritten() {
    let mut world = begun();
    let old = world.holder.list(&name("pool/held/m/a")).unwrap()[0].clone();
    let shot = SnapshotName::new(&old.name, &old.snapshots[0].mark).unwrap();
    let kept = contents(&world.holder.host(), &shot);
    world.source.host().release_all(&name("tank/m/a"));
    world.source.host().destroy(&name("tank/m/a")).unwrap();
    world.source.host().create(&name("tank/m/a")).unwrap();
    world.write("tank/m/a", 77);
    world.snapshot();
    world.replicate_all();
    let aside = world.holder.list(&name("pool/held/backstay-aside")).unwrap();
    let aside = aside.iter().find(|dataset| dataset.snapshot(old.snapshots[0].guid).is_some());
    let aside = SnapshotName::new(&aside.expect("it is kept").name, &old.snapshots[0].mark).unwrap();
    assert_eq!(contents(&world.holder.host(), &aside), kept);
}

#[test]
fn the_replica_of_a_member_that_is_gone_stays_and_is_marked() {
    let mut world = begun();
    world.source.host().release_all(&name("tank/m/b"));
    world.source.host().destroy(&name("tank/m/b")).unwrap();
    world.snapshot();
    world.replicate_all();
    let gone = world.holder.list(&name("pool/held/m/b")).unwrap();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|replica| replica.properties.contains_key("gone")));
}

#[test]
fn of_a_source_that_is_not_there_nothing_is_concluded() {
    let world = begun();
    let before = world.holder.list(&world.place()).unwrap();
    world.source.host().release_all(&name("tank"));
    world.source.host().destroy(&name("tank/m")).unwrap();
    let outcome = world.try_replicate(Life::of(i64::MAX));
    assert!(matches!(outcome, Err(ReplicateError::NoSource(_))));
    assert_eq!(world.holder.list(&world.place()).unwrap(), before);
}

#[test]
fn what_is_excepted_is_not_sent_and_what_is_new_is() {
    let mut world = World::new(6);
    world.what.except = vec![name("tank/m/b")];
    world.snapshot();
    world.replicate_all();
    assert!(world.holder.list(&name("pool/held/m/b")).unwrap().is_empty());
    world.source.host().create(&name("tank/m/new")).unwrap();
    world.write("tank/m/new", 1);
    world.snapshot();
    world.replicate_all();
    assert_eq!(world.holder.list(&name("pool/held/m/new")).unwrap().len(), 1);
}

#[test]
fn a_clone_arrives_as_a_clone() {
    let mut world = begun();
    let newest = world.source.list(&name("tank/m/a")).unwrap()[0].newest().unwrap().mark.clone();
    let of = SnapshotName::new(&name("tank/m/a"), &newest).unwrap();
    world.source.clone_of(&of, &name("tank/m/clone")).unwrap();
    world.write("tank/m/clone", 3);
    world.snapshot();
    world.replicate_all();
    let clone = &world.holder.list(&name("pool/held/m/clone")).unwrap()[0];
    assert_eq!(clone.origin.as_ref().map(|origin| origin.dataset().clone()), Some(name("pool/held/m/a")));
}

#[test]
fn encrypted_datasets_are_sent_raw() {
    let mut world = World::new(8);
    world.source.host().get_mut(&name("tank/m/a")).unwrap().is_encrypted = true;
    world.write("tank/m/a", 1);
    world.snapshot();
    world.replicate_all();
    assert!(world.holder.list(&name("pool/held/m/a")).unwrap()[0].encryption.is_some());
}

/// Moving over from zrepl, sanoid or a shell script costs no full send.
#[test]
fn a_replica_that_another_tool_has_made_is_adopted() {
    let mut world = World::new(9);
    world.write("tank/m/a", 1);
    world.snapshot();
    world.replicate_all();
    for replica in world.holder.list(&world.place()).unwrap() {
        world.holder.set(&replica.name, "backstay:dataset", None).unwrap();
    }
    world.holder.host().release_all(&world.place());
    world.write("tank/m/a", 2);
    world.snapshot();
    let sent = world.replicate_all().sent_bytes;
    assert!(sent < 2000, "{sent} bytes: a full was sent");
    assert!(world.holder.list(&world.place()).unwrap().iter().all(|replica| member_of(replica).is_some()));
}

#[test]
fn a_set_is_complete_when_all_of_its_members_are_there() {
    let mut world = begun();
    world.write("tank/m/b/c", 1);
    let second = world.snapshot();
    // It dies when the first members have come, and the last has not.
    let mut seen_incomplete = false;
    for things in (20..200).step_by(5) {
        let outcome = world.try_replicate(Life::of(things));
        let root = &world.holder.list(&world.place()).unwrap()[0];
        let is_noted = root.properties.get("complete") == Some(&second.to_string());
        let has_all = world
            .holder
            .list(&world.place())
            .unwrap()
            .iter()
            .all(|replica| replica.snapshots.iter().any(|shot| shot.mark == second.to_string()));
        assert!(has_all || !is_noted, "noted before it was whole");
        seen_incomplete |= !has_all;
        if outcome.is_ok_and(|report| report.is_done()) {
            break;
        }
    }
    assert!(seen_incomplete);
    assert_eq!(world.replicate_all().complete, Some(second));
}

#[test]
fn a_member_without_a_snapshot_waits_for_its_first() {
    let world = World::new(4);
    let report = world.replicate();
    assert!(report.members.iter().all(|(_, outcome)| matches!(outcome, Outcome::Waiting(_))));
}
