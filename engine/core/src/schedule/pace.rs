//! How often changes that were seen bring captures forward: the first ones after a quiet time at once, and those of a source
//! that never rests at an even pace. Each capture of a changed source makes a point.

use std::time::Duration;

use crate::units::Timestamp;

/// How many captures a source has saved up after a quiet time.
const BURST: u32 = 6;

/// This part of the RPO passes between two captures of a source that changes all the time.
const RPO_PART: u32 = 10;

/// But no less than this.
const PERIOD_MIN: Duration = Duration::from_secs(5);

/// And so many times as long as such a capture takes: it uses no more than this part of the time.
const TOOK_FACTOR: u32 = 10;

/// So long after the first change that was seen, what is changed together has changed.
pub const SETTLE: Duration = Duration::from_secs(1);

/// How many captures a flow has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    left: u32,
    /// From when on they are counted.
    since: Timestamp,
}

impl Default for Pace {
    /// All that can be saved up.
    fn default() -> Self {
        Self { left: BURST, since: Timestamp::MIN }
    }
}

impl Pace {
    /// Takes one for a capture that begins now.
    pub fn take(&mut self, period: Period, now: Timestamp) {
        self.refill(period, now);
        self.left = self.left.saturating_sub(1);
    }

    /// When a change that was first seen at `changed` is to be captured.
    pub fn wanted_at(&self, changed: Timestamp, period: Period, now: Timestamp) -> Timestamp {
        // The clock went back since it was seen.
        let settled = changed.min(now).saturating_add(SETTLE);
        let mut then = *self;
        then.refill(period, now);
        match then.left {
            0 => settled.max(then.since.saturating_add(period.0)),
            _ => settled,
        }
    }

    fn refill(&mut self, Period(period): Period, now: Timestamp) {
        if self.since > now {
            // The clock went back: what has passed is not known.
            self.since = now;
        }
        let passed = now.duration_since(self.since).as_nanos() / period.as_nanos();
        if passed >= u128::from(BURST - self.left.min(BURST)) {
            (self.left, self.since) = (BURST, now);
        } else {
            self.left += passed as u32;
            self.since = self.since.saturating_add(period * passed as u32);
        }
    }
}

/// How long it takes until a source has one more capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(Duration);

impl Period {
    /// With this RPO, of captures that take about so long.
    pub fn new(rpo: Duration, took: Duration) -> Self {
        Self((rpo / RPO_PART).max(PERIOD_MIN).max(took.saturating_mul(TOOK_FACTOR)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Period = Period(Duration::from_secs(90));
    const PERIOD: u64 = 90;

    fn period(rpo_seconds: u64, took_seconds: u64) -> u64 {
        Period::new(Duration::from_secs(rpo_seconds), Duration::from_secs(took_seconds)).0.as_secs()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds as i64)
    }

    #[test]
    fn a_change_after_a_quiet_time_is_captured_as_soon_as_it_has_settled() {
        let pace = Pace::default();
        assert_eq!(pace.wanted_at(at(5), PACE, at(5)), at(6));
        assert_eq!(pace.wanted_at(at(5), PACE, at(500)), at(6), "it is overdue");
    }

    #[test]
    fn a_source_that_never_rests_is_captured_at_an_even_pace() {
        let mut pace = Pace::default();
        let (mut now, mut captures) = (at(0), Vec::new());
        while now < at(3600) {
            let wanted = pace.wanted_at(now, PACE, now);
            now = wanted;
            pace.take(PACE, now);
            captures.push(now);
        }
        // The burst, and then one for each period.
        assert_eq!(captures.len() as u64, u64::from(BURST) + 3600 / PERIOD, "{captures:?}");
        let pauses: Vec<u64> =
            captures.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
        assert!(pauses[..5].iter().all(|pause| *pause == 1), "{pauses:?}");
        assert!(pauses[8..].iter().all(|pause| *pause == PERIOD), "{pauses:?}");
    }

    #[test]
    fn what_was_not_needed_is_saved_up_but_no_more_than_a_burst() {
        let mut pace = Pace::default();
        (0..BURST).for_each(|_| pace.take(PACE, at(0)));
        assert_eq!(pace.wanted_at(at(1), PACE, at(1)), at(PERIOD));
        assert_eq!(pace.wanted_at(at(100), PACE, at(100)), at(101), "one has come back");
        (0..BURST).for_each(|_| pace.take(PACE, at(100_000)));
        assert_eq!(pace.wanted_at(at(100_001), PACE, at(100_001)), at(100_000 + PERIOD));
    }

    #[test]
    fn a_clock_that_went_back_delays_nothing_for_longer_than_a_period() {
        let mut pace = Pace::default();
        (0..BURST).for_each(|_| pace.take(PACE, at(1_000_000)));
        let wanted = pace.wanted_at(at(1_000_001), PACE, at(10));
        assert!(wanted <= at(10 + PERIOD), "{wanted}");
    }

    #[test]
    fn the_pace_hangs_on_the_objective_and_on_what_a_capture_costs() {
        assert_eq!(period(900, 1), PERIOD);
        assert_eq!(period(10, 0), 5, "a short objective has a pace of its own");
        assert_eq!(period(900, 30), 300);
    }
}
