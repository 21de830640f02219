//! The daemon: captures what is due, answers on the control socket and over HTTP, and ends cleanly. The shell
//! around core's decisions: select, event, apply.

mod http;
mod socket;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_core::config::{Config, Source, Target};
use backstay_core::schedule::{CaptureJob, Jitter, JobSize, Load, RunningCapture, decide};
use backstay_core::units::Timestamp;
use backstay_files::capture::CaptureProgress;
use backstay_vault::keys::random_bytes;
use backstay_wire::control::{CaptureReport, Progress, TargetOutcome};
use backstay_wire::status::NodeStatus;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::flow_counters::FlowCounters;
use crate::flows::Flows;
use crate::metrics::{Metrics, NodeLoad};
use crate::node::StateLock;
use crate::vaults::{Absent, ClockDebug};

/// Captures at the same time.
const CAPTURES_MAX: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// Events that wait for the loop.
const EVENTS_MAX: usize = 64;

/// Requests to capture now that wait for their turn.
const WANTED_MAX: usize = 1024;

/// How long captures have to give up after a signal to end; with what `main` waits for requests that hang, the daemon
/// ends within 10 seconds.
const GIVE_UP_TIME: Duration = Duration::from_secs(6);

/// Longest sleep: a clock that was set is noticed after this.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What the daemon's parts share.
#[derive(Debug)]
pub struct Daemon {
    config: Arc<Config>,
    engine: Arc<Engine>,
    clock: Arc<dyn ClockDebug>,
    metrics: Arc<Metrics>,
    board: Mutex<Board>,
}

/// What is known of the flows.
#[derive(Debug)]
struct Board {
    flows: Flows,
    counters: FlowCounters,
    load: NodeLoad,
}

/// What the loop is told.
#[derive(Debug)]
enum Event {
    /// Somebody wants a source captured now, and to be told.
    Now {
        source: String,
        reply: oneshot::Sender<CaptureReport>,
        progress: oneshot::Sender<Arc<CaptureProgress>>,
    },
    /// A capture has ended.
    Done { source: String, report: Box<CaptureReport>, start: Timestamp },
}

/// A request to capture now.
#[derive(Debug)]
struct Wanted {
    source: String,
    reply: oneshot::Sender<CaptureReport>,
    progress: oneshot::Sender<Arc<CaptureProgress>>,
}

/// A capture under way.
#[derive(Debug)]
struct Running {
    load: RunningCapture,
    progress: Arc<CaptureProgress>,
    replies: Vec<oneshot::Sender<CaptureReport>>,
}

impl Daemon {
    /// A daemon; does nothing until [`Daemon::serve`].
    pub fn new(
        config: Arc<Config>,
        engine: Arc<Engine>,
        clock: Arc<dyn ClockDebug>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let flows = Flows::load(&config, engine.vaults());
        let board = Mutex::new(Board { flows, counters: FlowCounters::default(), load: NodeLoad::default() });
        Self { config, engine, clock, metrics, board }
    }

