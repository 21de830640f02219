//! Proofs by the daemon, as policies say: for each vault a thread looks what is due of the flows to it, and makes that. One
//! vault that hangs keeps no other waiting.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{Source, SourceName};
use backstay_core::proof::{ProofHistory, ProofLevel};
use tokio::sync::mpsc;

use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::Failure;
use crate::flow_proofs::FlowProofs;
use crate::proving::{self, BUSY, ProofProgress, Prover, Wanted};

/// How often it is looked whether something is due.
const LOOK_PERIOD: Duration = Duration::from_secs(600);

/// When the daemon begins, flows are asked for first.
const START_PAUSE: Duration = Duration::from_secs(20);

/// When points of others have come, it is looked after so long: more may come, and a look costs requests.
const RELAYED_PAUSE: Duration = Duration::from_secs(60);

/// How long a restore is not tried again that could not be made: for want of room, as a rule. Contents are read meanwhile.
const LONG_SETBACK: Duration = Duration::from_secs(24 * 3600);

/// The same of other proofs.
const SHORT_SETBACK: Duration = Duration::from_secs(3600);

/// Which proofs are looked for, and when next.
pub(super) struct Proving {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    /// When a vault is looked at next; nothing while it is.
    next: HashMap<String, Option<Instant>>,
    setbacks: HashMap<String, Setbacks>,
}

impl Proving {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        let home = daemon.config.sources_at_home_on(&daemon.config.node.name);
        let targets = home.flat_map(|source| &source.flows).filter_map(|flow| flow.target.vault());
        let relayed = daemon.config.relays.iter().map(|relay| relay.to.as_str());
        // What goes on from a hub is proven by the hub.
        let own = targets.filter(|vault| daemon.engine.vaults().via(vault).is_none());
        let first = Instant::now() + START_PAUSE;
        let vaults = own.chain(relayed).map(|vault| (vault.to_owned(), Some(first)));
        let next = vaults.collect();
        Self { daemon, events, next, setbacks: HashMap::new() }
    }

    /// Something was captured to this vault: what has no proof yet can have one.
    pub(super) fn captured(&mut self, source: &str, vault: &str) {
        // What is kept of the configuration is proven when somebody asks.
        let is_fleet = source.parse::<SourceName>().is_ok_and(|name| name.as_fleet_of().is_some());
        if is_fleet || self.daemon.board().flows.is_proven(source, vault) {
            return;
        }
        if let Some(Some(next)) = self.next.get_mut(vault) {
            *next = Instant::now();
        }
    }

    /// Points of others were copied to this vault.
    pub(super) fn committed(&mut self, vault: &str) {
        if let Some(Some(next)) = self.next.get_mut(vault) {
            *next = (*next).min(Instant::now() + RELAYED_PAUSE);
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
        let mut setbacks = self.setbacks.remove(&vault).unwrap_or_default();
        let work = move || {
            let looked = catch_unwind(AssertUnwindSafe(|| daemon.prove_some(&name, &mut setbacks)));
            let has_proven = looked.unwrap_or_else(|_| {
                tracing::error!(vault = name, "a proof panicked, which is an error in Backstay");
                false
            });
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Proven { vault: name, has_proven, setbacks });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("prove {vault}")).spawn(work) {
            tracing::warn!(vault, %error, "cannot start a thread for proofs; raise TasksMax= of the unit");
            self.next.insert(vault, Some(Instant::now() + LOOK_PERIOD));
        }
    }

    /// A vault was looked at. Where something was proven, more may be due.
    pub(super) fn end(&mut self, vault: &str, has_proven: bool, setbacks: Setbacks) {
        self.setbacks.insert(vault.to_owned(), setbacks);
        let pause = if has_proven { Duration::ZERO } else { LOOK_PERIOD };
        self.next.insert(vault.to_owned(), Some(Instant::now() + pause));
    }
}

