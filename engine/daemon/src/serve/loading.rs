//! What the vaults know of the flows. When the daemon begins, each vault is asked on a thread of its own, so that one that
//! hangs keeps nobody waiting; after a job on vaults, by the thread of the job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstay_core::config::{SourceName, Target};
use tokio::sync::mpsc;

use super::{Daemon, Event};
use crate::failure::Failure;
use crate::flows::{Aftermath, Found};

/// Asks all vaults that flows go to, in the background. There are as many threads as vaults, which the configuration
/// bounds.
pub(super) fn start(daemon: &Arc<Daemon>, events: &mpsc::Sender<Event>) {
    let mut by_target: BTreeMap<Target, Vec<SourceName>> = BTreeMap::new();
    for record in daemon.board().flows.records() {
        by_target.entry(record.target.clone()).or_default().push(record.source.clone());
    }
    for (target, sources) in by_target {
        let (asking, events) = (Arc::clone(daemon), events.clone());
        let (asked, asked_of) = (target.clone(), sources.clone());
        let work = move || ask(&asking, &asked, &asked_of, &events);
        if let Err(error) = std::thread::Builder::new().name(format!("load {target}")).spawn(work) {
            let mut board = daemon.board();
            for source in &sources {
                let failure = Failure::failed(format!("cannot start a thread: {error}; raise TasksMax="));
                board.flows.learn(source, &target, Err(failure));
            }
        }
    }
}

/// Asks one vault for all its flows; blocking.
fn ask(daemon: &Daemon, target: &Target, sources: &[SourceName], events: &mpsc::Sender<Event>) {
    for source in sources {
        let found = Found::ask_at_first(daemon.engine.vaults(), source, target);
        daemon.show_vault(target.as_str());
        daemon.board().flows.learn(source, target, found);
        // Where the loop has much to do, the next one will be seen.
        let _ = events.try_send(Event::Loaded);
    }
    // The loop is gone when the daemon ends.
    let _ = events.blocking_send(Event::Loaded);
}

/// Asks these vaults again, after a job; blocking. What they have may be less than was known.
pub(super) fn ask_again(daemon: &Daemon, vaults: &BTreeSet<String>, aftermath: impl Fn(&str) -> Aftermath) {
    let via = daemon
        .config
        .via
        .iter()
        .filter(|(_, via)| via.through.as_ref().is_some_and(|through| vaults.contains(through.as_str())));
    let also: Vec<String> = via.map(|(name, _)| name.to_string()).collect();
    for vault in vaults.iter().chain(&also) {
        let questions = daemon.board().flows.questions_to(vault);
        for question in questions {
            let found = Found::ask(daemon.engine.vaults(), &question.source, &question.target);
            daemon.board().flows.learn_again(&question, found, aftermath(vault));
        }
    }
}
