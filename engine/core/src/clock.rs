//! The seam through which time is read, and a clock for tests and simulations.
//!
//! The decisions of this crate take the time as an argument; the trait is for the shells around them. The
//! clock of the machine lives in the daemon. Refuses to know about sleeping: waking up is the shell's.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::units::Timestamp;

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current time. It may go backwards: an operator or a time server may set it.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub const fn new(start: Timestamp) -> Self {
        Self { nanos: AtomicI64::new(start.as_nanos()) }
    }

    /// Makes it show `now`, which may lie in its past.
    pub fn set(&self, now: Timestamp) {
        self.nanos.store(now.as_nanos(), Ordering::SeqCst);
    }

    /// Moves it forward and returns what it shows then.
    pub fn advance(&self, by: Duration) -> Timestamp {
        let mut before = self.nanos.load(Ordering::SeqCst);
        loop {
            let after = Timestamp::from_nanos(before).saturating_add(by);
            match self.nanos.compare_exchange(before, after.as_nanos(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return after,
                Err(moved) => before = moved,
            }
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_still_until_moved() {
        let clock = ManualClock::new(Timestamp::from_seconds(100));
        assert_eq!(clock.now(), Timestamp::from_seconds(100));
        assert_eq!(clock.advance(Duration::from_secs(5)), Timestamp::from_seconds(105));
        assert_eq!(clock.now(), Timestamp::from_seconds(105));
    }

    #[test]
    fn can_be_set_back() {
        let clock = ManualClock::new(Timestamp::from_seconds(100));
        clock.set(Timestamp::from_seconds(40));
        assert_eq!(clock.now(), Timestamp::from_seconds(40));
    }
}
