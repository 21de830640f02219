//! Proofs by the daemon, as policies say: for each vault a thread looks what is due of the flows to it, and makes that. One
//! vault that hangs keeps no other waiting.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{Source, SourceName};
use backstay_core::proof::ProofLevel;
use tokio::sync::mpsc;

use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::Failure;
use crate::flow_proofs::FlowProofs;
use crate::proving::{self, NO_SCRATCH, ProofProgress, Prover, Wanted};

/// How often it is looked whether something is due.
const LOOK_PERIOD: Duration = Duration::from_secs(600);

/// When the daemon begins, flows are asked for first.
const START_PAUSE: Duration = Duration::from_secs(20);

/// How long a source is not tried to be restored for which there was no room.
const CRAMPED_TIME: Duration = Duration::from_secs(24 * 3600);

/// Which proofs are looked for, and when next.
pub(super) struct Proving {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    /// When a vault is looked at next; nothing while it is.
    next: HashMap<String, Option<Instant>>,
    cramped: HashMap<String, Cramped>,
}

impl Proving {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        let home = daemon.config.sources_at_home_on(&daemon.config.node.name);
        let targets = home.flat_map(|source| &source.flows).filter_map(|flow| flow.target.vault());
        let first = Instant::now() + START_PAUSE;
        let vaults = targets.map(|vault| (vault.to_owned(), Some(first)));
        let next = vaults.collect();
        Self { daemon, events, next, cramped: HashMap::new() }
    }

    /// Something was captured to this vault: what has no proof yet can have one.
    pub(super) fn captured(&mut self, vault: &str) {
        if let Some(Some(next)) = self.next.get_mut(vault) {
            *next = Instant::now();
        }
    }

    /// Looks at the vaults that are to be looked at now, but for those that are `closed`; says how long to sleep at most.
    pub(super) fn start_some(&mut self, closed: &BTreeSet<String>) -> Duration {
        let now = Instant::now();
        let is_due = |vault: &String, next: &Option<Instant>| {
            next.is_some_and(|next| next <= now) && !closed.contains(vault)
        };
        let due: Vec<String> = self
            .next
            .iter()
            .filter(|(vault, next)| is_due(vault, next))
            .map(|(vault, _)| vault.clone())
            .collect();
        due.into_iter().for_each(|vault| self.start(vault));
        let waiting = self.next.iter().filter(|(vault, _)| !closed.contains(*vault));
        let next = waiting.filter_map(|(_, next)| *next).min();
        next.map_or(SLEEP_MAX, |next| next.saturating_duration_since(now))
    }

    fn start(&mut self, vault: String) {
        self.next.insert(vault.clone(), None);
        let (daemon, events, name) = (Arc::clone(&self.daemon), self.events.clone(), vault.clone());
        let mut cramped = self.cramped.remove(&vault).unwrap_or_default();
        let work = move || {
            let looked = catch_unwind(AssertUnwindSafe(|| daemon.prove_some(&name, &mut cramped)));
            let has_proven = looked.unwrap_or_else(|_| {
                tracing::error!(vault = name, "a proof panicked, which is an error in Backstay");
                false
            });
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Proven { vault: name, has_proven, cramped });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("prove {vault}")).spawn(work) {
            tracing::warn!(vault, %error, "cannot start a thread for proofs; raise TasksMax= of the unit");
            self.next.insert(vault, Some(Instant::now() + LOOK_PERIOD));
        }
    }

    /// A vault was looked at. Where something was proven, more may be due.
    pub(super) fn end(&mut self, vault: &str, has_proven: bool, cramped: Cramped) {
        self.cramped.insert(vault.to_owned(), cramped);
        let pause = if has_proven { Duration::ZERO } else { LOOK_PERIOD };
        self.next.insert(vault.to_owned(), Some(Instant::now() + pause));
    }
}

impl Daemon {
    /// Makes at most one proof of each flow to a vault, where one is due; whether any was made. Blocking. What cannot be restored
    /// for want of room is `cramped` for a day: its contents are read meanwhile.
    fn prove_some(&self, vault: &str, cramped: &mut Cramped) -> bool {
        let prover = self.engine.prover();
        let home = self.config.sources_at_home_on(&self.config.node.name);
        let to_vault = home.filter(|source| source.flows.iter().any(|flow| flow.target.as_str() == vault));
        let mut has_proven = false;
        for source in to_vault {
            let top = if cramped.has(source) { ProofLevel::Data } else { ProofLevel::Restore };
            match self.prove_if_due(&prover, source, vault, top) {
                Ok(proven) => has_proven |= proven,
                Err(failure) => {
                    if failure.class == NO_SCRATCH {
                        cramped.note(source);
                        has_proven = true;
                    }
                    tracing::warn!(source = %source.name, vault, class = failure.class, "nothing was proven: {failure}");
                }
            }
        }
        has_proven
    }

    fn prove_if_due(
        &self,
        prover: &Prover,
        source: &Source,
        vault: &str,
        top: ProofLevel,
    ) -> Result<bool, Failure> {
        let Some(due) = prover.due(source, vault, top)? else { return Ok(false) };
        let scratch = &self.config.node.scratch;
        let wanted = Wanted { source, vault, level: due.level, bytes_max: due.bytes_max, scratch };
        let proof = prover.prove(&wanted, &ProofProgress::default())?;
        proving::log(&proof, vault);
        let history = prover.history(source, vault)?;
        self.board().flows.proven(source.name.as_str(), vault, FlowProofs::of(&history));
        Ok(true)
    }
}

/// Sources for which there was no room to restore them to, and since when.
#[derive(Debug, Default, Clone)]
pub(super) struct Cramped(HashMap<SourceName, Instant>);

impl Cramped {
    fn has(&self, source: &Source) -> bool {
        self.0.get(&source.name).is_some_and(|since| since.elapsed() < CRAMPED_TIME)
    }

    fn note(&mut self, source: &Source) {
        self.0.insert(source.name.clone(), Instant::now());
    }
}
