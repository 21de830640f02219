//! A point as a tar archive, so that nothing is locked into a vault. Owns which entries are in it and in which order; its
//! form is `header`'s. Sockets are left out: an archive has none.

mod header;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::id::LinkId;
use backstay_vault::read::ChunkReader;
use backstay_vault::vault::Reading;

use self::header::{BLOCK_BYTES, Described, Entry, SparseMap};
use super::contents::{ContentsError, ContentsWriter};
use super::names::{ResolvedRow, ResolvedRows};
use crate::keys::PathKey;
use crate::restore::{RestoreError, large_values, references};
use crate::row::{AttributeValue, Attributes, Meta, Object, Restored};

/// An archive ends with so many zeros, and is a multiple of [`RECORD_BYTES`] long.
const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// What tape drives once took at a time, bytes; readers still expect it.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES;

/// Lines about entries that are left out, at most; the others are counted.
const LEFT_OUT_LINES_MAX: usize = 100;

/// Why an archive did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The rows of the point cannot be read, or a path is not in it.
    #[error(transparent)]
    Rows(#[from] RestoreError),
    /// Contents cannot be read or written.
    #[error(transparent)]
    Contents(#[from] ContentsError),
}

/// How far an archive is.
#[derive(Debug, Default)]
pub struct ArchiveProgress {
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// What is in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archived {
    /// Entries.
    pub entries: u64,
    /// Its length, bytes.
    pub bytes: u64,
    /// What an archive cannot hold, the first of them.
    pub left_out: Vec<String>,
    /// How many these are in all.
    pub left_out_total: u64,
}

impl ArchiveProgress {
    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Writes the paths of a point with all below them as an archive; everything where there are none.
pub fn archive(
    reading: &Arc<Reading>,
    paths: &[PathKey],
    out: impl Write,
    progress: &ArchiveProgress,
) -> Result<Archived, ArchiveError> {
    let reader = ChunkReader::new(Arc::clone(reading.vault()));
    let mut run = ArchiveRun {
        reading,
        contents: ContentsWriter::new(out, reader.clone()),
        reader,
        first_names: HashMap::new(),
        archived: Archived::default(),
        progress,
    };
    for path in apart(paths) {
        run.tree(&path)?;
    }
    run.finish()
}

/// The paths without those that are within others, in order.
fn apart(paths: &[PathKey]) -> Vec<PathKey> {
    let mut sorted = paths.to_vec();
    sorted.sort_unstable();
    let mut apart: Vec<PathKey> = Vec::new();
    for path in sorted {
        if !apart.last().is_some_and(|last| path.is_within(last)) {
            apart.push(path);
        }
    }
    if apart.is_empty() { vec![PathKey::root()] } else { apart }
}

struct ArchiveRun<'a, W> {
    reading: &'a Arc<Reading>,
    reader: ChunkReader,
    contents: ContentsWriter<W>,
    /// Under which name each file with several was archived.
    first_names: HashMap<LinkId, Vec<u8>>,
    archived: Archived,
    progress: &'a ArchiveProgress,
}

impl<W: Write> ArchiveRun<'_, W> {
    fn tree(&mut self, top: &PathKey) -> Result<(), ArchiveError> {
        let mut rows = ResolvedRows::open(self.reading, top.clone());
        let mut found = false;
        while let Some(row) = rows.next()? {
            found = true;
            self.row(&row)?;
        }
        match found {
            true => Ok(()),
            false => Err(RestoreError::NotThere { path: top.to_string() }.into()),
        }
    }

    /// The object; of a file with several names, the others are links to the first.
    fn row(&mut self, row: &ResolvedRow) -> Result<(), ArchiveError> {
        let Restored::Object { object, meta } = &row.head.restored else {
            self.leave_out(format!(
                "{}: the point lacks the file of which this is a name; run `backstay vault check`",
                row.path
            ));
            return Ok(());
        };
        if matches!(object, Object::Socket) {
            self.leave_out(format!("{}: a socket, which an archive cannot hold", row.path));
            return Ok(());
        }
        if let Some(id) = row.link {
            if let Some(first) = self.first_names.get(&id).cloned() {
                return self.entry(row, Entry::Link(&first), meta, &[], None);
            }
            self.first_names.insert(id, archive_path(&row.path, object));
        }
        self.object(row, object, meta)
    }

    fn object(&mut self, row: &ResolvedRow, object: &Object, meta: &Meta) -> Result<(), ArchiveError> {
        let references = references(object, &row.row, &row.head)?;
        let values = large_values(&self.reader, &row.head)?;
        let attributes = whole(&meta.attributes, values);
        let sparse = SparseMap::worth_it(&references, object.size_bytes());
        self.entry(row, Entry::Object(object), meta, &attributes, sparse.as_ref())?;
        if object.size_bytes() == 0 {
            return Ok(());
        }
        let stored = match &sparse {
            Some(map) => {
                self.contents.bytes(map.text.clone())?;
                references.iter().try_for_each(|reference| self.contents.referred(reference))?;
                map.data_bytes
            }
            None => {
                self.contents.file(&references, object.size_bytes())?;
                object.size_bytes()
            }
        };
        self.pad(stored)
    }

    fn entry(
        &mut self,
        row: &ResolvedRow,
        entry: Entry<'_>,
        meta: &Meta,
        attributes: &[(Vec<u8>, Vec<u8>)],
        sparse: Option<&SparseMap>,
    ) -> Result<(), ArchiveError> {
        let path = match entry {
            Entry::Object(object) => archive_path(&row.path, object),
            Entry::Link(_) => row.path.relative_path(),
        };
        let (user, group) = (row.head.facts.user.as_deref(), row.head.facts.group.as_deref());
        let described = Described { path: &path, entry, meta, user, group, attributes, sparse };
        self.contents.begin(row.path.to_string())?;
        self.contents.bytes(described.encode())?;
        self.archived.entries += 1;
        self.progress.entries.store(self.archived.entries, Ordering::Relaxed);
        self.progress.bytes.store(self.contents.written_bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn leave_out(&mut self, line: String) {
        self.archived.left_out_total += 1;
        if self.archived.left_out.len() < LEFT_OUT_LINES_MAX {
            self.archived.left_out.push(line);
        }
    }

    fn pad(&mut self, stored_bytes: u64) -> Result<(), ArchiveError> {
        Ok(self.contents.zeros(stored_bytes.next_multiple_of(BLOCK_BYTES) - stored_bytes)?)
    }

    fn finish(self) -> Result<Archived, ArchiveError> {
        let Self { mut contents, mut archived, .. } = self;
        contents.zeros(END_BYTES)?;
        let length = contents.asked_bytes();
        contents.zeros(length.next_multiple_of(RECORD_BYTES) - length)?;
        archived.bytes = contents.asked_bytes();
        contents.finish()?;
        Ok(archived)
    }
}

/// A path as an archive has it: directories end with a slash.
fn archive_path(path: &PathKey, object: &Object) -> Vec<u8> {
    let mut name = if path.is_root() { b".".to_vec() } else { path.relative_path() };
    if matches!(object, Object::Directory) {
        name.push(b'/');
    }
    name
}

/// Attributes with their values, also those that are stored elsewhere.
fn whole(attributes: &Attributes, large_values: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut large_values = large_values.into_iter();
    let value = |value: &AttributeValue| match value {
        AttributeValue::Inline(value) => value.to_vec(),
        AttributeValue::Large { .. } => large_values.next().unwrap_or_default(),
    };
    let mut value = value;
    attributes.iter().map(|a| (a.name.as_bytes().to_vec(), value(&a.value))).collect()
}
