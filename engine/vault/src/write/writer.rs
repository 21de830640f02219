//! The chunk writer of one commit: names chunks, skips the known ones, seals each new one once and
//! gives it to every vault that lacks it. One read of a source feeds all its targets.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay_core::id::ChunkId;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::Budget;
use super::packer::Packer;
use super::pool::{CpuPool, Worker};
use super::written::Written;
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::keys::KeyRing;
use crate::pack::PackBuilder;
use crate::record::RecordHeader;
use crate::table::MetaSink;
use crate::vault::WriterView;

/// Plain bytes that wait for a thread or are being worked on.
const IN_FLIGHT_BYTES: usize = 24 << 20;

/// How long a store may take no pack before those of the same capture that do go on without it.
const PATIENCE: Duration = Duration::from_secs(60);

/// At the end of a capture a store has so many times as long for one pack: over a slow line a pack takes its time, and
/// there is no other to wait behind it.
const LAST_PACK_PATIENCES: u32 = 10;

/// Bytes of records that a commit may keep in memory until others go with it.
const WITHHELD_BYTES_MAX: usize = 8 << 20;

/// How often it is looked whether it does.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One record in this many is opened again and compared before it goes up: faulty memory is the usual
/// cause of corrupt repositories.
const PROBE_ONE_IN: u64 = 64;

/// Writes chunks to one or more vaults of a domain.
#[derive(Debug)]
pub struct ChunkWriter {
    pool: Arc<CpuPool>,
    shared: Arc<Shared>,
    patience: Duration,
}

#[derive(Debug)]
struct Shared {
    ring: Arc<KeyRing>,
    targets: Vec<Target>,
    in_flight: Budget,
    /// Chunks that this commit has seen.
    seen: Mutex<HashSet<ChunkId>>,
    totals: Arc<Totals>,
}

#[derive(Debug)]
struct Target {
    view: WriterView,
    packer: Packer,
}

#[derive(Debug, Default)]
struct Totals {
    chunks: AtomicU64,
    plain_bytes: AtomicU64,
    new_chunks: AtomicU64,
    new_plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    stored_packs: Arc<AtomicU64>,
}

/// What a commit has written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteTotals {
    /// Chunks that came in.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Chunks that at least one vault lacked.
    pub new_chunks: u64,
    /// Their plain bytes.
    pub new_plain_bytes: u64,
    /// Bytes of their records.
    pub stored_bytes: u64,
    /// Packs that stores have taken, each counted for each vault.
    pub stored_packs: u64,
}

/// Counts what a chunk writer writes.
#[derive(Debug, Clone)]
pub struct WriteMeter(Arc<Totals>);

impl WriteMeter {
    /// What was written so far.
    pub fn totals(&self) -> WriteTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriteTotals {
            chunks: get(&self.0.chunks),
            plain_bytes: get(&self.0.plain_bytes),
            new_chunks: get(&self.0.new_chunks),
            new_plain_bytes: get(&self.0.new_plain_bytes),
            stored_bytes: get(&self.0.stored_bytes),
            stored_packs: get(&self.0.stored_packs),
        }
    }
}

/// A chunk whose name is being computed.
#[derive(Debug)]
pub struct Ticket(Receiver<ChunkId>);

impl Ticket {
    /// Waits for the chunk's name. An error means that the commit has failed; its flush says why.
    pub fn wait(&self) -> Result<ChunkId, VaultError> {
        self.0.recv().map_err(|_| VaultError::GivenUp)
    }
}

impl ChunkWriter {
    /// A writer for these targets, all of one domain; at least one.
    pub fn new(pool: Arc<CpuPool>, ring: Arc<KeyRing>, targets: Vec<WriterView>) -> Self {
        let totals = Arc::new(Totals::default());
        let packer = |view: &WriterView| Packer::of_session(view).counting(Arc::clone(&totals.stored_packs));
        let targets = targets.into_iter().map(|view| Target { packer: packer(&view), view }).collect();
        let shared =
            Shared { ring, targets, in_flight: Budget::new(IN_FLIGHT_BYTES), seen: Mutex::default(), totals };
        Self { pool, shared: Arc::new(shared), patience: PATIENCE }
    }

