//! Writing of a merged run, or of an equal one whose data lies elsewhere. What the run does to the state digest is added up while it is written, and so is what those
//! do that it is made of: a merge that changed anything is never put into a layout.

use backstay_core::digest::StateDigest;
use backstay_core::fold::{Cursor, Merge};
use backstay_core::id::ChunkId;
use backstay_core::kind::{ChunkRange, KindRules, UnreadableRow};
use backstay_core::run::{Change, Entry, PartRef, Run};

use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::{PartWriter, RunCursor};
use crate::write::ChunkWriter;

/// A part is closed after so many entries, or references to so many data chunks, which bounds its memory.
const PART_ENTRIES_MAX: u64 = 4_000_000;
const PART_CHUNKS_MAX: usize = 500_000;

/// Writes the merge of runs that follow each other, newest first.
pub(in crate::vault) fn write_merged(
    reader: &ChunkReader,
    chunks: &mut ChunkWriter,
    rules: &dyn KindRules,
    runs: &[Run],
) -> Result<Run, VaultError> {
    write_moved(reader, chunks, rules, runs, &mut |_| None)
}

/// The same; what `moved` knows is referred to where it lies now.
pub(super) fn write_moved(
    reader: &ChunkReader,
    chunks: &mut ChunkWriter,
    rules: &dyn KindRules,
    runs: &[Run],
    moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
) -> Result<Run, VaultError> {
    let mut digests: Vec<Tally> = runs.iter().map(|_| Tally::new()).collect();
    let cursors: Vec<Counted<'_>> = runs
        .iter()
        .zip(&mut digests)
        .map(|(run, tally)| Counted { cursor: RunCursor::new(reader.clone(), &run.parts, b""), rules, tally })
        .collect();
    let mut merge = Merge::new(cursors, rules.fold_rule());
    let mut after = Tally::new();
    let mut parts: Vec<PartRef> = Vec::new();
    let mut part = PartWriter::new();
    let mut entries = 0;
    while merge.advance()? {
        let mut entry = merge.entry();
        let value = match entry.change.value() {
            Some(value) => rules.with_references(entry.key, value, moved).map_err(unreadable)?,
            None => None,
        };
        if let Some(value) = &value {
            entry.change = Change::Put(value);
        }
        after.count(rules, &entry)?;
        if entries == PART_ENTRIES_MAX || part.chunks() >= PART_CHUNKS_MAX {
            parts.extend(std::mem::take(&mut part).finish(chunks)?);
            entries = 0;
        }
        entries += 1;
        part.push(reader.vault().ring(), chunks, &entry)?;
        if let Some(value) = entry.change.value() {
            let told =
                rules.references(entry.key, value, &mut |range| part.refer(range.chunk, range.length.into()));
            told.map_err(unreadable)?;
        }
    }
    parts.extend(part.finish(chunks)?);
    drop(merge);
    let mut before = Tally::new();
    digests.iter().for_each(|tally| before.add(tally));
    match before.difference() == after.difference() {
        true => Ok(Run { parts }),
        false => Err(VaultError::Table(
            "a merge of runs does not do what they do: nothing was changed; run `backstay vault check`, and test the memory of this machine".into(),
        )),
    }
}

pub(super) fn unreadable(error: UnreadableRow) -> VaultError {
    VaultError::Table(error.to_string())
}

/// What entries do to a state digest: new elements, and those that they replace.
#[derive(Debug)]
struct Tally(StateDigest);

impl Tally {
    fn new() -> Self {
        Self(StateDigest::empty())
    }

    fn count(&mut self, rules: &dyn KindRules, entry: &Entry<'_>) -> Result<(), VaultError> {
        if let Change::Put(value) = entry.change {
            let element = rules.element(entry.key, value).map_err(unreadable)?;
            element.iter().for_each(|element| self.0.add(element));
        }
        entry.replaced.iter().for_each(|replaced| self.0.remove(replaced));
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.0.add_all(&other.0);
    }

    fn difference(&self) -> &StateDigest {
        &self.0
    }
}

/// A run that is read and tallied.
struct Counted<'a> {
    cursor: RunCursor<ChunkReader>,
    rules: &'a dyn KindRules,
    tally: &'a mut Tally,
}

impl Cursor for Counted<'_> {
    type Error = VaultError;

    fn advance(&mut self) -> Result<bool, VaultError> {
        let is_there = self.cursor.advance().map_err(VaultError::from)?;
        if is_there {
            self.tally.count(self.rules, &self.cursor.entry())?;
        }
        Ok(is_there)
    }

    fn entry(&self) -> Entry<'_> {
        self.cursor.entry()
    }
}
