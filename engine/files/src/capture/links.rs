//! Files with several names: each is read once, when its first name comes by, and its row waits here until the
//! end, because rows of links sort before all paths. Bounded memory: rows spill to disk.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use backstay_core::id::LinkId;
use backstay_core::run::{Change, Entry, PartRef};
use backstay_vault::keys::KeyRing;
use backstay_vault::table::PartWriter;
use backstay_vault::write::ChunkWriter;

use super::problem::CaptureError;
use super::sink::{NewRow, RowSink};
use crate::heads::{FoundRow, HeadRows, KeyValue};
use crate::keys::{is_further, link_key, split_further};
use crate::row::{HeadRow, Restored, decode_further, element};
use crate::spill::{HELD_BYTES_DEFAULT, Sorted, Spill};
use crate::stat::Identity;
use crate::state::State;

/// A generation of a row: its further rows carry the same, so that those of a row that was pushed
/// before count for nothing.
type Generation = u32;

/// What was spilled for one file.
#[derive(Debug)]
enum Spilled {
    /// The old row stays.
    Kept,
    /// It has this row.
    Put { value: Vec<u8>, further: Vec<KeyValue> },
}

/// Files with several names that the walk has seen.
#[derive(Debug)]
pub(super) struct LinkRows {
    spill: Spill,
    generation: Generation,
    /// Names that are still to come of files that were seen.
    to_come: HashMap<Identity, u64>,
    /// Files that have no row: unreadable or gone, and never captured before.
    missing: HashSet<LinkId>,
}

impl LinkRows {
    pub(super) fn new(folder: &Path) -> Self {
        let spill = Spill::new(folder, HELD_BYTES_DEFAULT);
        Self { spill, generation: 0, to_come: HashMap::new(), missing: HashSet::new() }
    }

    /// Whether this is the first name of a file that comes by; the others are counted down.
    pub(super) fn is_first_name(&mut self, identity: Identity, names: u64) -> bool {
        match self.to_come.get_mut(&identity) {
            Some(left) if *left > 1 => *left -= 1,
            Some(_) => {
                self.to_come.remove(&identity);
            }
            None => {
                self.to_come.insert(identity, names.saturating_sub(1).max(1));
                return true;
            }
        }
        false
    }

    /// The file is as it was.
    pub(super) fn keep(&mut self, id: &LinkId) -> Result<(), CaptureError> {
        Ok(self.spill.push(&link_key(id), &[])?)
    }

    /// An old name stays without having been looked at: its file stays, unless it is seen elsewhere.
    pub(super) fn still_named(&mut self, name: &FoundRow) -> Result<(), CaptureError> {
        match HeadRow::decode(&name.value)?.restored {
            Restored::Link(id) => self.keep(&id),
            Restored::Object { .. } => Ok(()),
        }
    }

    /// The file has a new row.
    pub(super) fn put(&mut self, new: NewRow) -> Result<(), CaptureError> {
        let further = if new.further.is_empty() { new.kept_further } else { new.further };
        self.put_rows(&new.key, &new.row.encode()?, &further)
    }

    /// The file has this row in a partial point from which the capture goes on.
    pub(super) fn take_over(&mut self, row: &FoundRow) -> Result<(), CaptureError> {
        if let Some(seen) = HeadRow::decode(&row.value)?.facts.seen {
            self.to_come.insert(seen.identity, u64::MAX);
        }
        self.put_rows(&row.key, &row.value, &row.further)
    }

    pub(super) fn set_missing(&mut self, id: LinkId) {
        self.missing.insert(id);
    }

    pub(super) fn is_missing(&self, id: &LinkId) -> bool {
        self.missing.contains(id)
    }

    /// The part of the run with what was put so far, for a partial point.
    pub(super) fn part_so_far(
        &mut self,
        previous: Option<&State>,
        ring: &KeyRing,
        chunks: &mut ChunkWriter,
    ) -> Result<Option<PartRef>, CaptureError> {
        let mut part = PartWriter::new();
        self.for_each(previous, |key, old, spilled| {
            if let Some(Spilled::Put { value, further }) = spilled {
                push_part(&mut part, ring, chunks, &key, &value, &further, old.as_ref())?;
            }
            Ok(())
        })?;
        Ok(part.finish(chunks)?)
    }

