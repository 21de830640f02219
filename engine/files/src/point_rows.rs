//! The rows of a point, read through its stack of runs: all of them, or in leaps.

use std::sync::Arc;

use backstay_vault::error::VaultError;
use backstay_vault::vault::{PointFold, Reading};

use crate::heads::{HeadRows, KeyValue, LeapingRows, SingleRows};
use crate::keys::{PathKey, is_further};
use crate::rule::FilesRule;

/// Head rows of a point, each with its further rows.
pub(crate) type PointRows = HeadRows<Folded>;

/// Rows of a point, as its stack of runs folds.
#[derive(Debug)]
pub(crate) struct Folded(PointFold<FilesRule>);

/// The rows of the point that is read, from the first key that is not below `from`.
pub(crate) fn rows_of(reading: &Arc<Reading>, from: &[u8]) -> PointRows {
    HeadRows::new(Folded(reading.fold(from)))
}

/// All rows of the point.
pub(crate) fn all_rows_of(reading: &Arc<Reading>) -> PointRows {
    HeadRows::new(Folded(reading.fold_all()))
}

impl SingleRows for Folded {
    type Error = VaultError;

    fn read(&mut self) -> Result<Option<KeyValue>, VaultError> {
        let entry = self.0.next()?;
        Ok(entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}

impl LeapingRows for Folded {
    fn seek(&mut self, key: &[u8]) -> Result<(), VaultError> {
        self.0.seek(key)
    }
}

/// Key and value of a row.
type Lent<'r> = (&'r [u8], &'r [u8]);

/// Head rows of paths at and below one, without their further rows and without a copy of each.
#[derive(Debug)]
pub(crate) struct PathRows {
    fold: PointFold<FilesRule>,
    below: PathKey,
}

impl PathRows {
    pub(crate) fn open(reading: &Arc<Reading>, below: PathKey) -> Self {
        Self { fold: reading.fold(below.as_bytes()), below }
    }

    /// Key and value of the next one; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Lent<'_>>, VaultError> {
        // The key is asked for twice, since a row that is lent cannot be given back in a loop.
        loop {
            match self.fold.next()? {
                Some((key, _)) if is_further(key) => {}
                Some((key, _)) if self.below.has_within(key) => break,
                _ => return Ok(None),
            }
        }
        Ok(self.fold.told())
    }

    /// Passes over all that is below the directory of this key.
    pub(crate) fn skip_below(&mut self, directory: &PathKey) -> Result<(), VaultError> {
        self.fold.seek(&directory.end())
    }
}
