//! The run: plan, structure, transfers, until nothing is left.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use backstay_core::config::DatasetName;

use super::holder::{Arriving, Holder, HolderError, settled};
use super::pump::{Progress, pump};
use super::{Outcome, ReplicateError, Replication, Report};
use crate::error::{Class, ZfsError};
use crate::guid::{DatasetGuid, SnapshotGuid, Txg};
use crate::name::{BookmarkName, Cursor, HoldTag, OwnSnapshot, SnapshotName};
use crate::plan::{
    Common, MemberPlan, Plan, Sides, Structure, Transfer, TransferBase, Work, member_of, plan,
};
use crate::state::Dataset;
use crate::zfs::{Base, Stream, Zfs};

/// Changes of structure in one run for each member, and some: what is renamed, set aside or aborted comes once or twice.
const CHANGES_PER_MEMBER: usize = 4;

/// So often a member is planned anew in one run after it was found to be stale.
const STALE_MAX: u32 = 3;

/// Replicates what there is: takes no snapshot. Errors of single members are in the report; of one that is not there at all
/// nothing is concluded.
pub fn replicate(
    zfs: &dyn Zfs,
    holder: &dyn Holder,
    what: &Replication,
    progress: &Progress,
) -> Result<Report, ReplicateError> {
    let begun = progress.sent_bytes();
    let mut run = Run {
        zfs,
        holder,
        what,
        progress,
        failed: BTreeMap::new(),
        undone: Vec::new(),
        stale: BTreeMap::new(),
    };
    let (state, plan) = run.until_nothing_is_left()?;
    let complete = run.complete(&state, &plan)?;
    let Run { mut failed, undone, .. } = run;
    let members = plan.members.into_iter().map(|member| {
        let outcome = match failed.remove(&member.member) {
            Some(error) => Outcome::Failed(error),
            None => match member.work {
                Work::Send { .. } => Outcome::Done,
                Work::Wait(wait) => Outcome::Waiting(wait),
                Work::Conflict(conflict) => Outcome::Conflict(conflict),
            },
        };
        (member.name, outcome)
    });
    let members = members.collect();
    Ok(Report { members, undone, complete, sent_bytes: progress.sent_bytes() - begun })
}

/// Both sides as they were listed.
struct State {
    members: Vec<Dataset>,
    replicas: Vec<Dataset>,
}

struct Run<'r> {
    zfs: &'r dyn Zfs,
    holder: &'r dyn Holder,
    what: &'r Replication,
    progress: &'r Progress,
    /// Members that are left alone for the rest of the run.
    failed: BTreeMap<DatasetGuid, ReplicateError>,
    /// Changes of structure that were refused.
    undone: Vec<(Structure, HolderError)>,
    /// How often a member was found to be stale.
    stale: BTreeMap<DatasetGuid, u32>,
}