    /// The same that gives up a store which takes nothing for so long, where others go on: one minute unless it is said.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The keys under which chunks are named and sealed.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.shared.ring
    }

    /// Queues a data chunk; waits while too much is in flight. `plain` has 1 byte to 16 MiB.
    pub fn put_data(&self, plain: Bytes) -> Ticket {
        let (name, ticket) = bounded(1);
        self.queue(ChunkClass::Data, plain, None, Some(name));
        Ticket(ticket)
    }

    /// Whether every target that has not failed has this chunk, and will keep it at least until the session ends.
    pub fn is_known(&self, chunk: &ChunkId) -> bool {
        let seen = || self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(chunk);
        let working = || self.shared.targets.iter().filter(|target| !target.packer.has_failed());
        working().all(|target| target.view.has(chunk)) || seen()
    }

    /// Whether every target has failed, so that going on is in vain.
    pub fn has_failed(&self) -> bool {
        self.shared.targets.iter().all(|target| target.packer.has_failed())
    }

    /// Counts what is written, also after the flush.
    pub fn meter(&self) -> WriteMeter {
        WriteMeter(Arc::clone(&self.shared.totals))
    }

    /// Waits until every chunk that was put is durable, target by target in the order given. One that takes nothing for
    /// long is given up when another has all.
    pub fn flush(self) -> Vec<Result<Written, VaultError>> {
        self.flush_all_but(|_| None)
    }

    /// The same, but where requests cost, little of which nothing was sent yet is not sent: it can go with what others commit.
    pub fn flush_withholding(self) -> Vec<Result<Written, VaultError>> {
        self.flush_all_but(|target| {
            let may_wait = target.view.vault().requests_cost() && !target.view.is_sure();
            may_wait.then(|| target.packer.take_unsent(WITHHELD_BYTES_MAX)).flatten()
        })
    }

    fn flush_all_but(
        self,
        withhold: impl Fn(&Target) -> Option<Vec<PackBuilder>>,
    ) -> Vec<Result<Written, VaultError>> {
        self.shared.in_flight.wait_until_whole();
        let targets = &self.shared.targets;
        let withheld = |target| withhold(target).map(|unsent| Ok(Written::withheld(unsent)));
        let mut outcomes: Vec<Option<Result<Written, VaultError>>> = targets.iter().map(withheld).collect();
        loop {
            for (target, outcome) in
                targets.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none())
            {
                let flushed = target.packer.flush_within(self.patience * LAST_PACK_PATIENCES);
                *outcome = flushed.map(|flushed| flushed.map(Written::durable));
            }
            let has_whole = outcomes.iter().flatten().any(Result::is_ok);
            for (target, outcome) in
                targets.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none())
            {
                if has_whole {
                    *outcome = Some(Err(target.stalled(self.patience * LAST_PACK_PATIENCES)));
                }
            }
            if outcomes.iter().all(Option::is_some) {
                return outcomes.into_iter().flatten().collect();
            }
        }
    }

    fn queue(&self, class: ChunkClass, plain: Bytes, id: Option<ChunkId>, name: Option<Sender<ChunkId>>) {
        let taken = self.shared.in_flight.take(plain.len());
        // After that: what is in flight then is all that a full pack has to take.
        self.shared.wait_for_room(self.patience);
        let guard = InFlight { shared: Arc::clone(&self.shared), taken };
        self.pool.run(move |worker| {
            let id = id.or_else(|| guard.shared.ring.chunk_id(class, &plain));
            match id {
                Some(id) => {
                    // Nobody may be waiting any more.
                    let _ = name.map(|name| name.send(id));
                    guard.shared.store(worker, class, id, &plain);
                }
                None => guard.shared.fail_all(),
            }
        });
    }
}

impl MetaSink for ChunkWriter {
    type Error = VaultError;

    fn put_meta(&mut self, plain: Vec<u8>) -> Result<ChunkId, VaultError> {
        if self.has_failed() {
            return Err(VaultError::GivenUp);
        }
        let id = self.shared.ring.chunk_id(ChunkClass::Meta, &plain).ok_or(VaultError::GivenUp)?;
        self.queue(ChunkClass::Meta, plain.into(), Some(id), None);
        Ok(id)
    }
}

impl Target {
    fn stalled(&self, patience: Duration) -> VaultError {
        VaultError::Stalled { place: self.view.vault().place(), seconds: patience.as_secs() }
    }
}

impl Shared {
    /// Waits for stores that are slow, here and not in the pool, which others need. One that takes nothing for long is
    /// given up where others go on; where there is no other, there is nothing else to do.
    fn wait_for_room(&self, patience: Duration) {
        let working = || self.targets.iter().filter(|target| !target.packer.has_failed());
        for target in working() {
            let mut waited = Duration::ZERO;
            let look_again = LOOK_AGAIN.min(patience);
            while !target.packer.has_failed() && !target.packer.has_room(look_again) {
                waited += look_again;
                if waited >= patience && working().count() > 1 {
                    target.packer.fail(target.stalled(patience));
                }
            }
        }
    }

    fn store(&self, worker: &mut Worker, class: ChunkClass, id: ChunkId, plain: &Bytes) {
        let count = |counter: &AtomicU64, by: usize| counter.fetch_add(by as u64, Ordering::Relaxed);
        count(&self.totals.chunks, 1);
        count(&self.totals.plain_bytes, plain.len());
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return;
        }
        let lacking: Vec<&Target> =
            self.targets.iter().filter(|t| !t.packer.has_failed() && !t.view.has(&id)).collect();
        if lacking.is_empty() {
            return;
        }
        let number = count(&self.totals.new_chunks, 1);
        let sealed = self.seal(worker, class, id, plain, number.is_multiple_of(PROBE_ONE_IN));
        match sealed {
            Ok((header, record)) => {
                count(&self.totals.new_plain_bytes, plain.len());
                count(&self.totals.stored_bytes, record.len());
                for target in lacking {
                    target.packer.add(&header, record);
                }
            }
            Err(error) => {
                lacking[0].packer.fail(error);
                self.fail_all();
            }
        }
    }

    fn seal<'w>(
        &self,
        worker: &'w mut Worker,
        class: ChunkClass,
        id: ChunkId,
        plain: &[u8],
        probe: bool,
    ) -> Result<(RecordHeader, &'w [u8]), VaultError> {
        let record = worker.sealer.seal(&self.ring, class, id, plain)?;
        let broken = |cause| {
            let place = "the memory of this machine (test it, for example with memtester)".into();
            VaultError::Damaged { object: format!("chunk {id}"), place, cause }
        };
        if probe {
            worker.opener.open(&self.ring, &id, record).map_err(broken)?;
        }
        Ok((RecordHeader::decode(record).map_err(broken)?, record))
    }

    fn fail_all(&self) {
        self.targets.iter().for_each(|target| target.packer.fail(VaultError::GivenUp));
    }
}

/// Bytes in flight; given back also when the task panics.
struct InFlight {
    shared: Arc<Shared>,
    taken: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail_all();
        }
        self.shared.in_flight.give_back(self.taken);
    }
}
