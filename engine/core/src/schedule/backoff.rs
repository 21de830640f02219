//! How long to wait after a failed attempt: exponential, bounded, and spread by a random number that is an
//! argument.

use std::time::Duration;

/// The longest first wait.
pub const BACKOFF_MIN: Duration = Duration::from_secs(5);
/// The longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);

/// A random number, evenly spread over its range; spreads nodes that failed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(pub u32);

/// How long to wait after `failures` failed attempts in a row: between half and all of a wait that begins
/// with [`BACKOFF_MIN`], doubles with each failure and ends at [`BACKOFF_MAX`]. Without failures there is
/// no wait.
pub fn backoff(failures: u32, jitter: Jitter) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let full = BACKOFF_MIN.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
    let half = full / 2;
    half + half.mul_f64(f64::from(jitter.0) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let full: Vec<_> = (0..=9).map(|failures| backoff(failures, Jitter(u32::MAX)).as_secs()).collect();
        assert_eq!(full, [0, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(backoff(2, Jitter(0)), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn every_wait_is_bounded_on_both_sides(failures in 1u32.., jitter in any::<u32>()) {
            let wait = backoff(failures, Jitter(jitter));
            prop_assert!(wait >= BACKOFF_MIN / 2 && wait <= BACKOFF_MAX, "{wait:?}");
        }
    }
}
