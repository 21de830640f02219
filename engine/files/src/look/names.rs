//! Names of files that have several: their rows say only which file it is, and the row of the file stands elsewhere.
//! Owns looking up many of them together, so that a point is not gone through once for each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use backstay_core::id::LinkId;
use backstay_vault::vault::Reading;

use crate::heads::FoundRow;
use crate::keys::{PathKey, link_key};
use crate::point_rows::{PointRows, rows_of};
use crate::restore::RestoreError;
use crate::row::{HeadRow, Restored};

/// So many entries are held back at most while files with several names are looked up together.
const HELD_BACK_MAX: usize = 4096;

/// A path, and what a restore would put there.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) path: PathKey,
    /// The file itself where it has several names; only the link when the point lacks its row.
    pub(super) restored: Restored,
    /// Which of the files with several names it is.
    pub(super) link: Option<LinkId>,
}

impl Named {
    pub(super) fn new(path: PathKey, restored: Restored) -> Self {
        let link = match &restored {
            Restored::Link(id) => Some(*id),
            Restored::Object { .. } => None,
        };
        Self { path, restored, link }
    }
}

/// Entries in order, of which those behind a name of several wait for it to be looked up.
#[derive(Debug)]
pub(super) struct Names {
    reading: Arc<Reading>,
    entries: VecDeque<Named>,
    any_links: bool,
}

impl Names {
    pub(super) fn new(reading: &Arc<Reading>) -> Self {
        Self { reading: Arc::clone(reading), entries: VecDeque::new(), any_links: false }
    }

    /// Whether there is room for another entry before some have to be taken.
    pub(super) fn wants_more(&self) -> bool {
        let enough = if self.any_links { HELD_BACK_MAX } else { 1 };
        self.entries.len() < enough
    }

    pub(super) fn push(&mut self, named: Named) {
        self.any_links |= named.link.is_some();
        self.entries.push_back(named);
    }

    /// The next entry.
    pub(super) fn take(&mut self) -> Result<Option<Named>, RestoreError> {
        if std::mem::take(&mut self.any_links) {
            self.look_up()?;
        }
        Ok(self.entries.pop_front())
    }

    fn look_up(&mut self) -> Result<(), RestoreError> {
        let files = files_of(&self.reading, self.entries.iter().filter_map(|named| named.link))?;
        for named in &mut self.entries {
            let Some(row) = named.link.and_then(|id| files.get(&id)) else { continue };
            let file = HeadRow::decode(&row.value)?.restored;
            if matches!(file, Restored::Object { .. }) {
                named.restored = file;
            }
        }
        Ok(())
    }
}

/// The rows of these files with several names, as far as the point has them.
pub(super) fn files_of(
    reading: &Arc<Reading>,
    links: impl IntoIterator<Item = LinkId>,
) -> Result<BTreeMap<LinkId, FoundRow>, RestoreError> {
    let links: BTreeSet<LinkId> = links.into_iter().collect();
    let mut files = BTreeMap::new();
    let Some(first) = links.first() else { return Ok(files) };
    let mut rows = rows_of(reading, &link_key(first));
    for id in links {
        if let Some(row) = rows.find(&link_key(&id))? {
            files.insert(id, row);
        }
    }
    Ok(files)
}

/// A row of a path with its further rows; where the file has several names, the row of the file.
#[derive(Debug)]
pub(crate) struct ResolvedRow {
    pub(crate) path: PathKey,
    /// Which of the files with several names it is.
    pub(crate) link: Option<LinkId>,
    pub(crate) row: Arc<FoundRow>,
    /// Still only the link when the point lacks the row of the file.
    pub(crate) head: HeadRow,
}

impl ResolvedRow {
    pub(super) fn into_named(self) -> Named {
        Named { path: self.path, restored: self.head.restored, link: self.link }
    }
}

/// So many rows are read ahead for files with several names to be looked up together.
const ROWS_AHEAD: usize = 512;

/// Rows at and below a path, in order.
#[derive(Debug)]
pub(crate) struct ResolvedRows {
    reading: Arc<Reading>,
    below: PathKey,
    rows: PointRows,
    ahead: VecDeque<ResolvedRow>,
}

impl ResolvedRows {
    pub(crate) fn open(reading: &Arc<Reading>, below: PathKey) -> Self {
        let rows = rows_of(reading, below.as_bytes());
        Self { reading: Arc::clone(reading), below, rows, ahead: VecDeque::new() }
    }

    /// The next one; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<ResolvedRow>, RestoreError> {
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn read_ahead(&mut self) -> Result<(), RestoreError> {
        while self.ahead.len() < ROWS_AHEAD
            && let Some(row) = self.rows.next()?
            && self.below.has_within(&row.key)
        {
            let path = PathKey::parse(&row.key)?;
            let head = HeadRow::decode(&row.value)?;
            let link = match head.restored {
                Restored::Link(id) => Some(id),
                Restored::Object { .. } => None,
            };
            self.ahead.push_back(ResolvedRow { path, link, row: Arc::new(row), head });
        }
        let files = files_of(&self.reading, self.ahead.iter().filter_map(|row| row.link))?;
        // A file may have millions of references, and hundreds of names here.
        let files: BTreeMap<LinkId, Arc<FoundRow>> =
            files.into_iter().map(|(id, row)| (id, Arc::new(row))).collect();
        for row in &mut self.ahead {
            if let Some(file) = row.link.and_then(|id| files.get(&id)) {
                row.head = HeadRow::decode(&file.value)?;
                row.row = Arc::clone(file);
            }
        }
        Ok(())
    }
}
