//! One seed: who there is, what befalls them, and what was seen.

use std::fmt;
use std::time::Duration;

use backstay_testkit::crash::Landing;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_testkit::rows::RowKind;
use backstay_testkit::sim::{Actor, History, Limits, Mishaps, World};
use backstay_vault::clear::TrustObject;
use backstay_vault::keys::{AgeIdentity, Bundle, Secret};
use tempfile::TempDir;

use crate::copier::Copier;
use crate::custodian::Keeper;
use crate::end;
use crate::ledger::Ledger;
use crate::opening::{FILLING, Opening, TAKING};
use crate::reader::Reader;
use crate::watch::{look, take_in};
use crate::writer::Writer;

/// The store to which everybody writes.
pub(crate) const VAULT: usize = 0;

/// The store to which points are copied.
pub(crate) const COPY: usize = 1;

pub(crate) const SHARED: &str = "shared.files";
pub(crate) const OWN: [&str; 3] = ["one.files", "two.files", "three.files"];

/// What kind of source it is. Groups of small values are split when runs are merged.
pub(crate) fn kind_of(source: &str) -> RowKind {
    match source == SHARED || source == OWN[1] {
        true => RowKind::Groups,
        false => RowKind::Chunks,
    }
}

const WRITERS: [&str; 3] = ["writer one", "writer two", "writer three"];

/// Requests of one seed.
const STEPS: u64 = 4000;

/// The same where it is played again for every request.
pub(crate) const SHORT_STEPS: u64 = 900;

/// What many seeds have done together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Totals {
    seeds: u64,
    events: usize,
    looks: u64,
    acknowledged: usize,
    required: usize,
    crashes: usize,
    hours: u64,
    /// Groups of small values that were split.
    pub(crate) split: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.looks += other.looks;
        self.acknowledged += other.acknowledged;
        self.required += other.required;
        self.crashes += other.crashes;
        self.hours += other.hours;
        self.split += other.split;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, events, looks, acknowledged, required, crashes, hours, split } = self;
        write!(
            f,
            "{seeds} seeds: {events} events in {hours} simulated hours, {crashes} crashes, {acknowledged} points \
             acknowledged, {required} of them there in the end, {split} groups split, looked {looks} times"
        )
    }
}

pub(crate) struct Outcome {
    pub(crate) failure: Option<String>,
    pub(crate) history: History,
    pub(crate) totals: Totals,
}

pub(crate) struct Scene {
    /// A crash at this request and no other mishap.
    crash: Option<(u64, Landing)>,
    pub(crate) world: World,
    /// Has made the vault, and is its custodian.
    pub(crate) custodian: VaultFixture,
    pub(crate) writers: Vec<VaultFixture>,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    /// Where nodes keep objects for their processes, in every fourth world: half of those where requests cost.
    objects: Option<TempDir>,
}

