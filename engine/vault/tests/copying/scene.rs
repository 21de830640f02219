//! Two vaults of a domain, and what was captured to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::{PointId, SourceId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::keys::FormerKeys;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Copied, CopyLimits, Copying, Custodian, Inspection, MemoryNotes, Vault};

pub(crate) const FILES: &str = "static.files";
pub(crate) const DUMP: &str = "matrix.dump";

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub(crate) type States = BTreeMap<(&'static str, PointId), State>;

pub(crate) struct Scene {
    pub(crate) fixture: VaultFixture,
    pub(crate) clock: ManualClock,
    pub(crate) from_store: Arc<MemStore>,
    pub(crate) to_store: Arc<MemStore>,
    pub(crate) from: Arc<Vault>,
    pub(crate) to: Arc<Vault>,
    pub(crate) states: States,
    pub(crate) limits: CopyLimits,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let fixture = VaultFixture::new();
        let (from_store, to_store) = (Arc::new(MemStore::new()), Arc::new(MemStore::new()));
        let from = fixture.create(from_store.clone()).expect("create");
        let to = fixture.create(to_store.clone()).expect("create");
        let clock = ManualClock::new(at(10_000));
        Self {
            fixture,
            clock,
            from_store,
            to_store,
            from,
            to,
            states: BTreeMap::new(),
            limits: CopyLimits::default(),
        }
    }

    pub(crate) fn capture(&mut self, vault: &Arc<Vault>, source: &'static str, seconds: i64, state: &State) {
        let captured = self.fixture.capture(vault, source, at(seconds), state).expect("capture");
        self.states.insert((source, captured.link.point), state.clone());
    }

    /// A new epoch, with which both vaults are opened by a new process.
    pub(crate) fn rotate(&mut self, former: FormerKeys) {
        self.fixture.rotate(former);
        self.from = self.fixture.open(self.from_store.clone()).expect("opens");
        self.to = self.fixture.open(self.to_store.clone()).expect("opens");
    }

    /// A line of captures in the first vault.
    pub(crate) fn line(&mut self, source: &'static str, count: i64, random: &mut Random) {
        let mut state: State = (0..10u8).map(|n| (vec![n], random.bytes(20_000))).collect();
        for n in 0..count {
            state.insert(vec![(n % 7) as u8], random.bytes(15_000));
            let from = self.from.clone();
            self.capture(&from, source, 1000 + 10 * n, &state);
        }
    }

    pub(crate) fn copy(&self) -> Result<Copied, VaultError> {
        self.copy_of(&|_| true)
    }

    pub(crate) fn copy_of(&self, wanted: &dyn Fn(SourceId) -> bool) -> Result<Copied, VaultError> {
        self.copy_into(&self.to, wanted)
    }

    pub(crate) fn copy_into(
        &self,
        to: &Arc<Vault>,
        wanted: &dyn Fn(SourceId) -> bool,
    ) -> Result<Copied, VaultError> {
        self.copying(to).run(wanted, &|_| {})
    }

    /// Copies what came after the newest point that is there.
    pub(crate) fn copy_newer(&self) -> Result<Copied, VaultError> {
        self.copying(&self.to).run_newer(&|_| true, &|_| {})
    }

    fn copying(&self, to: &Arc<Vault>) -> Copying<'_> {
        Copying {
            from: self.from.clone(),
            to: to.clone(),
            writer: self.fixture.writer().clone(),
            kinds: kinds(),
            pool: self.fixture.pool().clone(),
            clock: &self.clock,
            limits: self.limits,
        }
    }

    pub(crate) fn with_custodian<T>(
        &self,
        vault: &Arc<Vault>,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
    ) -> T {
        let look = Inspection::new(vault.clone(), kinds(), &self.clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        let mut notes = MemoryNotes::default();
        let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("custodian");
        work(&mut custodian).expect("works")
    }

    pub(crate) fn thin(&mut self, last: u32) {
        let from = self.from.clone();
        let keep = Keep::Rules(KeepRules { last: Some(last), ..KeepRules::default() });
        self.with_custodian(&from, |custodian| {
            for _ in 0..3 {
                custodian.collect()?;
                custodian.thin(&|_| Some(keep.clone()))?;
            }
            Ok(())
        });
        let counting = from.catalogue(self.fixture.source(FILES)).expect("catalogue");
        self.states.retain(|(source, point), _| *source != FILES || counting.point(*point).is_some());
    }

    /// Every point of the test is in the second vault as it was captured.
    pub(crate) fn verify(&self) {
        self.verify_in(self.to_store.clone(), &self.states, "");
    }

    /// These points are in this store as they were captured, and nothing is wrong there.
    pub(crate) fn verify_in(&self, store: Arc<dyn Store>, states: &States, story: &str) {
        let vault = self.fixture.open(store).unwrap_or_else(|error| panic!("{story}: {error}"));
        for ((source, point), state) in states {
            let read = read_back(&vault, source, *point);
            let read = read.unwrap_or_else(|error| panic!("{story}: {point}: {error}"));
            assert!(read.state == *state, "{story}: {point} reads otherwise");
            let catalogue = vault.catalogue(self.fixture.source(source)).expect("catalogue");
            assert_eq!(catalogue.point(*point).expect("counts").common.digest, read.digest, "{story}");
        }
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{story}: {report:#?}");
    }
}
