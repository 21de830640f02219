//! Finding out what the providers of buckets do, when the daemon begins with new ones, and weekly. Beside everything else: no
//! capture waits for it, and none fails by it.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::VaultKind;
use tokio::time::sleep;

use super::Daemon;
use crate::failure::Failure;
use crate::protection::summary;

/// How often it is looked whether a vault is open yet: in a bucket in which there is none, nothing is put.
const OPEN_LOOK: Duration = Duration::from_secs(1);

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(600);

/// After a failure it is tried again after so long.
const SETBACK: Duration = Duration::from_secs(3600);

/// Goes on for as long as the process lives.
pub(super) fn watch(daemon: &Arc<Daemon>) {
    let buckets = daemon.config.vaults.values().filter(|vault| matches!(vault.kind, VaultKind::S3(_)));
    for vault in buckets {
        tokio::spawn(keep(Arc::clone(daemon), vault.name.to_string()));
    }
}

async fn keep(daemon: Arc<Daemon>, vault: String) {
    while daemon.engine.vaults().if_open(&vault).is_none() {
        sleep(OPEN_LOOK).await;
    }
    loop {
        let (asking, name) = (Arc::clone(&daemon), vault.clone());
        let pause = match tokio::task::spawn_blocking(move || asking.probe_if_due(&name)).await {
            Ok(Ok(())) => LOOK,
            Ok(Err(failure)) => {
                tracing::warn!(vault, "what its provider does cannot be found out: {failure}");
                SETBACK
            }
            Err(error) => {
                tracing::error!(vault, "a probe panicked, which is an error in Backstay: {error}");
                SETBACK
            }
        };
        sleep(pause).await;
    }
}

impl Daemon {
    fn probe_if_due(&self, vault: &str) -> Result<(), Failure> {
        let vaults = self.engine.vaults();
        let known = match vaults.is_probe_due(vault) {
            true => vaults.probe_sparingly(vault)?.inspect(|found| {
                tracing::info!(vault, "found out what its provider does: {}", summary(&found.provider));
                if let Err(failure) = vaults.keep_probed(vault, found) {
                    tracing::warn!(vault, "what was found out is not remembered: {failure}");
                }
            }),
            false => vaults.probed(vault),
        };
        if let Some(known) = known {
            self.metrics.show_probed(vault, &known);
        }
        Ok(())
    }
}
