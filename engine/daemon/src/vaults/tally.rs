//! What was asked of a vault since the process began, as providers of buckets count it.

use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::cost::Usage;
use backstay_vault::store::Operation;

use super::Vaults;

/// Counts of one vault; they only grow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Tally {
    /// One request has ended, whatever became of it, and has moved so much.
    pub(super) fn add(&self, operation: Operation, payload_bytes: u64) {
        let (requests, bytes) = match operation {
            Operation::Put | Operation::Append | Operation::BringBack => (&self.puts, &self.bytes_written),
            Operation::Get | Operation::GetRange => (&self.gets, &self.bytes_read),
            Operation::List => (&self.lists, &self.bytes_read),
            Operation::Delete => (&self.deletes, &self.bytes_written),
        };
        requests.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(payload_bytes, Ordering::Relaxed);
    }

    fn usage(&self) -> Usage {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Usage {
            puts: count(&self.puts),
            gets: count(&self.gets),
            lists: count(&self.lists),
            deletes: count(&self.deletes),
            bytes_read: count(&self.bytes_read),
            bytes_written: count(&self.bytes_written),
        }
    }
}

impl Vaults {
    /// What was asked of a vault since this process began.
    pub fn usage(&self, name: &str) -> Usage {
        self.answers.get(name).map(|answers| answers.tally().usage()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_as_they_are_paid_for() {
        let tally = Tally::default();
        for (operation, bytes) in [
            (Operation::Put, 10),
            (Operation::Get, 5),
            (Operation::GetRange, 7),
            (Operation::List, 0),
            (Operation::Delete, 0),
        ] {
            tally.add(operation, bytes);
        }
        let expected = Usage { puts: 1, gets: 2, lists: 1, deletes: 1, bytes_read: 12, bytes_written: 10 };
        assert_eq!(tally.usage(), expected);
    }
}
