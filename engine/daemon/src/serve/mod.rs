//! The daemon: captures what is due, answers on the control socket and over HTTP, and ends cleanly. The shell
//! around core's decisions: select, event, apply.

mod asker;
mod captures;
mod conversation;
mod due;
mod fleet_source;
mod grouping;
mod held;
mod http;
mod loading;
mod notify;
mod onward;
mod probing;
mod proving;
mod pruning;
mod relay_state;
mod relaying;
mod running;
mod socket;
mod tallying;
mod upkeep;
mod watching;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay_core::clock::{Clock, Moment};
use backstay_core::config::{Config, NodeName, Source, Target};
use backstay_core::units::Timestamp;
use backstay_files::capture::CaptureProgress;
use backstay_files::touched::Touched;
use backstay_files::watch::Told;
use backstay_vault::targets::WithOthers;
use backstay_wire::control::{CaptureReport, PruneReport};
use backstay_wire::status::NodeStatus;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::engine::{CaptureOrder, CaptureWatch, Engine};
use crate::failure::Failure;
use crate::fleet::{self, Standings};
use crate::flow_counters::FlowCounters;
use crate::flows::{Flows, Found, HeldSource};
use crate::metrics::{Metrics, NodeLoad};
use crate::node::StateLock;
use crate::relay::Relayed;
use crate::vaults::ClockDebug;
use asker::{Asker, Scope};
use captures::Captures;
use notify::Manager;
use proving::{Proving, Setbacks};
use pruning::{Pruning, WantedPrune};
use relaying::Relaying;
use running::Waiting;
use tallying::Tallying;
use upkeep::{Busy, UpkeepJobs, UpkeepOutcome, WantedJob};
use watching::Watching;

/// Events that wait for the loop.
const EVENTS_MAX: usize = 64;

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
    /// How far it has copied on what others have captured.
    standings: Arc<Standings>,
}

/// What is known of the flows.
#[derive(Debug)]
struct Board {
    flows: Flows,
    counters: FlowCounters,
    load: NodeLoad,
    /// What is held for other nodes.
    held: Vec<HeldSource>,
}

/// What the loop is told.
#[derive(Debug)]
enum Event {
    /// Somebody wants sources captured, and to be told.
    Wanted { sources: Vec<String>, scope: Scope, hold: Option<String>, asker: Asker },
    /// Somebody does not wait any longer.
    AskerGone,
    /// A vault has answered: its flows can be captured.
    Loaded,
    /// A capture waits to commit together with others, or goes on.
    Waits { source: String, waiting: Option<Waiting> },
    /// A capture has ended.
    Done { source: String, report: Box<CaptureReport>, start: Timestamp },
    /// Somebody wants a vault pruned, and to be told.
    PruneWanted { vault: String, wanted: WantedPrune },
    /// A prune has ended; one that failed with its class and in words.
    Pruned { vault: String, outcome: Box<Result<PruneReport, (&'static str, String)>> },
    /// The watcher of a source tells something.
    Watched { source: String, told: Told },
    /// It was looked what is to be proven in a vault.
    Proven { vault: String, has_proven: bool, setbacks: Setbacks },
    /// Somebody wants something else done to vaults, and to be told.
    UpkeepWanted(Box<WantedJob>),
    /// That has ended.
    Upkept { number: u64, outcome: Box<UpkeepOutcome> },
    /// A node has captured something to this one.
    Held { writer: NodeName },
    /// That was copied on, or not.
    Relayed { number: usize, outcome: Result<Relayed, Failure> },
}

/// Notes at once what a capture finds.
struct Watch<'d> {
    daemon: &'d Daemon,
    source: &'d str,
}

impl CaptureWatch for Watch<'_> {
    fn found(&self, target: &Target, found: Found) {
        self.daemon.board().flows.found(self.source, target, found);
    }

    fn captured(&self, target: &str, began: Moment) {
        self.daemon.board().flows.captured(self.source, target, began);
    }
}

/// What the loop keeps going.
struct Work {
    captures: Captures,
    pruning: Pruning,
    proving: Proving,
    upkeep: UpkeepJobs,
    watching: Watching,
    relaying: Relaying,
}

impl Daemon {
    /// A daemon; does nothing until [`Daemon::serve`].
    pub fn new(
        config: Arc<Config>,
        engine: Arc<Engine>,
        clock: Arc<dyn ClockDebug>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let flows = Flows::awaited(&config);
        let (counters, load, held) = (FlowCounters::default(), NodeLoad::default(), Vec::new());
        let board = Mutex::new(Board { flows, counters, load, held });
        let daemon = Self { config, engine, clock, metrics, board, standings: Arc::default() };
        daemon.board().held = held::expected(&daemon);
        daemon
    }

