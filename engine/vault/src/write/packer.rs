//! Packs of one session for one vault: one of each class fills while one goes up. Where records are moved that compromised
//! keys have sealed, these fill packs of their own: a writer counts on no pack that has one, and would store again what else is
//! in it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::budget::Budget;
use crate::buffer::BufferPool;
use crate::chunk::ChunkClass::{self, Data, Meta};
use crate::error::VaultError;
use crate::index_object::IndexedPack;
use crate::name::Named;
use crate::pack::{PackBuilder, PackEntry, UnnamedPack};
use crate::record::RecordHeader;
use crate::vault::{Vault, WriterView};

/// Packs that go up at the same time, beside those that fill: each takes its memory.
const UPLOADS_AT_ONCE: usize = 2;

/// How long a flush waits at a time where there is no other store to go on with.
const A_LONG_TIME: Duration = Duration::from_secs(3600);

/// A pack that is durable in the store, and its records.
pub(crate) type StoredPack = (IndexedPack, Vec<PackEntry>);

#[derive(Debug)]
pub(crate) struct Packer {
    vault: Arc<Vault>,
    /// Of a session that may not be there yet.
    session: Option<WriterView>,
    /// Of each class one for records that trusted keys have sealed, and one for others.
    filling: [Mutex<PackBuilder>; 4],
    uploads: Arc<Budget>,
    images: BufferPool,
    closed: AtomicUsize,
    outcome: Arc<Mutex<Outcome>>,
    /// Packs that the store has taken, of this packer and of those that count beside it.
    taken: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Outcome {
    stored: Vec<StoredPack>,
    failure: Option<VaultError>,
}

impl Packer {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self {
            vault,
            session: None,
            filling: [Data, Data, Meta, Meta].map(|class| Mutex::new(PackBuilder::new(class))),
            uploads: Arc::new(Budget::new(UPLOADS_AT_ONCE)),
            images: BufferPool::new(UPLOADS_AT_ONCE),
            closed: AtomicUsize::new(0),
            outcome: Arc::default(),
            taken: Arc::default(),
        }
    }

    /// A packer of a session: that is put before the first pack is.
    pub(super) fn of_session(view: &WriterView) -> Self {
        Self { session: Some(view.clone()), ..Self::new(Arc::clone(view.vault())) }
    }

    /// The same that counts what its store has taken beside others.
    pub(super) fn counting(self, taken: Arc<AtomicU64>) -> Self {
        Self { taken, ..self }
    }

