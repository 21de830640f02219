//! What is copied, and what is not.

use std::sync::Arc;

use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::PointId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::clear::TrustObject;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::{CopyLimits, Copying};

use crate::scene::{DUMP, FILES, Scene, at};

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
fn points_whose_objects_are_damaged_here_and_those_that_build_on_them_are_named() {
    let mut scene = Scene::new();
    scene.line(FILES, 4, &mut Random::new(8));
    let catalogue = scene.from.catalogue(scene.fixture.source(FILES)).expect("catalogue");
    let points: Vec<PointId> = catalogue.points().iter().map(|point| point.link.point).collect();
    let objects = scene.from_store.objects();
    let object = objects.keys().find(|name| name.contains(&points[2].to_string())).expect("is there");
    let (name, _) = ObjectName::parse(object).expect("a name");
    scene.fixture.block_on(scene.from_store.put(&name, "nonsense".into())).expect("puts");
    scene.from = scene.fixture.open(scene.from_store.clone()).expect("a new process");
    let copied = scene.copy().expect("copies the others");
    let mut failed: Vec<PointId> = copied.failures.iter().map(|(_, point, _)| *point).collect();
    let mut expected = vec![points[2], points[3]];
    failed.sort_unstable();
    expected.sort_unstable();
    assert_eq!((copied.points, failed), (2, expected), "{:?}", copied.failures);
}

#[test]
fn a_point_that_was_accepted_and_whose_object_is_gone_here_is_named() {
    let mut scene = Scene::new();
    scene.line(FILES, 3, &mut Random::new(9));
    let from = scene.from.clone();
    scene.with_custodian(&from, |custodian| custodian.collect());
    let catalogue = scene.from.catalogue(scene.fixture.source(FILES)).expect("catalogue");
    let newest = catalogue.points()[2].link.point;
    let objects = scene.from_store.objects();
    let object = objects.keys().find(|name| name.contains(&newest.to_string())).expect("is there");
    let (name, _) = ObjectName::parse(object).expect("a name");
    scene.fixture.block_on(scene.from_store.delete(&name)).expect("deletes");
    let copied = scene.copy().expect("copies the others");
    assert_eq!((copied.points, copied.failures.len(), copied.failures[0].1), (2, 1, newest));
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
            limits: CopyLimits::default(),
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
fn a_copy_that_may_have_few_chunks_in_mind_sends_each_once_in_many_commits() {
    for thinned in [false, true] {
        let (mut whole, mut sliced) = (Scene::new(), Scene::new());
        sliced.limits.chunks = 3;
        let [all, slices] = [&mut whole, &mut sliced].map(|scene| {
            scene.line(FILES, 4, &mut Random::new(8));
            if thinned {
                scene.copy().expect("copies");
                scene.line(FILES, 5, &mut Random::new(9));
                scene.thin(1);
            }
            let copied = scene.copy().expect("copies");
            scene.verify();
            (copied.points, copied.failures, copied.records)
        });
        assert_eq!(all, slices, "thinned: {thinned}");
        let commits = |scene: &Scene| {
            scene.to_store.objects().keys().filter(|name| name.starts_with("ledger/sessions/")).count()
        };
        assert!(commits(&sliced) > commits(&whole) + 2, "thinned: {thinned}");
    }
}

#[test]
fn vaults_of_two_domains_have_nothing_to_give_each_other() {
    let mut scene = Scene::new();
    scene.line(FILES, 1, &mut Random::new(6));
    let stranger = VaultFixture::new();
    scene.to = stranger.create(Arc::new(MemStore::new())).expect("create");
    assert!(matches!(scene.copy(), Err(VaultError::WrongKey { .. })));
}

#[test]
fn older_points_that_are_copied_later_push_out_no_newer_one() {
    let mut scene = Scene::new();
    scene.line(FILES, 4, &mut Random::new(11));
    let vaults = [scene.from.clone(), scene.to.clone()];
    let state = State::from([(vec![1], b"the newest".to_vec())]);
    let open = scene.fixture.open_capture(&vaults, FILES, at(2000)).expect("opens");
    let captured = open.commit(&state, &Style::default()).pop().expect("two").expect("captures");
    let to = scene.to.clone();
    scene.with_custodian(&to, |custodian| custodian.collect());
    // By somebody who does not know their times, as all points are that no pass has accepted there.
    assert_eq!(scene.copy().expect("copies").points, 4);
    scene.with_custodian(&to, |custodian| custodian.collect());
    let last = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
    scene.with_custodian(&to, |custodian| custodian.thin(&|_| Some(last.clone())));
    let left = to.catalogue(scene.fixture.source(FILES)).expect("catalogue");
    let left: Vec<PointId> = left.points().iter().map(|point| point.link.point).collect();
    assert_eq!(left, [captured.common.id]);
}

#[test]
fn a_point_whose_author_the_other_vault_does_not_know_is_named_and_not_copied() {
    let mut scene = Scene::new();
    scene.line(FILES, 1, &mut Random::new(12));
    let other = scene.fixture.other_node("cobblestone");
    let chain = scene.fixture.objects(&*scene.from_store, "trust");
    let trust = TrustObject {
        n: 2,
        previous: Some(chain[0].hash()),
        nodes: vec![scene.fixture.node(), other.node()],
        custodian: scene.from.trust().custodian.clone(),
    };
    scene.fixture.put(&*scene.from_store, forge::trust(scene.fixture.admin(), &trust));
    scene.from = scene.fixture.open(scene.from_store.clone()).expect("opens");
    let by_other = other.open(scene.from_store.clone()).expect("opens");
    let state = State::from([(vec![1], b"of another".to_vec())]);
    let captured = other.capture(&by_other, FILES, at(2000), &state).expect("captures");
    let copied = scene.copy().expect("copies what it can");
    assert_eq!((copied.points, copied.failures.len()), (1, 1), "{copied:?}");
    assert_eq!(copied.failures[0].1, captured.link.point);
    assert!(copied.failures[0].2.contains("cobblestone"), "{copied:?}");
    scene.verify();
}

#[test]
fn what_retention_has_dropped_there_does_not_come_back_with_what_is_newer() {
    let mut scene = Scene::new();
    let mut random = Random::new(13);
    scene.line(FILES, 4, &mut random);
    assert_eq!(scene.copy_newer().expect("copies").points, 4);
    let to = scene.to.clone();
    let last = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
    scene.with_custodian(&to, |custodian| {
        for _ in 0..3 {
            custodian.collect()?;
            custodian.thin(&|_| Some(last.clone()))?;
        }
        Ok(())
    });
    let count = |scene: &Scene| {
        let catalogue = scene.to.catalogue(scene.fixture.source(FILES)).expect("catalogue");
        catalogue.points().len()
    };
    assert_eq!(count(&scene), 1);
    let again = scene.copy_newer().expect("copies");
    assert_eq!((again.points, again.already, count(&scene)), (0, 1, 1));
    let from = scene.from.clone();
    scene.capture(&from, FILES, 2000, &State::from([(vec![1], random.bytes(5000))]));
    let newer = scene.copy_newer().expect("copies");
    assert_eq!((newer.points, count(&scene)), (1, 2));
    assert_eq!(scene.copy().expect("copies").points, 3, "whoever asks for all gets all");
    scene.verify();
}