impl Scene {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x1000_0000_01b3));
        let world = World::new(seed, 2);
        let custodian =
            VaultFixture::with_keys(keys(&mut random), &secret(&mut random), AgeIdentity::generate());
        let count = 1 + random.below(3);
        let writers: Vec<VaultFixture> =
            WRITERS[..count].iter().map(|name| custodian.other_node(name)).collect();
        for store in [world.direct(VAULT), world.direct(COPY)] {
            let vault = custodian.create(store.clone()).expect("create");
            let nodes = std::iter::once(custodian.node()).chain(writers.iter().map(VaultFixture::node));
            let trust = TrustObject { nodes: nodes.collect(), ..vault.trust().clone() };
            custodian.put(&*store, forge::trust(custodian.admin(), &trust));
        }
        let objects = (seed % 4 == 1).then(|| tempfile::tempdir().expect("a folder"));
        Self { crash: None, world, custodian, writers, ledger: Ledger::default(), random, objects }
    }

    /// The same where nothing happens but a crash at one request.
    pub(crate) fn with_crash(seed: u64, at: u64, landing: Landing) -> Self {
        Self { crash: Some((at, landing)), ..Self::new(seed) }
    }

    /// Plays the seed to its end.
    pub(crate) fn play(mut self) -> Outcome {
        let start = self.world.now();
        let mut looks = 0;
        let failure = self.run(&mut looks).and_then(|()| end::quiet(&self)).err();
        let history = self.world.history();
        let crashes = history.events().iter().filter(|event| event.what == "dies").count();
        let totals = Totals {
            seeds: 1,
            events: history.events().len(),
            looks,
            acknowledged: self.ledger.acknowledged(VAULT) + self.ledger.acknowledged(COPY),
            required: self.ledger.required(VAULT).len() + self.ledger.required(COPY).len(),
            crashes,
            hours: self.world.now().duration_since(start).as_secs() / 3600,
            split: self.ledger.split(),
        };
        Outcome { failure, history, totals }
    }

    fn run(&mut self, looks: &mut u64) -> Result<(), String> {
        let (mishaps, limits) = (self.mishaps(), self.limits());
        let ledger = &self.ledger;
        let world = &self.world;
        let sources: Vec<&'static str> =
            std::iter::once(SHARED).chain(OWN.into_iter().take(self.writers.len())).collect();
        let opening = |node, name: &str, usages| {
            let objects = self.objects.as_ref().map(|folder| folder.path().join(name));
            Opening { node, objects, usages }
        };
        let writer = |((node, own), name)| {
            let (opening, sources) = (opening(node, name, FILLING), vec![SHARED, own]);
            Writer { node, opening, ledger, sources }
        };
        let writers: Vec<Writer<'_>> = self.writers.iter().zip(OWN).zip(WRITERS).map(writer).collect();
        let node = &self.custodian;
        let custodians = |usages| opening(node, "custodian", usages);
        let reader = Reader { node, opening: custodians(TAKING), ledger, sources: &sources };
        let copier = Copier { node, opening: custodians(TAKING), ledger };
        let keeper = Keeper { node, opening: custodians(FILLING), ledger };
        let processes: Vec<_> =
            writers.iter().zip(WRITERS).map(|(_, name)| world.process(name, mishaps)).collect();
        let reading = world.process("reader", mishaps);
        let copying = world.process("copier", mishaps);
        let keeping = world.process("custodian", mishaps);
        let mut actors: Vec<Actor<'_>> = Vec::new();
        for (process, writer) in processes.iter().zip(&writers) {
            actors.push((process, Box::new(|process| writer.run(process))));
        }
        actors.push((&reading, Box::new(|process| reader.run(process))));
        actors.push((&copying, Box::new(|process| copier.run(process))));
        actors.push((&keeping, Box::new(|process| keeper.run(process))));
        let fixture = &self.custodian;
        world.run(actors, limits, &mut |effect| {
            if take_in(fixture, ledger, effect)? {
                *looks += 1;
                look(fixture, ledger, world, effect.store)?;
            }
            Ok(())
        })
    }

    /// Some worlds are quiet, most are not.
    fn mishaps(&mut self) -> Mishaps {
        if self.crash.is_some() {
            return Mishaps::default();
        }
        let random = &mut self.random;
        Mishaps {
            crash: random.choose(&[0, 2000, 500, 150]),
            sleep: random.choose(&[0, 1000, 300]),
            tender_sleep: random.choose(&[0, 30, 10, 5]),
            fault: random.choose(&[0, 0, 1000, 200]),
            unreadable: random.choose(&[0, 0, 1000]),
            clock: random.choose(&[0, 300]),
        }
    }

    fn limits(&mut self) -> Limits {
        let days = 3 + self.random.number() % 30;
        let power_loss = self.random.choose(&[0, 0, 1500]);
        let (steps, power_loss) = match self.crash {
            Some(_) => (SHORT_STEPS, 0),
            None => (STEPS, power_loss),
        };
        Limits { steps, time: Duration::from_secs(days * 86_400), power_loss, crash: self.crash }
    }
}

/// Keys that follow from the seed: by them sources and chunks are named, and the order of names decides what is asked
/// for first.
fn keys(random: &mut Random) -> Bundle {
    let mut bundle = Bundle::generate();
    bundle.id = Some(secret(random));
    bundle.cut = Some(secret(random));
    bundle.meta_id = secret(random);
    bundle
}

fn secret(random: &mut Random) -> Secret {
    Secret::new(random.bytes(32).try_into().expect("32 bytes"))
}