    /// Runs until a signal to end. `lock` is held until the process is gone: a capture that hangs may go on so long.
    pub async fn serve(self: Arc<Self>, lock: StateLock) -> Result<(), Failure> {
        let (events, mut incoming) = mpsc::channel(EVENTS_MAX);
        let socket = socket::Listener::bind(&self.config.node.state)?;
        if let Some(address) = self.config.node.metrics {
            http::serve(Arc::clone(&self), address).await?;
        }
        tokio::spawn(socket.serve(Arc::clone(&self), events.clone()));
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let watchdog = watchdog_period();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let mut loop_state =
            Loop { daemon: Arc::clone(&self), events, running: HashMap::new(), wanted: Vec::new() };
        loop {
            let sleep = loop_state.start_what_is_due().min(watchdog.unwrap_or(SLEEP_MAX));
            self.board().load = loop_state.load(incoming.len());
            tokio::select! {
                Some(event) = incoming.recv() => loop_state.apply(event),
                () = tokio::time::sleep(sleep) => {}
                _ = hangup.recv() => tracing::warn!("nothing is read again on SIGHUP by this version; restart the daemon for a changed configuration"),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            if watchdog.is_some() {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        loop_state.give_up(&mut incoming).await;
        lock.keep_until_exit();
        Ok(())
    }

    /// How every flow is.
    pub fn status(&self) -> NodeStatus {
        self.board().flows.status(true, &*self.clock)
    }

    /// The metrics in text form.
    fn render_metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        let board = self.board();
        self.metrics.render(&board.flows, &board.counters, board.load, self.clock.now())
    }

    fn source(&self, name: &str) -> Option<&Source> {
        self.config.sources.iter().find(|source| source.name.as_str() == name)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Captures on a thread of its own kind; blocking.
    fn capture(&self, source: &Source, targets: &[Target], progress: &CaptureProgress) -> CaptureReport {
        let report = self.engine.capture(source, targets, progress);
        for name in self.config.vaults.keys() {
            if let Ok(vault) = self.engine.vaults().open(name.as_str(), Absent::Refuse) {
                self.metrics.set_vault(name.as_str(), vault.totals());
            }
        }
        report
    }
}

/// The loop's own state.
struct Loop {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    running: HashMap<String, Running>,
    wanted: Vec<Wanted>,
}

impl Loop {
    /// Starts captures that are wanted or due; says how long to sleep at most.
    fn start_what_is_due(&mut self) -> Duration {
        for wanted in std::mem::take(&mut self.wanted) {
            // What changed after the start of the capture under way may not be in it.
            if self.running.contains_key(&wanted.source) {
                self.wanted.push(wanted);
            } else {
                self.start_wanted(wanted);
            }
        }
        let now = self.daemon.clock.now();
        let load: Vec<RunningCapture> = self.running.values().map(|running| running.load.clone()).collect();
        let flows = self.daemon.board().flows.scheduled();
        let decision = decide(&flows, Load { captures_max: CAPTURES_MAX, running: &load }, now);
        for job in decision.start {
            self.start(&job, Vec::new());
        }
        decision.wake_at.map_or(SLEEP_MAX, |at| at.duration_since(now)).min(SLEEP_MAX)
    }

    fn load(&self, events_waiting: usize) -> NodeLoad {
        NodeLoad { captures_running: self.running.len(), requests_waiting: self.wanted.len(), events_waiting }
    }

    fn start_wanted(&mut self, wanted: Wanted) {
        let Some(source) = self.daemon.source(&wanted.source) else { return };
        let targets = source.flows.iter().map(|flow| flow.target.clone()).collect();
        let job = CaptureJob {
            source: source.name.clone(),
            targets,
            size: JobSize::Short,
            duration: Duration::ZERO,
        };
        let progress = self.start(&job, vec![wanted.reply]);
        // The client may have gone away.
        let _ = wanted.progress.send(progress);
    }

    fn start(
        &mut self,
        job: &CaptureJob,
        replies: Vec<oneshot::Sender<CaptureReport>>,
    ) -> Arc<CaptureProgress> {
        let progress = Arc::new(CaptureProgress::default());
        let start = self.daemon.clock.now();
        let name = job.source.to_string();
        self.daemon.board().flows.begin(&name, &job.targets);
        let running = Running { load: job.started_at(start), progress: Arc::clone(&progress), replies };
        self.running.insert(name.clone(), running);
        let (daemon, events, targets) = (Arc::clone(&self.daemon), self.events.clone(), job.targets.clone());
        let watched = Arc::clone(&progress);
        tokio::task::spawn_blocking(move || {
            let report = match daemon.source(&name) {
                Some(source) => daemon.capture(source, &targets, &watched),
                None => CaptureReport::of_nothing(&name),
            };
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Done { source: name, report: Box::new(report), start });
        });
        progress
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Now { source, reply, progress } => {
                // One that is dropped here tells its client that it was refused.
                if self.wanted.len() < WANTED_MAX {
                    self.wanted.push(Wanted { source, reply, progress });
                }
            }
            Event::Done { source, report, start } => {
                let now = self.daemon.clock.now();
                for warning in &report.warnings {
                    tracing::warn!(source, "{warning}");
                }
                for target in &report.targets {
                    if let TargetOutcome::Failed { message, class } = &target.outcome {
                        tracing::warn!(source, target = target.target, class, "{message}");
                    }
                }
                let mut board = self.daemon.board();
                for remark in board.flows.new_remarks(&report) {
                    tracing::warn!(source, "{remark}");
                }
                board.flows.end(&report, start, now, Jitter(u32::from_le_bytes(random_bytes())));
                board.counters.count(&report);
                drop(board);
                if let Some(running) = self.running.remove(&source) {
                    for reply in running.replies {
                        // The client may have gone away.
                        let _ = reply.send((*report).clone());
                    }
                }
            }
        }
    }

    /// Asks all captures to give up and waits for a bounded time.
    async fn give_up(&mut self, incoming: &mut mpsc::Receiver<Event>) {
        for running in self.running.values() {
            running.progress.stop();
        }
        let deadline = tokio::time::Instant::now() + GIVE_UP_TIME;
        while !self.running.is_empty() {
            match tokio::time::timeout_at(deadline, incoming.recv()).await {
                Ok(Some(event @ Event::Done { .. })) => self.apply(event),
                Ok(Some(Event::Now { .. })) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// As the control socket tells it.
fn progress_of(source: &str, progress: &CaptureProgress) -> Progress {
    Progress {
        source: source.to_owned(),
        entries: progress.entries(),
        read_bytes: progress.read_bytes(),
        stored_bytes: progress.stored_bytes(),
    }
}

/// Half of what systemd allows between two signs of life.
fn watchdog_period() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(micros / 2))
}
