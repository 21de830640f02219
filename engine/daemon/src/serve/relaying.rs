//! The daemon as a hub: copies on what others have captured to this node, as soon as that comes. Owns when; copying is `relay`'s.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{NodeName, Relay};
use backstay_core::schedule::{Jitter, backoff};
use backstay_vault::keys::random_bytes;
use tokio::sync::mpsc;

use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::Failure;
use crate::fleet::Commits;
use crate::relay::{Look, relay};

/// How often it is asked of the vault what it has, though nothing has come: it may have lost something, or been given more.
const LOOK_PERIOD: Duration = Duration::from_secs(3600);

/// After something came, so long it is waited for what comes with it: a capture of several sources is several commits.
const SETTLING: Duration = Duration::from_millis(200);

/// One of the relays of the configuration.
#[derive(Debug)]
struct State {
    /// When it is looked next.
    next: Instant,
    /// How the next look is.
    look: Look,
    /// When everything was looked at last.
    looked: Option<Instant>,
    failures: u32,
    is_running: bool,
    /// Something came while it was running.
    has_more: bool,
}

/// All relays of this node.
pub(super) struct Relaying {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    /// In the order of the configuration.
    states: Vec<State>,
}

impl Relaying {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        let new = |_| State {
            next: Instant::now(),
            look: Look::All,
            looked: None,
            failures: 0,
            is_running: false,
            has_more: false,
        };
        let states = daemon.config.relays.iter().map(new).collect();
        Self { daemon, events, states }
    }

    /// Tells the loop from now on when a node has captured something that is to be copied on. Within a runtime.
    pub(super) fn watch(daemon: &Daemon, commits: Commits, events: &mpsc::Sender<Event>) {
        let is_relayed = |node: &NodeName| daemon.config.relays.iter().any(|relay| relay.writer == *node);
        for (writer, mut commits) in commits.into_iter().filter(|(node, _)| is_relayed(node)) {
            let events = events.clone();
            tokio::spawn(async move {
                while commits.changed().await.is_ok() {
                    if events.send(Event::Held { writer: writer.clone() }).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(SETTLING).await;
                }
            });
        }
    }

    /// A node has captured something.
    pub(super) fn held(&mut self, writer: &NodeName) {
        for (relay, state) in self.daemon.config.relays.iter().zip(&mut self.states) {
            if relay.writer != *writer {
                continue;
            }
            match state.is_running {
                true => state.has_more = true,
                // One that fails is tried again when its time has come.
                false if state.failures == 0 => state.next = state.next.min(Instant::now() + SETTLING),
                false => {}
            }
        }
    }

    /// Something was done to these vaults: what they have may be less than it was, or they may be there now.
    pub(super) fn mended(&mut self, vaults: &BTreeSet<String>) {
        for (relay, state) in self.daemon.config.relays.iter().zip(&mut self.states) {
            if vaults.contains(relay.to.as_str()) || vaults.contains(relay.from.as_str()) {
                (state.look, state.next, state.failures) = (Look::All, Instant::now(), 0);
            }
        }
    }

    /// The vaults that are copied from or to.
    pub(super) fn under_way(&self) -> BTreeSet<String> {
        let running =
            self.states.iter().zip(&self.daemon.config.relays).filter(|(state, _)| state.is_running);
        running.flat_map(|(_, relay)| [relay.from.to_string(), relay.to.to_string()]).collect()
    }

    /// Starts what is due, but for vaults that are `cared_for` otherwise; says how long to sleep at most.
    pub(super) fn start_some(&mut self, cared_for: &BTreeSet<String>) -> Duration {
        let now = Instant::now();
        let mut sleep = SLEEP_MAX;
        // Who has waited for longest is first.
        let mut numbers: Vec<usize> = (0..self.states.len()).collect();
        numbers.sort_by_key(|number| self.states[*number].next);
        for number in numbers {
            let Relay { from, to, .. } = &self.daemon.config.relays[number];
            // One at a time to each vault: one that hangs keeps no other waiting.
            let busy = self.under_way();
            let is_free = [from, to].iter().all(|vault| !cared_for.contains(vault.as_str()));
            // Whoever keeps it from beginning tells when that has ended.
            if !is_free || busy.contains(to.as_str()) || self.states[number].is_running {
                continue;
            }
            match self.states[number].next.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
                Some(wait) => sleep = sleep.min(wait),
                None => self.start(number),
            }
        }
        sleep
    }

    fn start(&mut self, number: usize) {
        let state = &mut self.states[number];
        if state.looked.is_none_or(|looked| looked.elapsed() >= LOOK_PERIOD) {
            state.look = Look::All;
        }
        (state.is_running, state.has_more) = (true, false);
        let (daemon, events, look) = (Arc::clone(&self.daemon), self.events.clone(), state.look);
        let work = move || {
            let of = &daemon.config.relays[number];
            let relayed =
                catch_unwind(AssertUnwindSafe(|| relay(&daemon.engine, of, &daemon.standings, look)));
            let outcome = relayed.unwrap_or_else(|_| {
                Err(Failure::failed("a copy panicked, which is an error in Backstay; the log tells where"))
            });
            // The loop is gone when the daemon ends.
            let _ = events.blocking_send(Event::Relayed { number, outcome });
        };
        if let Err(error) = std::thread::Builder::new().name(format!("relay {number}")).spawn(work) {
            self.end(
                number,
                &Err(Failure::failed(format!("cannot start a thread: {error}; raise TasksMax="))),
            );
        }
    }

    /// A copy has ended; the vault that was copied to, where that has more now.
    pub(super) fn end(&mut self, number: usize, outcome: &Result<u64, Failure>) -> Option<String> {
        let (relay, state) = (&self.daemon.config.relays[number], &mut self.states[number]);
        let now = Instant::now();
        state.is_running = false;
        match outcome {
            Ok(points) => {
                if *points > 0 {
                    tracing::info!(from = %relay.from, to = %relay.to, points, "copied on");
                }
                if state.look == Look::All {
                    state.looked = Some(now);
                }
                (state.failures, state.look) = (0, Look::New);
                state.next = if state.has_more { now } else { now + LOOK_PERIOD };
                (*points > 0).then(|| relay.to.to_string())
            }
            Err(failure) => {
                if state.failures == 0 {
                    tracing::warn!(from = %relay.from, to = %relay.to, class = failure.class, "not copied on: {failure}");
                }
                state.failures = state.failures.saturating_add(1);
                let jitter = Jitter(u32::from_le_bytes(random_bytes()));
                (state.next, state.look) = (now + backoff(state.failures, jitter), Look::All);
                None
            }
        }
    }
}
