//! Proofs: what was shown of a source in a vault, and when the next is due (docs/format.md, section 10a). Pure: reading
//! and restoring are for others.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::config::{Verify, VerifyLevel};
use crate::id::{ChunkId, SourceId};
use crate::point::PointLink;
use crate::units::Timestamp;

/// Lines of a proof about what has failed, at most; the others are counted.
pub const TOLD_MAX: usize = 100;

/// Length of such a line, bytes, at most.
pub const TOLD_BYTES_MAX: usize = 500;

/// What clocks of nodes may differ.
pub const TIME_TO_COME: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What was shown.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proof {
    /// The source.
    #[n(0)]
    pub source: SourceId,
    /// `SERVICE.KIND`.
    #[n(1)]
    pub source_name: String,
    /// How far it went.
    #[n(2)]
    pub level: ProofLevel,
    /// The node that has proven it.
    #[n(3)]
    pub node: String,
    /// When that began.
    #[n(4)]
    pub start: Timestamp,
    /// When it was over.
    #[n(5)]
    pub end: Timestamp,
    /// The point that was read or restored; of a share of all points none.
    #[n(6)]
    pub point: Option<PointLink>,
    /// Entries that were looked at.
    #[n(7)]
    pub entries: u64,
    /// Bytes that were read from the vault.
    #[n(8)]
    pub bytes: u64,
    /// How much was not as it should be. 0 is success.
    #[n(9)]
    pub failures: u64,
    /// What of it, at most [`TOLD_MAX`] lines of [`TOLD_BYTES_MAX`] bytes.
    #[n(10)]
    pub told: Vec<String>,
    /// What could not be shown here though it may be right, such as owners by a user that is not root.
    #[n(11)]
    pub unproven: Vec<String>,
    /// Of a share of everything: which.
    #[n(12)]
    pub share: Option<Share>,
    /// The last proofs of other levels: many shares may come before the next restore.
    #[n(13)]
    pub others: Vec<Summary>,
}

/// What a proof has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Summary {
    /// How far it went.
    #[n(0)]
    pub level: ProofLevel,
    /// When it began.
    #[n(1)]
    pub start: Timestamp,
    /// When it was over.
    #[n(2)]
    pub end: Timestamp,
    /// How much was not as it should be.
    #[n(3)]
    pub failures: u64,
}

/// How far a proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ProofLevel {
    /// The rows of a point are all there and add up to the state that its node has signed.
    #[n(0)]
    Structure,
    /// A share of the contents of all points was read and has the right ids.
    #[n(1)]
    Data,
    /// A point was restored, and what lies on the disk adds up to the state that its node has signed.
    #[n(2)]
    Restore,
}

/// A share of everything that the points of a source need. All shares from one beginning to the end are a round.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Share {
    /// The round, with this share: its end is that of the share.
    #[n(0)]
    pub round: Round,
    /// Where the next share begins; the round is whole without.
    #[n(1)]
    pub next: Option<Place>,
    /// The last whole round before this one.
    #[n(2)]
    pub before: Option<Round>,
}

/// What was read since a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Round {
    /// When it began.
    #[n(0)]
    pub start: Timestamp,
    /// When it was over, or came so far.
    #[n(1)]
    pub end: Timestamp,
    /// Bytes that were read from the vault.
    #[n(2)]
    pub bytes: u64,
    /// How much was not as it should be.
    #[n(3)]
    pub failures: u64,
}

/// A row of a run. Parts of runs are gone through in the order of their roots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Place {
    /// Root of the part.
    #[n(0)]
    pub part: ChunkId,
    /// Key of the row, or the least that it could have.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub key: Vec<u8>,
}

impl ProofLevel {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Structure, Self::Data, Self::Restore];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Data => "data",
            Self::Restore => "restore",
        }
    }
}

impl From<VerifyLevel> for ProofLevel {
    fn from(level: VerifyLevel) -> Self {
        match level {
            VerifyLevel::Structure => Self::Structure,
            VerifyLevel::Data => Self::Data,
            VerifyLevel::Restore => Self::Restore,
        }
    }
}

/// What is known of the proofs of one source in one vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProofHistory {
    /// Newest first.
    proofs: Vec<Proof>,
}

