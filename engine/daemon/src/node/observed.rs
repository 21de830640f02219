//! What daemons of this node have asked of a vault in a bucket, day by day: one small file for each vault under `node.state`. Losing
//! it costs an estimate.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_core::cost::Usage;
use backstay_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Days that are remembered.
const DAYS_MAX: usize = 31;

/// Greatest file that is read, bytes.
const OBSERVED_BYTES_MAX: u64 = 64 << 10;

/// Days since 1970 UTC.
pub fn day_of(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(86_400 * 1_000_000_000)
}

/// What was asked in a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    /// Days since 1970 UTC.
    day: i64,
    /// For so long a daemon has counted, seconds.
    seconds: u64,
    puts: u64,
    gets: u64,
    lists: u64,
    deletes: u64,
    bytes_read: u64,
    bytes_written: u64,
}

/// What was asked in the last days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    days: Vec<Day>,
}

impl Observed {
    /// Adds what was asked until this day in so long.
    pub fn add(&mut self, day: i64, took: Duration, usage: Usage) {
        let place = self.days.iter().position(|known| known.day == day).unwrap_or_else(|| {
            self.days.push(Day { day, ..Day::default() });
            self.days.len() - 1
        });
        let known = &mut self.days[place];
        let sum = known.usage().plus(usage);
        *known = Day { day, seconds: known.seconds.saturating_add(took.as_secs()), ..Day::of(sum) };
        self.days.sort_unstable_by_key(|known| known.day);
        let surplus = self.days.len().saturating_sub(DAYS_MAX);
        self.days.drain(..surplus);
    }

    /// All of it: for how long was counted, and what was asked then. Days before `since`, and days to come, do not count.
    pub fn sum(&self, since: i64, today: i64) -> (Duration, Usage) {
        let days = self.days.iter().filter(|known| (since..=today).contains(&known.day));
        let sum = |(seconds, usage): (u64, Usage), day: &Day| {
            (seconds.saturating_add(day.seconds), usage.plus(day.usage()))
        };
        let (seconds, usage) = days.fold((0, Usage::default()), sum);
        (Duration::from_secs(seconds), usage)
    }
}

impl Day {
    fn of(usage: Usage) -> Self {
        let Usage { puts, gets, lists, deletes, bytes_read, bytes_written } = usage;
        Self { puts, gets, lists, deletes, bytes_read, bytes_written, ..Self::default() }
    }

    fn usage(&self) -> Usage {
        let Self { puts, gets, lists, deletes, bytes_read, bytes_written, .. } = *self;
        Usage { puts, gets, lists, deletes, bytes_read, bytes_written }
    }
}

/// The file for one vault.
#[derive(Debug)]
pub struct ObservedVault(PathBuf);

impl ObservedVault {
    /// Of the vault of this name.
    pub fn of(state: &Path, vault: &str) -> Self {
        Self(state.join("observed").join(format!("{vault}.json")))
    }

    /// What is known; nothing where it cannot be read.
    pub fn load(&self) -> Observed {
        let is_small = fs::metadata(&self.0).is_ok_and(|metadata| metadata.len() <= OBSERVED_BYTES_MAX);
        let read = || serde_json::from_slice(&fs::read(&self.0).ok()?).ok();
        is_small.then(read).flatten().unwrap_or_default()
    }

    /// Remembers.
    pub fn save(&self, observed: &Observed) -> Result<(), Failure> {
        if let Some(folder) = self.0.parent() {
            super::make_state_folder(folder)?;
        }
        super::write_durably(&self.0, &serde_json::to_vec(observed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_added_up_and_a_month_of_them_is_remembered() {
        let mut observed = Observed::default();
        let one = Usage { puts: 1, bytes_read: 5, ..Usage::default() };
        let hour = Duration::from_secs(3600);
        for day in 0..40 {
            observed.add(day, hour, one);
            observed.add(day, hour, one);
        }
        let (seen, usage) = observed.sum(0, 39);
        assert_eq!((seen, usage.puts, usage.bytes_read), (hour * 62, 62, 310));
        let (seen, usage) = observed.sum(38, 39);
        assert_eq!((seen, usage.puts), (hour * 4, 4));
        assert_eq!(observed.sum(39, 38), (Duration::ZERO, Usage::default()), "a clock that was set back");
    }

    #[test]
    fn what_is_remembered_comes_back_and_what_is_damaged_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = ObservedVault::of(folder.path(), "offsite");
        assert_eq!(file.load(), Observed::default());
        let mut observed = Observed::default();
        observed.add(7, Duration::from_secs(60), Usage { gets: 3, ..Usage::default() });
        file.save(&observed).expect("is saved");
        assert_eq!(file.load(), observed);
        fs::write(folder.path().join("observed/offsite.json"), "{").expect("is written");
        assert_eq!(file.load(), Observed::default());
    }
}
