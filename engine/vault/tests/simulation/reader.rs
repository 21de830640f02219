//! A reader that takes its time, with a pin and without. It is told what a point held, or that something is missing.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::fold::NewestStands;
use backstay_core::id::PointId;
use backstay_testkit::capture::{State, piece};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_testkit::rows::RowKind;
use backstay_testkit::sim::{Died, Life, Process};
use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use backstay_vault::vault::{Reading, Vault};

use crate::ledger::Ledger;
use crate::opening::Opening;
use crate::scene::{VAULT, kind_of};
use crate::writer::hours;

pub(crate) struct Reader<'a> {
    pub(crate) node: &'a VaultFixture,
    pub(crate) opening: Opening<'a>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) sources: &'a [&'static str],
}

/// How a reading ended.
enum Read {
    Whole(State),
    Missing(VaultError),
}

impl Reader<'_> {
    pub(crate) fn run(&self, process: &Process) {
        let mut random = process.random();
        let mut pause = hours(&mut random, 12);
        while let Some(life) = process.start(pause) {
            let _: Result<(), Died> = self.live(&life, &mut random);
            pause = hours(&mut random, 12);
        }
    }

    fn live(&self, life: &Life, random: &mut Random) -> Result<(), Died> {
        let usage = self.opening.usage(random);
        let vault = loop {
            match self.opening.open(life.store(VAULT), usage) {
                Ok(vault) => break vault,
                Err(error) => life.note("cannot open", error),
            }
            life.sleep(Duration::from_secs(60))?;
        };
        while !random.once_in(10) {
            life.sleep(hours(random, 8))?;
            self.restore(life, &vault, random)?;
        }
        Ok(())
    }

    fn restore(&self, life: &Life, vault: &Arc<Vault>, random: &mut Random) -> Result<(), Died> {
        let faults = life.faults();
        let is_clean = |life: &Life| life.is_alive() && life.faults() == faults;
        let source = self.sources[random.below(self.sources.len())];
        let catalogue = match vault.catalogue(self.node.source(source)) {
            Ok(catalogue) => catalogue,
            Err(error) => {
                assert!(!is_clean(life), "a reader cannot look at {source}: {error}");
                return if life.is_alive() { Ok(()) } else { Err(Died) };
            }
        };
        if catalogue.points().is_empty() {
            return Ok(());
        }
        let point = catalogue.points()[random.below(catalogue.points().len())].clone();
        let expected = self.ledger.state_of(&point.common).expect("a point that somebody has captured");
        let pins = random.once_in(2).then(|| self.node.writer());
        let reading = match Reading::begin(vault, &catalogue, point.link, pins, &life.clock()) {
            Ok(reading) => reading,
            Err(error) => {
                life.note("cannot begin to read", error);
                return if life.is_alive() { Ok(()) } else { Err(Died) };
            }
        };
        let is_sure = reading.is_pinned() && self.is_safe(point.link.point);
        life.note(if reading.is_pinned() { "reads, pinned" } else { "reads" }, point.link.point);
        let read = read(life, vault, &reading, kind_of(source), random)?;
        match read {
            Read::Whole(state) => {
                assert!(state == expected, "{} of {source} reads otherwise to a reader", point.link.point);
                life.note("has read", point.link.point);
            }
            Read::Missing(error) => {
                life.note("could not read", &error);
                let may_be = !is_sure || !is_clean(life) || self.ledger.is_fenced(life.name());
                assert!(may_be, "{} of {source} was pinned, and {error}", point.link.point);
            }
        }
        drop(reading);
        if life.is_alive() { Ok(()) } else { Err(Died) }
    }

    /// Whether it was acknowledged before it was read: another may be decided against whoever reads it.
    fn is_safe(&self, point: PointId) -> bool {
        self.ledger.required(VAULT).contains(&point)
    }
}

/// Some rows at a time, with hours between.
fn read(
    life: &Life,
    vault: &Arc<Vault>,
    reading: &Arc<Reading>,
    kind: RowKind,
    random: &mut Random,
) -> Result<Read, Died> {
    let mut fold = reading.fold::<NewestStands>(b"");
    let chunks = ChunkReader::new(vault.clone());
    let mut state = State::new();
    loop {
        if random.once_in(6) {
            life.sleep(hours(random, 14))?;
        }
        let (key, row) = match fold.next() {
            Ok(Some((key, row))) => (key.to_vec(), row.to_vec()),
            Ok(None) => return Ok(Read::Whole(state)),
            Err(error) => return if life.is_alive() { Ok(Read::Missing(error)) } else { Err(Died) },
        };
        let mut value = Vec::new();
        for range in kind.references(&row) {
            match chunks.fetch(range.chunk) {
                Ok(chunk) => value.extend(piece(&chunk, range).expect("a row leads into its chunk")),
                Err(error) => return if life.is_alive() { Ok(Read::Missing(error)) } else { Err(Died) },
            }
        }
        state.insert(key, value);
    }
}