/// The last proof of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastProof {
    /// When it was over.
    pub end: Timestamp,
    /// How long it took; of a round of shares, from the beginning of the first to the end of the last.
    pub took: Duration,
    /// How much has failed.
    pub failures: u64,
}

/// A proof that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueProof {
    /// How far it goes.
    pub level: ProofLevel,
    /// How much may be read for it; of a restore all of its point is.
    pub bytes_max: Option<u64>,
}

impl ProofHistory {
    /// Of these proofs. Those of a time to come are left out: a clock that ran ahead must not keep the next one from being
    /// made for years.
    pub fn new(mut proofs: Vec<Proof>, now: Timestamp) -> Self {
        proofs.retain(|proof| proof.end <= now.saturating_add(TIME_TO_COME));
        proofs.sort_by_key(|proof| std::cmp::Reverse(proof.end));
        Self { proofs }
    }

    /// The proofs, newest first.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// For the next proof to remember.
    pub fn summaries(&self) -> Vec<Summary> {
        let summary = |level| {
            let LastProof { end, took, failures } = self.last(level)?;
            Some(Summary { level, start: end.saturating_sub(took), end, failures })
        };
        ProofLevel::ALL.into_iter().filter_map(summary).collect()
    }

    /// The newest proof of a level; of shares, the newest whole round.
    pub fn last(&self, level: ProofLevel) -> Option<LastProof> {
        self.listed(level).or_else(|| self.remembered(level))
    }

    fn listed(&self, level: ProofLevel) -> Option<LastProof> {
        let (start, end, failures) = match level {
            ProofLevel::Data => {
                let round = self.whole_round()?;
                (round.start, round.end, round.failures)
            }
            level => {
                let proof = self.proofs.iter().find(|proof| proof.level == level)?;
                (proof.start, proof.end, proof.failures)
            }
        };
        Some(LastProof { end, took: end.duration_since(start), failures })
    }

    fn remembered(&self, level: ProofLevel) -> Option<LastProof> {
        let mut remembered = self.proofs.iter().flat_map(|proof| &proof.others);
        let Summary { start, end, failures, .. } = *remembered.find(|summary| summary.level == level)?;
        Some(LastProof { end, took: end.duration_since(start), failures })
    }

    /// Where the next share begins, and the round that it goes on with; neither when it begins a new one.
    pub fn go_on_from(&self) -> (Option<Place>, Option<Round>) {
        match self.share() {
            Some(Share { next: Some(place), round, .. }) => (Some(place.clone()), Some(*round)),
            _ => (None, None),
        }
    }

    /// The last whole round, for the next share to remember.
    pub fn whole_round(&self) -> Option<Round> {
        let share = self.share()?;
        if share.next.is_none() { Some(share.round) } else { share.before }
    }

    fn share(&self) -> Option<&Share> {
        self.proofs
            .iter()
            .filter(|proof| proof.level == ProofLevel::Data)
            .find_map(|proof| proof.share.as_ref())
    }

    /// Bytes that were read for proofs that were over within `window` before `now`.
    fn spent(&self, window: Duration, now: Timestamp) -> u64 {
        let recent = self.proofs.iter().filter(|proof| now.duration_since(proof.end) < window);
        recent.map(|proof| proof.bytes).fold(0, u64::saturating_add)
    }

    /// What is due of a source whose newest point has so many bytes. Restores come first, since they show more. Both keep
    /// to what may be read each day; a restore that needs more than that is done as seldom as it has to be.
    pub fn due(&self, verify: &Verify, point_bytes: u64, now: Timestamp) -> Option<DueProof> {
        self.due_up_to(verify.level.into(), verify, point_bytes, now)
    }

    /// The same, of no higher level than `top`.
    pub fn due_up_to(
        &self,
        top: ProofLevel,
        verify: &Verify,
        point_bytes: u64,
        now: Timestamp,
    ) -> Option<DueProof> {
        let every = verify.every.as_duration();
        let is_due = |last: Option<Timestamp>| last.is_none_or(|last| now.duration_since(last) >= every);
        let budget = verify.budget_per_day.map(|budget| budget.as_u64());
        let last = |level: ProofLevel| self.last(level).map(|last| last.end);
        if top == ProofLevel::Structure {
            return is_due(last(top)).then_some(DueProof { level: top, bytes_max: None });
        }
        if top == ProofLevel::Restore && is_due(last(top)) {
            // What is spent on shares meanwhile would put it off for ever.
            let affords = self.affords(point_bytes, budget, now);
            return affords.then_some(DueProof { level: top, bytes_max: None });
        }
        let is_begun = self.go_on_from().0.is_some();
        if !is_begun && !is_due(last(ProofLevel::Data)) {
            return None;
        }
        let left = budget.map(|budget| budget.saturating_sub(self.spent(DAY, now)));
        // What is left of a day is kept for the next, so that not every hour has a share of its own.
        let is_enough = left.zip(budget).is_none_or(|(left, budget)| left > budget / 2);
        is_enough.then_some(DueProof { level: ProofLevel::Data, bytes_max: left })
    }

