//! A window of a restore: pieces of files whose chunks are fetched together, each stretch of a pack read once,
//! and written by the pool of threads while the next windows are put together.

use std::collections::HashMap;
use std::sync::Arc;

use backstay_core::id::ChunkId;
use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use backstay_vault::write::CpuPool;

use super::piece::{OpenFile, Piece, Target};
use super::report::{Collected, RestoreProgress};
use super::stretches::{Stretches, Wanted};
use super::under_way::{Counted, Failure, Shared};
use crate::row::Reference;

/// Plain bytes of one window.
const WINDOW_BYTES: u64 = 32 << 20;

/// Files of one window.
const WINDOW_FILES: usize = 512;

/// Puts windows together and has them worked on.
#[derive(Debug)]
pub(super) struct Windows {
    reader: ChunkReader,
    stretches: Stretches,
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    bytes: u64,
    files: usize,
}

impl Windows {
    pub(super) fn new(
        reader: ChunkReader,
        pool: Arc<CpuPool>,
        collected: Arc<Collected>,
        progress: Arc<RestoreProgress>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(collected, progress));
        let stretches = Stretches::start(&reader, &pool, &shared)?;
        Ok(Self { reader, stretches, shared, pieces: Vec::new(), bytes: 0, files: 0 })
    }

    /// Adds a file with all its references; it is finished when the last is written.
    pub(super) fn add(&mut self, file: Target, references: &[Reference]) -> Result<(), Failure> {
        if references.is_empty() {
            if let Some(file) = self.shared.collected.judge(file.make())? {
                self.shared.collected.defects(file.finish());
            }
            return Ok(());
        }
        let file = Arc::new(OpenFile::new(file, references.len(), &self.shared));
        self.files += 1;
        for reference in references {
            self.bytes += u64::from(reference.length_bytes);
            self.pieces.push(Piece { file: Arc::clone(&file), reference: *reference });
            if self.bytes >= WINDOW_BYTES {
                self.send()?;
            }
        }
        if self.files >= WINDOW_FILES { self.send() } else { Ok(()) }
    }

    /// Works off what is left and waits for all of it.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.send()?;
        self.shared.wait(|under_way| under_way.reads == 0);
        self.shared.take_failure()
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.files = 0;
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces);
        self.shared.take_failure()?;
        let mut by_chunk: HashMap<ChunkId, Vec<Piece>> = HashMap::new();
        for piece in pieces {
            by_chunk.entry(piece.reference.chunk).or_default().push(piece);
        }
        let (reads, lost) =
            self.reader.plan_what_is_there(by_chunk.keys().copied()).map_err(Failure::Vault)?;
        for (chunk, error) in lost {
            let pieces = by_chunk.remove(&chunk).unwrap_or_default();
            pieces.iter().for_each(|piece| piece.lose(&error, &self.shared));
        }
        for read in reads {
            let pieces =
                read.records.iter().map(|(id, ..)| by_chunk.remove(id).unwrap_or_default()).collect();
            let counted = Counted::begin(&self.shared, |under_way| &mut under_way.reads, usize::MAX);
            self.stretches.queue(Wanted { read, pieces, counted });
        }
        Ok(())
    }
}

impl Drop for Windows {
    /// What is still queued when a restore ends early is not worked on.
    fn drop(&mut self) {
        self.shared.fail(Failure::Vault(VaultError::GivenUp));
    }
}
