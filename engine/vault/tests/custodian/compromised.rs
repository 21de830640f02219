//! After a rotation that marks the keys of before as compromised: what is captured stands without them, and passes keep it so.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::BTreeSet;

use backstay_core::config::Keep;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::random::Random;
use backstay_vault::keys::FormerKeys;

use crate::scene::{SOURCE, Scene, edit, last, sample};

const OTHER: &str = "matrix.dump";

fn compromised_packs(scene: &Scene) -> BTreeSet<String> {
    scene.fixture.compromised_packs(&scene.memory)
}

fn packs(scene: &Scene) -> BTreeSet<String> {
    scene.names("packs/").into_iter().collect()
}

fn assert_kept_apart(scene: &Scene) {
    scene.fixture.assert_kept_apart(&scene.memory);
}

/// Whether a point reads back where these objects are not.
fn stands_without(scene: &Scene, captured: &Captured, hidden: &BTreeSet<String>) -> bool {
    let store = scene.fixture.without(&scene.memory, hidden);
    let vault = scene.fixture.open(store).expect("opens");
    let state = read_back(&vault, &captured.common.source_name, captured.link.point);
    let known = scene.states.iter().find(|((_, point), _)| *point == captured.link.point);
    state.is_ok_and(|read| read.state == *known.expect("a point of the test").1)
}

fn bytes(state: &State) -> u64 {
    state.values().map(|value| value.len() as u64).sum()
}

#[test]
fn equal_contents_are_stored_again_once_after_keys_were_compromised() {
    let mut scene = Scene::new();
    let state = sample(&mut Random::new(1), 12);
    scene.capture(SOURCE, 1000, &state);
    let before = packs(&scene);
    scene.rotate(FormerKeys::Compromised);
    let again = scene.capture(SOURCE, 1100, &state);
    assert!(again.totals.new_plain_bytes >= bytes(&state), "{:?}", again.totals);
    assert!(stands_without(&scene, &again, &before));
    // From now on all is as ever, also for a process that has just started.
    scene.vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let parent = scene.vault.parent(&catalogue).expect("reads").map(|parent| parent.link);
    assert_eq!(parent, Some(again.link));
    let mut edited = state.clone();
    edited.insert(b"new".to_vec(), vec![7; 100]);
    let next = scene.capture(SOURCE, 1200, &edited);
    let other = scene.capture(OTHER, 1300, &edited);
    for captured in [&next, &other] {
        assert!(captured.totals.new_plain_bytes < bytes(&state) / 10, "{:?}", captured.totals);
        assert!(stands_without(&scene, captured, &before));
    }
    scene.verify();
}

#[test]
fn after_a_plain_rotation_what_was_there_is_built_on() {
    let mut scene = Scene::new();
    let state = sample(&mut Random::new(1), 12);
    scene.capture(SOURCE, 1000, &state);
    let before = packs(&scene);
    scene.rotate(FormerKeys::Trusted);
    let again = scene.capture(OTHER, 1100, &state);
    assert!(again.totals.new_plain_bytes < bytes(&state) / 10, "{:?}", again.totals);
    assert!(!stands_without(&scene, &again, &before));
    // Marked later, they count as compromised all the same; and stay so when keys change again.
    scene.rotate(FormerKeys::Compromised);
    scene.rotate(FormerKeys::Trusted);
    let compromised = compromised_packs(&scene);
    assert_eq!(compromised, packs(&scene));
    let full = scene.capture(OTHER, 1200, &state);
    assert!(full.totals.new_plain_bytes >= bytes(&state), "{:?}", full.totals);
    assert!(stands_without(&scene, &full, &compromised));
    scene.verify();
}

/// Captures of a source that changes a little each time, before and after its keys were compromised.
fn scene_of_both(seed: u64, count: i64) -> (Scene, State, Captured) {
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut scene = Scene::new();
    let mut state = sample(&mut random, 12);
    let mut captured = scene.capture(SOURCE, 1000, &state);
    for n in 1..2 * count {
        if n == count {
            scene.rotate(FormerKeys::Compromised);
        }
        edit(&mut state, &mut random);
        captured = scene.capture(SOURCE, 1000 + 10 * n, &state);
    }
    (scene, state, captured)
}

#[test]
fn passes_keep_what_new_keys_have_sealed_and_thin_the_rest_away() {
    for seed in 0..4 {
        let (mut scene, state, newest) = scene_of_both(seed, 6);
        let known: Vec<_> = scene.states.keys().copied().collect();
        scene.collect();
        assert_kept_apart(&scene);
        assert!(stands_without(&scene, &newest, &compromised_packs(&scene)));
        scene.verify();
        // Points of both sides are dropped, and runs merged: those of before have their metadata under new keys then.
        scene.thin(&last(8));
        scene.collect();
        assert_kept_apart(&scene);
        assert!(stands_without(&scene, &newest, &compromised_packs(&scene)));
        assert!(scene.states.len() == 8 && known.len() == 12);
        scene.verify();
        let same = scene.capture(OTHER, 2000, &state);
        assert!(same.totals.new_plain_bytes < bytes(&state) / 10, "{:?}", same.totals);
        scene.thin(&last(2));
        scene.collect();
        while !scene.is_idle() {}
        assert_eq!(compromised_packs(&scene), BTreeSet::new(), "nothing needs them any more");
        scene.verify();
    }
}

#[test]
fn records_of_compromised_and_of_other_keys_never_share_a_pack_when_small_packs_become_one() {
    let (mut scene, state, newest) = scene_of_both(9, 40);
    assert!(scene.names("packs/").len() > 2 * 64);
    let moved = scene.collect().records_moved;
    assert!(moved > 0 && scene.names("packs/").len() < 2 * 64, "small packs were merged");
    assert_kept_apart(&scene);
    assert!(!compromised_packs(&scene).is_empty());
    assert!(stands_without(&scene, &newest, &compromised_packs(&scene)));
    // What was moved is known to the next capture.
    let same = scene.capture(OTHER, 2000, &state);
    assert!(same.totals.new_plain_bytes < bytes(&state) / 10, "{:?}", same.totals);
    scene.verify();
}

#[test]
fn a_run_whose_metadata_alone_was_written_anew_is_not_built_on() {
    let mut random = Random::new(3);
    let mut scene = Scene::new();
    let mut state = sample(&mut random, 12);
    for n in 0..4 {
        edit(&mut state, &mut random);
        scene.capture(SOURCE, 1000 + 10 * n, &state);
    }
    scene.collect();
    scene.rotate(FormerKeys::Compromised);
    // The custodian was faster than the source: it has merged runs, under new keys, whose data is where it was.
    assert!(scene.thin(&last(1)).runs_merged > 0);
    while !scene.is_idle() {}
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    assert!(scene.vault.parent(&catalogue).expect("reads").is_none());
    let full = scene.capture(SOURCE, 2000, &state);
    assert!(full.totals.new_plain_bytes >= bytes(&state), "{:?}", full.totals);
    assert!(stands_without(&scene, &full, &compromised_packs(&scene)));
    scene.verify();
}

#[test]
fn a_retention_of_everything_leaves_the_points_of_before_readable() {
    let (mut scene, ..) = scene_of_both(11, 3);
    scene.collect();
    scene.thin(&Keep::Everything);
    while !scene.is_idle() {}
    assert_eq!(scene.states.len(), 6);
    scene.verify();
}