impl Run<'_> {
    /// Until a plan has nothing that can be done.
    fn until_nothing_is_left(&mut self) -> Result<(State, Plan), ReplicateError> {
        let mut changes = 0;
        loop {
            let state = self.look()?;
            let sides = Sides {
                root: &self.what.root,
                members: &state.members,
                place: self.holder.place(),
                replicas: &state.replicas,
            };
            let plan = plan(sides, self.what.select);
            let is_undone = |change: &Structure| self.undone.iter().any(|(undone, _)| undone == change);
            if let Some(first) = plan.structure.iter().find(|change| !is_undone(change)) {
                changes += 1;
                if changes > CHANGES_PER_MEMBER * (state.members.len() + state.replicas.len()) {
                    return Err(ReplicateError::Restless(changes, self.what.root.clone()));
                }
                match self.holder.change(first) {
                    Ok(()) => {}
                    Err(error @ HolderError::Unreachable(_)) => return Err(error.into()),
                    // It keeps whom it concerns, and nobody else.
                    Err(error) => self.undone.push((first.clone(), error)),
                }
                continue;
            }
            if !self.transfer(&state, &plan) {
                return Ok((state, plan));
            }
        }
    }

    fn look(&self) -> Result<State, ReplicateError> {
        let members: Vec<_> = self.zfs.list(&self.what.root)?;
        if members.is_empty() {
            return Err(ReplicateError::NoSource(self.what.root.clone()));
        }
        let members = members.into_iter().filter(|dataset| self.what.has_member(&dataset.name));
        Ok(State { members: members.collect(), replicas: self.holder.list()? })
    }

    /// Does what each member has to do, several at once; whether anything was done, so that it is worth to look again.
    fn transfer(&mut self, state: &State, plan: &Plan) -> bool {
        let waiting = plan.members.iter().filter(|member| !self.failed.contains_key(&member.member));
        let waiting: Vec<_> = waiting.filter_map(|member| Job::new(member, state)).collect();
        let queue = Mutex::new(waiting.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let this = &*self;
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..this.what.at_once.max(1))
                .map(|_| {
                    scope.spawn(|| {
                        let mut results = Vec::new();
                        while let Some(job) = next() {
                            results.push((job.source.guid, this.member(&job)));
                        }
                        results
                    })
                })
                .collect();
            let results = threads.into_iter().map(|thread| match thread.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            results.flatten().collect()
        });
        let mut is_worth_it = false;
        for (member, result) in results {
            match result {
                Ok(has_sent) => is_worth_it |= has_sent,
                Err(error) => {
                    let stale = self.stale.entry(member).or_default();
                    *stale += 1;
                    if error.class() == Class::Stale && *stale < STALE_MAX {
                        is_worth_it = true;
                    } else {
                        self.failed.insert(member, error);
                    }
                }
            }
        }
        is_worth_it && !self.progress.is_stopped()
    }

    /// All of a member that waits; whether anything was sent.
    fn member(&self, job: &Job<'_>) -> Result<bool, ReplicateError> {
        if let Some(common) = job.common
            && !self.is_settled(job, common)
        {
            // What an earlier run has not come to.
            self.settle(job, common.guid, None, &[])?;
        }
        for (place, transfer) in job.transfers.iter().enumerate() {
            self.send(job, transfer, job.common.is_none() && place == 0)?;
            self.settle(job, transfer.guid, Some(&transfer.mark), &job.transfers[..place])?;
        }
        Ok(!job.transfers.is_empty())
    }

    /// Steps 2 and 3: holds the snapshot here and sends it.
    fn send(&self, job: &Job<'_>, transfer: &Transfer, is_first: bool) -> Result<(), ReplicateError> {
        let name = &job.source.name;
        let snapshot = snapshot_name(name, &transfer.mark)?;
        let base = match &transfer.base {
            TransferBase::Nothing => None,
            TransferBase::Snapshot(mark) => Some(Base::Snapshot(snapshot_name(name, mark)?)),
            TransferBase::Bookmark(mark) => Some(Base::Bookmark(bookmark_name(name, mark)?)),
            TransferBase::Origin(origin) => Some(Base::Snapshot(origin.clone())),
        };
        let arriving = Arriving {
            member: job.source.guid,
            replica: job.place.clone(),
            mark: transfer.mark.clone(),
            guid: transfer.guid,
            form: transfer.form,
            makes: is_first.then(|| (job.source.kind, job.origin.cloned())),
        };
        let shown = snapshot.to_string();
        let held_by = Some(HoldTag::of(self.what.flow(job.source.guid)));
        let stream = Stream { snapshot, base, form: transfer.form, resume: transfer.resume, held_by };
        let sending = self.zfs.send(&stream)?;
        let receiving = self.holder.receive(&arriving)?;
        Ok(pump(sending, receiving, &shown, self.progress)?)
    }

    /// Whether all of steps 5 to 7 was done: the cursor is made after the replica's hold, and what is older is released after
    /// that. Holds of others make it look anew, which does no harm.
    fn is_settled(&self, job: &Job<'_>, common: &Common) -> bool {
        let flow = self.what.flow(job.source.guid);
        let cursors = job.source.bookmarks.iter().filter_map(|bookmark| Cursor::parse(&bookmark.mark));
        let cursors: Vec<_> = cursors.filter(|cursor| cursor.flow == flow).collect();
        let is_held = |dataset: &Dataset| {
            let held: Vec<_> = dataset.snapshots.iter().filter(|snapshot| snapshot.holds > 0).collect();
            matches!(held.as_slice(), [held] if held.guid == common.guid)
        };
        let is_source_held = common.source_mark.is_none() || is_held(job.source);
        cursors == [Cursor { flow, snapshot: common.guid }]
            && is_source_held
            && job.replica.is_some_and(is_held)
    }

    /// Steps 4 to 7. The cursor is moved only when the replica holds the snapshot, and what is older is released after that: what was
    /// listed before, and what was sent in this run.
    fn settle(
        &self,
        job: &Job<'_>,
        guid: SnapshotGuid,
        sent: Option<&str>,
        earlier: &[Transfer],
    ) -> Result<(), ReplicateError> {
        let (name, flow) = (&job.source.name, self.what.flow(job.source.guid));
        self.holder.settle(&job.place, guid, flow)?;
        let mut settled = settled(job.source, guid, flow)?;
        if let Some(mark) = sent {
            settled.held = Some(snapshot_name(name, mark)?);
        }
        for transfer in earlier {
            settled.others.push(snapshot_name(name, &transfer.mark)?);
        }
        let listed = job.source.bookmarks.iter().filter_map(|bookmark| Cursor::parse(&bookmark.mark));
        let listed = listed.filter(|cursor| cursor.flow == flow);
        let made = earlier.iter().map(|transfer| Cursor { flow, snapshot: transfer.guid });
        let all: Vec<_> = listed.chain(made).collect();
        let cursor = Cursor { flow, snapshot: guid };
        settled.cursor = Some(bookmark_name(name, &cursor.to_string())?);
        // Where neither the snapshot nor our own cursor is left, another's bookmark is what there is: the others stay.
        if settled.held.is_some() || all.contains(&cursor) {
            let stale = all.iter().filter(|other| **other != cursor);
            settled.stale_cursors =
                stale.map(|other| bookmark_name(name, &other.to_string())).collect::<Result<_, _>>()?;
        }
        Ok(self.zfs.settle(&settled)?)
    }

    /// Notes the newest set that is whole: each member that has a snapshot of it at the source has it at the replica.
    fn complete(&self, state: &State, plan: &Plan) -> Result<Option<OwnSnapshot>, ReplicateError> {
        let replicas: BTreeMap<_, _> =
            state.replicas.iter().filter_map(|replica| Some((member_of(replica)?, replica))).collect();
        // With the transaction group of each: which is the newest says the pool, and no clock.
        let mut sets: BTreeMap<OwnSnapshot, (Txg, bool)> = BTreeMap::new();
        for member in &state.members {
            for snapshot in &member.snapshots {
                let Some(set) = OwnSnapshot::parse(&snapshot.mark) else { continue };
                let is_there = replicas
                    .get(&member.guid)
                    .is_some_and(|replica| replica.snapshot(snapshot.guid).is_some());
                let (txg, is_whole) = sets.entry(set).or_insert((snapshot.txg, true));
                *txg = snapshot.txg.max(*txg);
                *is_whole &= is_there;
            }
        }
        let root = plan.members.first().and_then(|root| replicas.get(&root.member));
        let has_root = |set: &OwnSnapshot| {
            root.is_some_and(|root| root.snapshots.iter().any(|shot| shot.mark == set.to_string()))
        };
        let whole = sets.iter().filter(|(set, (_, is_whole))| *is_whole && has_root(set));
        let newest = whole.max_by_key(|(_, (txg, _))| *txg).map(|(set, _)| *set);
        let known = root.and_then(|root| {
            root.properties.get(crate::plan::COMPLETE_PROPERTY).and_then(|text| OwnSnapshot::parse(text))
        });
        if let Some(newest) = newest
            && known != Some(newest)
        {
            self.holder.complete(newest)?;
        }
        Ok(newest.or(known))
    }
}

