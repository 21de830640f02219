//! When to try again: soon at first, then less and less often, and never all at the same moment.

use std::time::Duration;

use backstay_vault::keys::random_bytes;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// Never longer than that: a node that is back is found by then.
const LONGEST: Duration = Duration::from_secs(10);

/// How often it has failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure: how long to wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.longest_now();
        self.failures = self.failures.saturating_add(1);
        jittered(wait, u16::from_le_bytes(random_bytes()))
    }

    fn longest_now(self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST)
    }
}

/// Somewhere from a half of it to all of it.
fn jittered(wait: Duration, random: u16) -> Duration {
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut longest = Vec::new();
        for _ in 0..10 {
            longest.push(backoff.longest_now().as_millis());
            backoff.next();
        }
        assert_eq!(longest, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_wait_is_from_half_to_the_whole_of_its_time() {
        let wait = Duration::from_secs(8);
        assert_eq!(jittered(wait, 0), wait / 2);
        assert_eq!(jittered(wait, u16::MAX), wait);
        assert!((wait / 2..=wait).contains(&jittered(wait, 12_345)));
    }
}
