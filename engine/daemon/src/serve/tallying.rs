//! Noting down what the daemon asks of vaults in buckets, so that it can be told what a month costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::config::VaultKind;
use backstay_core::cost::Usage;
use tokio::time::{sleep, timeout};

use super::Daemon;
use crate::node::{ObservedVault, day_of};

/// How often it is noted down. What came after the last time is not counted when the process dies, nor is the time.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// How long the end of the daemon waits for the last time: the disk of the state may hang.
const LAST_SAVE: Duration = Duration::from_secs(2);

/// What was noted down so far.
pub(super) struct Tallying {
    daemon: Arc<Daemon>,
    /// For each vault in a bucket, what was asked and when it was noted down last.
    noted: Mutex<HashMap<String, (Usage, Instant)>>,
}

impl Tallying {
    /// Goes on for as long as the process lives.
    pub(super) fn watch(daemon: &Arc<Daemon>) -> Arc<Self> {
        let buckets = daemon.config.vaults.values().filter(|vault| matches!(vault.kind, VaultKind::S3(_)));
        let began = Instant::now();
        let noted = buckets.map(|vault| (vault.name.to_string(), (Usage::default(), began))).collect();
        let tallying = Arc::new(Self { daemon: Arc::clone(daemon), noted: Mutex::new(noted) });
        let again = Arc::clone(&tallying);
        tokio::spawn(async move {
            loop {
                sleep(SAVE_EVERY).await;
                let saving = Arc::clone(&again);
                // One that panicked says so by itself.
                let _ = tokio::task::spawn_blocking(move || saving.save()).await;
            }
        });
        tallying
    }

    /// Notes down what came since, for the last time.
    pub(super) async fn end(self: Arc<Self>) {
        if timeout(LAST_SAVE, tokio::task::spawn_blocking(move || self.save())).await.is_err() {
            tracing::warn!("what was asked of buckets is not noted down: node.state does not answer");
        }
    }

    /// Blocking.
    fn save(&self) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (vault, (before, since)) in &mut *noted {
            let (usage, now) = (self.daemon.engine.vaults().usage(vault), Instant::now());
            let file = ObservedVault::of(&self.daemon.config.node.state, vault);
            let mut observed = file.load();
            observed.add(day_of(self.daemon.clock.now()), now.duration_since(*since), usage.since(*before));
            match file.save(&observed) {
                Ok(()) => (*before, *since) = (usage, now),
                // It is added the next time.
                Err(failure) => tracing::warn!(vault, "what was asked is not noted down: {failure}"),
            }
        }
    }
}
