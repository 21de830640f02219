//! How a capture commits together with others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstay_core::clock::Clock;

use crate::error::VaultError;
use crate::vault::{Acknowledged, Awaiting, Vault};

/// Is told how a capture waits.
pub trait WaitWatch: Send + Sync {
    /// It has nothing to do but to wait for others in these vaults, with so many bytes in memory. Whoever knows that nobody else
    /// comes says so there ([`Vault::close_group`]).
    fn waits(&self, vaults: &[Arc<Vault>], bytes: usize);

    /// It goes on.
    fn goes_on(&self);
}

/// How a capture commits together with others. Cheap to clone.
#[derive(Clone)]
pub struct WithOthers {
    clock: Arc<dyn Clock>,
    watch: Arc<dyn WaitWatch>,
    wait: Duration,
    waited_millis: Arc<AtomicU64>,
}

/// A target, and what it is to be told of its commit.
pub(super) type Awaited = (usize, Awaiting);

impl WithOthers {
    /// The clock of the commits, who is told, and for how long others are waited for at most.
    pub fn new(clock: Arc<dyn Clock>, watch: Arc<dyn WaitWatch>, wait: Duration) -> Self {
        Self { clock, watch, wait, waited_millis: Arc::default() }
    }

    /// How long it has waited so far, for others and for what they commit.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(self.waited_millis.load(Ordering::Relaxed))
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Waits for all of them.
    pub(super) fn wait_for(
        &self,
        awaited: Vec<Awaited>,
        vaults: &[Arc<Vault>],
        bytes: usize,
    ) -> Vec<(usize, Result<Acknowledged, VaultError>)> {
        let start = Instant::now();
        self.watch.waits(vaults, bytes);
        let outcomes = awaited.into_iter().map(|(place, awaiting)| (place, awaiting.wait())).collect();
        self.watch.goes_on();
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.waited_millis.fetch_add(millis, Ordering::Relaxed);
        outcomes
    }
}

impl fmt::Debug for WithOthers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithOthers").field("wait", &self.wait).finish_non_exhaustive()
    }
}
