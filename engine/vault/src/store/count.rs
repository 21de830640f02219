//! A wrapper that tells an observer of every request: how metrics learn of them, and how tests
//! assert how many requests an operation costs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Folder, Glance, Listed, Operation, Store, StoreError, Stretch, Trashed, Version};
use crate::name::ObjectName;

/// Is told of every finished request.
pub trait RequestObserver: Send + Sync + std::fmt::Debug {
    /// One request ended: what, how, how long it took, payload bytes moved.
    fn observe(&self, operation: Operation, failed: Option<&StoreError>, took: Duration, payload_bytes: u64);
}

/// A store whose requests are observed.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    observer: Arc<dyn RequestObserver>,
}

impl<S: Store> Counted<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, observer: Arc<dyn RequestObserver>) -> Self {
        Self { inner, observer }
    }

    async fn observed<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, StoreError>>,
        payload_bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = request.await;
        let bytes = result.as_ref().map_or(0, payload_bytes);
        self.observer.observe(operation, result.as_ref().err(), start.elapsed(), bytes);
        result
    }
}

#[async_trait]
impl<S: Store> Store for Counted<S> {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let bytes = content.len() as u64;
        self.observed(Operation::Put, self.inner.put(name, content), |()| bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.observed(Operation::Get, self.inner.get(name), |c| c.len() as u64).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.observed(Operation::GetRange, self.inner.get_range(name, stretch), |c| c.len() as u64).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.observed(Operation::List, self.inner.list(folder), |_| 0).await
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.observed(Operation::List, self.inner.glance(), |_| 0).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.observed(Operation::Delete, self.inner.delete(name), |()| 0).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.observed(Operation::Delete, self.inner.delete_all(names), |()| 0).await
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        let bytes = content.len() as u64;
        self.observed(Operation::Append, self.inner.append(name, offset, content), |()| bytes).await
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.observed(Operation::List, self.inner.trash(), |_| 0).await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.observed(Operation::BringBack, self.inner.bring_back(trashed), |()| 0).await
    }

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        self.observed(Operation::List, self.inner.versions(name), |_| 0).await
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        let read = self.inner.get_version(name, version, stretch);
        self.observed(Operation::GetRange, read, |c| c.len() as u64).await
    }

    async fn clear_unfinished(&self, age: Duration) -> Result<u64, StoreError> {
        self.observed(Operation::Delete, self.inner.clear_unfinished(age), |_| 0).await
    }

    fn requests_cost(&self) -> bool {
        self.inner.requests_cost()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

/// An observer that counts successful and failed requests.
#[derive(Debug, Default)]
pub struct RequestCounts {
    counts: Mutex<BTreeMap<(Operation, bool), u64>>,
}

impl RequestCounts {
    /// How many requests of this kind succeeded.
    pub fn succeeded(&self, operation: Operation) -> u64 {
        self.count(operation, true)
    }

    /// How many requests of this kind failed.
    pub fn failed(&self, operation: Operation) -> u64 {
        self.count(operation, false)
    }

    fn count(&self, operation: Operation, succeeded: bool) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(operation, succeeded)).copied().unwrap_or(0)
    }
}

impl RequestObserver for RequestCounts {
    fn observe(&self, operation: Operation, failed: Option<&StoreError>, _: Duration, _: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation, failed.is_none())).or_default() += 1;
    }
}
