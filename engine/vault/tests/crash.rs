//! A process that dies at any request of a workload, on either side of it: what was acknowledged is there, what
//! counts is whole, and the next process goes on without repair (docs/format.md, section 10).

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style, read_back};
use backstay_testkit::crash::{CrashStore, Landing, LateChange};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::Vault;
use bytes::Bytes;

const SOURCES: [&str; 2] = ["static.files", "matrix.dump"];

/// Captures of one workload; each is several requests.
const CAPTURES: usize = 4;

/// More requests than any workload has: a run without a crash must come before.
const REQUESTS_MAX: u64 = 2000;

/// What the workload was told is safe.
struct Acknowledged {
    source: &'static str,
    captured: Captured,
    state: State,
}

struct Simulation {
    fixture: VaultFixture,
    empty_vault: BTreeMap<String, Bytes>,
    seed: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(MemStore::new());
        fixture.create(store.clone()).expect("create");
        println!("seed {seed}");
        Self { fixture, empty_vault: store.objects(), seed }
    }

    /// Crashes at every request in turn, and lets what is in flight land in every way.
    fn crash_everywhere(&self) {
        for crash_at in 1..REQUESTS_MAX {
            for landing in Landing::ALL {
                if !self.crash_once(crash_at, landing) {
                    assert!(crash_at > 40, "the workload has more than {crash_at} requests");
                    println!("seed {}: {} requests", self.seed, crash_at - 1);
                    return;
                }
            }
        }
        panic!("seed {}: the workload does not end", self.seed);
    }

    /// Runs the workload up to a crash and looks at what is left. False when there was no crash any more.
    fn crash_once(&self, crash_at: u64, landing: Landing) -> bool {
        let seed = self.seed ^ crash_at.wrapping_mul(0x0010_0000_01b3) ^ landing as u64;
        let story = format!("seed {}, crash at request {crash_at}, {landing:?}", self.seed);
        let store = CrashStore::new(self.empty_vault.clone(), crash_at, landing, seed);
        // With every other seed writers read first and open their sessions last.
        let store = Arc::new(if self.seed.is_multiple_of(2) { store.with_costly_requests() } else { store });
        let mut acknowledged = Vec::new();
        let outcome = self.work(store.clone(), &mut acknowledged);
        if !store.has_crashed() {
            outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
            assert_eq!(
                acknowledged.len(),
                CAPTURES,
                "{story}: partial captures excepted, all are acknowledged"
            );
            return false;
        }
        let left = Arc::new(store.after_crash());
        self.restart(left, store.late_changes(), acknowledged, &mut Random::new(seed), &story);
        true
    }

    /// What a node does: full captures, edits, partial captures that are taken up again, heads.
    fn work(&self, store: Arc<dyn Store>, acknowledged: &mut Vec<Acknowledged>) -> Result<(), VaultError> {
        let vault = self.fixture.open(store)?;
        let mut random = Random::new(self.seed);
        let mut states: [State; 2] = [sample(&mut random), sample(&mut random)];
        for number in 0..CAPTURES {
            let which = random.below(SOURCES.len());
            let (source, state) = (SOURCES[which], &mut states[which]);
            edit(state, &mut random);
            let at = Timestamp::from_seconds(100 + 10 * number as i64);
            let style = Style { part_entries: 4, ..Style::default() };
            if random.once_in(2) {
                let stop_at = state.keys().nth(state.len() / 2).cloned();
                let partial = Style { stop_at, ..style.clone() };
                self.fixture.capture_in_style(&vault, source, at, state, &partial)?;
            }
            let captured = self.fixture.capture_in_style(&vault, source, at, state, &style)?;
            acknowledged.push(Acknowledged { source, captured, state: state.clone() });
            if random.once_in(3) {
                self.fixture.commit_head(&vault, source, at)?;
            }
        }
        Ok(())
    }

    /// The next process: opens, fences, reads, checks, writes; what was in flight lands at some moment of that.
    fn restart(
        &self,
        store: Arc<MemStore>,
        late: Vec<LateChange>,
        acknowledged: Vec<Acknowledged>,
        random: &mut Random,
        story: &str,
    ) {
        let mut late = Some(late);
        let lands_at = random.below(4);
        let mut moment = |number| {
            if number == lands_at {
                for change in late.take().into_iter().flatten() {
                    self.fixture.block_on(change.land(&*store)).expect("memory takes it");
                }
            }
        };
        moment(0);
        let vault = self.fixture.open(store.clone()).unwrap_or_else(|error| panic!("{story}: {error}"));
        let now = Timestamp::from_seconds(1000);
        self.fixture.fence_dead_sessions(&vault, now).unwrap_or_else(|error| panic!("{story}: {error}"));
        moment(1);
        self.look(&vault, &acknowledged, story);
        moment(2);
        let mut kept = acknowledged;
        for (source, seconds) in [(SOURCES[0], 1010), (SOURCES[1], 1020)] {
            let state = sample(random);
            let captured = self
                .fixture
                .capture(&vault, source, Timestamp::from_seconds(seconds), &state)
                .unwrap_or_else(|error| panic!("{story}: the next capture of {source}: {error}"));
            kept.push(Acknowledged { source, captured, state });
        }
        moment(3);
        self.look(&self.fixture.open(store).expect("opens again"), &kept, story);
    }

    /// Everything that was acknowledged counts; everything that counts, acknowledged or not, is right.
    fn look(&self, vault: &Arc<Vault>, acknowledged: &[Acknowledged], story: &str) {
        let mut expected: HashMap<PointId, &Acknowledged> =
            acknowledged.iter().map(|known| (known.captured.link.point, known)).collect();
        for source in vault.sources().unwrap_or_else(|error| panic!("{story}: {error}")) {
            let catalogue = vault.catalogue(source).unwrap_or_else(|error| panic!("{story}: {error}"));
            for point in catalogue.points() {
                let read = read_back(vault, &point.common.source_name, point.link.point);
                let read = read.unwrap_or_else(|error| panic!("{story}: a point counts, and {error}"));
                assert_eq!(read.digest, point.common.digest, "{story}");
                if let Some(known) = expected.remove(&point.link.point) {
                    assert!(read.state == known.state && point.common.source_name == known.source, "{story}");
                }
            }
        }
        let lost: Vec<_> =
            expected.into_values().map(|known| (known.source, known.captured.link.point)).collect();
        assert!(lost.is_empty(), "{story}: acknowledged and lost: {lost:?}");
        let report = vault.check().unwrap_or_else(|error| panic!("{story}: {error}"));
        assert!(report.is_good(), "{story}: {report:?}");
        assert!(report.good_points as usize >= acknowledged.len(), "{story}");
    }
}

