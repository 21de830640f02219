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

/// So long after the first change that was seen, what is changed together has changed.
const SETTLE: Duration = Duration::from_secs(1);

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
    pub fn take(&mut self, rpo: Duration, now: Timestamp) {
        self.refill(rpo, now);
        self.left = self.left.saturating_sub(1);
    }

    /// When a change that was first seen at `changed` is to be captured.
    pub fn wanted_at(&self, changed: Timestamp, rpo: Duration, now: Timestamp) -> Timestamp {
        // The clock went back since it was seen.
        let settled = changed.min(now).saturating_add(SETTLE);
        let mut then = *self;
        then.refill(rpo, now);
        match then.left {
            0 => settled.max(then.since.saturating_add(period(rpo))),
            _ => settled,
        }
    }

    fn refill(&mut self, rpo: Duration, now: Timestamp) {
        let period = period(rpo);
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

fn period(rpo: Duration) -> Duration {
    (rpo / RPO_PART).max(PERIOD_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPO: Duration = Duration::from_secs(900);
    const PERIOD: u64 = 90;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds as i64)
    }

    #[test]
    fn a_change_after_a_quiet_time_is_captured_as_soon_as_it_has_settled() {
        let pace = Pace::default();
        assert_eq!(pace.wanted_at(at(5), RPO, at(5)), at(6));
        assert_eq!(pace.wanted_at(at(5), RPO, at(500)), at(6), "it is overdue");
    }

    #[test]
    fn a_source_that_never_rests_is_captured_at_an_even_pace() {
        let mut pace = Pace::default();
        let (mut now, mut captures) = (at(0), Vec::new());
        while now < at(3600) {
            let wanted = pace.wanted_at(now, RPO, now);
            now = wanted;
            pace.take(RPO, now);
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
        (0..BURST).for_each(|_| pace.take(RPO, at(0)));
        assert_eq!(pace.wanted_at(at(1), RPO, at(1)), at(PERIOD));
        assert_eq!(pace.wanted_at(at(100), RPO, at(100)), at(101), "one has come back");
        (0..BURST).for_each(|_| pace.take(RPO, at(100_000)));
        assert_eq!(pace.wanted_at(at(100_001), RPO, at(100_001)), at(100_000 + PERIOD));
    }

    #[test]
    fn a_clock_that_went_back_delays_nothing_for_longer_than_a_period() {
        let mut pace = Pace::default();
        (0..BURST).for_each(|_| pace.take(RPO, at(1_000_000)));
        let wanted = pace.wanted_at(at(1_000_001), RPO, at(10));
        assert!(wanted <= at(10 + PERIOD), "{wanted}");
    }

    #[test]
    fn a_short_rpo_has_a_pace_of_its_own() {
        let mut pace = Pace::default();
        let rpo = Duration::from_secs(10);
        (0..BURST).for_each(|_| pace.take(rpo, at(0)));
        assert_eq!(pace.wanted_at(at(0), rpo, at(0)), at(5));
    }
}
