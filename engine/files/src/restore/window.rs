//! A window of a restore: pieces of files whose chunks are fetched together, each stretch of a pack read once,
//! and written by the pool of threads while the next window is put together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use backstay_core::id::ChunkId;
use backstay_vault::error::VaultError;
use backstay_vault::read::{ChunkReader, PackRead};
use backstay_vault::write::CpuPool;

use super::report::{Collected, RestoreProgress};
use crate::place::{NewFile, PlaceError, Reach};
use crate::row::Reference;

/// Plain bytes of one window.
const WINDOW_BYTES: u64 = 32 << 20;

/// Files of one window; each is open.
const WINDOW_FILES: usize = 256;

/// Windows that are worked on at once, beside the one that is put together.
const WINDOWS_AT_ONCE: usize = 1;

/// A file whose pieces are being written.
#[derive(Debug)]
struct OpenFile {
    file: Mutex<Option<NewFile>>,
    /// Pieces that are not written yet.
    left: AtomicUsize,
}

/// One piece of a file.
#[derive(Debug, Clone)]
struct Piece {
    file: Arc<OpenFile>,
    reference: Reference,
}

/// Puts windows together and has them worked on.
#[derive(Debug)]
pub(super) struct Windows {
    reader: ChunkReader,
    pool: Arc<CpuPool>,
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    bytes: u64,
    files: usize,
}

#[derive(Debug)]
struct Shared {
    /// Reads that are queued or worked on.
    busy: Mutex<usize>,
    changed: Condvar,
    failure: Mutex<Option<Failure>>,
    collected: Arc<Collected>,
    progress: Arc<RestoreProgress>,
}

/// Why a restore cannot go on.
#[derive(Debug)]
pub(super) enum Failure {
    Vault(VaultError),
    Place(PlaceError),
}

impl Windows {
    pub(super) fn new(
        reader: ChunkReader,
        pool: Arc<CpuPool>,
        collected: Arc<Collected>,
        progress: Arc<RestoreProgress>,
    ) -> Self {
        let shared = Shared {
            busy: Mutex::new(0),
            changed: Condvar::new(),
            failure: Mutex::default(),
            collected,
            progress,
        };
        Self { reader, pool, shared: Arc::new(shared), pieces: Vec::new(), bytes: 0, files: 0 }
    }

    /// Adds a file with all its references; it is finished when the last is written.
    pub(super) fn add(&mut self, file: NewFile, references: &[Reference]) -> Result<(), Failure> {
        if references.is_empty() {
            self.shared.collected.defects(file.finish());
            return Ok(());
        }
        let file =
            Arc::new(OpenFile { file: Mutex::new(Some(file)), left: AtomicUsize::new(references.len()) });
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
        self.wait(0);
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
        let reads = self.reader.plan(by_chunk.keys().copied()).map_err(Failure::Vault)?;
        self.wait(WINDOWS_AT_ONCE.saturating_sub(1) * reads.len().max(1));
        for read in reads {
            let pieces =
                read.records.iter().map(|(id, ..)| by_chunk.remove(id).unwrap_or_default()).collect();
            self.queue(read, pieces);
        }
        Ok(())
    }

    fn queue(&self, read: PackRead, pieces: Vec<Vec<Piece>>) {
        *self.shared.busy() += 1;
        let busy = Busy(Arc::clone(&self.shared));
        let reader = self.reader.clone();
        self.pool.run(move |_| {
            if let Err(failure) = write(&reader, &read, pieces, &busy.0) {
                busy.0.fail(failure);
            }
        });
    }

    /// Waits until at most `most` reads are left.
    fn wait(&self, most: usize) {
        let busy = self.shared.busy();
        drop(
            self.shared.changed.wait_while(busy, |busy| *busy > most).unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// Opens the records of one stretch and writes them to the files that refer to them.
fn write(
    reader: &ChunkReader,
    read: &PackRead,
    pieces: Vec<Vec<Piece>>,
    shared: &Shared,
) -> Result<(), Failure> {
    if shared.has_failed() {
        return Ok(());
    }
    let stretch = reader.read(read);
    for (record, pieces) in pieces.into_iter().enumerate() {
        let plain = reader.open(read, &stretch, record).map_err(Failure::Vault)?;
        for piece in pieces {
            piece.write(&plain, shared)?;
        }
    }
    Ok(())
}

impl Piece {
    fn write(&self, plain: &[u8], shared: &Shared) -> Result<(), Failure> {
        let Reference { offset_bytes, chunk_offset_bytes, length_bytes, chunk } = self.reference;
        let begins = chunk_offset_bytes as usize;
        let bytes = plain.get(begins..begins.saturating_add(length_bytes as usize)).ok_or_else(|| {
            Failure::Vault(VaultError::Table(format!(
                "a row refers to bytes {begins} to {} of chunk {chunk}, which has {}: the run is damaged; run `backstay vault check`",
                begins + length_bytes as usize,
                plain.len()
            )))
        })?;
        let written = self.file.lock().as_ref().map_or(Ok(()), |file| file.write_at(offset_bytes, bytes));
        shared.progress.wrote(u64::from(length_bytes));
        match written {
            Err(error) if error.reach() == Reach::Restore => return Err(Failure::Place(error)),
            Err(error) => {
                // The file stays without its time, so that it is not taken for done.
                shared.collected.problem(error.to_string());
                self.file.lock().take();
            }
            Ok(()) => {}
        }
        if self.file.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(file) = self.file.lock().take()
        {
            shared.collected.defects(file.finish());
        }
        Ok(())
    }
}

impl OpenFile {
    fn lock(&self) -> MutexGuard<'_, Option<NewFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn busy(&self) -> MutexGuard<'_, usize> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    fn fail(&self, failure: Failure) {
        self.failure().get_or_insert(failure);
    }

    fn take_failure(&self) -> Result<(), Failure> {
        self.failure().take().map_or(Ok(()), Err)
    }
}

/// One read under way; counted down also when its task panics, which fails the restore.
struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Failure::Vault(VaultError::GivenUp));
        }
        *self.0.busy() -= 1;
        self.0.changed.notify_all();
    }
}
