//! Reading of large files: stretch by stretch, cut into chunks that go to the pool of threads while the next
//! ones are read.

use std::rc::Rc;

use backstay_core::id::ChunkId;
use backstay_vault::buffer::{Buffer, BufferPool};
use backstay_vault::error::VaultError;
use backstay_vault::split::{CHUNK_BYTES_GREATEST, Gear};
use backstay_vault::write::{ChunkWriter, Ticket};
use bytes::Bytes;
use std::cell::RefCell;

use super::options::CaptureProgress;
use super::problem::{CaptureError, ReadProblem};
use crate::read::{Extent, SourceFile};

/// What is read at once, bytes: more than a chunk, so that little of it is left over for the next buffer.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_GREATEST;

/// Buffers that are kept from one use to the next. How many are in use is bounded by the chunks in flight.
const BUFFERS_KEPT: usize = 4;

/// Chunks of one file whose names are not known yet.
const UNNAMED_MAX: usize = 64;

/// A chunk that gets its name from the pool. Several rows may wait for it.
#[derive(Debug, Clone)]
pub(super) struct PendingChunk(Rc<RefCell<Naming>>);

#[derive(Debug)]
enum Naming {
    Waiting(Ticket),
    Named(ChunkId),
}

impl PendingChunk {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self(Rc::new(RefCell::new(Naming::Waiting(ticket))))
    }

    /// Waits for the name.
    pub(super) fn wait(&self) -> Result<ChunkId, VaultError> {
        let mut naming = self.0.borrow_mut();
        let id = match &*naming {
            Naming::Named(id) => *id,
            Naming::Waiting(ticket) => ticket.wait()?,
        };
        *naming = Naming::Named(id);
        Ok(id)
    }
}

/// A stretch of a file that is one chunk.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) chunk: PendingChunk,
}

/// Why a large file was not read.
#[derive(Debug)]
pub(super) enum LargeProblem {
    /// This file only.
    Entry(ReadProblem),
    /// The capture as a whole.
    Capture(CaptureError),
}

/// Reads files that are not small.
#[derive(Debug)]
pub(super) struct LargeReader {
    gear: Gear,
    buffers: BufferPool,
}

impl LargeReader {
    pub(super) fn new(gear: Gear) -> Self {
        Self { gear, buffers: BufferPool::new(BUFFERS_KEPT) }
    }

    /// Reads all data of `file`.
    pub(super) fn read(
        &self,
        file: &SourceFile,
        writer: &ChunkWriter,
        progress: &CaptureProgress,
    ) -> Result<Vec<Piece>, LargeProblem> {
        let mut pieces = Vec::new();
        for extent in file.extents() {
            let extent = extent.map_err(|errno| LargeProblem::Entry(ReadProblem::Refused(errno)))?;
            self.read_extent(file, extent, writer, progress, &mut pieces)?;
        }
        Ok(pieces)
    }

    /// A buffer is filled, cut into chunks and shared by them. What follows the last cut is not a chunk yet and begins
    /// the next buffer.
    fn read_extent(
        &self,
        file: &SourceFile,
        extent: Extent,
        writer: &ChunkWriter,
        progress: &CaptureProgress,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), LargeProblem> {
        let end = extent.offset_bytes + extent.length_bytes;
        let mut offset = extent.offset_bytes;
        let mut carried = Bytes::new();
        loop {
            let wanted = (end - offset).min(BUFFER_BYTES as u64) as usize;
            if wanted == 0 {
                return Ok(());
            }
            let mut buffer = self.buffer(wanted);
            buffer.as_mut()[..carried.len()].copy_from_slice(&carried);
            let unread = &mut buffer.as_mut()[carried.len()..];
            let read = file.read_at(offset + carried.len() as u64, unread);
            let read = read.map_err(|errno| LargeProblem::Entry(ReadProblem::Refused(errno)))?;
            let length = carried.len() + read;
            // A file that became shorter ends here; its stability tells.
            let is_last = length < wanted || offset + length as u64 == end;
            buffer.truncate(length);
            let mut rest = buffer.freeze();
            while let Some(length) =
                self.gear.cut(&rest).or((is_last && !rest.is_empty()).then_some(rest.len()))
            {
                if progress.is_stopped() {
                    return Err(LargeProblem::Capture(CaptureError::Stopped));
                }
                put(rest.split_to(length), offset, writer, progress, pieces)
                    .map_err(LargeProblem::Capture)?;
                offset += length as u64;
            }
            if is_last {
                return Ok(());
            }
            carried = rest;
        }
    }

    /// Buffers of full size are kept; what a shorter file needs is asked for as it comes.
    fn buffer(&self, wanted: usize) -> Buffer {
        match wanted {
            BUFFER_BYTES => self.buffers.take(BUFFER_BYTES),
            shorter => BufferPool::new(0).take(shorter),
        }
    }
}

fn put(
    plain: Bytes,
    offset: u64,
    writer: &ChunkWriter,
    progress: &CaptureProgress,
    pieces: &mut Vec<Piece>,
) -> Result<(), CaptureError> {
    let length = plain.len() as u32;
    progress.read(u64::from(length));
    if writer.has_failed() {
        return Err(VaultError::GivenUp.into());
    }
    pieces.push(Piece { offset, length, chunk: PendingChunk::new(writer.put_data(plain)) });
    if let Some(oldest) = pieces.len().checked_sub(UNNAMED_MAX) {
        pieces[oldest].chunk.wait()?;
    }
    Ok(())
}
