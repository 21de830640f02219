//! Single stories that a seed would seldom tell, each under its name.

mod clone;
mod fenced;
mod forged;
mod late;
mod poisoned;
mod stale_list;
mod takeover;
mod two_sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::clear::TrustObject;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Vault};

const SOURCE: &str = "static.files";
const OTHER: &str = "other.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Twelve values that do not compress.
fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..12).map(|key| (vec![key], random.bytes(2000))).collect()
}

fn last(count: u32) -> Keep {
    Keep::Rules(KeepRules { last: Some(count), ..KeepRules::default() })
}

/// A vault that two nodes write, of which the first is its custodian.
struct Pair {
    custodian: VaultFixture,
    other: VaultFixture,
    memory: Arc<MemStore>,
    clock: ManualClock,
    /// What was acknowledged and has to be there.
    states: BTreeMap<(&'static str, PointId), State>,
}

impl Pair {
    fn new() -> Self {
        let custodian = VaultFixture::new();
        let other = custodian.other_node("cobblestone");
        let memory = Arc::new(MemStore::new());
        let vault = custodian.create(memory.clone()).expect("create");
        let trust = TrustObject { nodes: vec![custodian.node(), other.node()], ..vault.trust().clone() };
        custodian.put(&*memory, forge::trust(custodian.admin(), &trust));
        Self { custodian, other, memory, clock: ManualClock::new(at(1000)), states: BTreeMap::new() }
    }

    /// A capture by a process of this node that has just started.
    fn capture(&mut self, node: fn(&Self) -> &VaultFixture, source: &'static str, state: State) -> Captured {
        let vault = node(self).open(self.memory.clone()).expect("opens");
        let captured = node(self).capture(&vault, source, self.now(), &state).expect("captures");
        self.states.insert((source, captured.link.point), state);
        captured
    }

    /// Time goes on by a minute each time that somebody asks.
    fn now(&self) -> Timestamp {
        self.clock.advance(std::time::Duration::from_secs(60))
    }

    fn forget(&mut self, captured: &Captured) {
        self.states.retain(|(_, point), _| *point != captured.link.point);
    }

    fn with_custodian<T>(
        &self,
        node: &VaultFixture,
        store: Arc<dyn Store>,
        notes: &mut MemoryNotes,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let look = Inspection::new(node.open(store)?, kinds(), &self.clock);
        let (identity, pool) = (node.writer().clone(), node.pool().clone());
        work(&mut Custodian::new(look, identity, pool, notes)?)
    }

    /// Collects and thins until there is nothing to do.
    fn care(&self, keep: u32, notes: &mut MemoryNotes) -> Result<(), VaultError> {
        self.with_custodian(&self.custodian, self.memory.clone(), notes, |custodian| care(custodian, keep))
    }

    /// All that has to be there is, to a process that has just started; and what is wrong with the rest.
    fn verify(&self) -> Arc<Vault> {
        let vault = self.other.open(self.memory.clone()).expect("opens");
        for ((source, point), state) in &self.states {
            let read = read_back(&vault, source, *point);
            let read = read.unwrap_or_else(|error| panic!("{point} of {source} was acknowledged: {error}"));
            assert!(read.state == *state, "{point} of {source} reads otherwise");
        }
        vault
    }

    fn verify_and_check(&self) {
        let report = self.verify().check().expect("checks");
        assert!(report.is_good(), "{report:#?}");
    }
}

fn care(custodian: &mut Custodian<'_>, keep: u32) -> Result<(), VaultError> {
    let keep = last(keep);
    for _ in 0..20 {
        let pass = custodian.collect()?;
        let thinned = custodian.thin(&|_| Some(keep.clone()))?;
        if pass == Pass::Idle && thinned.points_dropped + thinned.runs_merged == 0 {
            return Ok(());
        }
    }
    panic!("a custodian comes to rest");
}
