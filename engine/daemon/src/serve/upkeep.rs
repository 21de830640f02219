//! Jobs on vaults that commands have the daemon do: which may begin, beside captures, prunes and each other. Each runs on a
//! thread of its own; there are no more than commands that wait, and of those that nobody waits for any more at most
//! one for each vault, and one for keys.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use backstay_wire::upkeep::{Upkeep, UpkeepReport};
use tokio::sync::{mpsc, oneshot};

use super::loading::ask_again;
use super::{Daemon, Event};
use crate::failure::Failure;
use crate::flows::Aftermath;
use crate::upkeep::{Claims, UpkeepProgress, name_of, run};

/// What somebody who wants a job done is told.
pub(super) type UpkeepOutcome = Result<UpkeepReport, Failure>;

/// A job that somebody wants done.
#[derive(Debug)]
pub(super) struct WantedJob {
    pub(super) job: Upkeep,
    pub(super) progress: Arc<UpkeepProgress>,
    pub(super) asker: oneshot::Sender<UpkeepOutcome>,
}

/// What others are at, as far as jobs have to wait for it.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Vaults that are being pruned.
    pub(super) pruned: BTreeSet<String>,
    /// Vaults that are being captured to.
    pub(super) captured_to: BTreeSet<String>,
}

impl Busy {
    fn allows(&self, claims: &Claims) -> bool {
        self.pruned.is_disjoint(&claims.care) && self.captured_to.is_disjoint(&claims.closed)
    }
}

/// A job under way.
#[derive(Debug)]
struct Running {
    number: u64,
    name: String,
    claims: Claims,
    asker: oneshot::Sender<UpkeepOutcome>,
}

/// All jobs.
#[derive(Debug)]
pub(super) struct UpkeepJobs {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    /// Who came first is first.
    waiting: Vec<(WantedJob, Claims)>,
    running: Vec<Running>,
    /// Of the job that began last.
    number: u64,
}

impl UpkeepJobs {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        Self { daemon, events, waiting: Vec::new(), running: Vec::new(), number: 0 }
    }

    pub(super) fn want(&mut self, wanted: WantedJob) {
        let claims = Claims::of(&wanted.job, &self.daemon.config);
        self.waiting.push((wanted, claims));
    }

    /// Starts the jobs that nothing keeps waiting: neither what others are at, nor a job that came before.
    pub(super) fn start_some(&mut self, busy: &Busy) {
        self.waiting.retain(|(wanted, _)| !wanted.asker.is_closed());
        let mut before: Vec<Claims> = self.running.iter().map(|running| running.claims.clone()).collect();
        for (wanted, claims) in std::mem::take(&mut self.waiting) {
            let is_free = busy.allows(&claims) && !before.iter().any(|other| other.exclude(&claims));
            before.push(claims.clone());
            match is_free {
                true => self.start(wanted, claims),
                false => self.waiting.push((wanted, claims)),
            }
        }
    }

    /// Vaults that nobody else may care for, until the jobs are over that are under way or wait.
    pub(super) fn cared_for(&self) -> BTreeSet<String> {
        self.claims().flat_map(|claims| claims.care.iter().cloned()).collect()
    }

    /// Vaults to which nothing may be captured until then.
    pub(super) fn closed(&self) -> BTreeSet<String> {
        self.claims().flat_map(|claims| claims.closed.iter().cloned()).collect()
    }

    fn claims(&self) -> impl Iterator<Item = &Claims> {
        let running = self.running.iter().map(|running| &running.claims);
        running.chain(self.waiting.iter().map(|(_, claims)| claims))
    }

    fn start(&mut self, wanted: WantedJob, claims: Claims) {
        let WantedJob { job, progress, asker } = wanted;
        self.number += 1;
        let (number, name) = (self.number, name_of(&job));
        self.running.push(Running { number, name: name.clone(), claims: claims.clone(), asker });
        let (daemon, events) = (Arc::clone(&self.daemon), self.events.clone());
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(|| run(&daemon.engine, &job, &progress)));
            let outcome = done.unwrap_or_else(|_| {
                Err(Failure::failed(
                    "the job panicked, which is an error in Backstay; the daemon's log tells where",
                ))
            });
            // Before anybody is told, and before anything is captured to a vault that was closed.
            let mended = aftermath_of_mending(&outcome);
            let of_vault = |vault: &str| match claims.closed.contains(vault) {
                true => mended,
                false => Aftermath::Kept,
            };
            if catch_unwind(AssertUnwindSafe(|| ask_again(&daemon, &claims.care, of_vault))).is_err() {
                tracing::error!(
                    "what vaults have after a job could not be learnt, which is an error in Backstay"
                );
            }
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Upkept { number, outcome: Box::new(outcome) });
        };
        if let Err(error) = std::thread::Builder::new().name("upkeep".to_owned()).spawn(work) {
            let why = format!(
                "the daemon cannot start a thread: {error}; raise the limit on tasks (TasksMax= of the unit, ulimit -u)"
            );
            tracing::warn!(job = name, "{why}");
            self.end(number, Err(Failure::failed(why)));
        }
    }

    /// A job has ended. Returns the vaults that it was about.
    pub(super) fn end(&mut self, number: u64, outcome: UpkeepOutcome) -> BTreeSet<String> {
        let Some(place) = self.running.iter().position(|running| running.number == number) else {
            return BTreeSet::new();
        };
        let Running { name, claims, asker, .. } = self.running.swap_remove(place);
        match &outcome {
            Ok(_) => tracing::info!("{name}: done"),
            Err(failure) if asker.is_closed() => {
                tracing::warn!(class = failure.class, "{name}: {}", failure.message);
            }
            Err(failure) => tracing::info!("{name}: {}", failure.message),
        }
        claims.care.iter().for_each(|vault| self.daemon.show_vault(vault));
        // Who is gone is told nothing.
        let _ = asker.send(outcome);
        claims.care
    }
}

/// What became of a vault that was closed for a job.
fn aftermath_of_mending(outcome: &UpkeepOutcome) -> Aftermath {
    match outcome {
        Ok(UpkeepReport::Repaired(report)) if report.has_losses() => Aftermath::Lost,
        // It was not even opened.
        Err(failure) if failure.class == "no_vault" => Aftermath::Kept,
        _ => Aftermath::Mended,
    }
}
