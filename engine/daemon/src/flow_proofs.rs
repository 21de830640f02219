//! What is known of the proofs of a flow, for status and metrics.

use std::time::Duration;

use backstay_core::proof::{LastProof, ProofHistory, ProofLevel};
use backstay_core::units::Timestamp;

/// The last proofs of one flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowProofs {
    last: Vec<(ProofLevel, LastProof)>,
    /// What has failed in the round of shares that is under way.
    failures_of_round: u64,
}

impl FlowProofs {
    /// As the vault has them.
    pub fn of(history: &ProofHistory) -> Self {
        Self::up_to(ProofLevel::Restore, history)
    }

    /// The same, without levels above the one that is asked for.
    pub fn up_to(top: ProofLevel, history: &ProofHistory) -> Self {
        let levels = ProofLevel::ALL.into_iter().filter(|level| *level <= top);
        let last = levels.filter_map(|level| Some((level, history.last(level)?)));
        let (_, round) = history.go_on_from();
        let failures_of_round =
            if top >= ProofLevel::Data { round.map_or(0, |round| round.failures) } else { 0 };
        Self { last: last.collect(), failures_of_round }
    }

    /// The last proof of each level that has any.
    pub fn last(&self) -> &[(ProofLevel, LastProof)] {
        &self.last
    }

    /// When the newest proof was made that has shown that all is well.
    pub fn newest_good(&self) -> Option<Timestamp> {
        self.last.iter().filter(|(_, last)| last.failures == 0).map(|(_, last)| last.end).max()
    }

    /// Whether the last proofs were good; `None` when there was none.
    pub fn are_good(&self) -> Option<bool> {
        let failed = self.failed_levels().next().is_some();
        (failed || !self.last.is_empty()).then_some(!failed)
    }

    /// How long the last restore has taken.
    pub fn restore_time(&self) -> Option<Duration> {
        self.last.iter().find(|(level, _)| *level == ProofLevel::Restore).map(|(_, last)| last.took)
    }

    /// The levels of which the last proof has failed.
    pub fn failed_levels(&self) -> impl Iterator<Item = ProofLevel> {
        ProofLevel::ALL.into_iter().filter(|level| {
            let last = self.last.iter().find(|(of, _)| of == level);
            last.is_some_and(|(_, last)| last.failures > 0)
                || (*level == ProofLevel::Data && self.failures_of_round > 0)
        })
    }
}
