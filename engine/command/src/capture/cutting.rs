//! Cutting an output into chunks while it comes. Owns the buffers, and what is remembered of each chunk.

use std::collections::VecDeque;

use backstay_core::id::ContentId;
use backstay_files::capture::CaptureProgress;
use backstay_vault::buffer::BufferPool;
use backstay_vault::error::VaultError;
use backstay_vault::split::{CHUNK_BYTES_GREATEST, Gear};
use backstay_vault::write::{ChunkWriter, Ticket};
use bytes::Bytes;

use super::problem::CaptureError;
use crate::program::Output;
use crate::row::{Piece, content_id};

/// What is held of the output before it is cut, bytes: more than a chunk, so that little is left over for the next buffer.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_GREATEST;

/// Buffers that are kept from one use to the next. How many are in use is bounded by the chunks in flight.
const BUFFERS_KEPT: usize = 2;

/// Chunks whose names are not known yet.
const UNNAMED_MAX: usize = 64;

/// Most chunks of one output. They are remembered until its end, 48 bytes each: only then is its length known, with which
/// the content id begins. 4 TiB and more, unless the output is made to be cut often.
pub(super) const PIECES_MAX: usize = 4 << 20;

/// An output that is stored.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) size_bytes: u64,
    pub(super) pieces: Vec<Piece>,
}

impl Contents {
    /// Reads all of an output, and puts its chunks.
    pub(super) fn store(
        output: &mut Output<'_>,
        chunks: &ChunkWriter,
        progress: &CaptureProgress,
    ) -> Result<Self, CaptureError> {
        let gear = Gear::new(chunks.ring().cut_key().ok_or(VaultError::GivenUp)?);
        let buffers = BufferPool::new(BUFFERS_KEPT);
        let mut cutting = Cutting { chunks, progress, contents: Self::default(), unnamed: VecDeque::new() };
        let mut carried = Bytes::new();
        loop {
            let mut buffer = buffers.take(BUFFER_BYTES);
            let held = buffer.as_mut();
            held[..carried.len()].copy_from_slice(&carried);
            let mut length = carried.len();
            let mut is_last = false;
            while length < BUFFER_BYTES && !is_last {
                let read = output.read(&mut held[length..])?;
                progress.read(read as u64);
                length += read;
                is_last = read == 0;
            }
            buffer.truncate(length);
            let mut rest = buffer.freeze();
            while let Some(cut) = gear.cut(&rest).or((is_last && !rest.is_empty()).then_some(rest.len())) {
                cutting.put(rest.split_to(cut))?;
            }
            if is_last {
                return cutting.finish();
            }
            carried = rest;
        }
    }

    /// What it is; nothing of an empty one.
    pub(super) fn id(&self) -> Option<ContentId> {
        content_id(self.size_bytes, &self.pieces)
    }
}

/// An output of which some is cut.
struct Cutting<'c> {
    chunks: &'c ChunkWriter,
    progress: &'c CaptureProgress,
    contents: Contents,
    unnamed: VecDeque<(u64, u32, Ticket)>,
}

impl Cutting<'_> {
    fn put(&mut self, plain: Bytes) -> Result<(), CaptureError> {
        if self.progress.is_stopped() {
            return Err(CaptureError::Stopped);
        }
        if self.chunks.has_failed() {
            return Err(VaultError::GivenUp.into());
        }
        if self.contents.pieces.len() + self.unnamed.len() >= PIECES_MAX {
            return Err(CaptureError::TooLong { bytes: self.contents.size_bytes });
        }
        let (offset, length) = (self.contents.size_bytes, plain.len() as u32);
        self.contents.size_bytes += u64::from(length);
        self.unnamed.push_back((offset, length, self.chunks.put_data(plain)));
        if self.unnamed.len() > UNNAMED_MAX { self.name_oldest() } else { Ok(()) }
    }

    fn name_oldest(&mut self) -> Result<(), CaptureError> {
        if let Some((offset_bytes, length_bytes, ticket)) = self.unnamed.pop_front() {
            self.contents.pieces.push(Piece { offset_bytes, length_bytes, chunk: ticket.wait()? });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, CaptureError> {
        while !self.unnamed.is_empty() {
            self.name_oldest()?;
        }
        Ok(self.contents)
    }
}
