//! Bringing back of dropped points.

use std::collections::BTreeMap;

use backstay_core::id::PointId;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Pass, RepairMeans, Undeleted};

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

#[test]
fn what_a_repair_has_thrown_away_because_it_is_damaged_stays_away() {
    let mut scene = Scene::on(MemStore::with_trash());
    scene.line(SOURCE, 4, &mut Random::new(6));
    scene.collect();
    scene.thin(&last(2));
    let dropped: Vec<PointId> = {
        let counting = scene.counting();
        let names = scene.names("points/").into_iter();
        names.map(|name| point_of(&name)).filter(|point| !counting.contains(point)).collect()
    };
    let damaged = scene.counting().into_iter().min().expect("two");
    let damaged_name = scene.names("points/").into_iter().find(|name| point_of(name) == damaged);
    scene.overwrite(&damaged_name.expect("its object"), b"something else");
    scene.states.retain(|(_, point), _| *point != damaged);
    let repaired = scene.with_custodian(|custodian| custodian.repair(&RepairMeans::default()));
    assert!(repaired.expect("repairs").points_lost > 0);
    while !scene.is_idle() {}
    let counting = scene.counting();
    scene.states.retain(|(_, point), _| counting.contains(point));
    let back = undelete(&mut scene, |_| true, Some("rescue"));
    let whole: Vec<PointId> =
        back.iter().filter(|point| point.failure.is_none()).map(|point| point.link.point).collect();
    assert!(dropped.iter().all(|point| whole.contains(point)), "{back:?}");
    while !scene.is_idle() {}
    scene.verify();
}

#[test]
fn a_point_that_a_repair_has_dropped_comes_back_when_its_pack_does() {
    let mut scene = Scene::on(MemStore::with_trash());
    let points = scene.line(SOURCE, 4, &mut Random::new(7));
    scene.collect();
    let before = scene.names("packs/");
    let last_state = scene.states[&(SOURCE, points[3].link.point)].clone();
    let held = scene.capture_held(SOURCE, 1100, &State::from([(b"k".to_vec(), vec![1; 9])]), "by hand");
    scene.capture(SOURCE, 1200, &last_state);
    scene.collect();
    let state = scene.states[&(SOURCE, held)].clone();
    // The list of its entries is lost, and found again when the repair has dropped it.
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let root = catalogue.stack(held).expect("a stack")[0].parts[0].root;
    let pack = Named::Pack(scene.vault.places(&root).expect("knows")[0].pack).to_name();
    assert!(!before.contains(&pack.to_string()));
    let content = scene.memory.objects()[pack.as_str()].clone();
    scene.memory.empty_trash_of(&pack);
    scene.fixture.block_on(scene.memory.delete(&pack)).expect("deletes");
    scene.memory.empty_trash_of(&pack);
    let repaired = scene.with_custodian(|custodian| custodian.repair(&RepairMeans::default()));
    assert!(repaired.expect("repairs").points_lost > 0);
    scene.fixture.block_on(scene.memory.put(&pack, content)).expect("puts");
    while !scene.is_idle() {}
    undelete(&mut scene, |point| point == held, Some("rescue"));
    scene.states.clear();
    scene.states.insert((SOURCE, held), state);
    while !scene.is_idle() {}
    scene.verify();
}

fn point_of(name: &str) -> PointId {
    match ObjectName::parse(name) {
        Some((_, Named::Point(_, point, _))) => point,
        _ => panic!("{name} is no point"),
    }
}
