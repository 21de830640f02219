//! A wrapper that tries again what failed for a passing reason, a bounded number of times.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Folder, Listed, Store, StoreError, StoreErrorKind, Stretch, Trashed};
use crate::name::ObjectName;

/// How often and after what pauses.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    pub tries: u32,
    /// Pause after the first failure; doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: 5, first_pause: Duration::from_millis(200), longest_pause: Duration::from_secs(10) }
    }
}

/// A store whose transient faults are tried again. All operations are idempotent, so that is safe.
#[derive(Debug)]
pub struct Retried<S> {
    inner: S,
    policy: RetryPolicy,
}

impl<S: Store> Retried<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    async fn retried<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        mut request: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let mut pause = self.policy.first_pause;
        for _ in 1..self.policy.tries {
            match request().await {
                Err(error) if error.kind == StoreErrorKind::Transient => {
                    tracing::debug!(%error, "will be tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.policy.longest_pause);
                }
                result => return result,
            }
        }
        request().await
    }
}

#[async_trait]
impl<S: Store> Store for Retried<S> {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.retried(|| self.inner.put(name, content.clone())).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.retried(|| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.retried(|| self.inner.get_range(name, stretch)).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.retried(|| self.inner.list(folder)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.retried(|| self.inner.delete(name)).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.retried(|| self.inner.delete_all(names)).await
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        self.retried(|| self.inner.append(name, offset, content.clone())).await
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.retried(|| self.inner.trash()).await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.retried(|| self.inner.bring_back(trashed)).await
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}
