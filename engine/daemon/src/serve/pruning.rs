//! Pruning by the daemon: after captures, at most hourly, and when somebody wants it. Each vault by itself, on a thread
//! of its own: one that hangs keeps no other waiting.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{SourceName, VaultKind};
use backstay_wire::control::{CaptureReport, PruneReport, TargetOutcome};
use tokio::sync::{mpsc, oneshot};

use super::due::{Due, End};
use super::{Daemon, Event, SLEEP_MAX};
use crate::care::{period_of, summary};

/// What somebody who wants a prune is told; a failure in words.
pub(super) type PruneOutcome = Result<PruneReport, String>;

/// Where it is told.
type PruneAsker = oneshot::Sender<PruneOutcome>;

/// A prune that somebody wants.
#[derive(Debug)]
pub(super) struct WantedPrune {
    /// Where the outcome is told.
    pub(super) asker: PruneAsker,
    /// Whether points of a time to come get the times of their captures first.
    pub(super) trusts_clock: bool,
}

/// A prune under way.
struct Running {
    askers: Vec<PruneAsker>,
    /// Whether it was due by itself.
    was_due: bool,
}

/// What is pruned, and when.
pub(super) struct Pruning {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    due: Due,
    running: HashMap<String, Running>,
    wanted: HashMap<String, Vec<WantedPrune>>,
    /// Vaults of which another node is custodian, as far as was tried.
    of_others: HashSet<String>,
}

