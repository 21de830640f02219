//! Limits of rates, as a bucket that fills at the rate: who takes is told how long to wait. Pure: time is an argument.

use std::time::Duration;

use crate::clock::SteadyTime;
use crate::units::ByteRate;

/// So much of a rate may be used at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// What goes at once, although it was not earned, keeps others waiting for no longer than that.
const OWED_MAX: Duration = Duration::from_secs(10);

/// A bucket.
#[derive(Debug, Clone, Default)]
pub struct TokenBucket {
    /// When everything that was taken will have been earned; none before the first.
    paid_until: Option<SteadyTime>,
}

impl TokenBucket {
    /// Takes so many bytes at this rate, and says how long to wait before they may go. More may be taken than there are: what is
    /// owed is waited for by whoever comes next, in the order in which they come.
    pub fn take(&mut self, bytes: u64, rate: ByteRate, now: SteadyTime) -> Duration {
        let earliest = now.saturating_sub(BURST);
        let start = self.paid_until.filter(|paid| *paid > earliest).unwrap_or(earliest);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.as_bytes_per_second().max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until = Some(start.saturating_add(cost));
        start.duration_since(now)
    }

    /// Takes so many bytes that go at once: who comes next waits for them, but no longer than so long.
    pub fn take_at_once(&mut self, bytes: u64, rate: ByteRate, now: SteadyTime) {
        self.take(bytes, rate, now);
        self.paid_until = self.paid_until.map(|paid| paid.min(now.saturating_add(OWED_MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SteadyTime {
        SteadyTime::since_start(Duration::from_millis(10_000 + millis))
    }

    const RATE: ByteRate = ByteRate(1_000_000);

    #[test]
    fn a_rate_is_kept_over_time() {
        let mut bucket = TokenBucket::default();
        let mut now = 0;
        for _ in 0..100 {
            now += bucket.take(100_000, RATE, at(now)).as_millis() as u64;
        }
        // 10 MB, of which the last piece has gone and is paid for by the next one.
        assert_eq!(now, 9_900 - BURST.as_millis() as u64);
    }

    #[test]
    fn after_a_pause_no_more_goes_at_once_than_a_burst() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(250_000, RATE, at(0)), Duration::ZERO);
        assert_eq!(bucket.take(1, RATE, at(0)), Duration::ZERO, "it is earned by now");
        assert_eq!(bucket.take(100_000, RATE, at(60_000)), Duration::ZERO);
        assert_eq!(bucket.take(150_000, RATE, at(60_000)), Duration::ZERO);
        assert_eq!(bucket.take(100_000, RATE, at(60_000)), Duration::ZERO);
        assert_eq!(bucket.take(1, RATE, at(60_000)), Duration::from_millis(100));
    }

    #[test]
    fn what_is_owed_is_waited_for_in_order() {
        let mut bucket = TokenBucket::default();
        let waits: Vec<u128> = (0..4).map(|_| bucket.take(1_000_000, RATE, at(0)).as_millis()).collect();
        assert_eq!(waits, [0, 750, 1750, 2750]);
    }

    #[test]
    fn what_goes_at_once_is_waited_for_and_not_for_ever() {
        let mut bucket = TokenBucket::default();
        bucket.take_at_once(2_000_000, RATE, at(0));
        assert_eq!(bucket.take(1, RATE, at(0)).as_millis(), 1750);
        bucket.take_at_once(1_000_000_000, RATE, at(0));
        assert_eq!(bucket.take(1, RATE, at(0)), OWED_MAX);
    }

    #[test]
    fn nothing_overflows() {
        let mut bucket = TokenBucket::default();
        bucket.take(u64::MAX, ByteRate(0), at(0));
        assert!(bucket.take(u64::MAX, ByteRate(1), at(0)) > Duration::from_secs(1 << 30));
    }
}
