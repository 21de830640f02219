//! The captures of the daemon: those that run, those that somebody wants now, and what became of them. Owns who
//! waits for whom; what is due is core's decision, and capturing is the engine's.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::Target;
use backstay_core::schedule::{CaptureJob, Jitter, JobSize, Load, RunningCapture, decide, due};
use backstay_core::units::Timestamp;
use backstay_files::capture::CaptureProgress;
use backstay_files::touched::Touched;
use backstay_vault::keys::random_bytes;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};
use tokio::sync::mpsc;

use super::asker::{Asker, Scope, Told};
use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::OTHER_CLASS;
use crate::flows::UNANSWERED;
use crate::metrics::NodeLoad;

/// Captures at the same time.
const CAPTURES_MAX: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Captures that somebody wants now, at the same time, beside those that are due: they keep no slot from these.
const WANTED_MAX: usize = 1;

/// A capture that has come no further for so long waits for a vault that hangs, and has no slot any more: it takes no time
/// from others, and no more memory than it has.
const STALL_TIME: Duration = Duration::from_secs(60);

/// So many of these have no slot: each that was let go makes room for one more, which takes its memory as well.
const STALLED_MAX: usize = 2;

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

/// A capture under way.
#[derive(Debug)]
struct Running {
    load: RunningCapture,
    targets: Vec<Target>,
    progress: Arc<CaptureProgress>,
    /// How far it had come when that was seen first.
    came: (Instant, u64),
    /// Whether it has come no further for long.
    stands_still: bool,
    /// Whether it has no slot because of that.
    is_let_go: bool,
    /// Whether it was begun because somebody wants it.
    is_wanted: bool,
    /// They want this capture.
    askers: Vec<Asker>,
    /// They want what is due, of which this capture is a part.
    listeners: Vec<Asker>,
    /// What the askers are told beside: targets that were wanted and are not captured.
    left_out: Vec<TargetReport>,
}

impl Running {
    fn has_slot(&self) -> bool {
        !self.is_wanted && !self.is_let_go
    }

    fn as_load(&self) -> RunningCapture {
        let size = if self.has_slot() { self.load.size } else { JobSize::Long };
        RunningCapture { size, ..self.load.clone() }
    }

    /// Looks how far it has come.
    fn look(&mut self, now: Instant) {
        let mark = self.progress.mark();
        if mark != self.came.1 {
            self.came = (now, mark);
        }
    }
}

/// Looks how far captures have come, and which of them have no slot any more: those that have stood still for the longest, of
/// what is due and of what is wanted.
fn look_at<'r>(running: impl Iterator<Item = &'r mut Running>, now: Instant) {
    let mut all: Vec<&mut Running> = running.collect();
    all.iter_mut().for_each(|running| running.look(now));
    all.sort_by_key(|running| running.came.0);
    let mut let_go = [0; 2];
    for running in all {
        let of_kind = &mut let_go[usize::from(running.is_wanted)];
        running.stands_still = now.saturating_duration_since(running.came.0) > STALL_TIME;
        running.is_let_go = running.stands_still && *of_kind < STALLED_MAX;
        *of_kind += usize::from(running.is_let_go);
    }
}