/// A member that has something to do.
struct Job<'p> {
    source: &'p Dataset,
    replica: Option<&'p Dataset>,
    place: DatasetName,
    common: Option<&'p Common>,
    transfers: &'p [Transfer],
    origin: Option<&'p SnapshotName>,
}

impl<'p> Job<'p> {
    fn new(plan: &'p MemberPlan, state: &'p State) -> Option<Self> {
        let Work::Send { common, transfers, origin } = &plan.work else { return None };
        Some(Self {
            source: state.members.iter().find(|member| member.guid == plan.member)?,
            replica: state.replicas.iter().find(|replica| Some(&replica.name) == plan.place.as_ref()),
            place: plan.place.clone()?,
            common: common.as_ref(),
            transfers,
            origin: origin.as_ref(),
        })
    }
}

fn snapshot_name(dataset: &DatasetName, mark: &str) -> Result<SnapshotName, ZfsError> {
    SnapshotName::new(dataset, mark).map_err(|error| ZfsError::Answer {
        doing: format!("name a snapshot of {dataset}"),
        what: error.to_string(),
    })
}

fn bookmark_name(dataset: &DatasetName, mark: &str) -> Result<BookmarkName, ZfsError> {
    BookmarkName::new(dataset, mark).map_err(|error| ZfsError::Answer {
        doing: format!("name a bookmark of {dataset}"),
        what: error.to_string(),
    })
}
