//! Packs of one session for one vault: one of each class fills while the one before goes up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::id::ChunkId;

use super::budget::Budget;
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::index_object::IndexedPack;
use crate::name::Named;
use crate::pack::{PackBuilder, PackEntry};
use crate::vault::Vault;

/// Packs of a class that go up at the same time, beside the one that fills.
const UPLOADS_AT_ONCE: usize = 1;

/// A pack that is durable in the store, and its records.
pub(crate) type StoredPack = (IndexedPack, Vec<PackEntry>);

#[derive(Debug)]
pub(super) struct Packer {
    vault: Arc<Vault>,
    filling: [Mutex<PackBuilder>; 2],
    uploads: [Arc<Budget>; 2],
    closed: AtomicUsize,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    stored: Vec<StoredPack>,
    failure: Option<VaultError>,
}

impl Packer {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self {
            vault,
            filling: ChunkClass::ALL.map(|class| Mutex::new(PackBuilder::new(class))),
            uploads: ChunkClass::ALL.map(|_| Arc::new(Budget::new(UPLOADS_AT_ONCE))),
            closed: AtomicUsize::new(0),
            outcome: Arc::default(),
        }
    }

    /// Whether something went wrong, so that further work is in vain.
    pub(super) fn has_failed(&self) -> bool {
        lock(&self.outcome).failure.is_some()
    }

    pub(super) fn fail(&self, error: VaultError) {
        lock(&self.outcome).failure.get_or_insert(error);
    }

    /// Adds a sealed record. When the pack is full, waits until the one before it has gone up, with everybody else
    /// who adds: so no more than two packs of a class are in memory.
    pub(super) fn add(&self, class: ChunkClass, id: ChunkId, plain_length: u32, record: Vec<u8>) {
        let mut filling = lock(&self.filling[slot(class)]);
        if filling.has_room_for(record.len()) {
            filling.add(id, plain_length, record);
            return;
        }
        let permit = Permit::take(&self.uploads[slot(class)]);
        let full = std::mem::replace(&mut *filling, PackBuilder::new(class));
        filling.add(id, plain_length, record);
        drop(filling);
        self.send(class, full, permit);
    }

    /// Sends what is left, waits for all packs, and returns those that are durable now.
    pub(super) fn flush(&self) -> Result<Vec<StoredPack>, VaultError> {
        for class in ChunkClass::ALL {
            let rest = std::mem::replace(&mut *lock(&self.filling[slot(class)]), PackBuilder::new(class));
            if !rest.is_empty() {
                let permit = Permit::take(&self.uploads[slot(class)]);
                self.send(class, rest, permit);
            }
        }
        self.uploads.iter().for_each(|uploads| uploads.wait_until_whole());
        let mut outcome = lock(&self.outcome);
        match outcome.failure.take() {
            Some(failure) => Err(failure),
            // An upload that was dropped with its runtime tells nobody; the count does.
            None if outcome.stored.len() != self.closed.load(Ordering::SeqCst) => Err(VaultError::GivenUp),
            None => Ok(std::mem::take(&mut outcome.stored)),
        }
    }

    fn send(&self, class: ChunkClass, full: PackBuilder, permit: Permit) {
        if self.has_failed() {
            return;
        }
        let pack = full.finish(self.vault.ring());
        self.closed.fetch_add(1, Ordering::SeqCst);
        let indexed = IndexedPack { id: pack.id, class, bytes: pack.content.len() as u32 };
        let outcome = Arc::clone(&self.outcome);
        let vault = Arc::clone(&self.vault);
        self.vault.io().spawn(async move {
            let result = vault.store().put(&Named::Pack(pack.id).to_name(), pack.content).await;
            let mut outcome = lock(&outcome);
            match result {
                Ok(()) => outcome.stored.push((indexed, pack.entries)),
                Err(error) => {
                    outcome.failure.get_or_insert(error.into());
                }
            }
            drop(permit);
        });
    }
}

/// The right to send one pack; given back also when the sending is dropped half-way.
struct Permit(Arc<Budget>);

impl Permit {
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
        ChunkClass::Data => 0,
        ChunkClass::Meta => 1,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
