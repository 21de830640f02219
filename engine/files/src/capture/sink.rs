//! Where rows go once everything about them is known: the part of the run that is being written, the new local
//! state, and the state digest. Owns what counts as a change.

use std::path::PathBuf;
use std::sync::Arc;

use backstay_core::digest::StateDigest;
use backstay_core::id::Element;
use backstay_core::run::{Change, Entry, PartRef};
use backstay_vault::keys::KeyRing;
use backstay_vault::table::PartWriter;
use backstay_vault::write::ChunkWriter;

use super::problem::CaptureError;
use crate::heads::{FoundRow, KeyValue};
use crate::keys::split_further;
use crate::row::{HeadRow, Object, Reference, Restored, decode_further, element};
use crate::stat::Identity;
use crate::state::{State, StateWriter};

/// Takes finished rows in order of key.
#[derive(Debug)]
pub(super) struct RowSink<'p> {
    ring: Arc<KeyRing>,
    previous: Option<&'p State>,
    part: PartWriter,
    state: Option<StateWriter>,
    state_folder: PathBuf,
    pub(super) digest: StateDigest,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) changed: bool,
    pub(super) gone: u64,
    /// Files that were found again under another name; their old names are gone.
    pub(super) moved: u64,
}

/// A row to be stored.
#[derive(Debug)]
pub(super) struct NewRow {
    pub(super) key: Vec<u8>,
    pub(super) row: HeadRow,
    pub(super) further: Vec<KeyValue>,
    /// Further rows that stay in the state without being stored again.
    pub(super) kept_further: Vec<KeyValue>,
    /// The row that it replaces.
    pub(super) old: Option<FoundRow>,
}

impl<'p> RowSink<'p> {
    /// A sink for a capture that edits the state of `previous`. The new state is written in `state_folder`, and
    /// only when something differs.
    pub(super) fn new(
        ring: Arc<KeyRing>,
        previous: Option<&'p State>,
        state_folder: PathBuf,
    ) -> Result<Self, CaptureError> {
        let state = match previous {
            Some(_) => None,
            None => Some(StateWriter::create(&state_folder)?),
        };
        Ok(Self {
            ring,
            previous,
            part: PartWriter::new(),
            state,
            state_folder,
            digest: previous.map_or_else(StateDigest::empty, |state| state.header().digest.clone()),
            entries: 0,
            bytes: 0,
            changed: false,
            gone: 0,
            moved: 0,
        })
    }

    /// A row of a path that is as it was.
    pub(super) fn keep(&mut self, old: &FoundRow) -> Result<(), CaptureError> {
        let row = HeadRow::decode(&old.value)?;
        self.count(&row);
        if let Some(state) = &mut self.state {
            push_state(state, old, &row)?;
        }
        Ok(())
    }

    /// A row of a path that is new or differs. One that turns out equal to the old one changes nothing.
    pub(super) fn put(&mut self, new: NewRow, chunks: &mut ChunkWriter) -> Result<(), CaptureError> {
        let value = new.row.encode()?;
        if let Some(old) = &new.old
            && old.value == value
            && new.further.is_empty()
        {
            return self.keep(old);
        }
        self.begin_change(Some(&new.key))?;
        self.count(&new.row);
        let replaced = new.old.as_ref().map(|old| element(&old.key, &old.value)).transpose()?;
        self.exchange(replaced, Some(element(&new.key, &value)?));
        self.part.push(
            &self.ring,
            chunks,
            &Entry { key: &new.key, change: Change::Put(&value), replaced },
        )?;
        refer(&mut self.part, &new.row.facts.references);
        refer(&mut self.part, &new.row.facts.attribute_references);
        for (key, value) in &new.further {
            self.part.push(&self.ring, chunks, &Entry { key, change: Change::Put(value), replaced: None })?;
            let (_, first) = split_further(key);
            refer(&mut self.part, &decode_further(first.unwrap_or_default(), value)?);
        }
        if let Some(state) = &mut self.state {
            let further = if new.further.is_empty() { new.kept_further } else { new.further };
            push_state(state, &FoundRow { key: new.key, value, further }, &new.row)?;
        }
        Ok(())
    }

