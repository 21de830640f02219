//! The mark of a collection: every chunk that runs consist of or refer to.

use std::collections::HashSet;

use backstay_core::id::ChunkId;
use backstay_core::run::Run;

use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::part_chunks;

/// The chunks that are needed.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Roots of the parts that were read.
    parts: HashSet<ChunkId>,
    chunks: HashSet<ChunkId>,
}

impl Needs {
    #[cfg(test)]
    pub(super) fn of(chunks: impl Iterator<Item = ChunkId>) -> Self {
        Self { chunks: chunks.collect(), ..Self::default() }
    }

    /// Adds what a run needs. A part that several runs share is read once.
    pub(super) fn add(&mut self, reader: &ChunkReader, run: &Run) -> Result<(), VaultError> {
        for part in &run.parts {
            if !self.parts.insert(part.root) {
                continue;
            }
            part_chunks(reader, part, &mut |chunk| {
                self.chunks.insert(chunk);
            })?;
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

    /// Whether the chunk is needed.
    pub(super) fn has(&self, chunk: &ChunkId) -> bool {
        self.chunks.contains(chunk)
    }

    /// All of them.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &ChunkId> {
        self.chunks.iter()
    }
}