    fn affords(&self, bytes: u64, budget: Option<u64>, now: Timestamp) -> bool {
        let Some(budget) = budget.filter(|budget| *budget > 0) else { return true };
        let days = bytes.div_ceil(budget).clamp(1, u64::from(u32::MAX));
        let window = DAY.saturating_mul(days as u32);
        self.spent(window, now).saturating_add(bytes) <= budget.saturating_mul(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ByteSize, Span};

    const GIB: u64 = 1 << 30;

    fn at(days: f64) -> Timestamp {
        Timestamp::from_nanos((days * 86_400e9) as i64)
    }

    fn verify(level: VerifyLevel, budget: Option<u64>) -> Verify {
        Verify { every: Span::new(7 * DAY), level, budget_per_day: budget.map(ByteSize) }
    }

    fn proof(level: ProofLevel, days: f64, bytes: u64, share: Option<Share>) -> Proof {
        Proof {
            source: SourceId::new([1; 16]),
            source_name: "data.files".into(),
            level,
            node: "alpha".into(),
            start: at(days),
            end: at(days),
            point: None,
            entries: 1,
            bytes,
            failures: 0,
            told: Vec::new(),
            unproven: Vec::new(),
            share,
            others: Vec::new(),
        }
    }

    fn share(from: f64, to: f64, next: bool) -> Option<Share> {
        let place = Place { part: ChunkId::new([7; 32]), key: b"key".to_vec() };
        let round = Round { start: at(from), end: at(to), bytes: GIB, failures: 0 };
        Some(Share { round, next: next.then_some(place), before: None })
    }

    fn level(due: Option<DueProof>) -> Option<ProofLevel> {
        due.map(|due| due.level)
    }

    #[test]
    fn what_was_never_proven_is_due_and_a_restore_first() {
        let nothing = ProofHistory::default();
        for (asked, first) in [
            (VerifyLevel::Structure, ProofLevel::Structure),
            (VerifyLevel::Data, ProofLevel::Data),
            (VerifyLevel::Restore, ProofLevel::Restore),
        ] {
            assert_eq!(level(nothing.due(&verify(asked, None), GIB, at(100.0))), Some(first));
        }
    }

    #[test]
    fn a_proof_is_due_again_after_its_time_and_not_before() {
        let verify = verify(VerifyLevel::Restore, None);
        let proofs = vec![
            proof(ProofLevel::Restore, 10.0, GIB, None),
            proof(ProofLevel::Data, 10.0, GIB, share(9.0, 10.0, false)),
        ];
        let history = ProofHistory::new(proofs, at(99.0));
        assert_eq!(history.due(&verify, GIB, at(16.9)), None);
        assert_eq!(level(history.due(&verify, GIB, at(17.1))), Some(ProofLevel::Restore));
    }

    #[test]
    fn a_round_that_has_begun_goes_on_where_it_was() {
        let verify = verify(VerifyLevel::Data, None);
        let history =
            ProofHistory::new(vec![proof(ProofLevel::Data, 10.0, GIB, share(9.0, 10.0, true))], at(99.0));
        assert_eq!(level(history.due(&verify, GIB, at(10.1))), Some(ProofLevel::Data));
        let (place, round) = history.go_on_from();
        assert_eq!(
            (place.map(|place| place.key), round.map(|round| round.start)),
            (Some(b"key".to_vec()), Some(at(9.0)))
        );
        assert_eq!(history.last(ProofLevel::Data), None, "half a round is no proof of everything");
    }

    #[test]
    fn no_more_is_read_in_a_day_than_the_budget() {
        let verify = verify(VerifyLevel::Data, Some(10 * GIB));
        let history =
            ProofHistory::new(vec![proof(ProofLevel::Data, 10.0, 4 * GIB, share(9.0, 10.0, true))], at(99.0));
        let due = history.due(&verify, GIB, at(10.5)).expect("more than half is left");
        assert_eq!(due.bytes_max, Some(6 * GIB));
        let history =
            ProofHistory::new(vec![proof(ProofLevel::Data, 10.0, 6 * GIB, share(9.0, 10.0, true))], at(99.0));
        assert_eq!(history.due(&verify, GIB, at(10.5)), None);
        assert_eq!(history.due(&verify, GIB, at(11.1)).expect("a new day").bytes_max, Some(10 * GIB));
    }

    #[test]
    fn a_restore_above_the_budget_of_a_day_is_done_as_seldom_as_it_has_to_be() {
        let verify = verify(VerifyLevel::Restore, Some(10 * GIB));
        let proofs = vec![
            proof(ProofLevel::Restore, 10.0, 100 * GIB, None),
            proof(ProofLevel::Data, 10.0, 0, share(9.0, 10.0, false)),
        ];
        let history = ProofHistory::new(proofs, at(99.0));
        // Due after 7 days, affordable after 10: what shares would take meanwhile would put it off.
        assert_eq!(history.due(&verify, 100 * GIB, at(18.0)), None);
        assert_eq!(level(history.due(&verify, 100 * GIB, at(20.1))), Some(ProofLevel::Restore));
    }

    #[test]
    fn restores_and_rounds_of_shares_take_turns_within_the_budget() {
        let (budget, point, everything) = (20 * GIB, 145 * GIB, 2048 * GIB);
        let verify = verify(VerifyLevel::Restore, Some(budget));
        let (mut proofs, mut now): (Vec<Proof>, f64) = (Vec::new(), 0.0);
        let mut left = everything;
        while now < 400.0 {
            let history = ProofHistory::new(proofs.clone(), at(now));
            match history.due(&verify, point, at(now)) {
                Some(DueProof { level: ProofLevel::Restore, .. }) => {
                    proofs.push(proof(ProofLevel::Restore, now, point, None));
                }
                Some(DueProof { bytes_max, .. }) => {
                    let bytes = bytes_max.expect("a budget").min(left);
                    left = if bytes == left { everything } else { left - bytes };
                    proofs.push(proof(ProofLevel::Data, now, bytes, share(now, now, left != everything)));
                }
                None => {}
            }
            now += 1.0 / 24.0;
        }
        let spent: u64 = proofs.iter().map(|proof| proof.bytes).sum();
        assert!(spent <= 400 * budget + point, "{} of {}", spent / GIB, 400 * budget / GIB);
        let count = |level| proofs.iter().filter(|proof| proof.level == level).count();
        assert!(count(ProofLevel::Restore) >= 15, "{} restores", count(ProofLevel::Restore));
        let rounds = proofs.iter().filter(|proof| proof.share.as_ref().is_some_and(|s| s.next.is_none()));
        assert!(rounds.count() >= 1, "a whole round");
    }

    #[test]
    fn a_restore_is_remembered_by_the_shares_that_come_after_it() {
        let restore = proof(ProofLevel::Restore, 10.0, GIB, None);
        let others = ProofHistory::new(vec![restore.clone()], at(99.0)).summaries();
        let share = Proof { others, ..proof(ProofLevel::Data, 11.0, GIB, share(11.0, 11.0, true)) };
        let history = ProofHistory::new(vec![share.clone()], at(99.0));
        assert_eq!(history.last(ProofLevel::Restore).map(|last| last.end), Some(at(10.0)));
        let next = Proof { others: history.summaries(), ..share };
        assert!(ProofHistory::new(vec![next], at(99.0)).last(ProofLevel::Restore).is_some());
    }

    #[test]
    fn a_proof_of_a_time_to_come_keeps_no_other_from_being_made() {
        let verify = verify(VerifyLevel::Structure, None);
        let proofs = vec![proof(ProofLevel::Structure, 50.0, 0, None)];
        let history = ProofHistory::new(proofs.clone(), at(10.0));
        assert_eq!(level(history.due(&verify, GIB, at(10.0))), Some(ProofLevel::Structure));
        assert_eq!(ProofHistory::new(proofs, at(51.0)).due(&verify, GIB, at(51.0)), None);
    }
}
