//! How fast a service has to be at least. One that sends or takes a byte now and then would keep a request for ever.

use std::time::Duration;

/// What is waited for a service in any case.
const PATIENCE: Duration = Duration::from_secs(60);

/// Beyond that it has to move so many bytes in a second, on the average.
const BYTES_PER_SECOND_MIN: u64 = 4 << 10;

/// What is said of what takes no end.
pub(crate) const TOO_SLOW: &str = "too slow to wait for";

/// The two sums of one body. What a limit of the rate takes does not count.
#[derive(Debug)]
pub(crate) struct Tempo {
    patience: Duration,
    waited: Duration,
    bytes: u64,
}

impl Default for Tempo {
    fn default() -> Self {
        Self::of(PATIENCE)
    }
}

impl Tempo {
    /// Of whoever waits so long in any case.
    pub(crate) fn of(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    /// So long the service was waited for, and so much has moved then.
    pub(crate) fn moved(&mut self, bytes: usize, waited: Duration) {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// How long the service may still be waited for.
    pub(crate) fn left(&self) -> Duration {
        let for_bytes = Duration::from_secs(self.bytes / BYTES_PER_SECOND_MIN);
        self.patience.saturating_add(for_bytes).saturating_sub(self.waited)
    }

    /// What is said of one that is too slow.
    pub(crate) fn complaint(&self) -> String {
        let (bytes, seconds) = (self.bytes, self.waited.as_secs());
        format!("{bytes} bytes in {seconds} s are {TOO_SLOW}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drips_is_given_up_and_what_flows_slowly_is_not() {
        let second = Duration::from_secs(1);
        let seconds_of = |bytes: usize| {
            let mut tempo = Tempo::default();
            (1..10_000).find(|_| {
                tempo.moved(bytes, second);
                tempo.left().is_zero()
            })
        };
        assert_eq!(seconds_of(1), Some(60));
        assert_eq!(seconds_of(1 << 10), Some(79));
        assert_eq!(seconds_of(4 << 10), None);
    }
}
