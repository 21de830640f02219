//! The captures of the daemon: those that run, those that somebody wants now, and what became of them. Owns who
//! waits for whom; what is due is core's decision, and capturing is the engine's.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::clock::Moment;
use backstay_core::config::Target;
use backstay_core::schedule::{
    CaptureJob, Decision, Jitter, JobSize, Load, RunningCapture, ScheduledFlow, decide, due,
};
use backstay_core::units::Timestamp;
use backstay_files::capture::CaptureProgress;
use backstay_files::touched::Touched;
use backstay_vault::keys::random_bytes;
use backstay_vault::targets::{WaitWatch, WithOthers};
use backstay_vault::vault::Vault;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};
use tokio::sync::mpsc;

use super::asker::{Asker, Scope, Told};
use super::grouping::{brought_forward, gathering, group_time, is_more_to_come};
use super::running::{Running, Waiting, barred, look_at};
use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::OTHER_CLASS;
use crate::flows::UNANSWERED;
use crate::metrics::NodeLoad;

/// Captures at the same time.
const CAPTURES_MAX: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Captures that somebody wants now, at the same time, beside those that are due: they keep no slot from these.
const WANTED_MAX: usize = 1;

/// How long captures have to give up after a signal to end; with what `main` waits for requests that hang, the daemon
/// ends within 10 seconds.
const GIVE_UP_TIME: Duration = Duration::from_secs(6);

/// How long after the start of the daemon what is wanted waits for vaults that have not answered.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What is said of a target that is kept from captures.
const CLOSED: &str =
    "nothing is captured to this vault while it is mended; what is due is captured when that is over";

/// A source that is wanted now. There is one for each source, scope and hold at most, and no more askers than
/// conversations.
#[derive(Debug)]
struct Wanted {
    source: String,
    scope: Scope,
    /// The name under which the point is to be held.
    hold: Option<String>,
    askers: Vec<Asker>,
}

/// All captures.
pub(super) struct Captures {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    running: HashMap<String, Running>,
    /// Who came first is first.
    wanted: Vec<Wanted>,
    /// Until then, what is wanted waits for vaults that have not answered.
    answers_until: Instant,
    /// Vaults to which nothing is captured now.
    closed: BTreeSet<String>,
}

