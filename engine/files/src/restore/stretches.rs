//! Stretches of packs: read ahead by threads of their own, opened and written by the pool.

use std::sync::Arc;
use std::thread::JoinHandle;

use backstay_vault::error::VaultError;
use backstay_vault::read::{ChunkReader, PackRead};
use backstay_vault::record::RecordOpener;
use backstay_vault::write::CpuPool;
use crossbeam_channel::{Sender, bounded};

use super::kept::{Arrived, Job, Kept};
use super::piece::Piece;
use super::under_way::{Counted, Failure, Shared};

/// Threads that read stretches of packs ahead of those that open them: a store takes its time.
const READ_THREADS: usize = 4;

/// So much of a stretch is opened by one task, bytes: a whole pack is shared by the threads of the pool, and a shorter stretch is not.
const TASK_BYTES: u32 = 8 << 20;

/// The threads that read stretches, and the pool that opens what they have read.
#[derive(Debug)]
pub(super) struct Stretches {
    queue: Option<Sender<Arc<Kept>>>,
    threads: Vec<JoinHandle<()>>,
    opening: Opening,
}

/// Opens and writes what was read.
#[derive(Debug, Clone)]
struct Opening {
    reader: ChunkReader,
    pool: Arc<CpuPool>,
    shared: Arc<Shared>,
}

/// Part of the records of one stretch.
#[derive(Debug)]
struct Task {
    read: PackRead,
    pieces: Vec<Vec<Piece>>,
    arrived: Arrived,
    /// The memory of the stretch, and that its job is under way.
    held: Arc<(Arc<Kept>, Counted)>,
}

impl Stretches {
    pub(super) fn start(
        reader: &ChunkReader,
        pool: &Arc<CpuPool>,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (queue, waiting) = bounded::<Arc<Kept>>(READ_THREADS);
        let opening = Opening { reader: reader.clone(), pool: Arc::clone(pool), shared: Arc::clone(shared) };
        let threads = (0..READ_THREADS)
            .map(|_| {
                let (waiting, opening) = (waiting.clone(), opening.clone());
                std::thread::Builder::new().name("backstay-fetch".into()).spawn(move || {
                    for kept in waiting {
                        opening.read(&kept);
                    }
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads, opening })
    }

    /// Has a stretch read, and what waits for it done. Waits while as many wait as there are threads.
    pub(super) fn queue(&self, kept: Arc<Kept>) {
        // The threads take what comes for as long as the queue is there.
        let _ = self.queue.as_ref().map(|queue| queue.send(kept));
    }

    /// Has records opened of a stretch that is there or on its way.
    pub(super) fn open(&self, kept: &Arc<Kept>, job: Job) {
        if let Some((job, arrived)) = kept.hand(job) {
            self.opening.start(kept, job, &arrived);
        }
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

impl Opening {
    fn read(&self, kept: &Arc<Kept>) {
        let arriving = Arriving { kept, shared: &self.shared };
        if self.shared.has_failed() {
            return;
        }
        let arrived = Arc::new(self.reader.read(kept.as_read()));
        for job in arriving.kept.arrive(&arrived) {
            self.start(kept, job, &arrived);
        }
    }

    /// Waits while the pool has much to do.
    fn start(&self, kept: &Arc<Kept>, job: Job, arrived: &Arrived) {
        let Job { read, pieces, counted } = job;
        let held = Arc::new((Arc::clone(kept), counted));
        for (read, pieces) in tasks(&read, pieces) {
            let task = Task { read, pieces, arrived: Arc::clone(arrived), held: Arc::clone(&held) };
            let (reader, shared) = (self.reader.clone(), Arc::clone(&self.shared));
            self.pool.run(move |worker| {
                let Task { read, pieces, arrived, held } = task;
                if let Err(failure) = write(&reader, &mut worker.opener, &read, &arrived, pieces, &shared) {
                    shared.fail(failure);
                }
                drop(arrived);
                drop(held);
            });
        }
    }
}

/// A stretch that is being read. What waits for one that never comes, because its thread has panicked or there is no use for it
/// any more, is let go.
struct Arriving<'k> {
    kept: &'k Kept,
    shared: &'k Shared,
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.kept.give_up();
        self.shared.has_changed();
    }
}

/// A job in parts that different threads can do.
fn tasks(read: &PackRead, pieces: Vec<Vec<Piece>>) -> Vec<(PackRead, Vec<Vec<Piece>>)> {
    let mut tasks: Vec<(PackRead, Vec<Vec<Piece>>)> = Vec::new();
    let mut bytes = TASK_BYTES;
    for (record, pieces) in read.records.iter().zip(pieces) {
        if bytes >= TASK_BYTES {
            tasks.push((PackRead { records: Vec::new(), ..read.clone() }, Vec::new()));
            bytes = 0;
        }
        if let Some((task, task_pieces)) = tasks.last_mut() {
            bytes = bytes.saturating_add(record.2);
            task.records.push(*record);
            task_pieces.push(pieces);
        }
    }
    tasks
}

/// Opens the records of one stretch and writes them to the files that refer to them.
fn write(
    reader: &ChunkReader,
    opener: &mut RecordOpener,
    read: &PackRead,
    stretch: &Arrived,
    pieces: Vec<Vec<Piece>>,
    shared: &Shared,
) -> Result<(), Failure> {
    for (record, pieces) in pieces.into_iter().enumerate() {
        if shared.has_failed() {
            return Ok(());
        }
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
