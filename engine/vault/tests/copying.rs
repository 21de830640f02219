//! Copying of points into another vault of the domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::{PointId, SourceId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Operation, StoreErrorKind};
use backstay_vault::vault::{Copied, Copying, Custodian, Inspection, MemoryNotes, Vault};

const FILES: &str = "static.files";
const DUMP: &str = "matrix.dump";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

struct Scene {
    fixture: VaultFixture,
    clock: ManualClock,
    from_store: Arc<MemStore>,
    to_store: Arc<MemStore>,
    from: Arc<Vault>,
    to: Arc<Vault>,
    states: BTreeMap<(&'static str, PointId), State>,
}

impl Scene {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let (from_store, to_store) = (Arc::new(MemStore::new()), Arc::new(MemStore::new()));
        let from = fixture.create(from_store.clone()).expect("create");
        let to = fixture.create(to_store.clone()).expect("create");
        let clock = ManualClock::new(at(10_000));
        Self { fixture, clock, from_store, to_store, from, to, states: BTreeMap::new() }
    }

    fn capture(&mut self, vault: &Arc<Vault>, source: &'static str, seconds: i64, state: &State) {
        let captured = self.fixture.capture(vault, source, at(seconds), state).expect("capture");
        self.states.insert((source, captured.link.point), state.clone());
    }

    /// A line of captures in the first vault.
    fn line(&mut self, source: &'static str, count: i64, random: &mut Random) {
        let mut state: State = (0..10u8).map(|n| (vec![n], random.bytes(20_000))).collect();
        for n in 0..count {
            state.insert(vec![(n % 7) as u8], random.bytes(15_000));
            let from = self.from.clone();
            self.capture(&from, source, 1000 + 10 * n, &state);
        }
    }

    fn copy(&self) -> Result<Copied, VaultError> {
        self.copy_of(&|_| true)
    }

    fn copy_of(&self, wanted: &dyn Fn(SourceId) -> bool) -> Result<Copied, VaultError> {
        let copying = Copying {
            from: self.from.clone(),
            to: self.to.clone(),
            writer: self.fixture.writer().clone(),
            kinds: kinds(),
            pool: self.fixture.pool().clone(),
            clock: &self.clock,
        };
        copying.run(wanted, &|_| {})
    }

