//! A node that captures: open for hours, in parts, heads only, given up half-way; and what it does when it starts.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_testkit::capture::{State, Style};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_testkit::sim::{Died, Life, Process};
use backstay_vault::commit_object::SessionObject;
use backstay_vault::error::VaultError;
use backstay_vault::vault::{ObjectFolder, Vault};

use crate::ledger::{Ledger, StoreNumber};
use crate::opening::Opening;
use crate::scene::{COPY, VAULT, kind_of};

/// Keys of a source.
const KEYS: usize = 10;

/// Different values that any source may hold: what one has let go of another takes up again.
const VALUES: u64 = 24;

/// Nobody waits for so long by the clock of this machine: groups are closed before.
const LONG: Duration = Duration::from_secs(3600);

/// Values have up to so many bytes.
const VALUE_BYTES_MAX: usize = 3000;

pub(crate) struct Writer<'a> {
    pub(crate) node: &'a VaultFixture,
    pub(crate) opening: Opening<'a>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) sources: Vec<&'static str>,
}

impl Writer<'_> {
    pub(crate) fn run(&self, process: &Process) {
        let mut random = process.random();
        let mut states: Vec<State> = self.sources.iter().map(|_| sample(&mut random)).collect();
        let mut pause = hours(&mut random, 1);
        while let Some(life) = process.start(pause) {
            let _: Result<(), Died> = self.live(&life, &mut states, &mut random);
            pause = hours(&mut random, 8);
        }
    }

    fn live(&self, life: &Life, states: &mut [State], random: &mut Random) -> Result<(), Died> {
        let usage = self.opening.usage(random);
        let mut vaults = loop {
            let opened = [VAULT, COPY].map(|store| self.open(life, store, usage));
            match opened.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(vaults) => break vaults,
                Err(error) => self.excuse(life, "cannot open", &error),
            }
            life.sleep(Duration::from_secs(60))?;
        };
        // Now and then a process ends by itself.
        while !random.once_in(25) {
            life.sleep(hours(random, 6))?;
            for (vault, dead) in &mut vaults {
                while let Some(session) = dead.last() {
                    match vault.fence_dead_session(self.node.writer(), session, life.clock().now()) {
                        Ok(()) => drop(dead.pop()),
                        Err(error) => {
                            self.excuse(life, "cannot fence", &error);
                            break;
                        }
                    }
                }
            }
            let which = random.below(self.sources.len());
            // Now and then to the vault to which others copy.
            let store = if random.once_in(5) { COPY } else { VAULT };
            if vaults[store].0.requests_cost() && self.sources.len() > 1 && random.once_in(4) {
                self.capture_together(life, (store, &vaults[store].0), states, random)?;
                continue;
            }
            self.capture(life, (store, &vaults[store].0), self.sources[which], &mut states[which], random)?;
        }
        Ok(())
    }

    /// As a node does that is about to write: what it has left open is known before it opens anything.
    fn open(
        &self,
        life: &Life,
        store: StoreNumber,
        usage: ObjectFolder,
    ) -> Result<(Arc<Vault>, Vec<SessionObject>), VaultError> {
        let vault = self.opening.open(life.store(store), usage)?;
        let dead = vault.dead_sessions(self.node.writer())?;
        Ok((vault, dead))
    }

    fn capture(
        &self,
        life: &Life,
        (store, vault): (StoreNumber, &Arc<Vault>),
        source: &'static str,
        state: &mut State,
        random: &mut Random,
    ) -> Result<(), Died> {
        edit(state, random);
        let node = &self.node.writer().node;
        let at = self.ledger.begin(node, life.clock().now(), state);
        if random.once_in(8) {
            // The state is as it was then or not: a head says only when it was looked at.
            return self.outcome(
                life,
                (store, vault),
                "head",
                self.node.commit_head(vault, source, at).map(|()| None),
            );
        }
        let style = Style { part_entries: 3, kind: kind_of(source), ..Style::default() };
        if random.once_in(4) {
            let stop_at = state.keys().nth(state.len() / 2).cloned();
            let partial = Style { stop_at, ..style.clone() };
            let captured = self.node.capture_in_style(vault, source, at, state, &partial);
            self.outcome(life, (store, vault), "part", captured.map(|_| None))?;
        }
        let at = self.ledger.begin(node, life.clock().now(), state);
        let open = match self.node.open_capture(std::slice::from_ref(vault), source, at) {
            Ok(open) => open,
            Err(error) => return self.outcome(life, (store, vault), "open", Err(error)),
        };
        if random.once_in(4) {
            life.sleep(hours(random, 40))?;
        }
        if random.once_in(8) {
            return self.outcome(
                life,
                (store, vault),
                "give up",
                open.give_up(state, &style, life.clock().now()).map(|()| None),
            );
        }
        let captured = open.commit(state, &style).pop().expect("one target, one outcome");
        self.outcome(life, (store, vault), "capture", captured.map(|captured| Some(captured.link.point)))
    }

    /// All sources, committed together.
    fn capture_together(
        &self,
        life: &Life,
        (store, vault): (StoreNumber, &Arc<Vault>),
        states: &mut [State],
        random: &mut Random,
    ) -> Result<(), Died> {
        let node = &self.node.writer().node;
        let mut waiting = Vec::new();
        for (source, state) in self.sources.iter().zip(states) {
            edit(state, random);
            let at = self.ledger.begin(node, life.clock().now(), state);
            let open = self.node.open_capture(std::slice::from_ref(vault), source, at);
            match open.and_then(|open| open.commit_with_others(state, kind_of(source), LONG)) {
                Ok(awaited) => waiting.push(awaited),
                Err(error) => self.outcome(life, (store, vault), "open", Err(error))?,
            }
        }
        if random.once_in(4) {
            life.sleep(Duration::from_secs(random.number() % 600))?;
        }
        let clock: Arc<dyn Clock> = Arc::new(life.clock());
        vault.close_group(&clock);
        for awaited in waiting {
            let captured = awaited.wait().map(|captured| Some(captured.link.point));
            self.outcome(life, (store, vault), "capture", captured)?;
        }
        Ok(())
    }

    fn outcome(
        &self,
        life: &Life,
        (store, vault): (StoreNumber, &Vault),
        what: &str,
        outcome: Result<Option<backstay_core::id::PointId>, VaultError>,
    ) -> Result<(), Died> {
        match outcome {
            Ok(None) => life.note(what, ""),
            Ok(Some(point)) => {
                life.note("acknowledged", point);
                self.ledger.acknowledge(store, point);
            }
            Err(error) => {
                let error = match &error {
                    VaultError::Together(of_all) => of_all,
                    of_one => of_one,
                };
                // What is remembered of a vault may be gone, and whether it is lost shows at the end.
                let is_gone = matches!(error, VaultError::Chunk { .. } | VaultError::Stack(_))
                    || matches!(error, VaultError::Store(error) if error.is_not_found());
                match vault.requests_cost() && is_gone {
                    true => life.note(what, error),
                    false => self.excuse(life, what, error),
                }
                // As the daemon does it, before it tries again.
                vault.forget();
            }
        }
        if life.is_alive() { Ok(()) } else { Err(Died) }
    }

    /// What may be said to a writer to whom nothing has happened: that it was too slow, or that another was faster.
    fn excuse(&self, life: &Life, what: &str, error: &VaultError) {
        life.note(what, error);
        let is_told = matches!(
            error,
            VaultError::Fenced { .. }
                | VaultError::Overtaken { .. }
                | VaultError::Collecting { .. }
                | VaultError::CursorMoved { .. }
                | VaultError::Unsettled { .. }
        );
        let fenced = self.ledger.is_fenced(life.name());
        assert!(
            is_told || fenced || life.faults() > 0 || !life.is_alive(),
            "a writer meets what it should not: {what}: {error}"
        );
    }
}

fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let length = 1 + random.below(VALUE_BYTES_MAX);
    random.bytes(length)
}

fn sample(random: &mut Random) -> State {
    (0..KEYS).map(|key| (key_of(key), value(random.number() % VALUES))).collect()
}

fn key_of(key: usize) -> Vec<u8> {
    format!("key {key:02}").into_bytes()
}

fn edit(state: &mut State, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let key = key_of(random.below(KEYS));
        match random.once_in(5) {
            true => drop(state.remove(&key)),
            false => drop(state.insert(key, value(random.number() % VALUES))),
        }
    }
}

/// Up to so many hours.
pub(crate) fn hours(random: &mut Random, most: u64) -> Duration {
    Duration::from_millis(random.number() % (most * 3_600_000))
}
