//! A budget of bytes (or of anything else that is counted): taking waits until enough is left.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A counted budget.
#[derive(Debug)]
pub(super) struct Budget {
    whole: usize,
    left: Mutex<usize>,
    returned: Condvar,
}

impl Budget {
    pub(super) fn new(whole: usize) -> Self {
        Self { whole, left: Mutex::new(whole), returned: Condvar::new() }
    }

    /// Takes `amount`, or the whole budget when it is more, and says how much was taken.
    pub(super) fn take(&self, amount: usize) -> usize {
        let amount = amount.min(self.whole);
        let mut left = self
            .returned
            .wait_while(self.lock(), |left| *left < amount)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= amount;
        amount
    }

    /// Takes `amount` if that much is left now.
    pub(super) fn try_take(&self, amount: usize) -> bool {
        let mut left = self.lock();
        let is_there = *left >= amount;
        *left -= if is_there { amount } else { 0 };
        is_there
    }

    /// Waits until enough is left for `amount`, no longer than `patience`; whether it is.
    pub(super) fn wait_for(&self, amount: usize, patience: Duration) -> bool {
        let waited = self.returned.wait_timeout_while(self.lock(), patience, |left| *left < amount);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= amount
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, amount: usize) {
        *self.lock() += amount;
        self.returned.notify_all();
    }

    /// Waits until everything was given back.
    pub(super) fn wait_until_whole(&self) {
        drop(
            self.returned
                .wait_while(self.lock(), |left| *left < self.whole)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
