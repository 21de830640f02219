//! The same end of a process over any store: what it has changed until then is in that store itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Glance, Listed, Operation, Store, StoreError, Stretch};
use bytes::Bytes;
use tokio::sync::watch;

use super::workload::{Death, Mortal};
use super::{Change, Landing, LateChange, died};

/// A store under a process that dies at a chosen change. The requests that are in flight then are dropped where they are, and
/// their connections with them: what becomes of them the service knows.
#[derive(Debug)]
pub struct DyingStore {
    inner: Arc<dyn Store>,
    next: Arc<dyn Store>,
    death: Death,
    state: Mutex<State>,
    dies: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    late: Vec<Change>,
}

impl DyingStore {
    /// Over a store, and the same one as the next process reaches it. Puts and deletes are counted, from 1.
    pub fn new(inner: Arc<dyn Store>, next: Arc<dyn Store>, death: Death) -> Self {
        Self { inner, next, death, state: Mutex::default(), dies: watch::Sender::new(false) }
    }

    /// How many changes have begun.
    pub fn changes(&self) -> u64 {
        self.lock().begun
    }

    async fn change(&self, operation: Operation, change: Change) -> Result<(), StoreError> {
        let name = change.name().to_owned();
        let mut dies = self.dies.subscribe();
        if *dies.borrow_and_update() {
            return Err(died(operation, &name));
        }
        if self.begins() {
            self.dies.send_replace(true);
            match self.death.landing {
                // Whether it was done nobody hears.
                Landing::Landed => drop(LateChange(change).land(&*self.inner).await),
                Landing::Lost => {}
                Landing::Late => self.lock().late.push(change),
            }
            return Err(died(operation, &name));
        }
        tokio::select! {
            biased;
            _ = dies.wait_for(|died| *died) => Err(died(operation, &name)),
            outcome = LateChange(change).land(&*self.inner) => outcome,
        }
    }

    /// Counts a change; whether it is the one at which the process dies.
    fn begins(&self) -> bool {
        let mut state = self.lock();
        state.begun += 1;
        state.begun == self.death.at
    }

    async fn read<T>(
        &self,
        operation: Operation,
        name: &str,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut dies = self.dies.subscribe();
        tokio::select! {
            biased;
            _ = dies.wait_for(|died| *died) => Err(died(operation, name)),
            outcome = read => outcome,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mortal for DyingStore {
    fn has_crashed(&self) -> bool {
        *self.dies.borrow()
    }

    fn left(&self) -> Arc<dyn Store> {
        Arc::clone(&self.next)
    }

    fn late(&self) -> Vec<LateChange> {
        self.lock().late.iter().cloned().map(LateChange).collect()
    }
}

#[async_trait]
impl Store for DyingStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.change(Operation::Put, Change::Put(name.clone(), content)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read(Operation::Get, name.as_str(), self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.read(Operation::GetRange, name.as_str(), self.inner.get_range(name, stretch)).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.read(Operation::List, folder.as_str(), self.inner.list(folder)).await
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.read(Operation::List, "", self.inner.glance()).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.change(Operation::Delete, Change::Delete(name.clone())).await
    }

    fn requests_cost(&self) -> bool {
        self.inner.requests_cost()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}
