//! The mark of a collection: every chunk that runs consist of or refer to. A bit for each entry of the index as it was
//! when marking began, so that a vault of any size can be marked; only chunks that it did not know are held by name.

use std::collections::{BTreeSet, HashSet};

use backstay_core::id::ChunkId;
use backstay_core::run::Run;

use crate::error::VaultError;
use crate::index::{IndexEntries, IndexSnapshot, MarkedIds, Marks, PackPlace, SegmentError};
use crate::read::ChunkReader;
use crate::table::part_chunks;

/// The chunks that are needed.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Roots of the parts that were read.
    parts: HashSet<ChunkId>,
    index: IndexEntries,
    marks: Marks,
    /// Chunks that the index did not know: those of points that were committed since it was taken, and lost ones.
    beyond: BTreeSet<ChunkId>,
}

impl Needs {
    /// Nothing is needed yet; what will be is marked in this index.
    pub(super) fn over(index: IndexEntries) -> Self {
        Self { marks: index.no_marks(), index, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn of(chunks: impl Iterator<Item = ChunkId>) -> Self {
        Self { beyond: chunks.collect(), ..Self::default() }
    }

    /// Adds what a run needs. A part that several runs share is read once.
    pub(super) fn add(&mut self, reader: &ChunkReader, run: &Run) -> Result<(), VaultError> {
        for part in &run.parts {
            if !self.parts.insert(part.root) {
                continue;
            }
            let mut failure = None;
            let (index, marks, beyond) = (&self.index, &mut self.marks, &mut self.beyond);
            part_chunks(reader, part, &mut |chunk| match index.mark(&chunk, marks) {
                Ok(true) => {}
                Ok(false) => drop(beyond.insert(chunk)),
                Err(error) => drop(failure.get_or_insert(error)),
            })?;
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Adds what a run needs beside what is marked already.
    pub(super) fn add_beside(
        &mut self,
        marked: &Needs,
        reader: &ChunkReader,
        run: &Run,
    ) -> Result<(), VaultError> {
        let parts = run.parts.iter().filter(|part| !marked.parts.contains(&part.root));
        self.add(reader, &Run { parts: parts.cloned().collect() })
    }

    fn ids(&self) -> Result<NeededIds<'_>, SegmentError> {
        let mut marked = self.index.marked(&self.marks)?;
        let next = marked.advance()?;
        Ok(NeededIds { marked, next, beyond: self.beyond.iter().peekable() })
    }
}

/// All that is needed, in order of id.
struct NeededIds<'n> {
    marked: MarkedIds<'n>,
    next: Option<ChunkId>,
    beyond: std::iter::Peekable<std::collections::btree_set::Iter<'n, ChunkId>>,
}

impl NeededIds<'_> {
    /// The one that comes next.
    fn peek(&mut self) -> Option<ChunkId> {
        let beyond = self.beyond.peek().map(|id| **id);
        self.next.into_iter().chain(beyond).min()
    }

    fn pass(&mut self, id: ChunkId) -> Result<(), SegmentError> {
        self.beyond.next_if(|beyond| **beyond == id);
        if self.next == Some(id) {
            self.next = self.marked.advance()?;
        }
        Ok(())
    }
}

/// Goes through all chunks that are indexed or needed, in order of id, and tells of each where it is, which is nowhere
/// for some that are needed, and which of `needs` need it. What is read is read from end to end.
pub(super) fn walk<const N: usize, E: From<SegmentError>>(
    index: &IndexSnapshot,
    needs: [&Needs; N],
    mut visit: impl FnMut(&ChunkId, &[PackPlace], [bool; N]) -> Result<(), E>,
) -> Result<(), E> {
    let mut chunks = index.chunks()?;
    let mut needed = Vec::with_capacity(N);
    for needs in needs {
        needed.push(needs.ids()?);
    }
    let mut indexed = chunks.advance()?;
    loop {
        let next = needed.iter_mut().filter_map(NeededIds::peek).chain(indexed).min();
        let Some(id) = next else { return Ok(()) };
        let mut is_needed = [false; N];
        for (needed, is_needed) in needed.iter_mut().zip(&mut is_needed) {
            if needed.peek() == Some(id) {
                *is_needed = true;
                needed.pass(id)?;
            }
        }
        match indexed == Some(id) {
            true => {
                visit(&id, chunks.places(), is_needed)?;
                indexed = chunks.advance()?;
            }
            false => visit(&id, &[], is_needed)?,
        }
    }
}
