//! A window of a restore: pieces of files whose chunks are fetched together, each stretch of a pack read once,
//! and written by the pool of threads while the next windows are put together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use backstay_core::id::ChunkId;
use backstay_vault::error::VaultError;
use backstay_vault::read::{ChunkReader, PackRead};
use backstay_vault::record::RecordOpener;
use backstay_vault::write::CpuPool;
use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};

use super::report::{Collected, RestoreProgress};
use crate::place::{NewFile, PendingFile, PlaceError, Reach};
use crate::row::Reference;

/// Plain bytes of one window.
const WINDOW_BYTES: u64 = 32 << 20;

/// Files of one window.
const WINDOW_FILES: usize = 512;

/// Files that are open, those of the window that is put together included. With directories and the rest this stays
/// below the 1024 that a process may have as a rule.
const OPEN_FILES_MAX: usize = 768;

/// Threads that read stretches of packs ahead of those that open them: a store takes its time.
const READ_THREADS: usize = 4;

/// Stretches that are being read, wait to be opened or are being opened; each has 8 MiB as a rule.
const STRETCHES_MAX: usize = 6;

/// Files with pieces of this size are kept out of the page cache.
const LEAVE_CACHE_BYTES_LEAST: usize = 256 << 10;

/// A file to be written.
#[derive(Debug)]
pub(super) enum Target {
    /// It is there.
    Made(NewFile),
    /// It is made with its only piece.
    Pending(PendingFile),
}

impl Target {
    fn make(self) -> Result<NewFile, PlaceError> {
        match self {
            Self::Made(file) => Ok(file),
            Self::Pending(file) => file.make(),
        }
    }
}

/// A file whose pieces are being written.
#[derive(Debug)]
struct OpenFile {
    file: Mutex<Option<Target>>,
    /// Pieces that are not written yet.
    left: AtomicUsize,
    _counted: Counted,
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
    stretches: Stretches,
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    bytes: u64,
    files: usize,
}

