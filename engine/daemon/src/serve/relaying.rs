//! The daemon as a hub: copies on what others have captured to this node, as soon as that comes. Owns when; copying is `relay`'s.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{NodeName, Relay};
use backstay_core::schedule::Jitter;
use backstay_vault::keys::random_bytes;
use tokio::sync::mpsc;

use super::relay_state::{RelayState, SETTLING, Turn, in_order, is_silent, turn, under_way};
use super::{Daemon, Event, SLEEP_MAX};
use crate::failure::Failure;
use crate::fleet::Commits;
use crate::relay::{Relayed, relay, sources};

/// All relays of this node.
pub(super) struct Relaying {
    daemon: Arc<Daemon>,
    events: mpsc::Sender<Event>,
    /// In the order of the configuration.
    states: Vec<RelayState>,
}

impl Relaying {
    pub(super) fn new(daemon: Arc<Daemon>, events: mpsc::Sender<Event>) -> Self {
        for relay in &daemon.config.relays {
            // Without keys nothing is told, and nothing can be copied either, which says why.
            if let Ok(sources) = sources(daemon.engine.vaults(), relay) {
                daemon.standings.expect(relay, &sources);
            }
        }
        let states = daemon.config.relays.iter().map(|_| RelayState::new(Instant::now())).collect();
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
        let of_it = self.daemon.config.relays.iter().zip(&mut self.states);
        of_it.filter(|(relay, _)| relay.writer == *writer).for_each(|(_, state)| state.held(Instant::now()));
    }

    /// Something was done to these vaults.
    pub(super) fn mended(&mut self, vaults: &BTreeSet<String>) {
        let is_of =
            |relay: &Relay| [&relay.from, &relay.to].iter().any(|name| vaults.contains(name.as_str()));
        let of_it = self.daemon.config.relays.iter().zip(&mut self.states);
        of_it.filter(|(relay, _)| is_of(relay)).for_each(|(_, state)| state.mended(Instant::now()));
    }

    /// The vaults that are copied from or to.
    pub(super) fn under_way(&self) -> BTreeSet<String> {
        under_way(&self.daemon.config.relays, &self.states)
    }

    /// Starts what is due, but for vaults that are `cared_for` otherwise; says how long to sleep at most.
    pub(super) fn start_some(&mut self, cared_for: &BTreeSet<String>) -> Duration {
        let now = Instant::now();
        let mut sleep = SLEEP_MAX;
        self.tell_of_silence(now);
        let daemon = Arc::clone(&self.daemon);
        let relays = &daemon.config.relays;
        for number in in_order(&self.states) {
            match turn(number, relays, &self.states, cared_for, now) {
                Turn::UnderWay => {}
                Turn::Later(wait) => sleep = sleep.min(wait),
                Turn::Waits(why) => daemon.standings.obstruct(&relays[number], Some(why.to_owned())),
                Turn::Begins => self.start(number, now),
            }
        }
        sleep
    }

    /// What hangs is said, or whoever waits for it would not know what for.
    fn tell_of_silence(&self, now: Instant) {
        let answered = self.daemon.engine.vaults().answered();
        for (relay, state) in self.daemon.config.relays.iter().zip(&self.states) {
            let Some(since) = state.running_since() else { continue };
            let last = [&relay.to, &relay.from].map(|name| answered.get(name.as_str()).copied());
            let are_both = is_silent(since, last, now);
            let why = format!(
                "neither {} nor {} has answered for a minute: see whether a disk or a server hangs",
                relay.from, relay.to
            );
            self.daemon.standings.obstruct(relay, are_both.then_some(why));
        }
    }

    fn start(&mut self, number: usize, now: Instant) {
        let look = self.states[number].begin(now);
        let (daemon, events) = (Arc::clone(&self.daemon), self.events.clone());
        daemon.standings.obstruct(&daemon.config.relays[number], None);
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
            let why = format!("cannot start a thread: {error}; raise TasksMax= of the unit");
            self.end(number, Err(Failure::failed(why)));
        }
    }

    /// A copy has ended; the vault that was copied to, where that has more now.
    pub(super) fn end(&mut self, number: usize, outcome: Result<Relayed, Failure>) -> Option<String> {
        let daemon = Arc::clone(&self.daemon);
        let relay = &daemon.config.relays[number];
        let jitter = Jitter(u32::from_le_bytes(random_bytes()));
        let had_failed = self.states[number].end(outcome.as_ref().ok().copied(), Instant::now(), jitter);
        match outcome {
            Ok(Relayed { points, .. }) => {
                daemon.standings.obstruct(relay, None);
                if points > 0 {
                    tracing::info!(from = %relay.from, to = %relay.to, points, "copied on");
                }
                (points > 0).then(|| relay.to.to_string())
            }
            Err(failure) => {
                if !had_failed {
                    tracing::warn!(from = %relay.from, to = %relay.to, class = failure.class, "not copied on: {failure}");
                }
                daemon.standings.obstruct(relay, Some(failure.message));
                None
            }
        }
    }
}
