//! Reading of large files: stretch by stretch, cut into chunks that go to the pool of threads while the next
//! ones are read.

use std::rc::Rc;

use backstay_core::id::ChunkId;
use backstay_vault::error::VaultError;
use backstay_vault::split::{CHUNK_BYTES_GREATEST, Gear};
use backstay_vault::write::{ChunkWriter, Ticket};
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;

use super::options::CaptureProgress;
use super::problem::{CaptureError, ReadProblem};
use crate::read::{Extent, SourceFile};

/// What is read at once, bytes.
const READ_BYTES: usize = 1 << 20;

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

/// Reads all data of `file`. `buffer` goes from file to file: chunks of several share one allocation, which is
/// free again when the last of them is stored.
pub(super) fn read_large(
    file: &SourceFile,
    gear: &Gear,
    writer: &ChunkWriter,
    progress: &CaptureProgress,
    buffer: &mut BytesMut,
) -> Result<Vec<Piece>, LargeProblem> {
    let mut pieces = Vec::new();
    for extent in file.extents() {
        let extent = extent.map_err(|errno| LargeProblem::Entry(ReadProblem::Refused(errno)))?;
        read_extent(file, extent, gear, writer, progress, buffer, &mut pieces)?;
    }
    Ok(pieces)
}

fn read_extent(
    file: &SourceFile,
    extent: Extent,
    gear: &Gear,
    writer: &ChunkWriter,
    progress: &CaptureProgress,
    buffer: &mut BytesMut,
    pieces: &mut Vec<Piece>,
) -> Result<(), LargeProblem> {
    buffer.clear();
    let mut offset = extent.offset_bytes;
    let mut left = extent.length_bytes;
    let mut whole = true;
    while left > 0 || !buffer.is_empty() {
        if progress.is_stopped() {
            return Err(LargeProblem::Capture(CaptureError::Stopped));
        }
        while whole && left > 0 && buffer.len() < CHUNK_BYTES_GREATEST {
            let wanted = left.min(READ_BYTES as u64) as usize;
            let read = fill(file, extent.offset_bytes + extent.length_bytes - left, wanted, buffer)?;
            // A file that became shorter ends here; its stability tells.
            whole = read == wanted;
            left = if whole { left - read as u64 } else { 0 };
        }
        let length = gear.cut(buffer).unwrap_or(buffer.len());
        if length == 0 {
            break;
        }
        put(buffer.split_to(length).freeze(), offset, writer, progress, pieces)
            .map_err(LargeProblem::Capture)?;
        offset += length as u64;
    }
    Ok(())
}

fn fill(file: &SourceFile, offset: u64, wanted: usize, buffer: &mut BytesMut) -> Result<usize, LargeProblem> {
    let begins = buffer.len();
    if buffer.capacity() < begins + wanted {
        // Room for a greatest chunk and what may follow it, so that bytes are moved once in several chunks.
        buffer.reserve(2 * CHUNK_BYTES_GREATEST);
    }
    buffer.resize(begins + wanted, 0);
    let read = file
        .read_at(offset, &mut buffer[begins..])
        .map_err(|errno| LargeProblem::Entry(ReadProblem::Refused(errno)))?;
    buffer.truncate(begins + read);
    Ok(read)
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
