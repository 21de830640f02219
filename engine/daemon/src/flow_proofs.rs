//! What is known of the proofs of a flow, for status and metrics.

use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::id::SourceId;
use backstay_core::proof::{LastProof, ProofHistory, ProofLevel, TIME_TO_COME};
use backstay_core::units::Timestamp;
use backstay_vault::vault::Vault;
use backstay_wire::peer::ProofThere;

use crate::clock::SystemClock;

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

    /// As the vault has them; none where it cannot say.
    pub fn in_vault(vault: &Vault, source: SourceId) -> Option<Self> {
        let now = SystemClock.now();
        let proofs = vault.proofs(source, now.saturating_add(TIME_TO_COME)).ok()?;
        Some(Self::of(&ProofHistory::new(proofs, now)))
    }

    /// The same of a vault that was opened just now, as it was seen then.
    pub fn in_vault_at_first(vault: &Vault, source: SourceId) -> Option<Self> {
        let now = SystemClock.now();
        let proofs = vault.proofs_at_first(source, now.saturating_add(TIME_TO_COME)).ok()?;
        Some(Self::of(&ProofHistory::new(proofs, now)))
    }

    /// As a hub has told them. Levels of a later version are left out.
    pub fn of_told(told: &[ProofThere]) -> Self {
        let last = |told: &ProofThere| {
            let level = usize::try_from(told.level).ok().and_then(|number| ProofLevel::ALL.get(number))?;
            let last = LastProof {
                end: Timestamp::from_nanos(told.end_nanos),
                took: Duration::from_nanos(told.took_nanos),
                failures: told.failures,
            };
            Some((*level, last))
        };
        Self { last: told.iter().filter_map(last).collect(), failures_of_round: 0 }
    }

    /// As they are told to the node whose flow it is.
    pub fn told(&self) -> Vec<ProofThere> {
        let told = |(level, last): &(ProofLevel, LastProof)| ProofThere {
            level: *level as u64,
            end_nanos: last.end.as_nanos(),
            took_nanos: u64::try_from(last.took.as_nanos()).unwrap_or(u64::MAX),
            // What has failed in a round that is under way has failed.
            failures: match level {
                ProofLevel::Data => last.failures.max(self.failures_of_round),
                _ => last.failures,
            },
        };
        self.last.iter().map(told).collect()
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
