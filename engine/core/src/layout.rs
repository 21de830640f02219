//! Layouts: which points count and which runs tile them. Owns the model, its CBOR form
//! (docs/format.md, section 9) and the pure decisions on it; reading and writing are the vault's.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use minicbor::{Decode, Encode};

use crate::collection::CollectionNumber;
use crate::id::{ObjectHash, PointId, SessionId};
use crate::point::PointLink;
use crate::run::Run;
use crate::units::Timestamp;

/// The custodian's decision on one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Layout {
    /// Rises with every layout of the source.
    #[n(0)]
    pub generation: u64,
    /// Hash of the layout before.
    #[n(1)]
    pub previous: Option<ObjectHash>,
    /// Term of the custodian that wrote it.
    #[n(2)]
    pub term: u64,
    /// Points that count.
    #[n(3)]
    pub accepted: Vec<Accepted>,
    /// Runs that exist.
    #[n(4)]
    pub runs: Vec<PlacedRun>,
    /// Sessions on which the decision is final: only accepted points of theirs count.
    #[n(5)]
    pub decided: Vec<SessionId>,
    /// Points that were dropped and whose objects are not gone yet.
    #[n(6)]
    pub dropped: Vec<PointLink>,
    /// Sessions that began in an earlier collection than this are decided, too.
    #[n(7)]
    pub decided_below: CollectionNumber,
    /// The newest collection when this was written.
    #[n(8)]
    pub collection: CollectionNumber,
    /// Runs in whose place there are equal ones, which refer elsewhere: what they refer to stays while somebody may read by
    /// them.
    #[cbor(n(9), default, skip_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedRun>,
}

/// A run in whose place there is an equal one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplacedRun {
    /// The run.
    #[n(0)]
    pub run: Run,
    /// The newest collection at that time: who has begun to read in a later one has not seen the run.
    #[n(1)]
    pub collection: CollectionNumber,
}

impl Layout {
    /// The runs of which all that they refer to has to be there.
    pub fn needed_runs(&self) -> impl Iterator<Item = &Run> {
        let placed = self.runs.iter().map(|placed| &placed.run);
        placed.chain(self.replaced.iter().map(|replaced| &replaced.run))
    }
}

/// A point that a layout accepts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Accepted {
    /// The point and its object.
    #[n(0)]
    pub link: PointLink,
    /// Time by which retention judges it.
    #[n(1)]
    pub retention_time: Timestamp,
    /// Names of the holds on it.
    #[n(2)]
    pub holds: Vec<String>,
}

/// A run (from, to]: all edits after `from` up to `to`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PlacedRun {
    /// The point that the run edits; `None` when it starts from nothing.
    #[n(0)]
    pub from: Option<PointLink>,
    /// The point it leads to.
    #[n(1)]
    pub to: PointLink,
    /// The edit.
    #[n(2)]
    pub run: Run,
}

/// What the layout needs to know of a point object.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The point and its object.
    pub link: PointLink,
    /// Its parent.
    pub parent: Option<PointLink>,
    /// The session that wrote it.
    pub session: SessionId,
    /// The newest collection when that session began.
    pub collection: CollectionNumber,
    /// Of an unfinished capture: nothing can build on it.
    pub is_partial: bool,
}

/// Whether a point counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Counts,
    /// It was dropped, or a layout has decided against it or against one that it builds on.
    Refused,
    /// This point, on which it builds, is not there.
    Lacks(PointId),
}

/// Why a point has no stack of runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// A point of the chain is not there.
    #[error(
        "point {missing} is missing, which {point} builds on: restore an older point, or run `backstay vault check`"
    )]
    MissingParent {
        /// The point that was asked for.
        point: PointId,
        /// The one that is not there.
        missing: PointId,
    },
    /// The chain loops.
    #[error("the chain of {point} does not end: the vault is damaged, run `backstay vault check`")]
    Endless {
        /// The point that was asked for.
        point: PointId,
    },
    /// The point does not count, so it has none.
    #[error("point {point} is not one that can be restored: `backstay points` lists those that are")]
    DoesNotCount {
        /// The point that was asked for.
        point: PointId,
    },
}

/// Which of `candidates` count under `layout` (docs/format.md, section 9); in their order.
pub fn verdicts(layout: Option<&Layout>, candidates: &[Candidate]) -> Vec<Verdict> {
    let mut court = Court::new(layout, candidates);
    candidates.iter().map(|candidate| court.judge(candidate)).collect()
}

