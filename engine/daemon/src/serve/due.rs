//! When the daemon prunes by itself: soon after something was committed, but a vault at most hourly, and more rarely where requests
//! cost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::care::PERIOD;

/// How often it is looked in a period that is longer than the usual one.
const LOOKS_IN_PERIOD: u32 = 12;

/// When a prune that has to wait for commits looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How a prune has ended, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left of what was committed before it.
    Whole,
    /// It waits for commits under way.
    Waits,
    /// It has failed, and may succeed later.
    Failed,
}

/// The vaults to be pruned, and from when on.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Vaults that something was committed to since a prune of them began.
    from: HashMap<String, Instant>,
    /// When the last prune of a vault has ended.
    ended: HashMap<String, Instant>,
    /// Vaults with another period than [`PERIOD`].
    periods: HashMap<String, Duration>,
}

impl Due {
    /// Nothing is due, and these vaults have another period than [`PERIOD`].
    pub(super) fn with_periods(periods: HashMap<String, Duration>) -> Self {
        Self { periods, ..Self::default() }
    }

    fn period(&self, vault: &str) -> Duration {
        self.periods.get(vault).copied().unwrap_or(PERIOD)
    }

    /// Something was committed to this vault.
    pub(super) fn committed(&mut self, vault: &str, now: Instant) {
        let from = self.ended.get(vault).map_or(now, |ended| *ended + self.period(vault));
        self.from.entry(vault.to_owned()).or_insert(from);
    }

    /// A prune of this vault begins; whether it was due by itself, sooner or later.
    pub(super) fn begun(&mut self, vault: &str) -> bool {
        self.from.remove(vault).is_some()
    }

    /// A prune of this vault has ended; `was_due` as it [began](Self::begun). What was committed meanwhile waits like
    /// what is committed from now on.
    pub(super) fn ended(&mut self, vault: &str, was_due: bool, end: End, now: Instant) {
        self.ended.insert(vault.to_owned(), now);
        let next = now + self.period(vault);
        if let Some(from) = self.from.get_mut(vault) {
            *from = next;
        }
        match end {
            End::Whole => {}
            End::Waits => {
                // Where a prune is dear, so is to look again.
                let again = LOOK_AGAIN.max(self.period(vault).saturating_sub(PERIOD) / LOOKS_IN_PERIOD);
                self.from.insert(vault.to_owned(), now + again);
            }
            End::Failed if was_due => {
                self.from.insert(vault.to_owned(), next);
            }
            End::Failed => {}
        }
    }

    /// The vaults that are due, and from when on: now, before it, or later.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, Instant)> {
        self.from.iter().map(|(vault, from)| (vault, *from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long from then on until the vault is due.
    fn wait(due: &Due, now: Instant) -> Option<Duration> {
        due.all().find(|(vault, _)| *vault == "local").map(|(_, from)| from.saturating_duration_since(now))
    }

    #[test]
    fn the_first_commit_is_pruned_after_at_once_and_the_next_within_the_hour() {
        let (mut due, start) = (Due::default(), Instant::now());
        assert_eq!(wait(&due, start), None);
        due.committed("local", start);
        assert_eq!(wait(&due, start), Some(Duration::ZERO));
        assert!(due.begun("local"));
        let end = start + Duration::from_secs(5);
        due.ended("local", true, End::Whole, end);
        assert_eq!(wait(&due, end), None);
        due.committed("local", end + Duration::from_secs(60));
        assert_eq!(wait(&due, end), Some(PERIOD));
    }

    #[test]
    fn a_vault_with_a_period_of_its_own_is_pruned_after_that() {
        let period = Duration::from_secs(6 * 3600);
        let mut due = Due::with_periods(HashMap::from([("local".to_owned(), period)]));
        let start = Instant::now();
        due.committed("local", start);
        due.begun("local");
        due.committed("local", start);
        due.ended("local", true, End::Whole, start);
        assert_eq!(wait(&due, start), Some(period));
        due.begun("local");
        due.ended("local", true, End::Whole, start);
        due.committed("local", start);
        assert_eq!(wait(&due, start), Some(period));
    }

    #[test]
    fn a_commit_during_the_first_prune_does_not_bring_the_second_at_once() {
        let (mut due, start) = (Due::default(), Instant::now());
        due.committed("local", start);
        due.begun("local");
        due.committed("local", start);
        due.ended("local", true, End::Whole, start);
        assert_eq!(wait(&due, start), Some(PERIOD));
    }

    #[test]
    fn a_prune_that_waits_looks_again_soon_and_one_that_failed_in_an_hour() {
        let (mut due, start) = (Due::default(), Instant::now());
        due.ended("local", false, End::Waits, start);
        assert_eq!(wait(&due, start), Some(LOOK_AGAIN));
        assert!(due.begun("local"));
        due.ended("local", true, End::Failed, start);
        assert_eq!(wait(&due, start), Some(PERIOD));
        due.begun("local");
        due.ended("local", false, End::Failed, start);
        assert_eq!(wait(&due, start), None, "who asked for it was told");
    }
}
