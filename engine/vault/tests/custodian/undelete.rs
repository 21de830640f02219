//! Bringing back of dropped points.

use std::collections::BTreeMap;

use backstay_core::id::PointId;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::random::Random;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Pass, Undeleted};

use crate::scene::{SOURCE, Scene, last};

pub(crate) type States = BTreeMap<(&'static str, PointId), State>;

/// A line of which all but the newest two were dropped and deleted; and what the dropped ones were.
pub(crate) fn dropped(seed: u64) -> (Scene, States) {
    let mut scene = Scene::on(MemStore::with_trash());
    scene.line(SOURCE, 10, &mut Random::new(seed));
    let all = scene.states.clone();
    scene.collect();
    scene.thin(&last(6));
    while !scene.is_idle() {}
    scene.thin(&last(2));
    while !scene.is_idle() {}
    let gone = all.into_iter().filter(|(key, _)| !scene.states.contains_key(key)).collect();
    (scene, gone)
}

fn undelete(scene: &mut Scene, wanted: impl Fn(PointId) -> bool, hold: Option<&str>) -> Vec<Undeleted> {
    let wanted = |_, point| wanted(point);
    scene.with_custodian(|custodian| custodian.undelete(&wanted, hold)).expect("undeletes")
}

#[test]
fn what_was_dropped_and_deleted_comes_back_whole_and_stays() {
    let (mut scene, gone) = dropped(1);
    assert_eq!(scene.counting().len(), 2);
    let back = undelete(&mut scene, |_| true, Some("undeleted"));
    assert_eq!(back.iter().map(|point| &point.failure).collect::<Vec<_>>(), [&None; 8], "{back:?}");
    scene.states.extend(gone);
    scene.verify();
    for _ in 0..3 {
        scene.thin(&last(2));
        while !scene.is_idle() {}
        assert_eq!(scene.counting().len(), 10);
        scene.verify();
    }
    assert_eq!(undelete(&mut scene, |_| true, None), [], "there is nothing more to bring back");
}

#[test]
fn of_several_points_those_that_are_asked_for_come_back() {
    let (mut scene, gone) = dropped(2);
    let (wanted, state) = gone.iter().nth(4).expect("eight");
    let back = undelete(&mut scene, |point| point == wanted.1, Some("rescue"));
    assert_eq!((back.len(), &back[0].failure), (1, &None));
    scene.states.insert(*wanted, state.clone());
    while !scene.is_idle() {}
    assert_eq!(scene.counting().len(), 3);
    scene.verify();
}

#[test]
fn a_pack_that_came_back_goes_only_when_what_stays_in_its_place_is_whole() {
    for case in 28..42 {
        let mut scene = Scene::on(MemStore::with_trash());
        scene.line(SOURCE, 12, &mut Random::new(20 + case / 7));
        scene.collect();
        let all = scene.states.clone();
        scene.thin(&last(3 + case as u32 % 7));
        let before = scene.names("packs/");
        while !scene.is_idle() {}
        let new = scene.names("packs/").into_iter().filter(|pack| !before.contains(pack));
        let Some(moved) = new.max_by_key(|pack| scene.memory.objects()[pack].len()) else { continue };
        // All packs come back, and of what is in them all but one of the points need a part.
        let gone: Vec<_> = all.into_iter().filter(|(key, _)| !scene.states.contains_key(key)).collect();
        let unwanted = gone[0].0;
        undelete(&mut scene, |point| point != unwanted.1, Some("wanted"));
        scene.states.extend(gone.into_iter().filter(|(key, _)| *key != unwanted));
        let mut content = scene.memory.objects()[&moved].to_vec();
        content.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
        scene.overwrite(&moved, Box::leak(content.into_boxed_slice()));
        while scene.pass().is_ok_and(|pass| pass != Pass::Idle) {}
        for ((source, point), state) in &scene.states {
            let read = read_back(&scene.vault, source, *point);
            let read = read.unwrap_or_else(|error| panic!("case {case}: {point}: {error}"));
            assert!(read.state == *state, "case {case}: {point} reads otherwise");
        }
    }
}

#[test]
fn without_a_hold_keep_judges_them_at_the_next_prune() {
    let (mut scene, _) = dropped(3);
    undelete(&mut scene, |_| true, None);
    assert_eq!(scene.counting().len(), 10);
    assert_eq!(scene.thin(&last(2)).points_dropped, 8);
    while !scene.is_idle() {}
    scene.verify();
}

#[test]
fn what_was_dropped_and_not_deleted_yet_needs_no_trash() {
    let mut scene = Scene::new();
    scene.line(SOURCE, 6, &mut Random::new(4));
    let all = scene.states.clone();
    scene.collect();
    scene.thin(&last(1));
    assert_eq!(undelete(&mut scene, |_| true, Some("x")).len(), 5);
    scene.states = all;
    while !scene.is_idle() {}
    scene.verify();
}

#[test]
fn a_point_that_lacks_something_is_named_and_the_others_come_back() {
    let (mut scene, gone) = dropped(5);
    let trash = scene.fixture.block_on(scene.memory.trash()).expect("lists");
    let packs = trash.iter().filter(|trashed| trashed.object.name.as_str().starts_with("packs/"));
    // As if its time had been over before that of the others.
    let lost = packs.max_by_key(|trashed| trashed.object.bytes).expect("a pack").clone();
    scene.memory.empty_trash_of(&lost.object.name);
    let back = undelete(&mut scene, |_| true, Some("x"));
    let (whole, lacking): (Vec<_>, Vec<_>) = back.iter().partition(|point| point.failure.is_none());
    assert!(!lacking.is_empty(), "{back:?}");
    for point in whole {
        let key = (SOURCE, point.link.point);
        scene.states.insert(key, gone[&key].clone());
    }
    while !scene.is_idle() {}
    scene.verify();
}