    fn with_custodian<T>(
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

    fn thin(&mut self, last: u32) {
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
    fn verify(&self) {
        let vault = self.fixture.open(self.to_store.clone()).expect("opens");
        for ((source, point), state) in &self.states {
            let read = read_back(&vault, source, *point).expect("reads");
            assert!(read.state == *state, "{point} reads otherwise");
            let catalogue = vault.catalogue(self.fixture.source(source)).expect("catalogue");
            assert_eq!(catalogue.point(*point).expect("counts").common.digest, read.digest);
        }
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{report:#?}");
    }
}

#[test]
fn all_points_are_copied_once_and_what_came_since_the_next_time() {
    let mut scene = Scene::new();
    let mut random = Random::new(1);
    scene.line(FILES, 4, &mut random);
    scene.line(DUMP, 2, &mut random);
    let first = scene.copy().expect("copies");
    assert_eq!((first.points, first.already, first.failures.len()), (6, 0, 0));
    scene.verify();
    let again = scene.copy().expect("copies");
    assert_eq!((again.points, again.already, again.records), (0, 6, 0));
    let from = scene.from.clone();
    scene.capture(&from, FILES, 2000, &State::from([(vec![1], random.bytes(5000))]));
    let third = scene.copy().expect("copies");
    assert_eq!((third.points, third.already), (1, 6));
    assert!(third.bytes < 20_000, "{third:?}: only what is new");
    scene.verify();
}

#[test]
fn a_source_can_be_copied_alone() {
    let mut scene = Scene::new();
    let mut random = Random::new(2);
    scene.line(FILES, 2, &mut random);
    scene.line(DUMP, 2, &mut random);
    let files = scene.fixture.source(FILES);
    assert_eq!(scene.copy_of(&|source| source == files).expect("copies").points, 2);
    scene.states.retain(|(source, _), _| *source == FILES);
    scene.verify();
}

#[test]
fn points_whose_neighbours_were_thinned_are_copied_with_merged_runs() {
    let mut scene = Scene::new();
    let mut random = Random::new(3);
    scene.line(FILES, 3, &mut random);
    scene.copy().expect("copies");
    scene.line(FILES, 9, &mut random);
    scene.thin(2);
    assert_eq!(scene.states.len(), 2);
    let copied = scene.copy().expect("copies");
    assert_eq!((copied.points, copied.already), (2, 0));
    scene.verify();
    // The target goes on by itself, on what it was given.
    let to = scene.to.clone();
    scene.capture(&to, FILES, 5000, &State::from([(vec![9], random.bytes(9000))]));
    scene.with_custodian(&to, |custodian| custodian.collect());
    scene.verify();
}

#[test]
fn older_points_are_copied_beside_newer_ones_and_keep_their_place_in_time() {
    let mut scene = Scene::new();
    let mut random = Random::new(4);
    scene.line(FILES, 5, &mut random);
    scene.thin(5);
    let to = scene.to.clone();
    scene.capture(&to, FILES, 3000, &State::from([(vec![3], random.bytes(9000))]));
    scene.with_custodian(&to, |custodian| custodian.collect());
    assert_eq!(scene.copy().expect("copies").points, 5);
    scene.verify();
    scene.with_custodian(&to, |custodian| custodian.collect());
    let catalogue = to.catalogue(scene.fixture.source(FILES)).expect("catalogue");
    let times: Vec<Timestamp> =
        catalogue.layout.expect("a layout").accepted.iter().map(|accepted| accepted.retention_time).collect();
    assert_eq!(times, [1000, 1010, 1020, 1030, 1040, 3000].map(at));
    scene.verify();
}

#[test]
fn a_point_that_is_damaged_here_is_named_and_the_others_are_copied() {
    let mut scene = Scene::new();
    let mut random = Random::new(5);
    scene.line(DUMP, 1, &mut random);
    scene.line(FILES, 1, &mut random);
    let lost = scene.states.keys().find(|(source, _)| *source == FILES).expect("one").1;
    // The packs of the second capture: those that were not there after the first.
    let objects = scene.from_store.objects();
    let only_dump = {
        let store = Arc::new(MemStore::new());
        let fresh = scene.fixture.create(store.clone()).expect("create");
        let copying = Copying {
            from: scene.from.clone(),
            to: fresh,
            writer: scene.fixture.writer().clone(),
            kinds: kinds(),
            pool: scene.fixture.pool().clone(),
            clock: &scene.clock,
        };
        let dump = scene.fixture.source(DUMP);
        copying.run(&|source| source == dump, &|_| {}).expect("copies").records
    };
    let read = scene.from.catalogue(scene.fixture.source(FILES)).expect("catalogue");
    let places = read.stack(lost).expect("a stack")[0].parts[0].root;
    let pack = scene.from.places(&places).expect("knows")[0].pack.to_string();
    let name = objects.keys().find(|name| name.ends_with(&pack)).expect("the pack");
    let (name, _) = backstay_vault::name::ObjectName::parse(name).expect("a name");
    scene.fixture.block_on(backstay_vault::store::Store::delete(&*scene.from_store, &name)).expect("deletes");
    let copied = scene.copy().expect("copies the other");
    assert_eq!((copied.points, copied.failures.len()), (1, 1), "{copied:?}");
    assert_eq!((copied.failures[0].1, copied.records), (lost, only_dump));
    scene.states.retain(|(source, _), _| *source == DUMP);
    scene.verify();
}

#[test]
fn a_point_that_a_commit_has_left_there_which_failed_is_not_taken_for_copied_before_a_pass_has_accepted_it() {
    let mut scene = Scene::new();
    scene.line(FILES, 1, &mut Random::new(7));
    let whole = scene.to.clone();
    let store = Arc::new(FaultStore::new(scene.to_store.clone()));
    store.fail(Trigger::on(Operation::Get).below("fences/"), StoreErrorKind::Denied);
    scene.to = scene.fixture.open(store).expect("opens");
    scene.copy().expect_err("nobody can tell whether it came in time");
    scene.to = whole.clone();
    let again = scene.copy().expect("goes on");
    assert_eq!((again.points, again.already, again.failures.len()), (0, 0, 1), "{again:?}");
    assert!(again.failures[0].2.contains("has not ended"), "{again:?}");
    scene.with_custodian(&whole, |custodian| custodian.collect());
    let third = scene.copy().expect("copies");
    assert_eq!((third.points, third.already, third.failures.len()), (0, 1, 0), "{third:?}");
    scene.verify();
}

#[test]
fn vaults_of_two_domains_have_nothing_to_give_each_other() {
    let mut scene = Scene::new();
    scene.line(FILES, 1, &mut Random::new(6));
    let stranger = VaultFixture::new();
    scene.to = stranger.create(Arc::new(MemStore::new())).expect("create");
    assert!(matches!(scene.copy(), Err(VaultError::WrongKey { .. })));
}
