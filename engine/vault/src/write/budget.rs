//! A budget of bytes (or of anything else that is counted): taking waits until enough is left.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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
