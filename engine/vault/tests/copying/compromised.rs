//! Copies after keys were compromised: points of before as they lie, those of after from what new keys have sealed.

use std::collections::BTreeMap;

use backstay_testkit::capture::State;
use backstay_testkit::random::Random;
use backstay_testkit::seals::chunks;
use backstay_vault::keys::FormerKeys;

use crate::scene::{FILES, Scene, States, at};

/// When the points of before are copied.
#[derive(PartialEq)]
enum Copied {
    Before,
    Later,
}

/// Points of before, and after it a full one and an edit, which are told as well.
fn scene_of_both(old: &Copied) -> (Scene, States) {
    let mut random = Random::new(1);
    let mut scene = Scene::new();
    let mut state: State = (0..10u8).map(|n| (vec![n], random.bytes(20_000))).collect();
    let from = scene.from.clone();
    // The third is as the first was, and the last as none before.
    for (n, byte) in [(0, 1), (1, 2), (2, 1), (3, 3)] {
        state.insert(vec![3], vec![byte; 15_000]);
        scene.capture(&from, FILES, 1000 + 10 * n, &state);
    }
    if *old == Copied::Before {
        assert_eq!(scene.copy().expect("copies").points, 4);
    }
    let before = scene.states.clone();
    scene.rotate(FormerKeys::Compromised);
    let from = scene.from.clone();
    for n in 0..2 {
        state.insert(vec![4], random.bytes(15_000));
        scene.capture(&from, FILES, 2000 + 10 * n, &state);
    }
    let after: States = scene.states.clone().into_iter().filter(|(id, _)| !before.contains_key(id)).collect();
    (scene, after)
}

/// Points that were captured after keys were compromised stand in the second vault without what these have sealed.
fn assert_stand_alone(scene: &Scene, after: &States) {
    scene.fixture.assert_kept_apart(&scene.to_store);
    let compromised = scene.fixture.compromised_packs(&scene.to_store);
    assert!(!compromised.is_empty(), "points of before are there");
    let store = scene.fixture.without(&scene.to_store, &compromised);
    let vault = scene.fixture.open(store).expect("opens");
    for ((source, point), state) in after {
        let read = backstay_testkit::capture::read_back(&vault, source, *point).expect("reads");
        assert!(read.state == *state);
    }
}

#[test]
fn points_of_before_and_after_are_copied_and_those_of_after_stand_alone() {
    let (scene, after) = scene_of_both(&Copied::Later);
    let copied = scene.copy().expect("copies");
    assert_eq!((copied.points, copied.failures.len()), (6, 0));
    assert_eq!(copied.records as usize, chunks(&scene.from_store).len(), "nothing twice");
    assert_stand_alone(&scene, &after);
    let again = scene.copy().expect("copies");
    assert_eq!((again.already, again.records), (6, 0));
    scene.verify();
}

#[test]
fn what_lies_there_under_compromised_keys_is_copied_again_from_what_new_keys_have_sealed() {
    let (scene, after) = scene_of_both(&Copied::Before);
    assert_eq!(scene.copy().expect("copies").points, 2);
    assert_stand_alone(&scene, &after);
    scene.verify();
}

#[test]
fn a_point_of_before_that_was_copied_after_is_not_built_on() {
    let mut random = Random::new(2);
    let mut scene = Scene::new();
    scene.line(FILES, 2, &mut random);
    scene.rotate(FormerKeys::Compromised);
    assert_eq!(scene.copy().expect("copies").points, 2);
    let to = scene.to.clone();
    let state = scene.states.values().last().expect("some").clone();
    let captured = scene.fixture.capture(&to, FILES, at(3000), &state).expect("captures");
    let after = BTreeMap::from([((FILES, captured.link.point), state)]);
    assert_stand_alone(&scene, &after);
    scene.states.extend(after);
    scene.verify();
}