/// A layout's decisions, what it decides on, and the verdicts so far. A point is known by its link: two objects of one
/// point id are two points.
struct Court<'a> {
    candidates: HashMap<PointLink, &'a Candidate>,
    accepted: HashSet<PointLink>,
    dropped: HashSet<PointLink>,
    decided: HashSet<SessionId>,
    decided_below: CollectionNumber,
    verdicts: HashMap<PointLink, Verdict>,
}

impl<'a> Court<'a> {
    fn new(layout: Option<&Layout>, candidates: &'a [Candidate]) -> Self {
        Self {
            candidates: candidates.iter().map(|candidate| (candidate.link, candidate)).collect(),
            accepted: layout.iter().flat_map(|l| l.accepted.iter().map(|a| a.link)).collect(),
            dropped: layout.iter().flat_map(|l| l.dropped.iter().copied()).collect(),
            decided: layout.iter().flat_map(|l| l.decided.iter().copied()).collect(),
            decided_below: layout.map_or(CollectionNumber::NONE, |l| l.decided_below),
            verdicts: HashMap::new(),
        }
    }

    fn judge(&mut self, candidate: &'a Candidate) -> Verdict {
        let mut chain = Vec::new();
        let mut current = candidate;
        let verdict = loop {
            if let Some(known) = self.verdicts.get(&current.link) {
                break *known;
            }
            // Until shown otherwise, so that a loop of parents ends here.
            self.verdicts.insert(current.link, Verdict::Lacks(current.link.point));
            chain.push(current.link);
            match self.by_itself(current) {
                Ok(verdict) => break verdict,
                Err(parent) => current = parent,
            }
        };
        self.verdicts.extend(chain.into_iter().map(|link| (link, verdict)));
        verdict
    }

    /// The verdict, or the parent that has the same.
    fn by_itself(&self, candidate: &Candidate) -> Result<Verdict, &'a Candidate> {
        if self.dropped.contains(&candidate.link) {
            return Ok(Verdict::Refused);
        }
        if self.accepted.contains(&candidate.link) {
            return Ok(Verdict::Counts);
        }
        if self.decided.contains(&candidate.session) || candidate.collection < self.decided_below {
            return Ok(Verdict::Refused);
        }
        let Some(parent) = candidate.parent else { return Ok(Verdict::Counts) };
        // Retention may drop a parent under a commit that has pinned it; its runs stay until that is decided.
        if self.accepted.contains(&parent) || self.dropped.contains(&parent) {
            return Ok(Verdict::Counts);
        }
        match self.candidates.get(&parent) {
            Some(parent) if !parent.is_partial => Err(parent),
            _ => Ok(Verdict::Lacks(parent.point)),
        }
    }
}

/// The runs whose fold is the state of `point`, newest first: as few as there can be, of those of the layout and of
/// `own`, the own runs of points that count.
pub fn stack(layout: Option<&Layout>, own: &[PlacedRun], point: PointLink) -> Result<Vec<Run>, StackError> {
    let runs = || layout.iter().flat_map(|l| &l.runs).chain(own);
    Ok(way(runs, point)?.into_iter().map(|placed| placed.run.clone()).collect())
}

/// The runs that lead from nothing to `point`, the last one first: as few as there can be.
pub fn way<'a, I: Iterator<Item = &'a PlacedRun>>(
    runs: impl Fn() -> I,
    point: PointLink,
) -> Result<Vec<&'a PlacedRun>, StackError> {
    let reached = tree(runs());
    let mut way = Vec::new();
    let mut current = Some(point);
    while let Some(to) = current {
        let placed = *reached.get(&to).ok_or_else(|| gap(runs(), point))?;
        way.push(placed);
        current = placed.from;
    }
    Ok(way)
}

/// For each point that these runs make up, the run that leads to it on the shortest way from nothing; of equally short
/// ways the one whose runs come first.
pub fn tree<'a>(runs: impl Iterator<Item = &'a PlacedRun>) -> HashMap<PointLink, &'a PlacedRun> {
    tree_from(None, runs)
}

/// The same on ways that begin at a point.
pub fn tree_from<'a>(
    root: Option<PointLink>,
    runs: impl Iterator<Item = &'a PlacedRun>,
) -> HashMap<PointLink, &'a PlacedRun> {
    let mut onwards: HashMap<Option<PointLink>, Vec<&PlacedRun>> = HashMap::new();
    runs.for_each(|placed| onwards.entry(placed.from).or_default().push(placed));
    // Breadth first: the run by which a point is reached first ends a shortest stack.
    let mut reached: HashMap<PointLink, &PlacedRun> = HashMap::new();
    let mut next = VecDeque::from([root]);
    while let Some(from) = next.pop_front() {
        for placed in onwards.remove(&from).into_iter().flatten() {
            if let Entry::Vacant(first) = reached.entry(placed.to) {
                first.insert(placed);
                next.push_back(Some(placed.to));
            }
        }
    }
    reached
}

