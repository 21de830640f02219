//! A source and a holder, each with its ZFS, and what must be true of them when nothing is left to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::config::DatasetName;
use backstay_core::id::DomainId;
use backstay_core::units::Timestamp;
use backstay_zfs::name::{Cursor, FlowTarget, HoldTag, OwnSnapshot, SnapshotName};
use backstay_zfs::plan::{Snapshots, member_of};
use backstay_zfs::replicate::{
    LocalHolder, Outcome, Progress, ReplicateError, Replication, Report, replicate,
};
use backstay_zfs::state::Dataset;
use backstay_zfs::zfs::Zfs;

use crate::dying::{Dying, Life};
use crate::model::{Host, ModelZfs};

pub(crate) fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

/// `tank/m` on one host, and `pool/held/m` on the other.
pub(crate) struct World {
    pub(crate) source: ModelZfs,
    pub(crate) holder: ModelZfs,
    pub(crate) what: Replication,
    taken: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let (source, holder) = (ModelZfs::new(seed), ModelZfs::new(!seed));
        for dataset in ["tank", "tank/m", "tank/m/a", "tank/m/b", "tank/m/b/c"] {
            source.host().create(&name(dataset)).unwrap();
        }
        for dataset in ["pool", "pool/held"] {
            holder.host().create(&name(dataset)).unwrap();
        }
        let what = Replication {
            root: name("tank/m"),
            except: Vec::new(),
            domain: DomainId::new([3; 16]),
            target: FlowTarget::Replica("two".to_owned()),
            select: Snapshots::All,
            at_once: 1,
        };
        Self { source, holder, what, taken: 0 }
    }

    pub(crate) fn place(&self) -> DatasetName {
        name("pool/held/m")
    }

    /// Writes something to a dataset of the source.
    pub(crate) fn write(&self, dataset: &str, block: u64) {
        let mut host = self.source.host();
        let value = host.draw();
        host.write(&name(dataset), block, Some(value)).unwrap();
    }

    /// Takes a set, as Backstay does.
    pub(crate) fn snapshot(&mut self) -> OwnSnapshot {
        self.taken += 1;
        let at = Timestamp::from_seconds(1_790_000_000 + i64::from(self.taken) * 900);
        let own = OwnSnapshot { at, set: self.taken };
        let members = self.source.list(&self.what.root).unwrap();
        let members = members.iter().filter(|member| self.what.has_member(&member.name));
        let names: Vec<_> = members.map(|member| own.of(&member.name).unwrap()).collect();
        self.source.snapshot(&names).unwrap();
        own
    }

    /// Takes a snapshot of one dataset, as an operator does.
    pub(crate) fn snapshot_by_hand(&self, snapshot: &str) {
        self.source.snapshot(&[SnapshotName::parse(snapshot).unwrap()]).unwrap();
    }

    pub(crate) fn replicate(&self) -> Report {
        self.try_replicate(Life::of(i64::MAX)).unwrap()
    }

    /// The same by a process that dies after so many things it has done.
    pub(crate) fn try_replicate(&self, life: Life) -> Result<Report, ReplicateError> {
        let zfs = Dying { zfs: self.source.clone(), life: life.clone() };
        let held: Arc<dyn Zfs> = Arc::new(Dying { zfs: self.holder.clone(), life });
        let holder = LocalHolder::new(held, self.place(), || Timestamp::from_seconds(1_800_000_000));
        replicate(&zfs, &holder, &self.what, &Progress::default())
    }

    /// Replicates, and sees that everything is as it has to be then.
    pub(crate) fn replicate_all(&self) -> Report {
        let report = self.replicate();
        for (member, outcome) in &report.members {
            assert!(matches!(outcome, Outcome::Done), "{member}: {outcome}");
        }
        self.assert_alike();
        report
    }

    /// Every member's newest snapshot is the newest of its replica, with the same contents; each side holds it and nothing else, one
    /// bookmark stands for it, and nothing is left of receives.
    pub(crate) fn assert_alike(&self) {
        let replicas = self.holder.list(&self.place()).unwrap();
        let replicas: BTreeMap<_, _> =
            replicas.iter().filter_map(|replica| Some((member_of(replica)?, replica))).collect();
        for member in self.source.list(&self.what.root).unwrap() {
            if !self.what.has_member(&member.name) {
                continue;
            }
            let replica = replicas.get(&member.guid).copied();
            let Some(newest) = self.expected(&member) else { continue };
            let replica = replica.unwrap_or_else(|| panic!("{} has no replica", member.name));
            let there = replica.newest().unwrap_or_else(|| panic!("{} is empty", replica.name));
            assert_eq!(there.guid, newest, "{} is not at the newest of {}", replica.name, member.name);
            assert_eq!(replica.resume_token, None, "{} has a partial receive", replica.name);
            let place = self.place();
            let below = member.name.below(&self.what.root).unwrap();
            assert_eq!(replica.name.below(&place), Some(below), "a replica is at the wrong place");
            self.assert_held(&self.holder, replica, newest, &member);
            if let Some(shot) = member.snapshot(newest) {
                let of = |zfs: &ModelZfs, dataset: &Dataset, mark: &str| {
                    let name = SnapshotName::new(&dataset.name, mark).unwrap();
                    contents(&zfs.host(), &name)
                };
                let (here, there) =
                    (of(&self.source, &member, &shot.mark), of(&self.holder, replica, &there.mark));
                assert_eq!(here, there, "{} differs from {}", replica.name, member.name);
                self.assert_held(&self.source, &member, newest, &member);
            }
            let cursors = member.bookmarks.iter().filter_map(|bookmark| Cursor::parse(&bookmark.mark));
            let flow = self.what.flow(member.guid);
            let cursors: Vec<_> = cursors.filter(|cursor| cursor.flow == flow).collect();
            assert_eq!(cursors, [Cursor { flow, snapshot: newest }], "of {}", member.name);
        }
    }

    /// At any moment: what a cursor stands for is held at the replica, and of the newest snapshot of a replica the source has something
    /// left from which it goes on.
    pub(crate) fn assert_never_lost(&self) {
        let replicas = self.holder.list(&self.place()).unwrap();
        for member in self.source.list(&self.what.root).unwrap() {
            let Some(replica) = replicas.iter().find(|replica| member_of(replica) == Some(member.guid))
            else {
                continue;
            };
            if let Some(newest) = replica.newest() {
                let is_left =
                    member.snapshot(newest.guid).is_some() || member.bookmark(newest.guid).is_some();
                assert!(is_left, "{} cannot go on from @{}", replica.name, newest.mark);
            }
            let flow = self.what.flow(member.guid);
            let cursors = member.bookmarks.iter().filter_map(|bookmark| Cursor::parse(&bookmark.mark));
            for cursor in cursors.filter(|cursor| cursor.flow == flow) {
                let there = replica.snapshot(cursor.snapshot);
                let there = there.unwrap_or_else(|| panic!("a cursor of {} is ahead", member.name));
                let name = SnapshotName::new(&replica.name, &there.mark).unwrap();
                let is_newest = replica.newest().is_some_and(|newest| newest.guid == there.guid);
                let is_held = self.holder.holds(&name).unwrap().contains(&HoldTag::of(flow));
                assert!(is_held || !is_newest, "{name} has a cursor and no hold");
            }
        }
    }

    /// What the replica of a member ends with.
    fn expected(&self, member: &Dataset) -> Option<backstay_zfs::guid::SnapshotGuid> {
        let own = member.snapshots.iter().rev().find(|shot| OwnSnapshot::parse(&shot.mark).is_some());
        let newest = match self.what.select {
            Snapshots::All => member.newest(),
            Snapshots::Newest => own.or(member.newest()),
        };
        // Where all of them are gone, the cursor is what is left.
        newest.map(|newest| newest.guid)
    }

    fn assert_held(
        &self,
        zfs: &ModelZfs,
        dataset: &Dataset,
        newest: backstay_zfs::guid::SnapshotGuid,
        member: &Dataset,
    ) {
        let tag = HoldTag::of(self.what.flow(member.guid));
        for shot in &dataset.snapshots {
            let holds = zfs.holds(&SnapshotName::new(&dataset.name, &shot.mark).unwrap()).unwrap();
            let expected = if shot.guid == newest { vec![tag.clone()] } else { Vec::new() };
            assert_eq!(holds, expected, "{}@{}", dataset.name, shot.mark);
        }
    }
}

/// What is in a snapshot.
pub(crate) fn contents(host: &Host, snapshot: &SnapshotName) -> BTreeMap<u64, u64> {
    let blocks = &host.shot(snapshot).unwrap().blocks;
    blocks.iter().filter_map(|(block, found)| Some((*block, found.value?))).collect()
}
