//! Contents as a stream: what is asked for piece by piece is written in that order, while what comes next is fetched.
//! Owns the windows; what the pieces are is for others.

use std::collections::HashMap;
use std::io::{self, Write};
use std::thread::JoinHandle;

use backstay_core::id::ChunkId;
use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use bytes::Bytes;

use crate::row::Reference;

/// Bytes of contents that are fetched together. Two windows are in memory: one is written while the next is fetched.
const WINDOW_BYTES: u64 = 16 << 20;

/// Chunks of a window. Of each all is in memory, though only a piece of it may be asked for.
const WINDOW_CHUNKS: usize = 32;

/// Pieces of a window.
const WINDOW_PIECES: usize = 4096;

/// What is written for a hole, at most, at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why contents did not come.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// They are not to be had.
    #[error("{of}: {cause}")]
    Vault {
        /// Whose contents.
        of: String,
        /// Why.
        cause: VaultError,
    },
    /// The vault has a problem.
    #[error(transparent)]
    Fetch(#[from] VaultError),
    /// They cannot be written where they were to go.
    #[error("cannot write the contents: {0}")]
    Write(io::Error),
    /// The system gives no thread.
    #[error("cannot start threads: {0}; raise the limit on tasks (ulimit -u) and run the same command again")]
    Thread(io::Error),
}

/// Writes pieces in order.
#[derive(Debug)]
pub struct ContentsWriter<W> {
    out: W,
    reader: ChunkReader,
    window: Window,
    /// The window before, which is being fetched.
    ahead: Option<(Vec<Piece>, JoinHandle<Fetched>)>,
    written_bytes: u64,
    asked_bytes: u64,
    /// Whose contents are being written, for messages.
    of: String,
}

#[derive(Debug, Default)]
struct Window {
    pieces: Vec<Piece>,
    /// Where each chunk stands among those of the window.
    chunks: HashMap<ChunkId, usize>,
    bytes: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    /// Of a chunk.
    Of {
        chunk: ChunkId,
        offset: u32,
        length: u32,
    },
    /// What follows belongs to this, for messages.
    Begins(String),
}

type Fetched = Result<HashMap<ChunkId, Result<Bytes, VaultError>>, VaultError>;

impl<W: Write> ContentsWriter<W> {
    /// Writes to `out` what is fetched by `reader`.
    pub fn new(out: W, reader: ChunkReader) -> Self {
        Self {
            out,
            reader,
            window: Window::default(),
            ahead: None,
            written_bytes: 0,
            asked_bytes: 0,
            of: String::new(),
        }
    }

    /// How much was written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// How much was asked for so far.
    pub fn asked_bytes(&self) -> u64 {
        self.asked_bytes
    }

    /// What follows belongs to this; messages name it.
    pub fn begin(&mut self, of: String) -> Result<(), ContentsError> {
        self.push(Piece::Begins(of))
    }

    /// These bytes come next.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Result<(), ContentsError> {
        self.window.bytes += bytes.len() as u64;
        self.asked_bytes += bytes.len() as u64;
        self.push(Piece::Bytes(bytes))
    }

    /// So many zeros come next.
    pub fn zeros(&mut self, count: u64) -> Result<(), ContentsError> {
        self.asked_bytes += count;
        if count == 0 { Ok(()) } else { self.push(Piece::Zeros(count)) }
    }

    /// The bytes of a reference come next.
    pub fn referred(&mut self, reference: &Reference) -> Result<(), ContentsError> {
        let Reference { chunk, chunk_offset_bytes: offset, length_bytes: length, .. } = *reference;
        let next = self.window.chunks.len();
        self.window.chunks.entry(chunk).or_insert(next);
        self.window.bytes += u64::from(length);
        self.asked_bytes += u64::from(length);
        self.push(Piece::Of { chunk, offset, length })
    }

    /// All contents of a file come next, zeros for its holes.
    pub fn file(&mut self, references: &[Reference], size_bytes: u64) -> Result<(), ContentsError> {
        let mut at = 0;
        for reference in references {
            self.zeros(reference.offset_bytes - at)?;
            self.referred(reference)?;
            at = reference.end_bytes();
        }
        self.zeros(size_bytes - at)
    }

    /// Writes what is left; gives back where it went to.
    pub fn finish(mut self) -> Result<W, ContentsError> {
        self.send()?;
        self.write_ahead()?;
        self.out.flush().map_err(ContentsError::Write)?;
        Ok(self.out)
    }

    fn push(&mut self, piece: Piece) -> Result<(), ContentsError> {
        self.window.pieces.push(piece);
        let Window { pieces, chunks, bytes } = &self.window;
        let is_full =
            *bytes >= WINDOW_BYTES || chunks.len() >= WINDOW_CHUNKS || pieces.len() >= WINDOW_PIECES;
        if is_full { self.send() } else { Ok(()) }
    }

    /// Has the window fetched, and meanwhile writes the one before.
    fn send(&mut self) -> Result<(), ContentsError> {
        let Window { pieces, chunks, .. } = std::mem::take(&mut self.window);
        let reader = self.reader.clone();
        let fetching = std::thread::Builder::new()
            .name("backstay-contents".into())
            .spawn(move || fetch(&reader, chunks.into_keys()))
            .map_err(ContentsError::Thread)?;
        self.write_ahead()?;
        self.ahead = Some((pieces, fetching));
        Ok(())
    }

    fn write_ahead(&mut self) -> Result<(), ContentsError> {
        let Some((pieces, fetching)) = self.ahead.take() else { return Ok(()) };
        let mut chunks = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        for piece in pieces {
            let written = match piece {
                Piece::Begins(name) => {
                    self.of = name;
                    Ok(())
                }
                Piece::Bytes(bytes) => self.write(&bytes),
                Piece::Zeros(count) => self.write_zeros(count),
                Piece::Of { chunk, offset, length } => match stretch(&mut chunks, chunk, offset, length) {
                    Ok(bytes) => self.write(&bytes),
                    Err(cause) => return Err(ContentsError::Vault { of: self.of.clone(), cause }),
                },
            };
            written.map_err(ContentsError::Write)?;
        }
        Ok(())
    }

    fn write_zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let some = count.min(ZEROS.len() as u64);
            self.write(&ZEROS[..some as usize])?;
            count -= some;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}

fn stretch(
    chunks: &mut HashMap<ChunkId, Result<Bytes, VaultError>>,
    chunk: ChunkId,
    offset: u32,
    length: u32,
) -> Result<Bytes, VaultError> {
    let (begins, length) = (offset as usize, length as usize);
    match chunks.get(&chunk) {
        Some(Ok(plain)) if begins.saturating_add(length) <= plain.len() => {
            Ok(plain.slice(begins..begins + length))
        }
        Some(Err(_)) => match chunks.remove(&chunk) {
            Some(Err(error)) => Err(error),
            _ => Err(VaultError::GivenUp),
        },
        _ => Err(VaultError::Table(
            "a row refers to bytes that its chunk does not have: the run is damaged; run `backstay vault check`"
                .to_owned(),
        )),
    }
}

fn fetch(reader: &ChunkReader, chunks: impl Iterator<Item = ChunkId>) -> Fetched {
    Ok(reader.open_each(chunks, Bytes::copy_from_slice)?.chunks)
}
