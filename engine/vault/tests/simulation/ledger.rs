//! What the processes of a simulation were told, and what layouts have said since: which points have to be there, and
//! what each of them holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::id::{PointId, SessionId, SourceId};
use backstay_core::layout::{Accepted, Layout};
use backstay_core::point::{PointCommon, PointLink};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::State;

/// A number of a store of the world.
pub(crate) type StoreNumber = usize;

/// What layouts have said of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    /// By retention, after it was accepted.
    Dropped,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    /// What was captured, acknowledged or not, by who captured when.
    states: HashMap<(String, Timestamp), State>,
    acknowledged: BTreeSet<(StoreNumber, PointId)>,
    /// The same, in the order in which it was told: ids are random, and no choice may hang on them.
    told: Vec<(StoreNumber, PointId)>,
    fates: HashMap<(StoreNumber, PointId), Fate>,
    in_force: HashMap<(StoreNumber, SourceId), (u64, u64)>,
    /// How many points of each source retention has to leave.
    keep: usize,
    /// Points of captures that have not ended.
    sequences: BTreeMap<PointId, u64>,
    partial: BTreeSet<PointId>,
    /// Sessions that somebody has ended.
    fenced: BTreeSet<SessionId>,
    /// The session that a process has put last.
    sessions: BTreeMap<&'static str, SessionId>,
    /// Groups that custodians have split.
    split: u64,
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment at which this node has begun no other capture.
    pub(crate) fn begin(&self, node: &str, at: Timestamp, state: &State) -> Timestamp {
        let mut pages = self.pages();
        let mut at = at;
        while pages.states.contains_key(&(node.to_owned(), at)) {
            at = Timestamp::from_nanos(at.as_nanos() + 1);
        }
        pages.states.insert((node.to_owned(), at), state.clone());
        at
    }

    /// A writer was told that a point is safe.
    pub(crate) fn acknowledge(&self, store: StoreNumber, point: PointId) {
        let mut pages = self.pages();
        assert!(pages.acknowledged.insert((store, point)), "{point} was acknowledged twice");
        pages.told.push((store, point));
    }

    /// A copier was told so, perhaps once more.
    pub(crate) fn acknowledge_copy(&self, store: StoreNumber, point: PointId) {
        self.pages().acknowledged.insert((store, point));
    }

    /// What a point has to hold.
    pub(crate) fn state_of(&self, common: &PointCommon) -> Option<State> {
        self.pages().states.get(&(common.node.clone(), common.capture_start)).cloned()
    }

    /// Points that have to be there.
    pub(crate) fn required(&self, store: StoreNumber) -> BTreeSet<PointId> {
        let pages = self.pages();
        let of_store = pages.acknowledged.iter().filter(|(of, _)| *of == store);
        let kept = of_store.filter(|key| pages.fates.get(key) != Some(&Fate::Dropped));
        kept.map(|(_, point)| *point).collect()
    }

    pub(crate) fn acknowledged(&self, store: StoreNumber) -> usize {
        self.pages().acknowledged.iter().filter(|(of, _)| *of == store).count()
    }

    /// Points that retention has dropped, in the order in which they were acknowledged.
    pub(crate) fn dropped(&self, store: StoreNumber) -> Vec<PointId> {
        let pages = self.pages();
        let of_store = pages.told.iter().filter(|(of, _)| *of == store);
        let dropped = of_store.filter(|key| pages.fates.get(key) == Some(&Fate::Dropped));
        dropped.map(|(_, point)| *point).collect()
    }

    pub(crate) fn fate(&self, store: StoreNumber, point: PointId) -> Option<Fate> {
        self.pages().fates.get(&(store, point)).copied()
    }

    /// From now on retention leaves so many points of each source, or more.
    pub(crate) fn keeps(&self, last: usize) {
        self.pages().keep = last;
    }

    pub(crate) fn session_put(&self, process: &'static str, session: SessionId) {
        self.pages().sessions.insert(process, session);
    }

    pub(crate) fn fence_put(&self, session: SessionId) {
        self.pages().fenced.insert(session);
    }

    /// Whether the session that a process has put last was fenced.
    pub(crate) fn is_fenced(&self, process: &str) -> bool {
        let pages = self.pages();
        pages.sessions.get(process).is_some_and(|session| pages.fenced.contains(session))
    }

    pub(crate) fn has_split(&self, groups: u64) {
        self.pages().split += groups;
    }

    pub(crate) fn split(&self) -> u64 {
        self.pages().split
    }

    pub(crate) fn point_put(&self, point: PointId, sequence: u64, is_partial: bool) {
        let mut pages = self.pages();
        pages.sequences.insert(point, sequence);
        if is_partial {
            pages.partial.insert(point);
        }
    }

    /// A layout was put. One that is in force takes nothing away but by retention, and of that not too much.
    pub(crate) fn layout(&self, store: StoreNumber, source: SourceId, layout: &Layout) -> Result<(), String> {
        let mut pages = self.pages();
        let order = (layout.term, layout.generation);
        let before = pages.in_force.get(&(store, source)).copied();
        if before.is_some_and(|before| order <= before) {
            return Ok(());
        }
        pages.in_force.insert((store, source), order);
        // A second object of a point may go while the first one stays.
        let stays = |point: &PointId| {
            let stays = |link: &PointLink| link.point == *point && !layout.dropped.contains(link);
            layout.accepted.iter().any(|accepted| stays(&accepted.link))
        };
        let newly_dropped: Vec<PointId> = layout
            .dropped
            .iter()
            .map(|link| link.point)
            .filter(|point| !stays(point))
            .filter(|point| pages.fates.get(&(store, *point)) != Some(&Fate::Dropped))
            .collect();
        // Where several have one time, by their numbers.
        let mut by_age: Vec<&Accepted> = layout.accepted.iter().collect();
        by_age.sort_by_key(|accepted| {
            (accepted.retention_time, pages.sequences.get(&accepted.link.point).copied())
        });
        let full: Vec<PointId> = by_age
            .into_iter()
            .map(|accepted| accepted.link.point)
            .filter(|point| !pages.partial.contains(point))
            .filter(|p| newly_dropped.contains(p) || !layout.dropped.iter().any(|link| link.point == *p))
            .collect();
        for point in &newly_dropped {
            let is_held = |accepted: &Accepted| accepted.link.point == *point && !accepted.holds.is_empty();
            if layout.accepted.iter().any(is_held) {
                return Err(format!("{point} was dropped, which is held"));
            }
            if full.iter().rev().take(pages.keep).any(|kept| kept == point) {
                return Err(format!("{point} was dropped, which is one of the last {}", pages.keep));
            }
            if !pages.fates.contains_key(&(store, *point)) {
                return Err(format!("{point} was dropped and had not been accepted"));
            }
            pages.fates.insert((store, *point), Fate::Dropped);
        }
        for accepted in &layout.accepted {
            let link = accepted.link;
            if !layout.dropped.contains(&link) {
                pages.fates.insert((store, link.point), Fate::Accepted);
            }
        }
        Ok(())
    }
}
