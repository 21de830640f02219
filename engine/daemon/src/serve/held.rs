//! What this node holds for others, as far as it can tell by itself: a node that is dead tells nobody how far behind its copies
//! are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::{Target, VaultKind};
use backstay_core::rpo::Durable;

use super::Daemon;
use crate::flows::{Found, HeldSource};

/// How often held vaults are looked at.
const LOOK: Duration = Duration::from_secs(15);

/// The sources that should be held here, by the configuration; what there is of them is not known yet.
pub(super) fn expected(daemon: &Daemon) -> Vec<HeldSource> {
    let mut expected: Vec<HeldSource> = Vec::new();
    for vault in daemon.config.vaults.values() {
        let VaultKind::Held(of) = &vault.kind else { continue };
        let target = Target::Vault(vault.name.clone());
        let there = daemon.config.sources.iter();
        let there = there.filter(|source| source.flows.iter().any(|flow| flow.target == target));
        // What goes on from here is held here as well.
        let relayed = daemon.config.relays.iter().filter(|relay| relay.from == vault.name);
        let there = there.map(|source| &source.name).chain(relayed.flat_map(|relay| &relay.sources));
        // What its node keeps of the configuration is no data of its own.
        let there = there.filter(|name| name.as_fleet_of().is_none());
        for source in there.collect::<BTreeSet<_>>() {
            expected.push(HeldSource {
                node: of.writer.to_string(),
                source: source.clone(),
                target: target.clone(),
                durable: Durable::Unknown,
            });
        }
    }
    expected
}

/// Looks from now on, a thread for all: they are directories of this node.
pub(super) fn watch(daemon: &Arc<Daemon>) {
    if daemon.board().held.is_empty() {
        return;
    }
    let daemon = Arc::clone(daemon);
    let work = move || loop {
        let held = daemon.board().held.clone();
        for one in held {
            let durable = durable(&daemon, &one);
            let mut board = daemon.board();
            let known =
                board.held.iter_mut().find(|known| known.source == one.source && known.target == one.target);
            if let Some(known) = known {
                known.durable = durable;
            }
        }
        std::thread::sleep(LOOK);
    };
    if let Err(error) = std::thread::Builder::new().name("held".to_owned()).spawn(work) {
        tracing::warn!("cannot start a thread: {error}; it is not told how what is held here is");
    }
}

/// What a vault has of a source. Nothing, where the vault is not there yet, is no more than what is known.
fn durable(daemon: &Daemon, held: &HeldSource) -> Durable {
    let (source, target) = (held.source.clone(), held.target.clone());
    let found = daemon
        .engine
        .vaults()
        .patiently(held.target.as_str(), move |vaults| Found::ask(vaults, &source, &target));
    match found {
        Ok(found) => found.durable(),
        Err(failure) => {
            tracing::debug!(source = %held.source, "{failure}");
            Durable::Unknown
        }
    }
}
