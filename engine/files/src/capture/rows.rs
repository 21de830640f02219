//! Making rows from what was seen, and telling whether an old row still holds. Pure, but for the names in
//! messages.

use std::collections::HashSet;
use std::path::Path;

use backstay_core::id::{ChunkId, LinkId};
use backstay_core::units::Timestamp;
use backstay_vault::keys::KeyRing;
use backstay_vault::split::SMALL_FILE_BYTES;
use backstay_vault::write::ChunkWriter;

use super::problem::CaptureError;
use crate::heads::FoundRow;
use crate::keys::{PathKey, split_further};
use crate::row::{HeadRow, Object, Reference, Restored, RowError, RowFault, decode_further};
use crate::stat::{FileKind, FileStat, FileTime, Identity};
use crate::walk::{Unreadable, UnreadablePart};

/// Names the group of links of an object. `since` tells objects apart that had the same inode during one scan.
pub(super) fn link_id(ring: &KeyRing, identity: Identity, since: Option<FileTime>) -> LinkId {
    let mut message = Vec::with_capacity(28);
    message.extend_from_slice(&identity.device.to_be_bytes());
    message.extend_from_slice(&identity.inode.to_be_bytes());
    if let Some(since) = since {
        message.extend_from_slice(&since.seconds().to_be_bytes());
        message.extend_from_slice(&since.nanos().to_be_bytes());
    }
    let hash = ring.meta_hash(b"link\0", &message);
    LinkId::from_slice(&hash[..16]).expect("16 of 32 bytes")
}

/// What has changed so shortly before a scan may have changed again within the same tick of the file system's clock, after
/// it was read.
const CLOCK_TICK_NANOS: i64 = 20_000_000;

/// The same for file systems that keep whole seconds, some even ones only.
const COARSE_TICK_NANOS: i64 = 2_000_000_000;

/// Whether an object still is what its old row says: same inode, kind, size, mtime and ctime, and a ctime so long before
/// the last scan that no change after that could have left it as it is.
pub(super) fn unchanged(old: &FoundRow, stat: &FileStat, last_scan: Timestamp) -> Result<bool, CaptureError> {
    let tick = if stat.ctime.nanos() == 0 { COARSE_TICK_NANOS } else { CLOCK_TICK_NANOS };
    let row = HeadRow::decode(&old.value)?;
    let Restored::Object { object, meta } = &row.restored else { return Ok(false) };
    let Some(seen) = row.facts.seen else { return Ok(false) };
    Ok(seen.identity == stat.identity
        && seen.ctime == stat.ctime
        && meta.mtime == stat.mtime
        && kind_of(object) == stat.kind
        && (stat.kind != FileKind::File || object.size_bytes() == stat.size_bytes)
        && nanos(stat.ctime) < last_scan.as_nanos().saturating_sub(tick)
        && row.facts.marks == crate::row::Marks::default())
}

/// Whether any contents of an object are in one of these chunks.
pub(super) fn refers_to(row: &FoundRow, chunks: &HashSet<ChunkId>) -> Result<bool, CaptureError> {
    if chunks.is_empty() {
        return Ok(false);
    }
    let head = HeadRow::decode(&row.value)?;
    let facts = &head.facts;
    let mut own = facts.references.iter().chain(&facts.attribute_references);
    if own.any(|reference| chunks.contains(&reference.chunk)) {
        return Ok(true);
    }
    for (key, value) in &row.further {
        let further = decode_further(split_further(key).1.unwrap_or_default(), value)?;
        if further.iter().any(|reference| chunks.contains(&reference.chunk)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether every target has the chunks in which contents of an object lie that may be grouped with those of others. A
/// custodian puts what is in a group elsewhere when little of it is needed, and what was lost is nowhere: a new row may
/// refer only to what is there.
pub(super) fn has_groups(row: &FoundRow, chunks: &ChunkWriter) -> Result<bool, CaptureError> {
    let is_there = |reference: &Reference| {
        reference.length_bytes as usize >= SMALL_FILE_BYTES || chunks.is_known(&reference.chunk)
    };
    let head = HeadRow::decode(&row.value)?;
    if !head.facts.references.iter().chain(&head.facts.attribute_references).all(is_there) {
        return Ok(false);
    }
    for (key, value) in &row.further {
        let further = decode_further(split_further(key).1.unwrap_or_default(), value)?;
        if !further.iter().all(is_there) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a row is that of this inode, with the same ctime.
pub(super) fn is_of(value: &[u8], stat: &FileStat) -> bool {
    let seen = HeadRow::decode(value).ok().and_then(|row| row.facts.seen);
    seen.is_some_and(|seen| seen.identity == stat.identity && seen.ctime == stat.ctime)
}

/// Whether a row is that of this inode.
pub(super) fn is_inode(value: &[u8], identity: Identity) -> bool {
    HeadRow::decode(value).ok().and_then(|row| row.facts.seen).is_some_and(|seen| seen.identity == identity)
}

/// A path as messages show it.
pub(super) fn shown(root: &Path, key: &PathKey) -> String {
    let relative = key.relative_path();
    if relative.is_empty() {
        return root.display().to_string();
    }
    format!("{}/{}", root.display(), String::from_utf8_lossy(&relative).escape_debug())
}

/// What is said of something that the walk could not read.
pub(super) fn unreadable_line(root: &Path, unreadable: &Unreadable) -> String {
    let path = shown(root, &unreadable.key);
    let error = unreadable.error;
    match unreadable.part {
        UnreadablePart::Object => format!("{path}: cannot be looked at: {error}"),
        UnreadablePart::Listing => {
            format!("{path}: cannot be listed: {error}; what was captured of it before stays")
        }
        UnreadablePart::LongerPath => format!("{path}: something below it has a path longer than 4096 bytes"),
    }
}

/// The error for an object that no row can describe.
pub(super) fn impossible(field: &'static str) -> CaptureError {
    RowError { field, fault: RowFault::Bounds }.into()
}

fn kind_of(object: &Object) -> FileKind {
    match object {
        Object::File(_) => FileKind::File,
        Object::Directory => FileKind::Directory,
        Object::Symlink(_) => FileKind::Symlink,
        Object::Fifo => FileKind::Fifo,
        Object::Socket => FileKind::Socket,
        Object::CharDevice(_) => FileKind::CharDevice,
        Object::BlockDevice(_) => FileKind::BlockDevice,
    }
}

fn nanos(time: FileTime) -> i64 {
    time.seconds().saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos()))
}
