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
use crate::upkeep::{Claims, NOT_BEGUN, UpkeepProgress, name_of, run};

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

/// What a job waits for, beside jobs that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Nothing.
    None,
    /// Captures alone, so that none may be begun any more: others would keep it waiting for ever.
    Captures,
    /// A prune. Captures may go on meanwhile.
    Prune,
}

impl Busy {
    fn obstacle_to(&self, claims: &Claims) -> Obstacle {
        match (self.pruned.is_disjoint(&claims.care), self.captured_to.is_disjoint(&claims.closed)) {
            (false, _) => Obstacle::Prune,
            (true, false) => Obstacle::Captures,
            (true, true) => Obstacle::None,
        }
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
    /// Vaults of waiting jobs that nothing but captures keeps from beginning.
    closing: BTreeSet<String>,
    /// Of the job that began last.
    number: u64,
}

impl UpkeepJobs {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        Self { daemon, events, waiting: Vec::new(), running: Vec::new(), closing: BTreeSet::new(), number: 0 }
    }

    pub(super) fn want(&mut self, wanted: WantedJob) {
        let claims = Claims::of(&wanted.job, &self.daemon.config);
        self.waiting.push((wanted, claims));
    }

    /// Starts the jobs that nothing keeps waiting: neither what others are at, nor a job that came before.
    pub(super) fn start_some(&mut self, busy: &Busy) {
        self.waiting.retain(|(wanted, _)| !wanted.asker.is_closed());
        self.closing.clear();
        let mut before: Vec<Claims> = self.running.iter().map(|running| running.claims.clone()).collect();
        for (wanted, claims) in std::mem::take(&mut self.waiting) {
            let is_next = !before.iter().any(|other| other.exclude(&claims));
            before.push(claims.clone());
            match busy.obstacle_to(&claims) {
                Obstacle::None if is_next => {
                    self.start(wanted, claims);
                    continue;
                }
                Obstacle::Captures if is_next => self.closing.extend(claims.closed.iter().cloned()),
                _ => {}
            }
            self.waiting.push((wanted, claims));
        }
    }

    /// Vaults that nobody else may care for, until the jobs are over that are under way or wait.
    pub(super) fn cared_for(&self) -> BTreeSet<String> {
        let running = self.running.iter().map(|running| &running.claims);
        let all = running.chain(self.waiting.iter().map(|(_, claims)| claims));
        all.flat_map(|claims| claims.care.iter().cloned()).collect()
    }

    /// Vaults to which nothing may be captured now: those of jobs under way, and of those that wait for captures alone. One
    /// that waits for something else, such as a long copy, closes nothing yet.
    pub(super) fn closed(&self) -> BTreeSet<String> {
        let running = self.running.iter().flat_map(|running| &running.claims.closed);
        running.chain(&self.closing).cloned().collect()
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
        Err(failure) if failure.class == NOT_BEGUN => Aftermath::Kept,
        _ => Aftermath::Mended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_for_captures_alone_only_while_its_vaults_are_not_pruned() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let claims = Claims { care: set(&["local", "usb"]), closed: set(&["local"]), keys: false };
        let obstacle = |pruned: &[&str], captured_to: &[&str]| {
            Busy { pruned: set(pruned), captured_to: set(captured_to) }.obstacle_to(&claims)
        };
        assert_eq!(obstacle(&["third"], &["usb"]), Obstacle::None);
        assert_eq!(obstacle(&["third"], &["local"]), Obstacle::Captures);
        assert_eq!(obstacle(&["usb"], &["local"]), Obstacle::Prune);
        assert_eq!(obstacle(&["local"], &[]), Obstacle::Prune);
    }
}
