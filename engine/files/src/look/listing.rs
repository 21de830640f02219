//! Listing what is in a point: rows as people see them. Reads metadata only.

use std::sync::Arc;

use backstay_core::units::Timestamp;
use backstay_vault::vault::Reading;

use crate::capture::{PointRows, rows_of};
use crate::keys::{HeadKey, PathKey, link_key};
use crate::restore::RestoreError;
use crate::row::{HeadRow, Meta, Object, Restored};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Where it is.
    pub path: PathKey,
    /// What it is, in a word.
    pub kind: &'static str,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Size of a file.
    pub size_bytes: u64,
    /// When the contents changed last.
    pub mtime: Timestamp,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
}

/// The entries at and below a path.
#[derive(Debug)]
pub struct Listing {
    reading: Arc<Reading>,
    below: PathKey,
    rows: PointRows,
}

impl Listing {
    /// Lists what is in the point that is read.
    pub fn open(reading: &Arc<Reading>, below: PathKey) -> Self {
        let rows = rows_of(reading, below.as_bytes());
        Self { reading: Arc::clone(reading), below, rows }
    }

    /// The next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<ListedEntry>, RestoreError> {
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let HeadKey::Path(path) = HeadKey::parse(&row.key)? else { return Ok(None) };
        if !path.is_within(&self.below) {
            return Ok(None);
        }
        let mut head = HeadRow::decode(&row.value)?;
        if let Restored::Link(link) = head.restored {
            let key = link_key(&link);
            let mut rows = rows_of(&self.reading, &key);
            match rows.next()? {
                Some(row) if row.key == key => head = HeadRow::decode(&row.value)?,
                _ => head.restored = Restored::Link(link),
            }
        }
        Ok(Some(entry(path, &head.restored)))
    }
}

fn entry(path: PathKey, restored: &Restored) -> ListedEntry {
    let (kind, meta, size_bytes, target) = match restored {
        Restored::Object { object, meta } => (kind(object), Some(meta), object.size_bytes(), target(object)),
        Restored::Link(_) => ("missing", None, 0, None),
    };
    ListedEntry {
        path,
        kind,
        mode: meta.map_or(0, |meta| meta.mode.bits()),
        uid: meta.map_or(0, |meta| meta.uid),
        gid: meta.map_or(0, |meta| meta.gid),
        size_bytes,
        mtime: meta.map_or(Timestamp::EPOCH, mtime),
        target,
    }
}

fn mtime(meta: &Meta) -> Timestamp {
    let nanos = meta.mtime.seconds().saturating_mul(1_000_000_000);
    Timestamp::from_nanos(nanos.saturating_add(i64::from(meta.mtime.nanos())))
}

fn target(object: &Object) -> Option<Vec<u8>> {
    match object {
        Object::Symlink(target) => Some(target.as_bytes().to_vec()),
        _ => None,
    }
}

fn kind(object: &Object) -> &'static str {
    match object {
        Object::File(_) => "file",
        Object::Directory => "directory",
        Object::Symlink(_) => "symlink",
        Object::Fifo => "fifo",
        Object::Socket => "socket",
        Object::CharDevice(_) => "chardev",
        Object::BlockDevice(_) => "blockdev",
    }
}