/// Where the chain of a point without a stack breaks off.
fn gap<'a>(runs: impl Iterator<Item = &'a PlacedRun>, point: PointLink) -> StackError {
    let mut before: HashMap<PointLink, Option<PointLink>> =
        runs.map(|placed| (placed.to, placed.from)).collect();
    let mut current = point;
    loop {
        match before.insert(current, None) {
            None => return StackError::MissingParent { point: point.point, missing: current.point },
            Some(None) => return StackError::Endless { point: point.point },
            Some(Some(from)) => current = from,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{Counts, Lacks, Refused};
    use super::*;
    use crate::id::ChunkId;
    use crate::run::PartRef;

    fn point(n: u8) -> PointId {
        PointId::new([n; 16])
    }

    fn link(n: u8) -> PointLink {
        PointLink { point: point(n), object: ObjectHash::new([n; 32]) }
    }

    /// The same point as another object.
    fn twin(n: u8) -> PointLink {
        PointLink { object: ObjectHash::new([n + 100; 32]), ..link(n) }
    }

    fn session(n: u8) -> SessionId {
        SessionId::new([n; 16])
    }

    /// Point `n` of session `n`, which began in collection `n`.
    fn candidate(n: u8, parent: Option<u8>) -> Candidate {
        Candidate {
            link: link(n),
            parent: parent.map(link),
            session: session(n),
            collection: CollectionNumber::new(u64::from(n)),
            is_partial: false,
        }
    }

    fn accepting(points: &[u8]) -> Layout {
        let accepted =
            |n: &u8| Accepted { link: link(*n), retention_time: Timestamp::from_nanos(0), holds: vec![] };
        Layout { accepted: points.iter().map(accepted).collect(), ..Layout::default() }
    }

    /// A run that can be told from others by `name`.
    fn placed(from: Option<PointLink>, to: PointLink, name: u8) -> PlacedRun {
        let part = PartRef {
            root: ChunkId::new([name; 32]),
            root_length: 1,
            first_key: vec![],
            last_key: vec![],
            entries: 1,
        };
        PlacedRun { from, to, run: Run { parts: vec![part] } }
    }

    fn names(stack: &[Run]) -> Vec<u8> {
        stack.iter().map(|run| run.parts[0].root.as_bytes()[0]).collect()
    }

    #[test]
    fn before_the_first_layout_points_with_a_complete_chain_count() {
        let points =
            [candidate(1, None), candidate(2, Some(1)), candidate(4, Some(3)), candidate(5, Some(4))];
        assert_eq!(verdicts(None, &points), [Counts, Counts, Lacks(point(3)), Lacks(point(3))]);
    }

    #[test]
    fn a_decision_is_final_and_those_who_build_on_what_it_left_out_do_not_count() {
        let points = [candidate(1, None), candidate(2, Some(1)), candidate(3, Some(2))];
        let layout = Layout { decided: vec![session(1), session(2)], ..accepting(&[1]) };
        assert_eq!(verdicts(Some(&layout), &points), [Counts, Refused, Refused]);
    }

    #[test]
    fn sessions_of_earlier_collections_are_decided_by_their_number() {
        let points = [candidate(1, None), candidate(2, Some(1)), candidate(3, Some(1))];
        let layout = Layout { decided_below: CollectionNumber::new(3), ..accepting(&[1]) };
        assert_eq!(verdicts(Some(&layout), &points), [Counts, Refused, Counts]);
    }

    #[test]
    fn a_dropped_point_does_not_count_and_those_that_build_on_it_do() {
        let points = [candidate(1, None), candidate(2, Some(1)), candidate(3, Some(2))];
        let layout = Layout {
            dropped: vec![link(1)],
            decided_below: CollectionNumber::new(2),
            // Also if a layout has it on both lists.
            ..accepting(&[1])
        };
        assert_eq!(verdicts(Some(&layout), &points), [Refused, Counts, Counts]);
    }

    #[test]
    fn another_object_of_an_accepted_point_is_another_point() {
        let other = Candidate { link: twin(1), ..candidate(1, None) };
        let layout = Layout { decided: vec![session(1)], ..accepting(&[1]) };
        assert_eq!(verdicts(Some(&layout), &[other.clone(), candidate(1, None)]), [Refused, Counts]);
        assert_eq!(verdicts(Some(&layout), &[candidate(1, None), other.clone()]), [Counts, Refused]);
        let on_the_other = Candidate { parent: Some(twin(1)), ..candidate(2, None) };
        assert_eq!(
            verdicts(None, &[candidate(1, None), on_the_other.clone()]),
            [Counts, Lacks(point(1))],
            "an equal id is not the parent"
        );
        assert_eq!(verdicts(None, &[other, on_the_other]), [Counts, Counts]);
    }

    #[test]
    fn nothing_builds_on_a_partial_point() {
        let partial = Candidate { is_partial: true, ..candidate(2, Some(1)) };
        let points = [candidate(1, None), partial, candidate(3, Some(2))];
        assert_eq!(verdicts(None, &points), [Counts, Counts, Lacks(point(2))]);
    }

    #[test]
    fn a_loop_counts_nowhere() {
        let looped = [candidate(1, Some(2)), candidate(2, Some(1))];
        assert!(verdicts(None, &looped).iter().all(|verdict| matches!(verdict, Lacks(_))));
    }

    #[test]
    fn the_stack_follows_own_runs_down_to_a_run_of_the_layout() {
        let own = [placed(Some(link(2)), link(3), 23), placed(Some(link(3)), link(4), 34)];
        let layout = Layout { runs: vec![placed(None, link(3), 3)], ..Layout::default() };
        assert_eq!(stack(Some(&layout), &own, link(4)).map(|stack| names(&stack)), Ok(vec![34, 3]));
    }

    #[test]
    fn a_run_to_another_object_of_a_point_is_no_run_to_it() {
        let own = [placed(None, twin(1), 100), placed(None, link(1), 1), placed(Some(link(1)), link(2), 12)];
        let layout = Layout { runs: vec![placed(None, twin(1), 101)], ..Layout::default() };
        assert_eq!(stack(Some(&layout), &own, link(2)).map(|stack| names(&stack)), Ok(vec![12, 1]));
        assert_eq!(
            stack(Some(&layout), &own[2..], link(2)),
            Err(StackError::MissingParent { point: point(2), missing: point(1) })
        );
    }

    #[test]
    fn a_run_that_leads_nowhere_does_not_hide_one_that_does() {
        let runs = vec![placed(Some(link(2)), link(3), 23), placed(Some(link(1)), link(3), 13)];
        let layout = Layout { runs, ..Layout::default() };
        let own = [placed(None, link(1), 1)];
        assert_eq!(stack(Some(&layout), &own, link(3)).map(|stack| names(&stack)), Ok(vec![13, 1]));
    }

    #[test]
    fn a_gap_and_a_loop_are_errors() {
        let gap = [placed(Some(link(1)), link(2), 12), placed(Some(link(2)), link(3), 23)];
        assert_eq!(
            stack(None, &gap, link(3)),
            Err(StackError::MissingParent { point: point(3), missing: point(1) })
        );
        let looped = [placed(Some(link(2)), link(1), 21), placed(Some(link(1)), link(2), 12)];
        assert_eq!(stack(None, &looped, link(2)), Err(StackError::Endless { point: point(2) }));
    }

    proptest! {
        #[test]
        fn a_stack_is_a_tiling_with_as_few_runs_as_there_can_be(
            edges in proptest::collection::vec((0u8..6, 1u8..6), 0..14),
        ) {
            let place = |n: u8| (n > 0).then(|| link(n));
            let runs = edges.iter().zip(0u8..).map(|((from, to), name)| placed(place(*from), link(*to), name));
            let layout = Layout { runs: runs.collect(), ..Layout::default() };
            // Least numbers of runs, by relaxing every edge often enough.
            let mut least = [Some(0), None, None, None, None, None];
            for _ in 0..edges.len() {
                for (from, to) in &edges {
                    let through = least[usize::from(*from)].map(|runs: usize| runs + 1);
                    let known = least[usize::from(*to)];
                    least[usize::from(*to)] = known.into_iter().chain(through).min();
                }
            }
            for to in 1..6u8 {
                let found = stack(Some(&layout), &[], link(to)).ok().map(|stack| names(&stack));
                prop_assert_eq!(found.as_ref().map(Vec::len), least[usize::from(to)]);
                let mut at = to;
                for name in found.into_iter().flatten() {
                    let (from, leads_to) = edges[usize::from(name)];
                    prop_assert_eq!(leads_to, at);
                    at = from;
                }
                prop_assert!(at == 0 || least[usize::from(to)].is_none());
            }
        }
    }
}
