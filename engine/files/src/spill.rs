//! Sorting of more records than memory should hold. Records are kept in memory up to a bound, then written
//! as a sorted run to a file that has no name; reading merges the runs. Owns order and bounds; what keys and
//! values mean is the caller's. Of records with equal keys the one that was pushed last counts.

mod run;

use std::cmp::Ordering;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use backstay_core::fold::{Cursor, Fold, NewestStands};
use backstay_core::run::{Change, Entry};

use run::{RunCursor, RunFile};

pub use backstay_core::run::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// How much a sorter usually holds before it writes, bytes.
pub const HELD_BYTES_DEFAULT: usize = 8 << 20;

/// When so many runs of a tier exist, they are merged into one of the next tier.
const RUNS_PER_TIER_MAX: usize = 16;

/// What a record weighs beside its bytes.
const RECORD_BYTES: usize = std::mem::size_of::<Record>();

/// Why records cannot be sorted.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// A key above [`KEY_BYTES_MAX`] or a value above [`VALUE_BYTES_MAX`].
    #[error("a record of {key_bytes} + {value_bytes} bytes is larger than an entry of a run can be")]
    TooLarge {
        /// Length of the key.
        key_bytes: usize,
        /// Length of the value.
        value_bytes: usize,
    },
    /// A temporary file fails.
    #[error("a temporary file in {} fails: {error}; check space and health of that file system", directory.display())]
    File {
        /// Where the file is. It has no name.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A sorter. Its files vanish with it.
#[derive(Debug)]
pub struct Spill {
    directory: PathBuf,
    held_bytes_max: usize,
    bytes: Vec<u8>,
    records: Vec<Record>,
    sorted: bool,
    /// Runs on disk, oldest first; tiers never rise.
    runs: Vec<Tiered>,
}

/// A record in memory: where its key begins in the bytes, and the lengths. The value follows the key.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: usize,
    key_length: u32,
    value_length: u32,
}

#[derive(Debug)]
struct Tiered {
    tier: u32,
    run: RunFile,
}

impl Spill {
    /// Files go into `directory` (made when they are needed) once about `held_bytes_max` bytes are held.
    pub fn new(directory: &Path, held_bytes_max: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            held_bytes_max,
            bytes: Vec::new(),
            records: Vec::new(),
            sorted: true,
            runs: Vec::new(),
        }
    }

    /// Adds a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SpillError> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(SpillError::TooLarge { key_bytes: key.len(), value_bytes: value.len() });
        }
        let more = key.len() + value.len() + RECORD_BYTES;
        if !self.records.is_empty() && self.held_bytes() + more > self.held_bytes_max {
            self.write_run()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        // Both lengths were compared with their bounds above.
        self.records.push(Record { start, key_length: key.len() as u32, value_length: value.len() as u32 });
        self.sorted = false;
        Ok(())
    }

    /// All records by rising key. May be called again, also after more was pushed.
    pub fn sorted(&mut self) -> Result<Sorted<'_>, SpillError> {
        self.sort_held();
        let held = HeldCursor { spill: self, next: 0 };
        let mut cursors = vec![SpillCursor::Held(held)];
        cursors.extend(self.runs.iter().rev().map(|tiered| SpillCursor::File(tiered.run.cursor())));
        Ok(Sorted { fold: Fold::new(cursors, NewestStands), directory: &self.directory })
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.runs.is_empty()
    }

    fn held_bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * RECORD_BYTES
    }

    fn sort_held(&mut self) {
        if self.sorted {
            return;
        }
        let bytes = &self.bytes;
        // Stable: of equal keys the last was pushed last, and is the one to keep.
        self.records.sort_by(|a, b| a.key(bytes).cmp(b.key(bytes)));
        let mut kept: Vec<Record> = Vec::with_capacity(self.records.len());
        for record in &self.records {
            match kept.last_mut() {
                Some(last) if last.key(bytes).cmp(record.key(bytes)) == Ordering::Equal => *last = *record,
                _ => kept.push(*record),
            }
        }
        self.records = kept;
        self.sorted = true;
    }

    /// Writes what is held to disk, and merges runs where there are too many.
    fn write_run(&mut self) -> Result<(), SpillError> {
        self.sort_held();
        let held = Fold::new(vec![HeldCursor { spill: self, next: 0 }], NewestStands);
        let run = RunFile::write(&self.directory, held).map_err(|error| self.file_error(error))?;
        self.bytes.clear();
        self.records.clear();
        self.runs.push(Tiered { tier: 0, run });
        while let Some(tier) = self.full_tier() {
            let first = self.runs.partition_point(|tiered| tiered.tier > tier);
            let cursors = self.runs[first..].iter().rev().map(|tiered| tiered.run.cursor()).collect();
            let merged = RunFile::write(&self.directory, Fold::new(cursors, NewestStands));
            let run = merged.map_err(|error| self.file_error(error))?;
            self.runs.truncate(first);
            self.runs.push(Tiered { tier: tier + 1, run });
        }
        Ok(())
    }

    /// The newest tier, if it has as many runs as it may.
    fn full_tier(&self) -> Option<u32> {
        let tier = self.runs.last()?.tier;
        let count = self.runs.iter().rev().take_while(|tiered| tiered.tier == tier).count();
        (count >= RUNS_PER_TIER_MAX).then_some(tier)
    }

    fn file_error(&self, error: io::Error) -> SpillError {
        SpillError::File { directory: self.directory.clone(), error }
    }
}

