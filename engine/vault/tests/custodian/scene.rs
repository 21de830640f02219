//! A vault with a history, and its custodian.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::{ObjectHash, PointId};
use backstay_core::kind::Kinds;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::keys::FormerKeys;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Collected, Custodian, Inspection, MemoryNotes, Pass, Thinned, Vault};

pub(crate) const SOURCE: &str = "static.files";

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Values of a few chunks each, that do not compress.
pub(crate) fn sample(random: &mut Random, keys: usize) -> State {
    (0..keys).map(|key| (format!("key {key:03}").into_bytes(), value(random))).collect()
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.below(40 << 10);
    random.bytes(length)
}

/// Changes some keys, now and then removes one.
pub(crate) fn edit(state: &mut State, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let key = format!("key {:03}", random.below(12)).into_bytes();
        match random.once_in(5) {
            true => drop(state.remove(&key)),
            false => drop(state.insert(key, value(random))),
        }
    }
}

pub(crate) fn last(count: u32) -> Keep {
    Keep::Rules(KeepRules { last: Some(count), ..KeepRules::default() })
}

pub(crate) struct Scene {
    pub(crate) fixture: Arc<VaultFixture>,
    pub(crate) memory: Arc<MemStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) notes: MemoryNotes,
    pub(crate) clock: ManualClock,
    /// Where the index lies: passes go through files, as those of a large vault do.
    _index: tempfile::TempDir,
    /// What was acknowledged and not dropped by the test.
    pub(crate) states: BTreeMap<(&'static str, PointId), State>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(MemStore::new())
    }

    pub(crate) fn on(store: MemStore) -> Self {
        let index = tempfile::tempdir().expect("a folder");
        let fixture = Arc::new(VaultFixture::new().with_index_in(index.path()));
        let memory = Arc::new(store);
        let vault = fixture.create(memory.clone()).expect("create");
        let (notes, clock) = (MemoryNotes::default(), ManualClock::new(at(1000)));
        Self { fixture, memory, vault, notes, clock, _index: index, states: BTreeMap::new() }
    }

    /// A new epoch, with which the vault is opened by a new process.
    pub(crate) fn rotate(&mut self, former: FormerKeys) {
        Arc::get_mut(&mut self.fixture).expect("nobody else has it").rotate(former);
        self.vault = self.fixture.open(self.memory.clone()).expect("opens");
    }

    pub(crate) fn capture(&mut self, source: &'static str, seconds: i64, state: &State) -> Captured {
        self.clock.set(at(seconds));
        let captured = self.fixture.capture(&self.vault, source, at(seconds), state).expect("capture");
        self.states.insert((source, captured.link.point), state.clone());
        captured
    }

    /// A point that is held by name.
    pub(crate) fn capture_held(
        &mut self,
        source: &'static str,
        seconds: i64,
        state: &State,
        name: &str,
    ) -> PointId {
        let style = Style { holds: vec![name.into()], ..Style::default() };
        self.capture_in_style(source, seconds, state, &style)
    }

    pub(crate) fn capture_in_style(
        &mut self,
        source: &'static str,
        seconds: i64,
        state: &State,
        style: &Style,
    ) -> PointId {
        self.clock.set(at(seconds));
        let captured = self.fixture.capture_in_style(&self.vault, source, at(seconds), state, style);
        let point = captured.expect("capture").link.point;
        self.states.insert((source, point), state.clone());
        point
    }

    /// A line of captures, each an edit of the one before.
    pub(crate) fn line(&mut self, source: &'static str, count: i64, random: &mut Random) -> Vec<Captured> {
        let mut state = sample(random, 12);
        (0..count)
            .map(|n| {
                edit(&mut state, random);
                self.capture(source, 1000 + 10 * n, &state)
            })
            .collect()
    }

    pub(crate) fn with_custodian<T>(
        &mut self,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        self.with_custodian_who_knows(kinds(), work)
    }

    /// One who knows these kinds of sources.
    pub(crate) fn with_custodian_who_knows<T>(
        &mut self,
        kinds: Arc<Kinds>,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let look = Inspection::new(self.vault.clone(), kinds, &self.clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        let mut custodian = Custodian::new(look, identity, pool, &mut self.notes)?;
        work(&mut custodian)
    }

    pub(crate) fn pass(&mut self) -> Result<Pass, VaultError> {
        self.with_custodian(|custodian| custodian.collect())
    }

    pub(crate) fn collect(&mut self) -> Collected {
        match self.pass().expect("collects") {
            Pass::Done(collected) => collected,
            pass => panic!("not done: {pass:?}"),
        }
    }

    pub(crate) fn is_idle(&mut self) -> bool {
        self.pass().expect("collects") == Pass::Idle
    }

    pub(crate) fn thin(&mut self, keep: &Keep) -> Thinned {
        let keep_of = |_: &str| Some(keep.clone());
        let thinned = self.with_custodian(|custodian| custodian.thin(&keep_of)).expect("thins");
        let counting = self.counting();
        self.states.retain(|(_, point), _| counting.contains(point));
        thinned
    }

    pub(crate) fn counting(&self) -> HashSet<PointId> {
        let mut counting = HashSet::new();
        for source in self.vault.sources().expect("lists") {
            let catalogue = self.vault.catalogue(source).expect("catalogue");
            counting.extend(catalogue.points().iter().map(|point| point.link.point));
        }
        counting
    }

    /// Every point of the test reads back in a process that has just started, and nothing is wrong.
    pub(crate) fn verify(&self) {
        verify(&self.fixture, self.memory.clone(), &self.states, "");
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        self.memory.objects().into_keys().filter(|name| name.starts_with(folder)).collect()
    }

    pub(crate) fn hash(&self, name: &str) -> ObjectHash {
        ObjectHash::new(*blake3::hash(&self.memory.objects()[name]).as_bytes())
    }

    pub(crate) fn overwrite(&self, name: &str, content: &'static [u8]) {
        let (name, _) = ObjectName::parse(name).expect("a name");
        self.fixture.block_on(self.memory.put(&name, content.into())).expect("puts");
    }

    pub(crate) fn remove(&self, name: &str) {
        let (name, _) = ObjectName::parse(name).expect("a name");
        self.fixture.block_on(self.memory.delete(&name)).expect("deletes");
    }

    /// A pack that no index object names, as a commit leaves it that dies early.
    pub(crate) fn stray_pack(&self, random: &mut Random) {
        let other = Arc::new(MemStore::new());
        let vault = self.fixture.create(other.clone()).expect("create");
        self.fixture.capture(&vault, SOURCE, at(1), &sample(random, 2)).expect("capture");
        let objects = other.objects();
        let (name, content) = objects.iter().find(|(name, _)| name.starts_with("packs/")).expect("a pack");
        let (name, _) = ObjectName::parse(name).expect("a name");
        self.fixture.block_on(self.memory.put(&name, content.clone())).expect("puts");
    }

    pub(crate) fn pack_bytes(&self) -> usize {
        let objects = self.memory.objects();
        objects.iter().filter(|(name, _)| name.starts_with("packs/")).map(|(_, content)| content.len()).sum()
    }
}

pub(crate) fn verify(
    fixture: &VaultFixture,
    store: Arc<dyn Store>,
    states: &BTreeMap<(&'static str, PointId), State>,
    story: &str,
) {
    let vault = fixture.open(store).unwrap_or_else(|error| panic!("{story}: {error}"));
    for ((source, point), state) in states {
        let read =
            read_back(&vault, source, *point).unwrap_or_else(|error| panic!("{story}: {point}: {error}"));
        assert!(read.state == *state, "{story}: {point} reads otherwise");
        let catalogue = vault.catalogue(fixture.source(source)).expect("catalogue");
        let common = &catalogue.point(*point).expect("counts").common;
        assert!(read.digest == common.digest, "{story}: {point} has another digest");
    }
    let report = vault.check().unwrap_or_else(|error| panic!("{story}: {error}"));
    assert!(report.is_good(), "{story}: {report:#?}");
}