#[derive(Debug)]
struct Shared {
    under_way: Mutex<UnderWay>,
    changed: Condvar,
    failure: Mutex<Option<Failure>>,
    collected: Arc<Collected>,
    progress: Arc<RestoreProgress>,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// Reads that are queued or worked on.
    reads: usize,
    /// Those of them that take memory.
    stretches: usize,
    files: usize,
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
    ) -> std::io::Result<Self> {
        let shared = Shared {
            under_way: Mutex::default(),
            changed: Condvar::new(),
            failure: Mutex::default(),
            collected,
            progress,
        };
        let shared = Arc::new(shared);
        let stretches = Stretches::start(&reader, &pool, &shared)?;
        Ok(Self { reader, stretches, shared, pieces: Vec::new(), bytes: 0, files: 0 })
    }

    /// Adds a file with all its references; it is finished when the last is written.
    pub(super) fn add(&mut self, file: Target, references: &[Reference]) -> Result<(), Failure> {
        if references.is_empty() {
            return self.shared.judge(file.make().map(|file| self.shared.collected.defects(file.finish())));
        }
        let file = Arc::new(OpenFile {
            file: Mutex::new(Some(file)),
            left: AtomicUsize::new(references.len()),
            _counted: Counted::begin(&self.shared, |under_way| &mut under_way.files, OPEN_FILES_MAX),
        });
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
        self.wait(|under_way| under_way.reads == 0);
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
        for read in reads {
            let pieces =
                read.records.iter().map(|(id, ..)| by_chunk.remove(id).unwrap_or_default()).collect();
            let counted = Counted::begin(&self.shared, |under_way| &mut under_way.reads, usize::MAX);
            self.stretches.queue(Wanted { read, pieces, counted });
        }
        Ok(())
    }

    fn wait(&self, enough: impl Fn(&UnderWay) -> bool) {
        let under_way = self.shared.under_way();
        let waited = self.shared.changed.wait_while(under_way, |under_way| !enough(under_way));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Windows {
    /// What is still queued when a restore ends early is not worked on.
    fn drop(&mut self) {
        self.shared.fail(Failure::Vault(VaultError::GivenUp));
    }
}

/// A stretch to be read, and what is in it.
#[derive(Debug)]
struct Wanted {
    read: PackRead,
    /// For each record, the pieces that need it.
    pieces: Vec<Vec<Piece>>,
    counted: Counted,
}

/// The threads that read stretches and hand them to the pool.
#[derive(Debug)]
struct Stretches {
    queue: Option<Sender<Wanted>>,
    threads: Vec<JoinHandle<()>>,
}

impl Stretches {
    fn start(reader: &ChunkReader, pool: &Arc<CpuPool>, shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (queue, waiting) = bounded::<Wanted>(READ_THREADS);
        let threads = (0..READ_THREADS)
            .map(|_| {
                let (waiting, reader, pool) = (waiting.clone(), reader.clone(), Arc::clone(pool));
                let shared = Arc::clone(shared);
                std::thread::Builder::new().name("backstay-fetch".into()).spawn(move || {
                    for wanted in waiting {
                        read_and_write(wanted, &reader, &pool, &shared);
                    }
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Waits while as many wait as there are threads.
    fn queue(&self, wanted: Wanted) {
        // The threads take what comes for as long as the queue is there.
        let _ = self.queue.as_ref().map(|queue| queue.send(wanted));
    }
}

impl Drop for Stretches {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn read_and_write(wanted: Wanted, reader: &ChunkReader, pool: &CpuPool, shared: &Arc<Shared>) {
    if shared.has_failed() {
        return;
    }
    let in_memory = Counted::begin(shared, |under_way| &mut under_way.stretches, STRETCHES_MAX);
    let Wanted { read, pieces, counted } = wanted;
    let stretch = reader.read(&read);
    let (reader, shared) = (reader.clone(), Arc::clone(shared));
    pool.run(move |worker| {
        if let Err(failure) = write(&reader, &mut worker.opener, &read, &stretch, pieces, &shared) {
            shared.fail(failure);
        }
        drop(stretch);
        drop((in_memory, counted));
    });
}

/// Opens the records of one stretch and writes them to the files that refer to them.
fn write(
    reader: &ChunkReader,
    opener: &mut RecordOpener,
    read: &PackRead,
    stretch: &Result<Bytes, VaultError>,
    pieces: Vec<Vec<Piece>>,
    shared: &Shared,
) -> Result<(), Failure> {
    if shared.has_failed() {
        return Ok(());
    }
    for (record, pieces) in pieces.into_iter().enumerate() {
        let plain = reader.open(opener, read, stretch, record).map_err(Failure::Vault)?;
        for piece in pieces {
            piece.write(plain, shared)?;
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
        let written = self.file.write(offset_bytes, bytes);
        shared.progress.wrote(u64::from(length_bytes));
        if written.is_err() {
            // The file stays without its time, so that it is not taken for done.
            self.file.lock().take();
        }
        shared.judge(written)?;
        if self.file.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(Target::Made(file)) = self.file.lock().take()
        {
            shared.collected.defects(file.finish());
        }
        Ok(())
    }
}

impl OpenFile {
    /// Makes the file first, if that is still to be done.
    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), PlaceError> {
        let mut target = self.lock();
        // An earlier piece could not be written.
        let Some(file) = target.take() else { return Ok(()) };
        let file = file.make()?;
        let written = file.write_at(offset_bytes, bytes);
        if bytes.len() >= LEAVE_CACHE_BYTES_LEAST {
            file.leave_cache();
        }
        *target = Some(Target::Made(file));
        written
    }

    fn lock(&self) -> MutexGuard<'_, Option<Target>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// An error that reaches one object is noted, and the restore goes on.
    fn judge(&self, done: Result<(), PlaceError>) -> Result<(), Failure> {
        match done {
            Err(error) if error.reach() == Reach::Restore => Err(Failure::Place(error)),
            Err(error) => {
                self.collected.problem(error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn take_failure(&self) -> Result<(), Failure> {
        self.failure().take().map_or(Ok(()), Err)
    }
}

/// One more under way; counted down also when a task panics, which fails the restore.
#[derive(Debug)]
struct Counted {
    shared: Arc<Shared>,
    counter: fn(&mut UnderWay) -> &mut usize,
}

impl Counted {
    /// Waits until there are fewer than `most`.
    fn begin(shared: &Arc<Shared>, counter: fn(&mut UnderWay) -> &mut usize, most: usize) -> Self {
        let waited = shared.changed.wait_while(shared.under_way(), |under_way| *counter(under_way) >= most);
        *counter(&mut waited.unwrap_or_else(PoisonError::into_inner)) += 1;
        Self { shared: Arc::clone(shared), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(Failure::Vault(VaultError::GivenUp));
        }
        *(self.counter)(&mut self.shared.under_way()) -= 1;
        self.shared.changed.notify_all();
    }
}
