//! A segment by itself, in bytes instead of a file under the state: for whoever looks whether any bytes can do harm. An
//! index never reads or writes one in this way.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use backstay_core::id::VaultId;
use rustix::fs::{MemfdFlags, memfd_create};

use super::entry::Entry;
use super::head::SegmentError;
use super::rows::{IndexOrigin, Rows};
use super::segment::{Segment, SegmentCursor};
use super::write::SegmentWriter;
use crate::index_object::IndexObject;

/// Reads a segment from end to end, and looks for each of its chunks; how many entries there are.
pub fn read_segment(bytes: &[u8], vault: VaultId) -> Result<u64, SegmentError> {
    let mut file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
    file.write_all(bytes)?;
    let segment = Arc::new(Segment::open(file, None, vault)?);
    let mut cursor = SegmentCursor::new(Arc::clone(&segment));
    let mut entries = 0;
    while let Some(entry) = cursor.next()? {
        segment.find(&entry.id, |_, _| {})?;
        entries += 1;
    }
    Ok(entries)
}

/// The segment of these index objects, as a process writes it.
pub fn write_segment(objects: &[(IndexOrigin, IndexObject)], vault: VaultId) -> io::Result<Vec<u8>> {
    let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
    let mut written = file.try_clone()?;
    let mut rows = Rows::default();
    let mut entries: Vec<Entry> = Vec::new();
    for (origin, object) in objects {
        let first = rows.add(*origin, object);
        entries.extend(object.entries.iter().map(|(pack, entry)| Entry::of_object(first, *pack, entry)));
    }
    entries.sort_unstable();
    let mut writer = SegmentWriter::new(file, vault)?;
    entries.iter().try_for_each(|entry| writer.push(entry))?;
    writer.finish(rows, None)?;
    let mut bytes = Vec::new();
    written.rewind()?;
    written.read_to_end(&mut bytes)?;
    Ok(bytes)
}
