//! Having an output back, as the stream that it was. Owns what is checked before anything is written, while it is, and at
//! the end; where the stream goes is for the caller: `receiver` is a program.

mod ahead;
mod receiver;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::digest::StateDigest;
use backstay_files::content::ContentIdBuilder;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::error::VaultError;
use backstay_vault::vault::{PointObject, Reading};

use self::ahead::read_ahead;
pub use self::receiver::{Group, Receiver, ReceiverError};
use crate::row::{StdoutError, StdoutRow};

/// What a hole is written by.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why an output was not had back, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The vault has a problem.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The row cannot be read.
    #[error(transparent)]
    Row(StdoutError),
    /// It does not add up to what the source's node has signed. Nothing was written.
    #[error(
        "the state of point {point} is not what its node has signed: its runs are damaged; run `backstay vault check`, or restore another point"
    )]
    Digest {
        /// The point.
        point: String,
    },
    /// Each chunk is what its name says, and together they are not what they should be.
    #[error(
        "what was written is not what point {point} had: the run refers to other contents, and is damaged; run `backstay vault check`, and restore another point"
    )]
    Content {
        /// The point.
        point: String,
    },
    /// It could not be written.
    #[error("{0}")]
    Write(std::io::Error),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}; raise the limit on tasks (ulimit -u)")]
    Thread(std::io::Error),
}

impl From<StdoutError> for StreamError {
    fn from(error: StdoutError) -> Self {
        match error {
            StdoutError::Vault(error) => Self::Vault(error),
            error => Self::Row(error),
        }
    }
}

/// How far a stream is; read by others while it runs.
#[derive(Debug, Default)]
pub struct StreamProgress(AtomicU64);

impl StreamProgress {
    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes the output that is in a point; how many bytes that were. After an error, what was written is not whole.
pub fn stream(
    reading: &Arc<Reading>,
    point: &PointObject,
    out: &mut dyn Write,
    progress: &StreamProgress,
) -> Result<u64, StreamError> {
    let row = StdoutRow::read(reading)?;
    let id = || point.link.point.to_string();
    let mut digest = StateDigest::empty();
    digest.add(&row.element);
    if digest != point.common.digest {
        return Err(StreamError::Digest { point: id() });
    }
    let mut content = ContentIdBuilder::new(row.size_bytes);
    let mut writing = Writing { out, at: 0, progress };
    let ring = reading.vault().ring();
    read_ahead(reading.vault(), &row.references, |reference, chunk| {
        let begins = reference.chunk_offset_bytes as usize;
        let bytes = chunk.get(begins..begins.saturating_add(reference.length_bytes as usize));
        let bytes = bytes.ok_or_else(|| VaultError::Table(format!(
            "the row refers to bytes of chunk {} that it does not have: the run is damaged; run `backstay vault check`",
            reference.chunk
        )))?;
        writing.fill(reference.offset_bytes)?;
        writing.write(bytes)?;
        // A whole chunk was hashed when it was opened.
        let hash = if bytes.len() == chunk.len() {
            Some(reference.chunk)
        } else {
            ring.chunk_id(ChunkClass::Data, bytes)
        };
        let hash = hash.ok_or(VaultError::GivenUp)?;
        content.chunk(reference.offset_bytes, u64::from(reference.length_bytes), &hash);
        Ok(())
    })?;
    writing.fill(row.size_bytes)?;
    writing.out.flush().map_err(StreamError::Write)?;
    match row.content.is_none_or(|expected| expected == content.finish()) {
        true => Ok(row.size_bytes),
        false => Err(StreamError::Content { point: id() }),
    }
}

/// Where the stream goes, and how far it is.
struct Writing<'o> {
    out: &'o mut dyn Write,
    at: u64,
    progress: &'o StreamProgress,
}

impl Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.out.write_all(bytes).map_err(StreamError::Write)?;
        self.at += bytes.len() as u64;
        self.progress.0.store(self.at, Ordering::Relaxed);
        Ok(())
    }

    /// What no reference covers is zeros. Captures of programs write no such rows; the format allows them.
    fn fill(&mut self, end: u64) -> Result<(), StreamError> {
        while self.at < end {
            let length = (end - self.at).min(ZEROS.len() as u64) as usize;
            self.write(&ZEROS[..length])?;
        }
        Ok(())
    }
}
