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
    /// Those of them that take memory.
    pub(super) stretches: usize,
    /// Files that are open, or wait to be made.
    pub(super) files: usize,
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

/// One more under way; counted down also when a task panics, which fails the restore.
#[derive(Debug)]
pub(super) struct Counted {
    shared: Arc<Shared>,
    counter: fn(&mut UnderWay) -> &mut usize,
}

impl Counted {
    /// Waits until there are fewer than `most`.
    pub(super) fn begin(shared: &Arc<Shared>, counter: fn(&mut UnderWay) -> &mut usize, most: usize) -> Self {
        let waited = shared.changed.wait_while(shared.under_way(), |under_way| *counter(under_way) >= most);
        *counter(&mut waited.unwrap_or_else(PoisonError::into_inner)) += 1;
        Self { shared: Arc::clone(shared), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(Failure::Vault(VaultError::GivenUp));
        }
        *(self.counter)(&mut self.shared.under_way()) -= 1;
        self.shared.changed.notify_all();
    }
}
