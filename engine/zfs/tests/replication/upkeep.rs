//! When snapshots are taken, what of them goes, and how far behind a replica is said to be.

use std::cell::Cell;
use std::time::Duration;

use backstay_core::config::{Keep, KeepRules};
use backstay_core::rpo::Durable;
use backstay_core::units::Timestamp;
use backstay_zfs::forget::{Forgotten, forget};
use backstay_zfs::guid::SnapshotGuid;
use backstay_zfs::lag::{durable, worst};
use backstay_zfs::name::{HoldTag, OwnSnapshot, SnapshotName};
use backstay_zfs::prune::{judge, prune};
use backstay_zfs::state::Dataset;
use backstay_zfs::take::{Around, NothingAround, TakeError, Taken, take};
use backstay_zfs::zfs::Zfs;

use crate::world::{World, name};

fn own(set: u32) -> OwnSnapshot {
    OwnSnapshot { at: Timestamp::from_seconds(1_795_000_000 + i64::from(set) * 900), set }
}

fn taken(world: &World, set: u32) -> Taken {
    let is_member = |name: &_| world.what.has_member(name);
    take(&world.source, &world.what.root, &is_member, own(set), &NothingAround).unwrap()
}

#[test]
fn a_set_is_taken_where_something_was_written_and_not_else() {
    let world = World::new(21);
    assert_eq!(taken(&world, 1), Taken::Now(own(1)));
    assert_eq!(taken(&world, 2), Taken::NothingNew);
    world.write("tank/m/b/c", 1);
    assert_eq!(taken(&world, 3), Taken::Now(own(3)));
    // What is in somebody else's snapshot is in none of ours.
    world.write("tank/m/a", 1);
    world.snapshot_by_hand("tank/m/a@by-hand");
    assert_eq!(taken(&world, 4), Taken::Now(own(4)));
    world.snapshot_by_hand("tank/m/a@empty");
    assert_eq!(taken(&world, 5), Taken::NothingNew);
    world.source.host().create(&name("tank/m/new")).unwrap();
    assert_eq!(taken(&world, 6), Taken::Now(own(6)));
}

struct Told {
    before: Cell<u32>,
    after: Cell<u32>,
    fails: bool,
}

impl Around for Told {
    fn before(&self) -> Result<(), String> {
        self.before.set(self.before.get() + 1);
        if self.fails { Err("no".to_owned()) } else { Ok(()) }
    }

    fn after(&self) {
        self.after.set(self.after.get() + 1);
    }
}

#[test]
fn what_is_to_be_done_before_a_snapshot_is_done_before_and_where_it_fails_none_is_taken() {
    let world = World::new(22);
    for (fails, after) in [(true, 0), (false, 1)] {
        let told = Told { before: Cell::new(0), after: Cell::new(0), fails };
        let outcome = take(&world.source, &world.what.root, &|_| true, own(1), &told);
        assert_eq!((told.before.get(), told.after.get()), (1, after));
        assert_eq!(matches!(outcome, Err(TakeError::Before { .. })), fails);
    }
}

fn listed(world: &World) -> Vec<Dataset> {
    world.source.list(&world.what.root).unwrap()
}

#[test]
fn retention_keeps_what_a_flow_needs_and_what_is_not_ours() {
    let mut world = World::new(23);
    world.snapshot_by_hand("tank/m/a@by-hand");
    let mut sets = Vec::new();
    for block in 0..6 {
        world.write("tank/m/a", block);
        sets.push(world.snapshot());
        if block == 1 {
            world.replicate_all();
        }
    }
    let keep = Keep::Rules(KeepRules { last: Some(2), ..KeepRules::default() });
    let now = sets[5].at.saturating_add(Duration::from_secs(60));
    let judged = judge(&listed(&world), &keep, &[sets[0]], now);
    let goes: Vec<_> =
        judged.iter().filter(|judged| judged.reasons.is_empty()).map(|judged| judged.set).collect();
    assert_eq!(
        goes,
        sets[2..4],
        "the first is needed, the second is held by a flow, the last two are the newest"
    );
    assert!(prune(&world.source, &listed(&world), &judged).unwrap().is_empty());
    let a = listed(&world).remove(1);
    let marks: Vec<_> = a.snapshots.iter().map(|shot| shot.mark.as_str()).collect();
    let kept = [sets[0], sets[1], sets[4], sets[5]].map(|set| set.to_string());
    assert_eq!(marks[0], "by-hand");
    assert_eq!(marks[1..], kept);
    world.replicate_all();
}

/// zrepl #826, #288: holds of two years ago, after a job was renamed.
#[test]
fn of_a_flow_that_is_over_nothing_is_left_and_of_others_everything() {
    let mut world = World::new(25);
    world.write("tank/m/a", 1);
    world.snapshot();
    world.replicate_all();
    let other = HoldTag::found("zrepl_STEP");
    let a = listed(&world).remove(1);
    let newest = SnapshotName::new(&a.name, &a.newest().unwrap().mark).unwrap();
    world.source.hold(&newest, &other).unwrap();
    let is_left = |world: &World| {
        let held: u64 =
            listed(world).iter().flat_map(|member| &member.snapshots).map(|shot| shot.holds).sum();
        let marks = listed(world).iter().map(|member| member.bookmarks.len()).sum::<usize>();
        (held, marks)
    };

    assert_eq!(forget(&world.source, &listed(&world), &|_| false).unwrap(), Forgotten::default());
    assert_eq!(is_left(&world), (5, 4));
    let flows: Vec<_> = listed(&world).iter().map(|member| world.what.flow(member.guid)).collect();
    let forgotten = forget(&world.source, &listed(&world), &|flow| flows.contains(&flow)).unwrap();
    assert_eq!((forgotten.released.len(), forgotten.destroyed.len()), (4, 4));
    assert_eq!((is_left(&world), world.source.holds(&newest).unwrap()), ((1, 0), vec![other]));
}

#[test]
fn a_replica_lacks_nothing_only_where_nothing_was_written() {
    let mut world = World::new(24);
    let now = Timestamp::from_seconds(5_000);
    world.write("tank/m/a", 1);
    let a = |world: &World| listed(world).remove(1);
    assert_eq!(durable(&a(&world), None, now), Durable::Nothing);
    world.snapshot();
    let there = a(&world).newest().unwrap().clone();
    assert_eq!(durable(&a(&world), Some(there.guid), now), Durable::Since(now));
    // A snapshot in which nothing is new.
    world.snapshot_by_hand("tank/m/a@empty");
    assert_eq!(durable(&a(&world), Some(there.guid), now), Durable::Since(now));
    world.write("tank/m/a", 2);
    assert_eq!(durable(&a(&world), Some(there.guid), now), Durable::Since(there.at));
    world.snapshot();
    assert_eq!(durable(&a(&world), Some(there.guid), now), Durable::Since(there.at));
    // Unknown is not nothing.
    assert_eq!(durable(&a(&world), Some(SnapshotGuid(1)), now), Durable::Unknown);
    assert_eq!(worst([Durable::Since(now), Durable::Since(there.at)]), Durable::Since(there.at));
    assert_eq!(worst([Durable::Since(now), Durable::Unknown]), Durable::Unknown);
}