    /// A path that is gone.
    pub(super) fn remove(&mut self, old: &FoundRow, chunks: &mut ChunkWriter) -> Result<(), CaptureError> {
        self.begin_change(Some(&old.key))?;
        self.gone += 1;
        let replaced = Some(element(&old.key, &old.value)?);
        self.exchange(replaced, None);
        self.part.push(&self.ring, chunks, &Entry { key: &old.key, change: Change::Tombstone, replaced })?;
        Ok(())
    }

    /// A row that an earlier partial point has: it is in the run already, and only the state needs it.
    pub(super) fn take_over(&mut self, row: FoundRow) -> Result<(), CaptureError> {
        let head = HeadRow::decode(&row.value)?;
        self.count(&head);
        self.changed = true;
        if let Some(state) = &mut self.state {
            push_state(state, &row, &head)?;
        }
        Ok(())
    }

    /// Begins a new state from nothing, for a capture that goes on from a partial point.
    pub(super) fn begin_state(&mut self) -> Result<(), CaptureError> {
        self.state = Some(StateWriter::create(&self.state_folder)?);
        Ok(())
    }

    /// The changes to files with several names, which come in a part of their own.
    pub(super) fn exchange(&mut self, replaced: Option<Element>, new: Option<Element>) {
        if let Some(element) = replaced {
            self.digest.remove(&element);
        }
        if let Some(element) = new {
            self.digest.add(&element);
        }
    }

    /// Counts a file with several names, once, and keeps its rows in the state.
    pub(super) fn state_link(&mut self, row: &FoundRow) -> Result<(), CaptureError> {
        let head = HeadRow::decode(&row.value)?;
        self.bytes += size_of(&head);
        if let Some(state) = &mut self.state {
            state.push_link(&row.key, &row.value, head.facts.seen.map(|seen| seen.identity))?;
            for (key, value) in &row.further {
                state.push_link(key, value, None)?;
            }
        }
        Ok(())
    }

    /// The first change copies what came before it from the old state.
    pub(super) fn begin_change(&mut self, key: Option<&[u8]>) -> Result<(), CaptureError> {
        self.changed = true;
        if self.state.is_some() {
            return Ok(());
        }
        let mut state = StateWriter::create(&self.state_folder)?;
        if let Some(previous) = self.previous {
            let mut rows = previous.paths()?;
            while rows.advance()? {
                let (old_key, value) = rows.row();
                if key.is_some_and(|key| old_key >= key) {
                    break;
                }
                let identity = match split_further(old_key).1 {
                    Some(_) => None,
                    None => identity_of(&HeadRow::decode(value)?),
                };
                state.push_path(old_key, value, identity)?;
            }
        }
        self.state = Some(state);
        Ok(())
    }

    /// Whether the part is long enough by the number of its chunks.
    pub(super) fn chunks(&self) -> usize {
        self.part.chunks()
    }

    /// Closes the part that is being written and begins another.
    pub(super) fn finish_part(&mut self, chunks: &mut ChunkWriter) -> Result<Option<PartRef>, CaptureError> {
        Ok(std::mem::take(&mut self.part).finish(chunks)?)
    }

    /// The new state, if anything differs.
    pub(super) fn into_state(self) -> Option<StateWriter> {
        self.state.filter(|_| self.changed)
    }

    fn count(&mut self, row: &HeadRow) {
        self.entries += 1;
        self.bytes += size_of(row);
    }
}

fn refer(part: &mut PartWriter, references: &[Reference]) {
    for reference in references {
        part.refer(reference.chunk, u64::from(reference.length_bytes));
    }
}

fn push_state(state: &mut StateWriter, row: &FoundRow, head: &HeadRow) -> Result<(), CaptureError> {
    state.push_path(&row.key, &row.value, identity_of(head))?;
    for (key, value) in &row.further {
        state.push_path(key, value, None)?;
    }
    Ok(())
}

/// The inode of a file whose contents may be wanted again under another name.
pub(crate) fn identity_of(row: &HeadRow) -> Option<Identity> {
    match &row.restored {
        Restored::Object { object: Object::File(Some(_)), .. } => row.facts.seen.map(|seen| seen.identity),
        _ => None,
    }
}

fn size_of(row: &HeadRow) -> u64 {
    match &row.restored {
        Restored::Object { object, .. } => object.size_bytes(),
        Restored::Link(_) => 0,
    }
}
