//! Points that lack contents, dropped by a repair that is to drop them; and a repair that may have few chunks in mind.

use std::collections::BTreeSet;
use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, RepairMeans, Repaired, Vault};

use crate::sample::FILES;

/// A line of points, of which each changes one value, and what each holds.
struct Line {
    fixture: VaultFixture,
    store: Arc<MemStore>,
    notes: MemoryNotes,
    points: Vec<(PointId, State)>,
}

/// Names of the packs that are there.
fn packs(store: &MemStore) -> BTreeSet<String> {
    store.objects().into_keys().filter(|name| name.starts_with("packs/")).collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

impl Line {
    /// `held` of six points is held. Returns as well the largest pack that came with the third: its new value.
    fn new(held: Option<i64>) -> (Self, String) {
        let (fixture, store) = (VaultFixture::new(), Arc::new(MemStore::new()));
        let vault = fixture.create(store.clone()).expect("create");
        let mut random = Random::new(41);
        let mut state: State = (0..8u8).map(|key| (vec![key], random.bytes(9000))).collect();
        let (mut points, mut damaged) = (Vec::new(), None);
        for n in 0..6i64 {
            // The value that comes with the third point is replaced in the fifth.
            let key = if n == 4 { 2 } else { n as u8 };
            state.insert(vec![key], random.bytes(15_000));
            let before = packs(&store);
            let holds = if held == Some(n) { vec!["by hand".to_owned()] } else { Vec::new() };
            let style = Style { holds, ..Style::default() };
            let captured = fixture.capture_in_style(&vault, FILES, at(100 + n), &state, &style);
            points.push((captured.expect("captures").link.point, state.clone()));
            if n == 2 {
                let objects = store.objects();
                let new = packs(&store).into_iter().filter(|name| !before.contains(name));
                damaged = new.max_by_key(|name| objects[name].len());
            }
        }
        (Self { fixture, store, notes: MemoryNotes::default(), points }, damaged.expect("a pack"))
    }

    fn without(&mut self, pack: &str) {
        let left = self.store.objects().into_iter().filter(|(name, _)| name != pack);
        self.store = Arc::new(MemStore::with_objects(left.collect()));
    }

    fn with_custodian<T>(&mut self, work: impl FnOnce(&mut Custodian<'_>) -> T) -> T {
        let clock = ManualClock::new(at(4000));
        let look = Inspection::new(self.open(), kinds(), &clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        work(&mut Custodian::new(look, identity, pool, &mut self.notes).expect("custodian"))
    }

    fn repair(&mut self, means: &RepairMeans<'_>) -> Repaired {
        self.with_custodian(|custodian| custodian.repair(means)).expect("repairs")
    }

    fn open(&self) -> Arc<Vault> {
        self.fixture.open(self.store.clone()).expect("opens")
    }

    /// Which points count, by their places.
    fn counting(&self) -> Vec<usize> {
        let catalogue = self.open().catalogue(self.fixture.source(FILES)).expect("catalogue");
        (0..self.points.len()).filter(|place| catalogue.point(self.points[*place].0).is_some()).collect()
    }

    /// Which points read as they were captured.
    fn whole(&self) -> Vec<usize> {
        let vault = self.open();
        let is_whole = |place: &usize| {
            let (point, state) = &self.points[*place];
            read_back(&vault, FILES, *point).is_ok_and(|read| read.state == *state)
        };
        (0..self.points.len()).filter(is_whole).collect()
    }
}

#[test]
fn points_that_lack_contents_are_dropped_and_all_others_read_as_before() {
    for is_collected in [false, true] {
        let (mut line, pack) = Line::new(None);
        if is_collected {
            line.with_custodian(|custodian| custodian.thin(&|_| None).map(drop)).expect("thins");
        }
        line.without(&pack);
        // Without the option they stay, and are named.
        let named = line.repair(&RepairMeans::default());
        assert_eq!((line.counting().len(), line.whole()), (6, vec![0, 1, 4, 5]));
        assert_eq!((named.points_lost, named.losses.len(), named.chunks_lost), (0, 2, 1), "{named:#?}");
        assert!(!line.open().check().expect("checks").is_good());

        let dropped = line.repair(&RepairMeans { drops_damaged: true, ..RepairMeans::default() });
        assert_eq!((dropped.points_lost, dropped.chunks_lost), (2, 0), "{dropped:#?}");
        let told: BTreeSet<_> = dropped.losses.iter().map(|loss| loss.point.expect("a point")).collect();
        assert_eq!(told, [2, 3].map(|place: usize| line.points[place].0).into(), "{dropped:#?}");
        assert!(dropped.losses.iter().all(|loss| loss.why.contains("dropped")), "{dropped:#?}");
        assert_eq!((line.counting(), line.whole()), (vec![0, 1, 4, 5], vec![0, 1, 4, 5]));
        let report = line.open().check().expect("checks");
        assert!(report.is_good(), "{report:#?}");
        // And nothing is left to be done.
        let again = line.repair(&RepairMeans { drops_damaged: true, ..RepairMeans::default() });
        assert_eq!((again.points_lost, again.losses), (0, vec![]));
    }
}

#[test]
fn a_damaged_point_that_is_held_or_the_newest_stays_and_is_named() {
    let (mut line, pack) = Line::new(Some(3));
    line.without(&pack);
    let dropped = line.repair(&RepairMeans { drops_damaged: true, ..RepairMeans::default() });
    assert_eq!((dropped.points_lost, line.counting()), (1, vec![0, 1, 3, 4, 5]), "{dropped:#?}");
    assert_eq!(line.whole(), [0, 1, 4, 5]);
    assert!(dropped.losses.iter().any(|loss| loss.point == Some(line.points[3].0)), "{dropped:#?}");

    let (mut line, _) = Line::new(None);
    let data: Vec<String> = packs(&line.store).into_iter().collect();
    let objects = line.store.objects();
    // The one with the values that all points share.
    let largest = data.iter().max_by_key(|name| objects[*name].len()).expect("a pack");
    line.without(largest);
    let dropped = line.repair(&RepairMeans { drops_damaged: true, ..RepairMeans::default() });
    assert_eq!((dropped.points_lost, line.counting()), (5, vec![5]), "{dropped:#?}");
    assert!(dropped.losses.iter().any(|loss| loss.point == Some(line.points[5].0)), "{dropped:#?}");
}

#[test]
fn a_repair_that_may_have_few_chunks_in_mind_names_and_fetches_the_same() {
    let whole = Line::new(None).0;
    let objects = whole.store.objects();
    for pack in packs(&whole.store) {
        let Line { fixture, points, .. } = &whole;
        let damaged = |others: &[Arc<Vault>], chunks_max| {
            let left = objects.iter().filter(|(name, _)| **name != pack);
            let left = left.map(|(name, content)| (name.clone(), content.clone())).collect();
            let store = Arc::new(MemStore::with_objects(left));
            let vault = fixture.open(store.clone()).expect("opens");
            let (clock, mut notes) = (ManualClock::new(at(4000)), MemoryNotes::default());
            let look = Inspection::new(vault, kinds(), &clock);
            let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
            let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("custodian");
            let repaired = custodian.repair(&RepairMeans { others, chunks_max, ..RepairMeans::default() });
            (store, repaired.expect("repairs"))
        };
        let (_, all) = damaged(&[], 1000);
        let (store, few) = damaged(&[], 2);
        let told =
            |repaired: &Repaired| repaired.losses.iter().map(|loss| loss.path.clone()).collect::<Vec<_>>();
        assert_eq!(told(&all), told(&few), "{pack}");
        assert!(few.chunks_lost >= all.chunks_lost, "{pack}: {few:#?}");
        let listed = fixture.open(store).expect("opens").lost_chunks().expect("lists").len();
        assert!(listed <= 2, "{pack}: {listed}");

        let other: Arc<dyn Store> = Arc::new(MemStore::with_objects(objects.clone()));
        let other = fixture.open(other).expect("opens");
        let (store, fetched) = damaged(std::slice::from_ref(&other), 2);
        assert_eq!((fetched.chunks_lost, fetched.points_lost), (0, 0), "{pack}: {fetched:#?}");
        let vault = fixture.open(store).expect("opens");
        for (point, state) in points {
            assert!(read_back(&vault, FILES, *point).expect("reads").state == *state, "{pack}");
        }
        assert!(vault.check().expect("checks").is_good(), "{pack}");
    }
}

#[test]
fn points_that_lack_more_than_any_list_names_can_be_dropped_as_well_once_they_are_accepted() {
    let (mut line, pack) = Line::new(None);
    line.with_custodian(|custodian| custodian.accept().map(drop)).expect("accepts");
    line.without(&pack);
    let means = RepairMeans { drops_damaged: true, chunks_max: 0, ..RepairMeans::default() };
    let dropped = line.repair(&means);
    assert_eq!((dropped.points_lost, dropped.chunks_lost), (2, 0), "{dropped:#?}");
    assert_eq!((line.counting(), line.whole()), (vec![0, 1, 4, 5], vec![0, 1, 4, 5]));
    assert!(line.open().check().expect("checks").is_good());
}

#[test]
fn a_pack_that_is_found_again_after_a_repair_is_taken_up_and_not_thrown_away() {
    let (mut line, pack) = Line::new(None);
    let content = line.store.objects()[&pack].clone();
    line.without(&pack);
    assert_eq!(line.repair(&RepairMeans::default()).chunks_lost, 1);
    let (name, _) = ObjectName::parse(&pack).expect("a name");
    line.fixture.block_on(line.store.put(&name, content)).expect("puts");
    for _ in 0..3 {
        line.with_custodian(|custodian| custodian.collect().map(drop)).expect("passes");
    }
    assert_eq!(line.whole(), [0, 1, 2, 3, 4, 5]);
    assert!(line.open().check().expect("checks").is_good());
    assert!(line.open().lost_chunks().expect("lists").is_empty(), "nothing is lost any more");
}

#[test]
fn what_an_unfinished_capture_has_left_is_dropped_without_a_word_of_loss_when_some_of_it_is_lost() {
    let (mut line, _) = Line::new(None);
    let vault = line.open();
    let before = packs(&line.store);
    let mut state = line.points[5].1.clone();
    state.insert(vec![1], Random::new(43).bytes(15_000));
    let style = Style { stop_at: Some(vec![1]), ..Style::default() };
    line.fixture.capture_in_style(&vault, FILES, at(200), &state, &style).expect("captures");
    line.with_custodian(|custodian| custodian.accept().map(drop)).expect("accepts");
    let objects = line.store.objects();
    let new = packs(&line.store).into_iter().filter(|name| !before.contains(name));
    let data = new.max_by_key(|name| objects[name].len()).expect("a pack");
    line.without(&data);
    let repaired = line.repair(&RepairMeans::default());
    assert_eq!(
        (repaired.points_lost, repaired.chunks_lost, repaired.losses.len()),
        (0, 0, 0),
        "{repaired:#?}"
    );
    assert_eq!(line.whole(), [0, 1, 2, 3, 4, 5]);
    for _ in 0..3 {
        line.with_custodian(|custodian| custodian.collect().map(drop)).expect("passes");
    }
    assert!(line.open().check().expect("checks").is_good());
    let vault = line.open();
    line.fixture.capture(&vault, FILES, at(300), &state).expect("captures");
}