impl Captures {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        let answers_until = Instant::now() + ANSWER_TIME;
        let closed = BTreeSet::new();
        let running = HashMap::new();
        Self { daemon, events, running, wanted: Vec::new(), answers_until, closed }
    }

    /// Vaults that are being captured to.
    pub(super) fn under_way(&self) -> BTreeSet<String> {
        let targets = self.running.values().flat_map(|running| &running.targets);
        targets.map(|target| self.daemon.engine.vaults().entry(target.as_str()).to_owned()).collect()
    }

    /// Starts captures that are wanted, then those that are due, while there are slots, but none to vaults that are
    /// `closed`; says how long to sleep at most.
    pub(super) fn start_some(&mut self, closed: BTreeSet<String>) -> Duration {
        self.closed = closed;
        look_at(self.running.values_mut(), Instant::now());
        let awaits_answers = self.start_all_wanted();
        let now = self.daemon.clock.moment();
        let decision = self.decide(&self.open_flows(now), now.wall);
        for job in decision.start {
            let barred = self.barred();
            if job.targets.iter().any(|target| barred.contains(target)) {
                // By one that was begun just now: its slot is for something else.
                return Duration::ZERO;
            }
            self.start(&job, None, Vec::new(), Vec::new());
        }
        self.start_with_others();
        self.close_groups();
        let sleep = decision.wake_at.map_or(SLEEP_MAX, |at| at.duration_since(now.wall)).min(SLEEP_MAX);
        if awaits_answers { sleep.min(self.time_for_answers()) } else { sleep }
    }

    /// What is to be begun now of these flows.
    fn decide(&self, flows: &[ScheduledFlow], now: Timestamp) -> Decision {
        // One without a slot brings its own, and counts as long, so that it adds none for other long ones.
        let load: Vec<RunningCapture> = self.running.values().map(Running::as_load).collect();
        let without_slot = self.running.values().filter(|running| !running.has_slot()).count();
        let captures_max = CAPTURES_MAX.saturating_add(without_slot);
        decide(flows, Load { captures_max, running: &load }, now)
    }

    /// The flows whose vaults something may be captured to.
    fn open_flows(&self, now: Moment) -> Vec<ScheduledFlow> {
        let mut flows = self.daemon.board().flows.scheduled(now);
        let barred = self.barred();
        flows.retain(|flow| !self.is_closed(&flow.target) && !barred.contains(&flow.target));
        flows
    }

    /// Begins what is due soon where others to the same vault are under way: they commit together.
    fn start_with_others(&mut self) {
        let gathering = gathering(self.running.values(), &|targets| self.grouping_vaults(targets));
        if gathering.is_empty() {
            return;
        }
        let now = self.daemon.clock.moment();
        let early = brought_forward(&self.open_flows(now));
        for job in self.decide(&early, now.wall).start {
            let barred = self.barred();
            let is_barred = job.targets.iter().any(|target| barred.contains(target));
            let goes_with = !self.grouping_vaults(&job.targets).is_disjoint(&gathering);
            if !is_barred && goes_with && job.size == JobSize::Short {
                self.start(&job, None, Vec::new(), Vec::new());
            }
        }
    }

    /// Has those commit that wait where nobody else comes.
    fn close_groups(&self) {
        if self.running.values().all(|running| running.waiting.is_none()) {
            return;
        }
        let now = self.daemon.clock.moment();
        let soon = due(&brought_forward(&self.open_flows(now)), now.wall);
        let vaults = |targets: &[Target]| self.grouping_vaults(targets);
        for running in self.running.values() {
            if let Some(waiting) = &running.waiting
                && !is_more_to_come(running, self.running.values(), &soon, &vaults)
            {
                waiting.vaults.iter().for_each(|vault| vault.close_group(&self.daemon.commit_clock()));
            }
        }
    }

    /// The vaults among targets where commits wait for others: those whose requests cost.
    fn grouping_vaults(&self, targets: &[Target]) -> BTreeSet<String> {
        let vaults = self.daemon.engine.vaults();
        let entries = targets.iter().map(|target| vaults.entry(target.as_str()));
        entries.filter(|entry| vaults.is_costly(entry)).map(str::to_owned).collect()
    }

    fn barred(&self) -> BTreeSet<Target> {
        barred(&self.running, &self.daemon.engine.vaults().answered())
    }

    pub(super) fn load(&self, events_waiting: usize) -> NodeLoad {
        NodeLoad { captures_running: self.running.len(), requests_waiting: self.wanted.len(), events_waiting }
    }

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Wanted { sources, scope, hold, asker } => {
                for source in sources {
                    self.want(source, scope, hold.clone(), asker.clone());
                }
            }
            Event::AskerGone => self.forget_the_gone(),
            // The loop decides anew after every event.
            Event::Loaded => {}
            Event::Done { source, report, start } => self.end(&source, &report, start),
            Event::Waits { source, waiting } => {
                if let Some(running) = self.running.get_mut(&source) {
                    running.waiting = waiting;
                }
            }
            // Not of captures.
            Event::PruneWanted { .. }
            | Event::Pruned { .. }
            | Event::UpkeepWanted(_)
            | Event::Upkept { .. }
            | Event::Proven { .. }
            | Event::Held { .. }
            | Event::Relayed { .. }
            | Event::Watched { .. } => {}
        }
    }

    /// Asks all captures to give up and waits for a bounded time.
    pub(super) async fn give_up(&mut self, incoming: &mut mpsc::Receiver<Event>) {
        self.wanted.clear();
        for running in self.running.values() {
            running.progress.stop();
            let vaults = running.waiting.iter().flat_map(|waiting| &waiting.vaults);
            vaults.for_each(|vault| vault.close_group(&self.daemon.commit_clock()));
        }
        let deadline = tokio::time::Instant::now() + GIVE_UP_TIME;
        while !self.running.is_empty() {
            match tokio::time::timeout_at(deadline, incoming.recv()).await {
                Ok(Some(event @ Event::Done { .. })) => self.apply(event),
                Ok(Some(Event::Waits { waiting, .. })) => {
                    let vaults = waiting.iter().flat_map(|waiting| &waiting.vaults);
                    vaults.for_each(|vault| vault.close_group(&self.daemon.commit_clock()));
                }
                // An asker that is dropped here tells its client so.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn want(&mut self, source: String, scope: Scope, hold: Option<String>, asker: Asker) {
        if let (Scope::Due, Some(running)) = (scope, self.running.get_mut(&source)) {
            asker.clone().join(&mut running.listeners);
        }
        let is_same =
            |wanted: &&mut Wanted| (&wanted.source, wanted.scope, &wanted.hold) == (&source, scope, &hold);
        match self.wanted.iter_mut().find(is_same) {
            Some(wanted) => asker.join(&mut wanted.askers),
            None => self.wanted.push(Wanted { source, scope, hold, askers: vec![asker] }),
        }
    }

    /// What nobody waits for any more is not captured out of turn, and nobody is told who does not listen.
    fn forget_the_gone(&mut self) {
        for running in self.running.values_mut() {
            running.listeners.retain(Asker::is_there);
        }
        self.wanted.retain_mut(|wanted| {
            wanted.askers.retain(Asker::is_there);
            !wanted.askers.is_empty()
        });
    }

    /// Starts what is wanted while there are slots; whether something waits for the answer of a vault.
    fn start_all_wanted(&mut self) -> bool {
        let mut awaits_answers = false;
        for wanted in std::mem::take(&mut self.wanted) {
            let awaited = self.daemon.board().flows.awaited_of(&wanted.source);
            if !awaited.is_empty() && !self.time_for_answers().is_zero() {
                awaits_answers = true;
                self.wanted.push(wanted);
            } else if self.wanted_running() >= WANTED_MAX || self.running.contains_key(&wanted.source) {
                // What changed after the start of a capture under way may not be in it.
                self.wanted.push(wanted);
            } else {
                self.start_wanted(wanted, &awaited);
            }
        }
        awaits_answers
    }

    fn wanted_running(&self) -> usize {
        self.running.values().filter(|running| running.is_wanted && !running.is_let_go).count()
    }

    fn time_for_answers(&self) -> Duration {
        self.answers_until.saturating_duration_since(Instant::now())
    }

    /// Captures what is wanted, but for targets whose vaults are awaited still, or closed.
    fn start_wanted(&mut self, wanted: Wanted, awaited: &[Target]) {
        let closed = self.closed_of(&wanted.source);
        let mut left_out = failed(&wanted.source, awaited, UNANSWERED);
        left_out.targets.extend(failed(&wanted.source, &closed, CLOSED).targets);
        let job = match wanted.scope {
            Scope::All => self.whole(&wanted.source, &[awaited, &closed].concat()),
            Scope::Due => self.due(&wanted.source),
        };
        match job {
            Some(job) => self.start(&job, wanted.hold, wanted.askers, left_out.targets),
            None => {
                for asker in wanted.askers {
                    if !left_out.targets.is_empty() {
                        asker.tell(Told::Captured(left_out.clone()));
                    }
                    asker.tell(Told::Over);
                }
            }
        }
    }

    fn is_closed(&self, target: &Target) -> bool {
        let entry = |name| self.daemon.engine.vaults().entry(name);
        target.vault().is_some_and(|name| self.closed.contains(entry(name)))
    }

    /// Targets of a source that are closed; those that are awaited are not among them.
    fn closed_of(&self, source: &str) -> Vec<Target> {
        let flows = self.daemon.board().flows.scheduled(self.daemon.clock.moment());
        let closed = flows.into_iter().filter(|flow| flow.source.as_str() == source);
        closed.map(|flow| flow.target).filter(|target| self.is_closed(target)).collect()
    }

    /// A capture of a source for all its targets but some; none when that leaves nothing.
    fn whole(&self, source: &str, but: &[Target]) -> Option<CaptureJob> {
        let source = self.daemon.source(source)?;
        let all = source.flows.iter().map(|flow| flow.target.clone());
        let targets: Vec<Target> = all.filter(|target| !but.contains(target)).collect();
        let job = CaptureJob {
            source: source.name.clone(),
            targets,
            size: JobSize::Short,
            duration: Duration::ZERO,
        };
        (!job.targets.is_empty()).then_some(job)
    }

    /// What of a source is due now.
    fn due(&self, source: &str) -> Option<CaptureJob> {
        let now = self.daemon.clock.moment();
        let mut flows = self.daemon.board().flows.scheduled(now);
        flows.retain(|flow| flow.source.as_str() == source && !self.is_closed(&flow.target));
        due(&flows, now.wall).pop()
    }

    fn start(
        &mut self,
        job: &CaptureJob,
        hold: Option<String>,
        askers: Vec<Asker>,
        left_out: Vec<TargetReport>,
    ) {
        let progress = Arc::new(CaptureProgress::default());
        let now = self.daemon.clock.moment();
        let start = now.wall;
        let name = job.source.to_string();
        for asker in &askers {
            asker.tell(Told::Started { source: name.clone(), progress: Arc::clone(&progress) });
        }
        let touched = self.daemon.board().flows.begin(&name, &job.targets, !askers.is_empty(), now);
        let load = job.started_at(start);
        let progress_shown = Arc::clone(&progress);
        let (came, is_wanted) = ((Instant::now(), 0), !askers.is_empty());
        let running = Running {
            load,
            targets: job.targets.clone(),
            progress: progress_shown,
            came,
            stands_still: false,
            is_let_go: false,
            waiting: None,
            is_wanted,
            askers,
            listeners: Vec::new(),
            left_out,
        };
        self.running.insert(name.clone(), running);
        let (daemon, events) = (Arc::clone(&self.daemon), self.events.clone());
        let (source, targets) = (name.clone(), job.targets.clone());
        // Who wants it now does not wait for others.
        let others = (!is_wanted).then(|| self.with_others(&name, &job.targets));
        let work = move || {
            let report = capture(&daemon, &source, &targets, &touched, hold.as_deref(), &progress, others);
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Done { source, report: Box::new(report), start });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("capture {name}")).spawn(work) {
            let why = format!(
                "cannot start a thread: {error}; raise the limit on tasks (TasksMax= of the unit, ulimit -u)"
            );
            self.end(&name, &failed(&name, &job.targets, &why), start);
        }
    }

    /// How a capture commits with others.
    fn with_others(&self, source: &str, targets: &[Target]) -> WithOthers {
        let configured = self.daemon.source(source).into_iter().flat_map(|source| &source.flows);
        let rpo = configured.filter(|flow| targets.contains(&flow.target)).map(|flow| flow.rpo).min();
        let watch = Waits { source: source.to_owned(), events: self.events.clone() };
        let wait = group_time(rpo.unwrap_or_default());
        WithOthers::new(self.daemon.commit_clock(), Arc::new(watch), wait)
    }

    /// There may be a thousand, and captures of the source every minute.
    fn log_warnings(&self, source: &str, report: &CaptureReport) {
        if !self.daemon.board().flows.has_warned(report) {
            report.warnings.iter().for_each(|warning| tracing::warn!(source, "{warning}"));
        } else if !report.warnings.is_empty() {
            tracing::warn!(source, "the same {} warnings as the last time", report.warnings.len());
        }
    }

    fn end(&mut self, source: &str, report: &CaptureReport, start: Timestamp) {
        let now = self.daemon.clock.now();
        self.log_warnings(source, report);
        for target in &report.targets {
            if let TargetOutcome::Failed { message, class } = &target.outcome {
                tracing::warn!(source, target = target.target, class, "{message}");
            }
        }
        let mut board = self.daemon.board();
        for remark in board.flows.new_remarks(report) {
            tracing::warn!(source, "{remark}");
        }
        board.flows.end(report, start, now, Jitter(u32::from_le_bytes(random_bytes())));
        board.counters.count(report);
        drop(board);
        if let Some(running) = self.running.remove(source) {
            for listener in running.listeners {
                listener.tell(Told::Captured(report.clone()));
            }
            let mut told = report.clone();
            told.targets.extend(running.left_out);
            for asker in running.askers {
                asker.tell(Told::Captured(told.clone()));
                asker.tell(Told::Over);
            }
        }
    }
}

