//! Stretches of packs: read ahead by threads of their own, opened and written by the pool.

use std::sync::Arc;
use std::thread::JoinHandle;

use backstay_vault::error::VaultError;
use backstay_vault::read::{ChunkReader, PackRead};
use backstay_vault::record::RecordOpener;
use backstay_vault::write::CpuPool;
use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};

use super::piece::Piece;
use super::under_way::{Counted, Failure, Shared};

/// Threads that read stretches of packs ahead of those that open them: a store takes its time.
const READ_THREADS: usize = 4;

/// Stretches that are being read, wait to be opened or are being opened; each has 8 MiB as a rule.
const STRETCHES_MAX: usize = 6;

/// A stretch to be read, and what is in it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) read: PackRead,
    /// For each record, the pieces that need it.
    pub(super) pieces: Vec<Vec<Piece>>,
    /// That it is under way.
    pub(super) counted: Counted,
}

/// The threads that read stretches and hand them to the pool.
#[derive(Debug)]
pub(super) struct Stretches {
    queue: Option<Sender<Wanted>>,
    threads: Vec<JoinHandle<()>>,
}

impl Stretches {
    pub(super) fn start(
        reader: &ChunkReader,
        pool: &Arc<CpuPool>,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Self> {
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
    pub(super) fn queue(&self, wanted: Wanted) {
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
        match reader.open(opener, read, stretch, record) {
            Ok(plain) => pieces.iter().try_for_each(|piece| piece.write(plain, shared))?,
            // What is lost is lost: the files that need it are named, and all others are restored.
            Err(error @ VaultError::Chunk { .. }) => {
                pieces.iter().for_each(|piece| piece.lose(&error, shared));
            }
            Err(error) => return Err(Failure::Vault(error)),
        }
    }
    Ok(())
}