    /// Whether something went wrong, so that further work is in vain.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.outcome).failure.is_some()
    }

    pub(super) fn fail(&self, error: VaultError) {
        lock(&self.outcome).failure.get_or_insert(error);
    }

    /// Adds a sealed record. Never waits for the store, whose threads these may not be: a pack that is full while the one
    /// before it goes up takes what is on its way already, and [`Packer::has_room`] keeps more from coming.
    pub(crate) fn add(&self, header: &RecordHeader, record: &[u8]) {
        let is_compromised = self.vault.ring().is_compromised(&header.key_id);
        let mut filling = lock(&self.filling[slot(header.class) + usize::from(is_compromised)]);
        let may_take = filling.may_take(record.len()) && filling.may_take_key(&header.key_id);
        let permit = match filling.has_room_for(record.len()) {
            true if may_take => None,
            false if may_take => Permit::try_take(&self.uploads),
            // Whoever adds without asking for room waits here, and so does what has a ninth key: a larger pack nobody could read.
            _ => Some(Permit::take(&self.uploads)),
        };
        let full = permit.map(|permit| (filling.close(self.vault.ring(), &self.images), permit));
        filling.add(header, record);
        drop(filling);
        if let Some((full, permit)) = full {
            self.send(full, permit);
        }
    }

    /// Waits, no longer than `patience`, until neither pack is full, or one can go up; whether that is so.
    pub(crate) fn has_room(&self, patience: Duration) -> bool {
        let is_full = |filling: &Mutex<PackBuilder>| !lock(filling).has_room_for(0);
        !self.filling.iter().any(is_full) || self.uploads.wait_for(1, patience)
    }

    /// Takes what it has out, for somebody else to send, if it is no more than that and nothing was sent yet.
    pub(super) fn take_unsent(&self, bytes_max: usize) -> Option<Vec<PackBuilder>> {
        if self.has_failed() || self.closed.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let mut filling = self.filling.each_ref().map(lock);
        if filling.iter().map(|pack| pack.bytes()).sum::<usize>() > bytes_max {
            return None;
        }
        let take = |pack: &mut MutexGuard<'_, PackBuilder>| {
            let class = pack.class();
            std::mem::replace(&mut **pack, PackBuilder::new(class))
        };
        Some(filling.iter_mut().filter(|pack| !pack.is_empty()).map(take).collect())
    }

    /// Sends what is left, waits for all packs, and returns those that are durable now.
    pub(crate) fn flush(&self) -> Result<Vec<StoredPack>, VaultError> {
        loop {
            if let Some(outcome) = self.flush_within(A_LONG_TIME) {
                return outcome;
            }
        }
    }

    /// The same; `None` when the store has taken no pack for as long as `patience`. What is left then is sent by the next
    /// call. One that has failed already is not waited for: nothing will refer to what it still sends.
    pub(super) fn flush_within(&self, patience: Duration) -> Option<Result<Vec<StoredPack>, VaultError>> {
        for filling in &self.filling {
            if lock(filling).is_empty() {
                continue;
            }
            if !self.has_failed() && !self.uploads.wait_for(1, patience) {
                return None;
            }
            let mut filling = lock(filling);
            if let Some(permit) = Permit::try_take(&self.uploads) {
                self.send(filling.close(self.vault.ring(), &self.images), permit);
            }
        }
        if !self.has_failed() && !self.uploads.wait_for(UPLOADS_AT_ONCE, patience) {
            return None;
        }
        let mut outcome = lock(&self.outcome);
        Some(match outcome.failure.take() {
            Some(failure) => Err(failure),
            // An upload that was dropped with its runtime tells nobody; the count does.
            None if outcome.stored.len() != self.closed.load(Ordering::SeqCst) => Err(VaultError::GivenUp),
            None => Ok(std::mem::take(&mut outcome.stored)),
        })
    }

    fn send(&self, full: UnnamedPack, permit: Permit) {
        if self.has_failed() {
            return;
        }
        let pack = full.name();
        self.closed.fetch_add(1, Ordering::SeqCst);
        let (bytes, keys) = (pack.content.len() as u32, pack.keys);
        let indexed = IndexedPack { id: pack.id, class: pack.class, bytes, keys };
        let outcome = Arc::clone(&self.outcome);
        let taken = Arc::clone(&self.taken);
        let vault = Arc::clone(&self.vault);
        let session = self.session.clone().filter(|session| !session.is_sure());
        self.vault.io().spawn(async move {
            let result = match session {
                Some(session) => make_sure(session).await,
                None => Ok(()),
            };
            let result = match result {
                Ok(()) => {
                    let put = vault.store().put(&Named::Pack(pack.id).to_name(), pack.content).await;
                    put.map_err(VaultError::from)
                }
                Err(error) => Err(error),
            };
            let mut outcome = lock(&outcome);
            match result {
                Ok(()) => {
                    taken.fetch_add(1, Ordering::Relaxed);
                    outcome.stored.push((indexed, pack.entries));
                }
                // Another pack met the reason, and tells it; that this one is missing shows in the count.
                Err(VaultError::GivenUp) => {}
                Err(error) => {
                    outcome.failure.get_or_insert(error);
                }
            }
            drop(permit);
        });
    }
}

/// It blocks, and tasks may not.
async fn make_sure(session: WriterView) -> Result<(), VaultError> {
    let made = tokio::task::spawn_blocking(move || session.make_sure()).await;
    made.unwrap_or(Err(VaultError::GivenUp))
}

/// The right to send one pack; given back also when the sending is dropped half-way.
struct Permit(Arc<Budget>);

impl Permit {
    fn try_take(uploads: &Arc<Budget>) -> Option<Self> {
        uploads.try_take(1).then(|| Self(Arc::clone(uploads)))
    }

    fn take(uploads: &Arc<Budget>) -> Self {
        uploads.take(1);
        Self(Arc::clone(uploads))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

fn slot(class: ChunkClass) -> usize {
    match class {
        Data => 0,
        Meta => 2,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