    /// The part of the run with all changes; the sink learns of them.
    pub(super) fn finish(
        &mut self,
        previous: Option<&State>,
        ring: &KeyRing,
        sink: &mut RowSink<'_>,
        chunks: &mut ChunkWriter,
    ) -> Result<Option<PartRef>, CaptureError> {
        let mut changed = false;
        self.for_each(previous, |_, old, spilled| {
            changed |= differs(old.as_ref(), spilled.as_ref());
            Ok(())
        })?;
        if changed {
            sink.begin_change(None)?;
        }
        let mut part = PartWriter::new();
        self.for_each(previous, |key, old, spilled| match (old, spilled) {
            (Some(old), Some(Spilled::Kept)) => sink.state_link(&old),
            // A name that was kept, of a file that no point has: nothing can be said of it.
            (None, Some(Spilled::Kept) | None) => Ok(()),
            (old, Some(Spilled::Put { value, further })) => {
                let row = FoundRow { key, value, further };
                if old.as_ref() != Some(&row) {
                    let replaced = old.as_ref().map(|old| element(&old.key, &old.value)).transpose()?;
                    sink.exchange(replaced, Some(element(&row.key, &row.value)?));
                    push_part(&mut part, ring, chunks, &row.key, &row.value, &row.further, old.as_ref())?;
                }
                sink.state_link(&row)
            }
            (Some(old), None) => {
                let replaced = Some(element(&old.key, &old.value)?);
                sink.exchange(replaced, None);
                part.push(ring, chunks, &Entry { key: &old.key, change: Change::Tombstone, replaced })?;
                Ok(())
            }
        })?;
        Ok(part.finish(chunks)?)
    }

    fn put_rows(&mut self, key: &[u8], value: &[u8], further: &[KeyValue]) -> Result<(), CaptureError> {
        self.generation += 1;
        let generation = self.generation.to_le_bytes();
        self.spill.push(key, &[&generation, value].concat())?;
        for (key, value) in further {
            self.spill.push(key, &[&generation, value.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Goes through all files of the state before and of this scan, in order.
    fn for_each(
        &mut self,
        previous: Option<&State>,
        mut each: impl FnMut(Vec<u8>, Option<FoundRow>, Option<Spilled>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        let mut old = previous.map(State::links).transpose()?.map(HeadRows::new);
        let mut next_old = || old.as_mut().map_or(Ok(None), HeadRows::next);
        let mut new = NewLinks { rows: self.spill.sorted()?, next: None };
        let (mut from_old, mut from_new) = (next_old()?, new.next()?);
        loop {
            let order = match (&from_old, &from_new) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some((key, _))) => old.key.cmp(key),
            };
            let old_row = if order.is_le() { from_old.take() } else { None };
            let new_row = if order.is_ge() { from_new.take() } else { None };
            if order.is_le() {
                from_old = next_old()?;
            }
            if order.is_ge() {
                from_new = new.next()?;
            }
            let key = old_row.as_ref().map(|row| row.key.clone());
            let (new_key, spilled) = new_row.unzip();
            if let Some(key) = key.or(new_key) {
                each(key, old_row, spilled)?;
            }
        }
    }
}

fn differs(old: Option<&FoundRow>, spilled: Option<&Spilled>) -> bool {
    match (old, spilled) {
        (_, Some(Spilled::Kept)) | (None, None) => false,
        (Some(old), Some(Spilled::Put { value, further })) => old.value != *value || old.further != *further,
        (None, Some(Spilled::Put { .. })) | (Some(_), None) => true,
    }
}

fn push_part(
    part: &mut PartWriter,
    ring: &KeyRing,
    chunks: &mut ChunkWriter,
    key: &[u8],
    value: &[u8],
    further: &[KeyValue],
    old: Option<&FoundRow>,
) -> Result<(), CaptureError> {
    let replaced = old.map(|old| element(&old.key, &old.value)).transpose()?;
    let row = HeadRow::decode(value)?;
    part.push(ring, chunks, &Entry { key, change: Change::Put(value), replaced })?;
    let mut references = row.facts.references;
    references.extend(row.facts.attribute_references);
    for (key, value) in further {
        part.push(ring, chunks, &Entry { key, change: Change::Put(value), replaced: None })?;
        let (_, first) = split_further(key);
        references.extend(decode_further(first.unwrap_or_default(), value)?);
    }
    for reference in references {
        part.refer(reference.chunk, u64::from(reference.length_bytes));
    }
    Ok(())
}

/// What was spilled, file by file.
struct NewLinks<'s> {
    rows: Sorted<'s>,
    next: Option<KeyValue>,
}

impl NewLinks<'_> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Spilled)>, CaptureError> {
        let head = loop {
            match self.next.take().map_or_else(|| self.read(), |row| Ok(Some(row)))? {
                None => return Ok(None),
                // A further row whose head says "kept" was pushed before that.
                Some((key, _)) if is_further(&key) => {}
                Some(head) => break head,
            }
        };
        let (key, tagged) = head;
        let Some((generation, value)) = tagged.split_at_checked(4) else {
            return Ok(Some((key, Spilled::Kept)));
        };
        let mut further = Vec::new();
        while let Some((next_key, next_tagged)) = self.read()? {
            if !is_further(&next_key) {
                self.next = Some((next_key, next_tagged));
                break;
            }
            if let Some(value) = next_tagged.strip_prefix(generation) {
                further.push((next_key, value.to_vec()));
            }
        }
        Ok(Some((key, Spilled::Put { value: value.to_vec(), further })))
    }

    fn read(&mut self) -> Result<Option<KeyValue>, CaptureError> {
        Ok(self.rows.next()?.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}
