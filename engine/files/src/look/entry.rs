//! Rows as people see them.

use backstay_core::id::LinkId;
use backstay_core::units::Timestamp;

use super::names::Named;
use crate::keys::PathKey;
use crate::row::{Meta, Object, Restored};

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
    /// Which file it is, when that has several names.
    pub link: Option<LinkId>,
}

impl ListedEntry {
    pub(super) fn of(named: Named) -> Self {
        let Named { path, restored, link } = named;
        let (kind, meta, size_bytes, target) = match &restored {
            Restored::Object { object, meta } => {
                (kind(object), Some(meta), object.size_bytes(), target(object))
            }
            Restored::Link(_) => ("missing", None, 0, None),
        };
        Self {
            path,
            kind,
            mode: meta.map_or(0, |meta| meta.mode.bits()),
            uid: meta.map_or(0, |meta| meta.uid),
            gid: meta.map_or(0, |meta| meta.gid),
            size_bytes,
            mtime: meta.map_or(Timestamp::EPOCH, mtime),
            target,
            link,
        }
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

/// The word for what an object is.
pub(super) fn kind(object: &Object) -> &'static str {
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
