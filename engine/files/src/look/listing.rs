//! Listing what is in a point: one directory, or all below it. Reads metadata only, and of a directory only its own
//! entries.

use std::sync::Arc;

use backstay_vault::vault::Reading;

use super::entry::ListedEntry;
use super::names::{Named, Names};
use crate::keys::PathKey;
use crate::point_rows::PathRows;
use crate::restore::RestoreError;
use crate::row::{HeadRow, Object, Restored};

/// How far down a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is directly in a directory.
    Children,
    /// Everything.
    All,
}

/// The entries at and below a path, in order.
#[derive(Debug)]
pub struct Listing {
    below: PathKey,
    depth: Depth,
    rows: PathRows,
    names: Names,
    /// A directory whose contents are left out.
    skipped: Option<PathKey>,
}

impl Listing {
    /// Lists what is in the point that is read. The path itself comes first.
    pub fn open(reading: &Arc<Reading>, below: PathKey, depth: Depth) -> Self {
        let rows = PathRows::open(reading, below.clone());
        Self { below, depth, rows, names: Names::new(reading), skipped: None }
    }

    /// The next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<ListedEntry>, RestoreError> {
        while self.names.wants_more() {
            match self.read()? {
                Some(named) => self.names.push(named),
                None => break,
            }
        }
        Ok(self.names.take()?.map(ListedEntry::of))
    }

    fn read(&mut self) -> Result<Option<Named>, RestoreError> {
        if let Some(directory) = self.skipped.take() {
            self.rows.skip_below(&directory)?;
        }
        let Some((key, value)) = self.rows.next()? else { return Ok(None) };
        let named = Named::new(PathKey::parse(key)?, HeadRow::decode(value)?.restored);
        let is_directory = matches!(named.restored, Restored::Object { object: Object::Directory, .. });
        if self.depth == Depth::Children && is_directory && named.path != self.below {
            self.skipped = Some(named.path.clone());
        }
        Ok(Some(named))
    }
}
