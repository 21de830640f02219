//! A wrapper that tries again what failed for a passing reason, a bounded number of times.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Folder, Glance, Listed, Store, StoreError, StoreErrorKind, Stretch, Trashed, Version};
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

impl RetryPolicy {
    /// For a service over a network that fails now and then though it is there: of 1000 requests of which 3 in 10 fail, as good as
    /// none fails each time.
    pub const fn of_service() -> Self {
        Self { tries: 10, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(20) }
    }
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
    budget: Budget,
}

/// How much may be tried again, of all requests together: where nearly all fail, trying each of them again and again makes it worse,
/// and keeps for long from whoever asks that the store is out of order. Lasts for ever while no more than a third fail.
#[derive(Debug)]
struct Budget(Mutex<u32>);

impl Budget {
    /// What there is at most.
    const FULL: u32 = 1000;
    /// What it costs to try again.
    const TRY: u32 = 10;
    /// What one that goes well brings.
    const SUCCESS: u32 = 6;

    fn new() -> Self {
        Self(Mutex::new(Self::FULL))
    }

    fn may_try(&self) -> bool {
        let mut left = self.left();
        match left.checked_sub(Self::TRY) {
            Some(less) => {
                *left = less;
                true
            }
            None => false,
        }
    }

    fn succeeded(&self) {
        let mut left = self.left();
        *left = (*left + Self::SUCCESS).min(Self::FULL);
    }

    fn left(&self) -> MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Retried<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, policy: RetryPolicy) -> Self {
        Self { inner, policy, budget: Budget::new() }
    }

    async fn retried<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        mut request: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let mut pause = self.policy.first_pause;
        let mut tries = 1;
        loop {
            match request().await {
                Err(error)
                    if error.kind == StoreErrorKind::Transient
                        && tries < self.policy.tries
                        && self.budget.may_try() =>
                {
                    tracing::debug!(%error, tries, "will be tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.policy.longest_pause);
                    tries += 1;
                }
                result => {
                    // Also what is not there was asked in vain for no fault of the store's.
                    if result.as_ref().err().is_none_or(|error| error.kind != StoreErrorKind::Transient) {
                        self.budget.succeeded();
                    }
                    return result;
                }
            }
        }
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

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.retried(|| self.inner.glance()).await
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

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        self.retried(|| self.inner.versions(name)).await
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        self.retried(|| self.inner.get_version(name, version, stretch)).await
    }

    async fn clear_unfinished(&self, age: Duration) -> Result<u64, StoreError> {
        self.retried(|| self.inner.clear_unfinished(age)).await
    }

    fn requests_cost(&self) -> bool {
        self.inner.requests_cost()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_faults_can_be_borne_for_ever_and_nothing_but_faults_not_for_long() {
        let budget = Budget::new();
        for n in 0..100_000 {
            assert!(n % 3 != 0 || budget.may_try(), "request {n}");
            budget.succeeded();
        }
        let tries = (0..10_000).filter(|_| budget.may_try()).count();
        assert!(tries <= 100, "{tries}");
    }
}
