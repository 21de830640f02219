//! Layouts: which points count and which runs tile them. Owns the model, its CBOR form
//! (docs/format.md, section 9) and the pure decisions on it; reading and writing are the vault's.

use std::collections::{HashMap, HashSet};

use minicbor::{Decode, Encode};

use crate::id::{ObjectHash, PointId, SessionId};
use crate::point::PointLink;
use crate::run::Run;
use crate::units::Timestamp;

/// Longest chain of parents or stack of runs that is followed.
pub const CHAIN_MAX: usize = 100_000;

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
    pub runs: Vec<Run>,
    /// Sessions on which the decision is final: only accepted points of theirs count.
    #[n(5)]
    pub decided: Vec<SessionId>,
    /// Points that were dropped and whose objects are not gone yet.
    #[n(6)]
    pub dropped: Vec<PointLink>,
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

/// What the layout needs to know of a point object.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The point and its object.
    pub link: PointLink,
    /// Its parent.
    pub parent: Option<PointLink>,
    /// The session that wrote it.
    pub session: SessionId,
    /// Its own run.
    pub run: Run,
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
    /// The chain loops or is longer than [`CHAIN_MAX`].
    #[error("the chain of {point} does not end: the vault is damaged, run `backstay vault check`")]
    Endless {
        /// The point that was asked for.
        point: PointId,
    },
}

/// Those of `candidates` that count under `layout` (docs/format.md, section 9).
pub fn counting<'a>(layout: Option<&Layout>, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
    let by_id: HashMap<PointId, &Candidate> = candidates.iter().map(|c| (c.link.point, c)).collect();
    let accepted: HashSet<PointLink> =
        layout.iter().flat_map(|l| l.accepted.iter().map(|a| a.link)).collect();
    let decided: HashSet<SessionId> = layout.iter().flat_map(|l| l.decided.iter().copied()).collect();
    let mut verdicts: HashMap<PointId, bool> = HashMap::new();
    for candidate in candidates {
        judge(candidate, &by_id, &accepted, &decided, &mut verdicts);
    }
    candidates.iter().filter(|c| verdicts.get(&c.link.point) == Some(&true)).collect()
}

fn judge(
    candidate: &Candidate,
    by_id: &HashMap<PointId, &Candidate>,
    accepted: &HashSet<PointLink>,
    decided: &HashSet<SessionId>,
    verdicts: &mut HashMap<PointId, bool>,
) {
    let mut chain = Vec::new();
    let mut current = candidate;
    let verdict = loop {
        if let Some(known) = verdicts.get(&current.link.point) {
            break *known;
        }
        // "No" until shown otherwise, so that a loop of parents ends here.
        verdicts.insert(current.link.point, false);
        chain.push(current.link.point);
        if accepted.contains(&current.link) {
            break true;
        }
        if decided.contains(&current.session) {
            break false;
        }
        match current.parent {
            None => break true,
            Some(parent) => match by_id.get(&parent.point) {
                Some(next) if next.link == parent => current = next,
                _ => break false,
            },
        }
    };
    verdicts.extend(chain.into_iter().map(|point| (point, verdict)));
}

/// The runs whose fold is the state of `point`, newest first: the layout's where it knows the
/// point, the points' own otherwise.
pub fn stack(
    layout: Option<&Layout>,
    candidates: &[Candidate],
    point: PointId,
) -> Result<Vec<Run>, StackError> {
    let own: HashMap<PointId, &Run> = candidates.iter().map(|c| (c.link.point, &c.run)).collect();
    // Of several runs that lead to a point, one from nothing ends the stack at once.
    let mut listed: HashMap<PointId, &Run> = HashMap::new();
    for run in layout.iter().flat_map(|l| l.runs.iter()) {
        let entry = listed.entry(run.to).or_insert(run);
        if run.from.is_none() {
            *entry = run;
        }
    }
    let mut runs = Vec::new();
    let mut current = point;
    loop {
        let Some(run) = listed.get(&current).or_else(|| own.get(&current)) else {
            return Err(StackError::MissingParent { point, missing: current });
        };
        runs.push((*run).clone());
        if runs.len() > CHAIN_MAX {
            return Err(StackError::Endless { point });
        }
        match run.from {
            None => return Ok(runs),
            Some(from) => current = from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(n: u8) -> PointId {
        PointId::new([n; 16])
    }

    fn link(n: u8) -> PointLink {
        PointLink { point: point(n), object: ObjectHash::new([n; 32]) }
    }

    fn candidate(n: u8, parent: Option<u8>, session: u8) -> Candidate {
        Candidate {
            link: link(n),
            parent: parent.map(link),
            session: SessionId::new([session; 16]),
            run: Run { from: parent.map(point), to: point(n), parts: Vec::new() },
        }
    }

    fn ids(counting: &[&Candidate]) -> Vec<PointId> {
        counting.iter().map(|c| c.link.point).collect()
    }

    #[test]
    fn before_the_first_layout_points_with_a_complete_chain_count() {
        let points = [candidate(1, None, 1), candidate(2, Some(1), 2), candidate(4, Some(3), 4)];
        assert_eq!(ids(&counting(None, &points)), [point(1), point(2)]);
    }

    #[test]
    fn a_decision_is_final_and_those_who_build_on_what_it_left_out_do_not_count() {
        let points = [candidate(1, None, 1), candidate(2, Some(1), 2), candidate(3, Some(2), 3)];
        let layout = Layout {
            accepted: vec![Accepted {
                link: link(1),
                retention_time: Timestamp::from_nanos(0),
                holds: vec![],
            }],
            decided: vec![SessionId::new([1; 16]), SessionId::new([2; 16])],
            ..Layout::default()
        };
        assert_eq!(ids(&counting(Some(&layout), &points)), [point(1)]);
    }

    #[test]
    fn the_stack_follows_own_runs_down_to_a_run_of_the_layout() {
        let points = [candidate(1, None, 1), candidate(3, Some(2), 3), candidate(4, Some(3), 4)];
        let merged = Run { from: None, to: point(3), parts: Vec::new() };
        let layout = Layout { runs: vec![merged.clone()], ..Layout::default() };
        let stack = stack(Some(&layout), &points, point(4)).expect("complete");
        assert_eq!(stack, [points[2].run.clone(), merged]);
    }

    #[test]
    fn a_gap_and_a_loop_are_errors() {
        let gap = [candidate(2, Some(1), 2)];
        assert_eq!(
            stack(None, &gap, point(2)),
            Err(StackError::MissingParent { point: point(2), missing: point(1) })
        );
        let looped = [candidate(1, Some(2), 1), candidate(2, Some(1), 2)];
        assert_eq!(stack(None, &looped, point(2)), Err(StackError::Endless { point: point(2) }));
        assert!(counting(None, &looped).is_empty());
    }
}
