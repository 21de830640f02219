//! Reading of large files: stretch by stretch, cut into chunks that go to the pool of threads while the next
//! ones are read.

use std::rc::Rc;

use backstay_core::id::ChunkId;
use backstay_vault::buffer::{Buffer, BufferPool};
use backstay_vault::error::VaultError;
use backstay_vault::split::{CHUNK_BYTES_GREATEST, Gear};
use backstay_vault::write::{ChunkWriter, Ticket};
use bytes::Bytes;
use rustix::io::Errno;
use std::cell::RefCell;

use super::options::CaptureProgress;
use super::problem::{CaptureError, ReadProblem};
use crate::read::{Extent, Extents, SourceFile};

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

/// A large file of which some is read.
#[derive(Debug)]
pub(super) struct LargeFile<'f> {
    file: &'f SourceFile,
    extents: Extents<'f>,
    /// What is left of the extent that is being read.
    unread: Option<Unread>,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Unread {
    offset: u64,
    end: u64,
    /// Its first bytes, where these were read already.
    carried: Bytes,
}

/// How far a large file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Begun,
    Finished,
}

impl<'f> LargeFile<'f> {
    pub(super) fn begin(file: &'f SourceFile) -> Self {
        Self { file, extents: file.extents(), unread: None, pieces: Vec::new() }
    }

    /// Waits for the names of all chunks up to here; those from the one at this place on.
    pub(super) fn names_from(&self, first: usize) -> Result<Vec<ChunkId>, VaultError> {
        self.pieces.iter().skip(first).map(|piece| piece.chunk.wait()).collect()
    }

    /// How many pieces there are so far.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Reads those chunks again and puts them that the session of this writer does not count on; which those are. What it
    /// counts on stays until it ends.
    pub(super) fn put_again_what_goes(&mut self, writer: &ChunkWriter) -> Result<Vec<ChunkId>, LargeProblem> {
        let failed = |error: VaultError| LargeProblem::Capture(error.into());
        let mut again = Vec::new();
        for piece in &mut self.pieces {
            if writer.is_known(&piece.chunk.wait().map_err(failed)?) {
                continue;
            }
            let mut plain = vec![0; piece.length as usize];
            let read = self.file.read_at(piece.offset, &mut plain);
            let read = read.map_err(|errno| LargeProblem::Entry(ReadProblem::Refused(errno)))?;
            // A file that became shorter: its stability tells.
            plain.truncate(read);
            piece.length = read as u32;
            if !plain.is_empty() {
                piece.chunk = PendingChunk::new(writer.put_data(plain.into()));
                again.push(piece.chunk.wait().map_err(failed)?);
            }
        }
        self.pieces.retain(|piece| piece.length > 0);
        Ok(again)
    }

    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn unread(&mut self) -> Result<Option<Unread>, Errno> {
        match self.unread.take() {
            Some(unread) => Ok(Some(unread)),
            None => {
                let next = self.extents.next().transpose()?;
                Ok(next.map(|Extent { offset_bytes, length_bytes }| Unread {
                    offset: offset_bytes,
                    end: offset_bytes + length_bytes,
                    carried: Bytes::new(),
                }))
            }
        }
    }
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

    /// Reads on in `file`: at most one buffer, which is cut into chunks and shared by them. What follows the last cut
    /// is not a chunk yet and begins the next buffer.
    pub(super) fn read_on(
        &self,
        file: &mut LargeFile<'_>,
        writer: &ChunkWriter,
        progress: &CaptureProgress,
    ) -> Result<Progress, LargeProblem> {
        let refused = |errno| LargeProblem::Entry(ReadProblem::Refused(errno));
        let Some(Unread { mut offset, end, carried }) = file.unread().map_err(refused)? else {
            return Ok(Progress::Finished);
        };
        let wanted = (end - offset).min(BUFFER_BYTES as u64) as usize;
        let mut buffer = self.buffer(wanted);
        buffer.as_mut()[..carried.len()].copy_from_slice(&carried);
        let unread = &mut buffer.as_mut()[carried.len()..];
        let read = file.file.read_at(offset + carried.len() as u64, unread).map_err(refused)?;
        let length = carried.len() + read;
        // A file that became shorter ends here; its stability tells.
        let is_last = length < wanted || offset + length as u64 == end;
        buffer.truncate(length);
        let mut rest = buffer.freeze();
        while let Some(length) = self.gear.cut(&rest).or((is_last && !rest.is_empty()).then_some(rest.len()))
        {
            if progress.is_stopped() {
                return Err(LargeProblem::Capture(CaptureError::Stopped));
            }
            put(rest.split_to(length), offset, writer, progress, &mut file.pieces)
                .map_err(LargeProblem::Capture)?;
            offset += length as u64;
        }
        if !is_last {
            file.unread = Some(Unread { offset, end, carried: rest });
        }
        Ok(Progress::Begun)
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