    /// Runs until a signal to end. `lock` is held until the process is gone: a capture that hangs may go on so long.
    pub async fn serve(self: Arc<Self>, lock: StateLock) -> Result<(), Failure> {
        let (events, mut incoming) = mpsc::channel(EVENTS_MAX);
        let socket = socket::Listener::bind(&self.config.node.state)?;
        if let Some(address) = self.config.node.metrics {
            http::serve(Arc::clone(&self), address);
        }
        tokio::spawn(socket.serve(Arc::clone(&self), events.clone()));
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut manager = Manager::of_environment();
        if let Some(member) = self.engine.vaults().fleet() {
            let commits = fleet::serve(&self.config, member, &self.metrics, &self.standings)?;
            Relaying::watch(&self, commits, &events);
        } else if self.config.fleet.nodes.len() > 1 || !self.config.holds.is_empty() {
            tracing::warn!(
                "this node is not enrolled in its fleet, so that it holds nothing for others and reaches none: `backstay init {}` begins the fleet, `backstay join INVITATION` takes up an invitation",
                self.config.node.name
            );
        }
        manager.ready();
        loading::start(&self, &events);
        held::watch(&self);
        onward::watch(&self);
        fleet_source::watch(&self, &events);
        probing::watch(&self);
        let tallying = Tallying::watch(&self);
        let mut work = Work::new(&self, &events);
        loop {
            while let Ok(event) = incoming.try_recv() {
                work.apply(event);
            }
            let sleep = work.start_some().min(manager.sleep_max());
            self.board().load = work.captures.load(incoming.len());
            tokio::select! {
                Some(event) = incoming.recv() => work.apply(event),
                () = tokio::time::sleep(sleep) => {}
                _ = hangup.recv() => tracing::warn!("nothing is read again on SIGHUP by this version; restart the daemon for a changed configuration"),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            manager.alive();
        }
        manager.stopping();
        work.captures.give_up(&mut incoming).await;
        tallying.end().await;
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
        self.metrics.show_held(&board.held, self.clock.now());
        for relay in &self.config.relays {
            for source in relay.sources.iter().filter(|source| source.as_fleet_of().is_none()) {
                let labels = [relay.writer.as_str(), source.as_str(), relay.to.as_str()];
                self.metrics.show_relayed(labels, self.standings.until(relay, source), self.clock.now());
            }
        }
        self.metrics.render(&board.flows, &board.counters, board.load, self.clock.moment())
    }

    fn source(&self, name: &str) -> Option<&Source> {
        self.config.all_sources().find(|source| source.name.as_str() == name)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Captures; blocking.
    fn capture(
        &self,
        source: &Source,
        targets: &[Target],
        touched: &Touched,
        hold: Option<&str>,
        progress: &CaptureProgress,
        others: Option<WithOthers>,
    ) -> CaptureReport {
        let watch = Watch { daemon: self, source: source.name.as_str() };
        let order = CaptureOrder { hold, progress, watch: &watch, others };
        let report = self.engine.capture(source, targets, touched, &order);
        targets.iter().for_each(|target| self.show_vault(target.as_str()));
        report
    }

    /// The clock, for commits.
    fn commit_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// Brings the metrics of a vault up to date, if it is open; never waits for it.
    fn show_vault(&self, name: &str) {
        if let Some(vault) = self.engine.vaults().if_open(name) {
            self.metrics.set_vault(name, vault.totals(), vault.read_from_older());
        }
    }
}

impl Work {
    fn new(daemon: &Arc<Daemon>, events: &mpsc::Sender<Event>) -> Self {
        Self {
            captures: Captures::new(Arc::clone(daemon), events.clone()),
            pruning: Pruning::new(Arc::clone(daemon), events.clone()),
            proving: Proving::new(Arc::clone(daemon), events.clone()),
            upkeep: UpkeepJobs::new(Arc::clone(daemon), events.clone()),
            watching: Watching::new(Arc::clone(daemon), events),
            relaying: Relaying::new(Arc::clone(daemon), events.clone()),
        }
    }

    /// Starts what can be; says how long to sleep at most. Jobs first: what they need for themselves is not begun anew.
    fn start_some(&mut self) -> Duration {
        let relayed = self.relaying.under_way();
        let pruned = &self.pruning.under_way() | &relayed;
        self.upkeep.start_some(&Busy { pruned, captured_to: self.captures.under_way() });
        let captures = self.captures.start_some(self.upkeep.closed());
        let proofs = self.proving.start_some(&self.upkeep.closed());
        let cared_for = self.upkeep.cared_for();
        let prunes = self.pruning.start_some(&(&cared_for | &relayed));
        // A prune that is due has its turn before what comes again and again.
        let pruned = &self.pruning.under_way() | &self.pruning.due_now();
        let relays = self.relaying.start_some(&(&cared_for | &pruned));
        captures.min(proofs).min(prunes).min(relays)
    }

    /// Gives an event to whom it concerns.
    fn apply(&mut self, event: Event) {
        match event {
            Event::PruneWanted { vault, wanted } => self.pruning.want(vault, wanted),
            Event::Pruned { vault, outcome } => self.pruning.end(&vault, *outcome),
            Event::Watched { source, told } => self.watching.told(&source, told),
            Event::Proven { vault, has_proven, setbacks } => {
                self.proving.end(&vault, has_proven, setbacks);
                if has_proven {
                    self.relaying.mended(&BTreeSet::from([vault]));
                }
            }
            Event::Held { writer } => self.relaying.held(&writer),
            Event::Relayed { number, outcome } => {
                if let Some(vault) = self.relaying.end(number, outcome) {
                    self.pruning.committed(&vault);
                    self.proving.committed(&vault);
                }
            }
            Event::UpkeepWanted(wanted) => self.upkeep.want(*wanted),
            Event::Upkept { number, outcome } => {
                let vaults = self.upkeep.end(number, *outcome);
                self.pruning.may_be_own(&vaults);
                self.relaying.mended(&vaults);
            }
            event => {
                if let Event::Done { report, .. } = &event {
                    self.pruning.captured(report);
                    report
                        .targets
                        .iter()
                        .for_each(|target| self.proving.captured(&report.source, &target.target));
                }
                self.captures.apply(event);
            }
        }
    }
}