fn sample(random: &mut Random) -> State {
    (0..12u8).map(|n| (vec![b'a' + n], bytes(random))).collect()
}

/// Changes some, removes some, adds some.
fn edit(state: &mut State, random: &mut Random) {
    for n in 0..20u8 {
        match random.below(6) {
            0 => drop(state.remove([b'a' + n].as_slice())),
            1 => drop(state.insert(vec![b'a' + n], bytes(random))),
            _ => {}
        }
    }
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let length = random.choose(&[0, 1, 100, 3000]);
    random.bytes(length)
}

#[test]
fn a_crash_at_any_request_loses_nothing_acknowledged_and_needs_no_repair() {
    for seed in [1, 2, 3, 4] {
        Simulation::new(seed).crash_everywhere();
    }
}

#[test]
fn a_crash_while_a_vault_is_made_leaves_one_that_works_or_none() {
    let fixture = VaultFixture::new();
    let state = State::from([(b"key".to_vec(), b"value".to_vec())]);
    for crash_at in 1..100 {
        for landing in Landing::ALL {
            let store = Arc::new(CrashStore::new(BTreeMap::new(), crash_at, landing, crash_at));
            let made = fixture.create(store.clone());
            if !store.has_crashed() {
                made.expect("without a crash it is made");
                assert!(crash_at > 3, "it takes more than {crash_at} requests");
                return;
            }
            let left = Arc::new(store.after_crash());
            let vault = match fixture.open(left.clone()) {
                Err(VaultError::NoVault { .. }) => fixture.create(left.clone()),
                opened => opened,
            };
            let vault = vault.unwrap_or_else(|error| panic!("crash at {crash_at}, {landing:?}: {error}"));
            let captured = fixture.capture(&vault, SOURCES[0], Timestamp::EPOCH, &state).expect("it works");
            assert!(read_back(&vault, SOURCES[0], captured.link.point).expect("reads").state == state);
        }
    }
    panic!("making a vault does not end");
}

#[test]
#[ignore = "long: about a minute for every ten seeds; BACKSTAY_SEEDS sets how many (100)"]
fn crashes_of_many_workloads() {
    let seeds = std::env::var("BACKSTAY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    for seed in 1000..1000 + seeds {
        Simulation::new(seed).crash_everywhere();
    }
}