impl Record {
    fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..][..self.key_length as usize]
    }

    fn value(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start + self.key_length as usize..][..self.value_length as usize]
    }
}

/// Key and value of a record.
pub type SortedRecord<'r> = (&'r [u8], &'r [u8]);

/// Records in order, read as they are asked for.
#[derive(Debug)]
pub struct Sorted<'s> {
    fold: Fold<SpillCursor<'s>, NewestStands>,
    directory: &'s Path,
}

impl Sorted<'_> {
    /// The next record: key and value; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends from self, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<SortedRecord<'_>>, SpillError> {
        let directory = self.directory;
        self.fold.next().map_err(|error| SpillError::File { directory: directory.to_owned(), error })
    }
}

#[derive(Debug)]
enum SpillCursor<'s> {
    Held(HeldCursor<'s>),
    File(RunCursor<'s>),
}

impl Cursor for SpillCursor<'_> {
    type Error = io::Error;

    fn advance(&mut self) -> Result<bool, io::Error> {
        match self {
            Self::Held(cursor) => cursor.advance().map_err(|never| match never {}),
            Self::File(cursor) => cursor.advance(),
        }
    }

    fn entry(&self) -> Entry<'_> {
        match self {
            Self::Held(cursor) => cursor.entry(),
            Self::File(cursor) => cursor.entry(),
        }
    }
}

/// What is held, sorted.
#[derive(Debug)]
struct HeldCursor<'s> {
    spill: &'s Spill,
    next: usize,
}

impl Cursor for HeldCursor<'_> {
    type Error = Infallible;

    fn advance(&mut self) -> Result<bool, Infallible> {
        self.next += 1;
        Ok(self.next <= self.spill.records.len())
    }

    fn entry(&self) -> Entry<'_> {
        let record = self.spill.records[self.next - 1];
        let (key, value) = (record.key(&self.spill.bytes), record.value(&self.spill.bytes));
        Entry { key, change: Change::Put(value), replaced: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Records = BTreeMap<Vec<u8>, Vec<u8>>;

    fn read(spill: &mut Spill) -> Records {
        let mut sorted = spill.sorted().unwrap();
        let mut records = Records::new();
        while let Some((key, value)) = sorted.next().unwrap() {
            let before = records.last_key_value().map(|(key, _)| key.clone());
            assert!(before.is_none_or(|before| before[..] < *key), "keys rise");
            records.insert(key.to_vec(), value.to_vec());
        }
        records
    }

    proptest! {
        #[test]
        fn records_come_back_sorted_and_the_last_of_a_key_counts(
            batches in proptest::collection::vec(
                proptest::collection::vec(
                    (proptest::collection::vec(0u8..6, 0..4), proptest::collection::vec(any::<u8>(), 0..40)),
                    0..200,
                ),
                1..4,
            ),
            held_bytes_max in 0..4000usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut spill = Spill::new(dir.path(), held_bytes_max);
            let mut expected = Records::new();
            for batch in batches {
                for (key, value) in batch {
                    spill.push(&key, &value).unwrap();
                    expected.insert(key, value);
                }
                prop_assert_eq!(read(&mut spill), expected.clone());
                prop_assert_eq!(read(&mut spill), expected.clone());
                prop_assert_eq!(spill.is_empty(), expected.is_empty());
            }
        }
    }

    #[test]
    fn runs_are_merged_so_that_few_exist_and_no_file_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(dir.path(), 0);
        for n in 0..2000u32 {
            // Every record is a run of its own; the numbers come in no order.
            spill.push(&(n.wrapping_mul(2_654_435_761)).to_be_bytes(), &n.to_be_bytes()).unwrap();
        }
        // 2000 in base 16 is 7 d 0, less the one that is held: at most 15 of each tier.
        assert!(spill.runs.len() <= 3 * RUNS_PER_TIER_MAX, "{}", spill.runs.len());
        assert!(spill.runs.iter().any(|tiered| tiered.tier == 2));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(read(&mut spill).len(), 2000);
    }

    #[test]
    fn the_largest_record_fits_and_a_larger_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(dir.path(), 1000);
        for n in 0..3 {
            spill.push(&vec![n; KEY_BYTES_MAX], &vec![n; VALUE_BYTES_MAX]).unwrap();
        }
        assert_eq!(read(&mut spill).len(), 3);
        let too_large = spill.push(&vec![0; KEY_BYTES_MAX + 1], b"").unwrap_err();
        assert!(matches!(too_large, SpillError::TooLarge { .. }), "{too_large}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let mut spill = Spill::new(&path.join("below"), 0);
        spill.push(b"a", b"").unwrap();
        let error = spill.push(b"b", b"").unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