impl Pruning {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        let periods = daemon.config.vaults.values();
        let periods = periods.map(|vault| (vault.name.to_string(), period_of(&vault.kind)));
        let mut due = Due::with_periods(periods.collect());
        // To these others commit, at any time.
        held(&daemon).for_each(|vault| due.committed(&vault, Instant::now()));
        Self {
            daemon,
            events,
            due,
            running: HashMap::new(),
            wanted: HashMap::new(),
            of_others: HashSet::new(),
        }
    }

    /// What a capture has committed to is to be pruned.
    pub(super) fn captured(&mut self, report: &CaptureReport) {
        // It is looked at often, and seldom has a new point: a vault of data that is captured weekly would be pruned daily for it.
        let is_fleet = report.source.parse::<SourceName>().is_ok_and(|name| name.as_fleet_of().is_some());
        for target in &report.targets {
            let is_vault = self
                .daemon
                .config
                .vaults
                .iter()
                .any(|(name, vault)| name.as_str() == target.target && vault.kind.may_be_cared_for());
            let is_new = match target.outcome {
                TargetOutcome::Point { .. } => true,
                TargetOutcome::Unchanged { .. } => !is_fleet,
                TargetOutcome::Failed { .. } => false,
            };
            if is_vault && is_new && !self.of_others.contains(&target.target) {
                self.due.committed(&target.target, Instant::now());
            }
        }
    }

    /// Points of others were copied to this vault, which is this node's.
    pub(super) fn committed(&mut self, vault: &str) {
        if !self.of_others.contains(vault) {
            self.due.committed(vault, Instant::now());
        }
    }

    /// Vaults of which a prune is due now.
    pub(super) fn due_now(&self) -> BTreeSet<String> {
        let now = Instant::now();
        self.due.all().filter(|(_, from)| *from <= now).map(|(vault, _)| vault.clone()).collect()
    }

    /// Somebody wants a prune that begins from now on.
    pub(super) fn want(&mut self, vault: String, wanted: WantedPrune) {
        self.wanted.entry(vault).or_default().push(wanted);
    }

    /// Vaults that are being pruned.
    pub(super) fn under_way(&self) -> BTreeSet<String> {
        self.running.keys().cloned().collect()
    }

    /// Something was done to these vaults after which this node may be their custodian.
    pub(super) fn may_be_own(&mut self, vaults: &BTreeSet<String>) {
        self.of_others.retain(|vault| !vaults.contains(vault));
    }

    /// Starts what is wanted or due, but for vaults that are `cared_for` otherwise; says how long to sleep at most.
    pub(super) fn start_some(&mut self, cared_for: &BTreeSet<String>) -> Duration {
        self.wanted.values_mut().for_each(|all| all.retain(|wanted| !wanted.asker.is_closed()));
        let now = Instant::now();
        let wanted = self.wanted.iter().filter(|(_, askers)| !askers.is_empty()).map(|(vault, _)| vault);
        let due = self.due.all().filter(|(_, from)| *from <= now).map(|(vault, _)| vault);
        let is_idle = |vault: &&String| !self.running.contains_key(*vault) && !cared_for.contains(*vault);
        let start: HashSet<String> = wanted.chain(due).filter(is_idle).cloned().collect();
        start.into_iter().for_each(|vault| self.start(vault));
        // What is in the way tells when it has ended.
        let is_free = |vault: &String| !self.running.contains_key(vault) && !cared_for.contains(vault);
        let next = self.due.all().filter(|(vault, _)| is_free(vault)).map(|(_, from)| from);
        next.min().map_or(SLEEP_MAX, |from| from.saturating_duration_since(now))
    }

    fn start(&mut self, vault: String) {
        let was_due = self.due.begun(&vault);
        let wanted = self.wanted.remove(&vault).unwrap_or_default();
        // Who has not asked for it gets what somebody else has.
        let trusts_clock = wanted.iter().any(|wanted| wanted.trusts_clock);
        let askers = wanted.into_iter().map(|wanted| wanted.asker).collect();
        self.running.insert(vault.clone(), Running { askers, was_due });
        let (daemon, events, name) = (Arc::clone(&self.daemon), self.events.clone(), vault.clone());
        let work = move || {
            let pruned = catch_unwind(AssertUnwindSafe(|| daemon.engine.care().prune(&name, trusts_clock)));
            let outcome = match pruned {
                Ok(Ok(report)) => Ok(report),
                Ok(Err(failure)) => Err((failure.class, failure.message)),
                Err(_) => Err((
                    "other",
                    "the prune panicked, which is an error in Backstay; its log tells where".to_owned(),
                )),
            };
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Pruned { vault: name, outcome: Box::new(outcome) });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("prune {vault}")).spawn(work) {
            let why =
                format!("cannot start a thread: {error}; raise the limit on tasks (TasksMax= of the unit)");
            self.end(&vault, Err(("other", why)));
        }
    }

    /// A prune has ended.
    pub(super) fn end(&mut self, vault: &str, outcome: Result<PruneReport, (&'static str, String)>) {
        let running = self.running.remove(vault);
        let was_due = running.as_ref().is_some_and(|running| running.was_due);
        let end = match &outcome {
            // What a busy vault has committed since the pass before thinning is for the next prune.
            Ok(report) if report.is_unfinished => {
                tracing::debug!(vault, commits = report.awaited.len(), "a prune waits for commits to end");
                End::Waits
            }
            Ok(report) => {
                tracing::info!("{}", summary(report));
                self.daemon.metrics.pruned(vault, self.daemon.clock.now());
                End::Whole
            }
            Err(("not_custodian", message)) => {
                tracing::info!("{message}");
                self.of_others.insert(vault.to_owned());
                End::Whole
            }
            // What is to be held has not come yet.
            Err(("no_vault", _)) if held(&self.daemon).any(|held| held == vault) => End::Whole,
            Err((class, message)) => {
                tracing::warn!(vault, class, "{message}");
                self.daemon.metrics.prune_failed(vault);
                End::Failed
            }
        };
        self.due.ended(vault, was_due, end, Instant::now());
        if held(&self.daemon).any(|held| held == vault) && !self.of_others.contains(vault) {
            self.due.committed(vault, Instant::now());
        }
        self.daemon.show_vault(vault);
        let told: PruneOutcome = outcome.map_err(|(_, message)| message);
        for asker in running.into_iter().flat_map(|running| running.askers) {
            // Who is gone is told nothing.
            let _ = asker.send(told.clone());
        }
    }
}

/// The vaults that this node holds for others.
fn held(daemon: &Daemon) -> impl Iterator<Item = String> {
    let vaults = daemon.config.vaults.values();
    vaults.filter(|vault| matches!(vault.kind, VaultKind::Held(_))).map(|vault| vault.name.to_string())
}
