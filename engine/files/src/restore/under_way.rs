//! What a restore has under way, and what became of it: counts that bound memory and open files, and the first failure,
//! shared by all its threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use backstay_vault::error::VaultError;

use super::report::{Collected, RestoreProgress};
use crate::place::PlaceError;

/// Shared by the threads of one restore.
#[derive(Debug)]
pub(super) struct Shared {
    under_way: Mutex<UnderWay>,
    changed: Condvar,
    failure: Mutex<Option<Failure>>,
    pub(super) collected: Arc<Collected>,
    pub(super) progress: Arc<RestoreProgress>,
}

/// How much is under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Reads that are queued or worked on.
    pub(super) reads: usize,
    /// Bytes of the stretches that are in memory, or will be.
    pub(super) stretch_bytes: usize,
    /// Files that are open, or wait to be made.
    pub(super) files: usize,
    /// Goes up whenever something has become less, or a stretch has come.
    changes: u64,
}

/// Why a restore cannot go on.
#[derive(Debug)]
pub(super) enum Failure {
    Vault(VaultError),
    Place(PlaceError),
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

impl Shared {
    pub(super) fn new(collected: Arc<Collected>, progress: Arc<RestoreProgress>) -> Self {
        Self {
            under_way: Mutex::default(),
            changed: Condvar::new(),
            failure: Mutex::default(),
            collected,
            progress,
        }
    }

    pub(super) fn wait(&self, enough: impl Fn(&UnderWay) -> bool) {
        let waited = self.changed.wait_while(self.under_way(), |under_way| !enough(under_way));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether nothing is read or worked on.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way().reads == 0
    }

    /// What has changed so far: for [`Self::wait_for_change`].
    pub(super) fn changes(&self) -> u64 {
        self.under_way().changes
    }

    /// Waits until something is other than it was then.
    pub(super) fn wait_for_change(&self, since: u64) {
        let waited = self.changed.wait_while(self.under_way(), |under_way| under_way.changes == since);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// A stretch has come.
    pub(super) fn has_changed(&self) {
        self.under_way().changes += 1;
        self.changed.notify_all();
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.failure().get_or_insert(failure);
    }

    pub(super) fn take_failure(&self) -> Result<(), Failure> {
        self.failure().take().map_or(Ok(()), Err)
    }
}

/// What is counted of something under way.
pub(super) type Counter = fn(&mut UnderWay) -> &mut usize;

/// Something more under way; counted down also when a task panics, which fails the restore.
#[derive(Debug)]
pub(super) struct Counted {
    shared: Arc<Shared>,
    counter: Counter,
    amount: usize,
}

impl Counted {
    /// Waits until there are fewer than `most`.
    pub(super) fn begin(shared: &Arc<Shared>, counter: Counter, most: usize) -> Self {
        let waited = shared.changed.wait_while(shared.under_way(), |under_way| *counter(under_way) >= most);
        *counter(&mut waited.unwrap_or_else(PoisonError::into_inner)) += 1;
        Self { shared: Arc::clone(shared), counter, amount: 1 }
    }

    /// As much as `amount`, unless that would make more than `most` of something; the first is always let in.
    pub(super) fn try_begin(
        shared: &Arc<Shared>,
        counter: Counter,
        amount: usize,
        most: usize,
    ) -> Option<Self> {
        let mut under_way = shared.under_way();
        let now = counter(&mut under_way);
        if *now > 0 && now.saturating_add(amount) > most {
            return None;
        }
        *now += amount;
        drop(under_way);
        Some(Self { shared: Arc::clone(shared), counter, amount })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(Failure::Vault(VaultError::GivenUp));
        }
        let mut under_way = self.shared.under_way();
        *(self.counter)(&mut under_way) -= self.amount;
        under_way.changes += 1;
        drop(under_way);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_stays_below_its_bound_and_one_thing_is_always_let_in() {
        let shared = Arc::new(Shared::new(Arc::default(), Arc::default()));
        let begin =
            |amount| Counted::try_begin(&shared, |under_way| &mut under_way.stretch_bytes, amount, 100);
        let large = begin(1000).expect("the first");
        assert!(begin(1).is_none());
        drop(large);
        let some = begin(60).expect("there is room");
        assert!(begin(41).is_none());
        let more = begin(40).expect("to the brim");
        let changes = shared.changes();
        drop(some);
        // Returns, since something was given back.
        shared.wait_for_change(changes);
        assert!(begin(60).is_some());
        drop(more);
        assert_eq!(shared.under_way().stretch_bytes, 0);
    }
}
