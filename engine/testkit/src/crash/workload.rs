//! What a node does until it dies, and what the next process finds: everything that was acknowledged, nothing that is half there,
//! and nothing to repair (docs/format.md, section 10). The same over any store.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{ObjectFolder, Vault};
use bytes::Bytes;

use super::{CrashStore, Landing, LateChange};
use crate::capture::{Captured, State, Style, read_back};
use crate::fixture::VaultFixture;
use crate::random::Random;
use crate::rows::RowKind;

/// When a process dies, and what becomes of the request at which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// At which request, from 1; 0 never.
    pub at: u64,
    /// What becomes of it.
    pub landing: Landing,
    /// What follows from nothing else follows from this.
    pub seed: u64,
}

/// A store under a process that dies.
pub trait Mortal: Store {
    /// Whether it has died.
    fn has_crashed(&self) -> bool;

    /// The store as the next process finds it.
    fn left(&self) -> Arc<dyn Store>;

    /// What will still land there.
    fn late(&self) -> Vec<LateChange>;
}

impl<S: Mortal> Mortal for Arc<S> {
    fn has_crashed(&self) -> bool {
        (**self).has_crashed()
    }

    fn left(&self) -> Arc<dyn Store> {
        (**self).left()
    }

    fn late(&self) -> Vec<LateChange> {
        (**self).late()
    }
}

impl Mortal for CrashStore {
    fn has_crashed(&self) -> bool {
        CrashStore::has_crashed(self)
    }

    fn left(&self) -> Arc<dyn Store> {
        Arc::new(self.after_crash())
    }

    fn late(&self) -> Vec<LateChange> {
        self.late_changes()
    }
}

const SOURCES: [&str; 2] = ["static.files", "matrix.dump"];

/// Captures of one workload that are committed one by one; each is several requests.
const CAPTURES: usize = 4;

/// Those that are committed together at its end, where the vault does that: one of each source.
const TOGETHER: usize = SOURCES.len();

/// Nobody waits for so long: the group is closed before.
const LONG: Duration = Duration::from_secs(3600);

/// What the workload was told is safe.
#[derive(Debug)]
struct Acknowledged {
    source: &'static str,
    captured: Captured,
    state: State,
}

/// A vault and what is done with it.
#[derive(Debug)]
pub struct Workload {
    fixture: VaultFixture,
    empty_vault: BTreeMap<String, Bytes>,
    seed: u64,
}

impl Workload {
    /// The one of this seed.
    pub fn new(seed: u64) -> Self {
        let fixture = VaultFixture::new();
        let store = Arc::new(MemStore::new());
        fixture.create(store.clone()).expect("create");
        Self { fixture, empty_vault: store.objects(), seed }
    }

    /// The objects of its vault before anything is done.
    pub fn empty_vault(&self) -> &BTreeMap<String, Bytes> {
        &self.empty_vault
    }

    /// Its keys, and where its input and output run.
    pub fn fixture(&self) -> &VaultFixture {
        &self.fixture
    }

    /// Does it in a store that has the empty vault, until its process dies, and looks at what is left. False when the process came
    /// to its end alive.
    ///
    /// # Panics
    /// When what is left is not what was acknowledged.
    pub fn crash_once<S: Mortal + 'static>(
        &self,
        at: u64,
        landing: Landing,
        make: impl FnOnce(Death) -> S,
    ) -> bool {
        let seed = self.seed ^ at.wrapping_mul(0x0010_0000_01b3) ^ landing as u64;
        let story = format!("seed {}, crash at request {at}, {landing:?}", self.seed);
        let store = Arc::new(make(Death { at, landing, seed }));
        let mut acknowledged = Vec::new();
        // With every fourth seed processes keep objects for each other, where requests cost.
        let objects = self.seed.is_multiple_of(4).then(|| tempfile::tempdir().expect("a folder"));
        let node = Node { fixture: &self.fixture, objects: objects.as_ref().map(|folder| folder.path()) };
        let outcome = self.work(&node, store.clone(), &mut acknowledged);
        if !store.has_crashed() {
            outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
            let captures = if store.requests_cost() { CAPTURES + TOGETHER } else { CAPTURES };
            let count = acknowledged.len();
            assert_eq!(count, captures, "{story}: partial captures excepted, all are acknowledged");
            return false;
        }
        self.restart(&node, store.left(), store.late(), acknowledged, &mut Random::new(seed), &story);
        true
    }

    /// What a node does: full captures, edits, partial captures that are taken up again, heads.
    fn work(
        &self,
        node: &Node<'_>,
        store: Arc<dyn Store>,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> Result<(), VaultError> {
        let vault = node.open(store)?;
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
        match vault.requests_cost() {
            true => self.work_together(&vault, &mut states, &mut random, acknowledged),
            false => Ok(()),
        }
    }

    /// One capture of each source, committed together.
    fn work_together(
        &self,
        vault: &Arc<Vault>,
        states: &mut [State; 2],
        random: &mut Random,
        acknowledged: &mut Vec<Acknowledged>,
    ) -> Result<(), VaultError> {
        let at = Timestamp::from_seconds(200);
        let mut waiting = Vec::new();
        for (source, state) in SOURCES.into_iter().zip(states) {
            edit(state, random);
            let open = self.fixture.open_capture(std::slice::from_ref(vault), source, at)?;
            waiting.push((source, state.clone(), open.commit_with_others(state, RowKind::default(), LONG)?));
        }
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at));
        vault.close_group(&clock);
        for (source, state, waiting) in waiting {
            acknowledged.push(Acknowledged { source, captured: waiting.wait()?, state });
        }
        Ok(())
    }

    /// The next process: opens, fences, reads, checks, writes; what was in flight lands at some moment of that.
    fn restart(
        &self,
        node: &Node<'_>,
        store: Arc<dyn Store>,
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
                    self.fixture.block_on(change.land(&*store)).expect("the store takes it");
                }
            }
        };
        moment(0);
        let vault = node.open(Arc::clone(&store)).unwrap_or_else(|error| panic!("{story}: {error}"));
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
        self.look(&node.open(store).expect("opens again"), &kept, story);
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

/// A node whose processes come one after the other.
struct Node<'w> {
    fixture: &'w VaultFixture,
    /// Where they keep objects for each other.
    objects: Option<&'w Path>,
}

impl Node<'_> {
    fn open(&self, store: Arc<dyn Store>) -> Result<Arc<Vault>, VaultError> {
        match self.objects {
            Some(objects) => self.fixture.open_with_objects_in(store, objects, ObjectFolder::FillAndTake),
            None => self.fixture.open(store),
        }
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

/// Lets a process die while it makes a vault, and looks at what is left: a vault that works, or none. False when it came to its end
/// alive.
///
/// # Panics
/// When there is neither.
pub fn crash_while_made<S: Mortal + 'static>(fixture: &VaultFixture, store: S, story: &str) -> bool {
    let state = State::from([(b"key".to_vec(), b"value".to_vec())]);
    let store = Arc::new(store);
    let made = fixture.create(store.clone());
    if !store.has_crashed() {
        made.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
        return false;
    }
    let left = store.left();
    let vault = match fixture.open(left.clone()) {
        Err(VaultError::NoVault { .. }) => fixture.create(left.clone()),
        opened => opened,
    };
    let vault = vault.unwrap_or_else(|error| panic!("{story}: {error}"));
    let captured = fixture.capture(&vault, SOURCES[0], Timestamp::EPOCH, &state).expect("it works");
    assert!(read_back(&vault, SOURCES[0], captured.link.point).expect("reads").state == state, "{story}");
    true
}