impl Daemon {
    /// Makes at most one proof of each flow to a vault, where one is due; whether any was made. Blocking.
    fn prove_some(&self, vault: &str, setbacks: &mut Setbacks) -> bool {
        proving::sweep(&self.config.node.scratch);
        let prover = match self.engine.prover() {
            Ok(prover) => prover,
            Err(failure) => {
                tracing::warn!(vault, "nothing was proven: {failure}");
                return false;
            }
        };
        let home = self.config.sources_at_home_on(&self.config.node.name);
        let own = home.filter(|source| source.flows.iter().any(|flow| flow.target.as_str() == vault));
        let relayed = self.config.relays.iter().filter(|relay| relay.to.as_str() == vault);
        let of_others = relayed
            .flat_map(|relay| &relay.sources)
            .filter(|name| name.as_fleet_of().is_none())
            .filter_map(|name| self.source(name.as_str()));
        let to_vault = own.chain(of_others);
        let mut has_proven = false;
        for source in to_vault {
            let Some(top) = setbacks.top(source) else { continue };
            match self.prove_if_due(&prover, source, vault, top) {
                Ok(proven) => has_proven |= proven,
                // By another vault's: it is due still when that is over.
                Err((_, failure)) if failure.class == BUSY => {}
                Err((level, failure)) => {
                    tracing::warn!(source = %source.name, vault, class = failure.class, "nothing was proven: {failure}");
                    setbacks.note(source, level);
                    // The level below may be due.
                    has_proven |= level == Some(ProofLevel::Restore);
                }
            }
        }
        has_proven
    }

    /// An error comes with the level of what was tried.
    fn prove_if_due(
        &self,
        prover: &Prover,
        source: &Source,
        vault: &str,
        top: ProofLevel,
    ) -> Result<bool, (Option<ProofLevel>, Failure)> {
        let looked = prover.due(source, vault, top).map_err(|failure| (None, failure))?;
        let Some((history, due)) = looked else { return Ok(false) };
        self.show_proofs(source, vault, &history);
        let Some(due) = due else { return Ok(false) };
        let failed = |failure| (Some(due.level), failure);
        let scratch = &self.config.node.scratch;
        let wanted = Wanted { source, vault, level: due.level, bytes_max: due.bytes_max, scratch };
        let proof = prover.prove(&wanted, &ProofProgress::default()).map_err(failed)?;
        proving::log(&proof, vault);
        self.show_vault(vault);
        let history = prover.history(source, vault).map_err(failed)?;
        self.show_proofs(source, vault, &history);
        if history.proofs().iter().all(|listed| listed.end < proof.end) {
            // Or it would be made again and again.
            let why = "the proof that was just made is not among those of the vault: see whether this node is trusted there, and its clock right";
            return Err(failed(Failure::failed(why)));
        }
        Ok(true)
    }

    fn show_proofs(&self, source: &Source, vault: &str, history: &ProofHistory) {
        let proofs = FlowProofs::up_to(source.verify.level.into(), history);
        self.board().flows.proven(source.name.as_str(), vault, proofs);
    }
}

/// Proofs that could not be made, and are not tried again at once: they may have cost hours.
#[derive(Debug, Default, Clone)]
pub(super) struct Setbacks(HashMap<(SourceName, Option<ProofLevel>), Instant>);

impl Setbacks {
    /// The highest level that is tried of a source; none while nothing is.
    fn top(&self, source: &Source) -> Option<ProofLevel> {
        let is_set_back = |level: Option<ProofLevel>, time: Duration| {
            let since = self.0.get(&(source.name.clone(), level));
            since.is_some_and(|since| since.elapsed() < time)
        };
        let nothing = is_set_back(None, SHORT_SETBACK)
            || is_set_back(Some(ProofLevel::Data), SHORT_SETBACK)
            || is_set_back(Some(ProofLevel::Structure), SHORT_SETBACK);
        match (nothing, is_set_back(Some(ProofLevel::Restore), LONG_SETBACK)) {
            (true, _) => None,
            (false, true) => Some(ProofLevel::Data),
            (false, false) => Some(ProofLevel::Restore),
        }
    }

    fn note(&mut self, source: &Source, level: Option<ProofLevel>) {
        self.0.insert((source.name.clone(), level), Instant::now());
    }
}