/// Targets to which no more is begun that is due: a capture to them stands still, they have answered nothing since it came
/// further last, and one is under way that will show whether they hang. Or a vault that hangs would soon have all slots.
fn barred(running: &HashMap<String, Running>, answered: &HashMap<String, Instant>) -> BTreeSet<Target> {
    let is_doubtful = |target: &&Target| {
        let answered = answered.get(target.as_str());
        let mut to_it = running.values().filter(|running| running.targets.contains(target));
        to_it.any(|to_it| to_it.stands_still && answered.is_none_or(|answered| *answered < to_it.came.0))
    };
    let with_slot = running.values().filter(|running| !running.is_let_go);
    with_slot.flat_map(|running| &running.targets).filter(is_doubtful).cloned().collect()
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
        let moment = self.daemon.clock.moment();
        let now = moment.wall;
        // One without a slot brings its own, and counts as long, so that it adds none for other long ones.
        let load: Vec<RunningCapture> = self.running.values().map(Running::as_load).collect();
        let without_slot = self.running.values().filter(|running| !running.has_slot()).count();
        let captures_max = CAPTURES_MAX.saturating_add(without_slot);
        let mut flows = self.daemon.board().flows.scheduled(moment);
        let barred = self.barred();
        flows.retain(|flow| !self.is_closed(&flow.target) && !barred.contains(&flow.target));
        let decision = decide(&flows, Load { captures_max, running: &load }, now);
        for job in decision.start {
            let barred = self.barred();
            if job.targets.iter().any(|target| barred.contains(target)) {
                // By one that was begun just now: its slot is for something else.
                return Duration::ZERO;
            }
            self.start(&job, None, Vec::new(), Vec::new());
        }
        let sleep = decision.wake_at.map_or(SLEEP_MAX, |at| at.duration_since(now)).min(SLEEP_MAX);
        if awaits_answers { sleep.min(self.time_for_answers()) } else { sleep }
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
        }
        let deadline = tokio::time::Instant::now() + GIVE_UP_TIME;
        while !self.running.is_empty() {
            match tokio::time::timeout_at(deadline, incoming.recv()).await {
                Ok(Some(event @ Event::Done { .. })) => self.apply(event),
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
            is_wanted,
            askers,
            listeners: Vec::new(),
            left_out,
        };
        self.running.insert(name.clone(), running);
        let (daemon, events) = (Arc::clone(&self.daemon), self.events.clone());
        let (source, targets) = (name.clone(), job.targets.clone());
        let work = move || {
            let report = capture(&daemon, &source, &targets, &touched, hold.as_deref(), &progress);
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

/// Captures, whatever happens meanwhile: a source whose capture never ends would not be captured again.
fn capture(
    daemon: &Daemon,
    source: &str,
    targets: &[Target],
    touched: &Touched,
    hold: Option<&str>,
    progress: &CaptureProgress,
) -> CaptureReport {
    let Some(configured) = daemon.source(source) else { return CaptureReport::of_nothing(source) };
    let captured =
        catch_unwind(AssertUnwindSafe(|| daemon.capture(configured, targets, touched, hold, progress)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn running(source: &str, came: Instant) -> Running {
        let source = source.parse().expect("a name");
        Running {
            load: RunningCapture { source, size: JobSize::Short, ends_by: Timestamp::MAX },
            targets: Vec::new(),
            progress: Arc::default(),
            came: (came, 0),
            stands_still: false,
            is_let_go: false,
            is_wanted: false,
            askers: Vec::new(),
            listeners: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn captures_that_stand_still_make_room_for_others_but_not_for_any_number() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut all: Vec<Running> =
            (0..5).map(|n| running(&format!("s{n}.files"), start + second * n)).collect();
        let let_go = |all: &mut Vec<Running>, now| {
            look_at(all.iter_mut(), now);
            all.iter().map(|running| !running.has_slot()).collect::<Vec<_>>()
        };
        assert_eq!(let_go(&mut all, start + STALL_TIME), [false; 5]);
        assert_eq!(let_go(&mut all, start + STALL_TIME + second), [true, false, false, false, false]);
        let late = start + STALL_TIME * 2;
        assert_eq!(let_go(&mut all, late), [true, true, false, false, false]);
        // The first ends.
        all.remove(0);
        assert_eq!(let_go(&mut all, late), [true, true, false, false]);
    }

    #[test]
    fn a_vault_that_hangs_gets_one_capture_more_and_one_that_answers_gets_all() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let target = |name: &str| Target::Vault(name.parse().expect("a name"));
        let mut all = HashMap::new();
        let begin = |all: &mut HashMap<String, Running>, n: u32, to: &[&str], at: Instant| {
            let mut running = running(&format!("s{n}.files"), at);
            running.targets = to.iter().map(|name| target(name)).collect();
            all.insert(format!("s{n}.files"), running);
        };
        begin(&mut all, 1, &["local", "usb"], start);
        begin(&mut all, 2, &["usb"], start);
        let nobody = HashMap::new();
        assert!(barred(&all, &nobody).is_empty(), "they have only begun");
        let still = start + STALL_TIME + second;
        look_at(all.values_mut(), still);
        assert!(barred(&all, &nobody).is_empty(), "that they hang is not known");
        begin(&mut all, 3, &["usb"], still);
        assert_eq!(barred(&all, &nobody), [target("usb")].into());
        let answered = |seconds| HashMap::from([("usb".to_owned(), start + second * seconds)]);
        assert!(barred(&all, &answered(1)).is_empty(), "it is the sources that hang");
        begin(&mut all, 4, &["local"], still);
        assert_eq!(barred(&all, &nobody), [target("local"), target("usb")].into());
        // The one that was to show it hangs as well, and keeps its slot.
        look_at(all.values_mut(), still + STALL_TIME + second);
        assert!(barred(&all, &answered(0)).contains(&target("usb")), "it has answered nothing since");
    }
}
