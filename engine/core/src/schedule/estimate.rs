//! How long a capture is expected to take, learnt from those before it. Owns the weighting; measures nothing.

use std::time::Duration;

/// A moving average that follows rises fast and falls slowly: starting too early costs little, too late the
/// RPO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurationEstimate {
    mean: Option<Duration>,
}

/// A longer capture counts one half of the next estimate, a shorter one an eighth.
const RISE_DIVISOR: u32 = 2;
const FALL_DIVISOR: u32 = 8;

impl DurationEstimate {
    /// An estimate that was kept from before.
    pub const fn kept(mean: Duration) -> Self {
        Self { mean: Some(mean) }
    }

    /// Takes the duration of a capture that became durable into account. First captures say nothing about
    /// those that follow and are better left out.
    pub fn observe(&mut self, took: Duration) {
        self.mean = Some(match self.mean {
            None => took,
            Some(mean) if took > mean => mean.saturating_add((took - mean) / RISE_DIVISOR),
            Some(mean) => mean - (mean - took) / FALL_DIVISOR,
        });
    }

    /// What the next one is expected to take; 0 while nothing is known.
    pub fn expected(&self) -> Duration {
        self.mean.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_observation_is_the_estimate() {
        let mut estimate = DurationEstimate::default();
        assert_eq!(estimate.expected(), Duration::ZERO);
        estimate.observe(8 * SECOND);
        assert_eq!(estimate.expected(), 8 * SECOND);
    }

    #[test]
    fn rises_count_more_than_falls() {
        let mut estimate = DurationEstimate::kept(8 * SECOND);
        estimate.observe(24 * SECOND);
        assert_eq!(estimate.expected(), 16 * SECOND);
        estimate.observe(8 * SECOND);
        assert_eq!(estimate.expected(), 15 * SECOND);
    }

    proptest! {
        #[test]
        fn an_estimate_stays_within_what_was_observed(seconds in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut estimate = DurationEstimate::default();
            seconds.iter().for_each(|s| estimate.observe(Duration::from_secs(*s)));
            let (min, max) = (seconds.iter().min().copied(), seconds.iter().max().copied());
            prop_assert!(estimate.expected() >= Duration::from_secs(min.unwrap_or_default()));
            prop_assert!(estimate.expected() <= Duration::from_secs(max.unwrap_or_default()));
        }
    }
}