/// Tells the loop how a capture waits.
struct Waits {
    source: String,
    events: mpsc::Sender<Event>,
}

impl Waits {
    fn tell(&self, waiting: Option<Waiting>) {
        // The loop is gone when the daemon ends.
        let _ = self.events.blocking_send(Event::Waits { source: self.source.clone(), waiting });
    }
}

impl WaitWatch for Waits {
    fn waits(&self, vaults: &[Arc<Vault>], bytes: usize) {
        self.tell(Some(Waiting { vaults: vaults.to_vec(), bytes }));
    }

    fn goes_on(&self) {
        self.tell(None);
    }
}

/// Captures, whatever happens meanwhile: a source whose capture never ends would not be captured again.
fn capture(
    daemon: &Daemon,
    source: &str,
    targets: &[Target],
    touched: &Touched,
    hold: Option<&str>,
    progress: &CaptureProgress,
    others: Option<WithOthers>,
) -> CaptureReport {
    let Some(configured) = daemon.source(source) else { return CaptureReport::of_nothing(source) };
    let captured = catch_unwind(AssertUnwindSafe(|| {
        daemon.capture(configured, targets, touched, hold, progress, others)
    }));
    captured.unwrap_or_else(|_| {
        failed(source, targets, "the capture panicked, which is an error in Backstay; its log tells where")
    })
}

/// The report of a capture that failed for all targets.
fn failed(source: &str, targets: &[Target], message: &str) -> CaptureReport {
    let outcome = TargetOutcome::Failed { message: message.to_owned(), class: OTHER_CLASS.to_owned() };
    let failed = |target: &Target| TargetReport::without_work(target.to_string(), outcome.clone());
    CaptureReport { targets: targets.iter().map(failed).collect(), ..CaptureReport::of_nothing(source) }
}
