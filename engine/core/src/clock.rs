//! The seam through which time is read, what two clocks together say of how long ago something was, and a clock for
//! tests and simulations.
//!
//! The decisions of this crate take the time as an argument; the trait is for the shells around them. The
//! clock of the machine lives in the daemon. Refuses to know about sleeping: waking up is the shell's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::units::Timestamp;

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current time. It may go backwards: an operator or a time server may set it.
    fn now(&self) -> Timestamp;

    /// What a clock shows beside it that nobody sets; none where there is no such clock.
    fn steady(&self) -> Option<SteadyTime> {
        None
    }

    /// What both show.
    fn moment(&self) -> Moment {
        Moment { wall: self.now(), steady: self.steady() }
    }
}

/// What a clock shows that nobody sets and that goes on while the machine sleeps. Of use only beside other readings of
/// the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SteadyTime(Duration);

impl SteadyTime {
    /// The reading so long after the clock's own beginning.
    pub const fn since_start(duration: Duration) -> Self {
        Self(duration)
    }

    /// The time from `earlier` to this; 0 when `earlier` is later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much later.
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// So much earlier, but not before the clock's own beginning.
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// An instant by two clocks: one that may be set, and one that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that may be set.
    pub wall: Timestamp,
    /// By the other, where it was read.
    pub steady: Option<SteadyTime>,
}

impl Moment {
    /// An instant that is known by its time alone.
    pub const fn of_wall(wall: Timestamp) -> Self {
        Self { wall, steady: None }
    }

    /// When this was, as the clock shows the time at `now`: as long ago as the clock says that says more. So a clock
    /// that is set back makes nothing younger, and one that is set forward errs towards too old.
    pub fn as_seen_from(self, now: Self) -> Timestamp {
        match (self.steady, now.steady) {
            (Some(then), Some(steady)) => self.wall.min(now.wall.saturating_sub(steady.duration_since(then))),
            _ => self.wall,
        }
    }

    /// The instant at which the clock that may be set has shown `wall`, at or before this one. Of one that lies after it only
    /// the time is known: the clock was set back since.
    pub fn back_to(self, wall: Timestamp) -> Self {
        if wall > self.wall {
            return Self::of_wall(wall);
        }
        let before = self.wall.duration_since(wall);
        Self { wall, steady: self.steady.map(|steady| steady.saturating_sub(before)) }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicI64,
    /// By how much it was moved forward in all, whatever it was set to.
    steady_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub const fn new(start: Timestamp) -> Self {
        Self { nanos: AtomicI64::new(start.as_nanos()), steady_nanos: AtomicU64::new(0) }
    }

    /// Makes it show `now`, which may lie in its past. No time goes by.
    pub fn set(&self, now: Timestamp) {
        self.nanos.store(now.as_nanos(), Ordering::SeqCst);
    }

    /// Moves it forward and returns what it shows then.
    pub fn advance(&self, by: Duration) -> Timestamp {
        let by_nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.steady_nanos.fetch_add(by_nanos, Ordering::SeqCst);
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

    fn steady(&self) -> Option<SteadyTime> {
        Some(SteadyTime::since_start(Duration::from_nanos(self.steady_nanos.load(Ordering::SeqCst))))
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

    /// How long ago something that began at `start` seems at the end, by both clocks.
    fn age(clock: &ManualClock, start: Moment) -> Duration {
        let now = clock.moment();
        now.wall.duration_since(start.as_seen_from(now))
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_younger() {
        let clock = ManualClock::new(Timestamp::from_seconds(10_000));
        let start = clock.moment();
        clock.advance(Duration::from_secs(600));
        for shown in [10_600, 10_500, 10_000, 9_000] {
            clock.set(Timestamp::from_seconds(shown));
            assert_eq!(age(&clock, start), Duration::from_secs(600), "{shown}");
        }
        clock.set(Timestamp::from_seconds(11_000));
        assert_eq!(age(&clock, start), Duration::from_secs(1000), "rather too old than too young");
    }

    #[test]
    fn without_a_steady_reading_there_is_the_wall_clock_alone() {
        let clock = ManualClock::new(Timestamp::from_seconds(10_600));
        let start = Moment::of_wall(Timestamp::from_seconds(10_000));
        assert_eq!(age(&clock, start), Duration::from_secs(600));
        clock.set(Timestamp::from_seconds(10_500));
        assert_eq!(age(&clock, start), Duration::from_secs(500));
        assert_eq!(start.as_seen_from(Moment::of_wall(Timestamp::from_seconds(9_000))), start.wall);
    }

    #[test]
    fn a_scan_that_began_before_is_as_old_by_both_clocks() {
        let clock = ManualClock::new(Timestamp::from_seconds(10_000));
        clock.advance(Duration::from_secs(600));
        let began = clock.moment().back_to(Timestamp::from_seconds(10_300));
        clock.set(Timestamp::from_seconds(10_310));
        assert_eq!(age(&clock, began), Duration::from_secs(300));
        // The clock was set back since the scan began: nobody can tell how long ago that was.
        let to_come = clock.moment().back_to(Timestamp::from_seconds(10_311));
        assert_eq!(to_come, Moment::of_wall(Timestamp::from_seconds(10_311)));
    }
}
