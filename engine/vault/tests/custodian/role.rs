//! A custodian without the keys of contents: it thins, and moves sealed data that it cannot open, if the packs are whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_testkit::capture::State;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::keys::FormerKeys;
use backstay_vault::malformed::Malformed;
use backstay_vault::name::ObjectName;
use backstay_vault::pack::salvage;
use backstay_vault::record::HEADER_BYTES;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::{Collected, PackShare, RepairMeans};
use bytes::Bytes;

use crate::scene::{SOURCE, Scene, at, edit, last, sample};
use crate::splitting::rewritten;

const OTHER: &str = "matrix.dump";

/// Which keys the custodian has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    All,
    WithoutContents,
}

/// From now on the custodian has only these keys.
fn give(scene: &mut Scene, keys: Keys) {
    scene.vault = match keys {
        Keys::All => scene.fixture.open(scene.memory.clone()).expect("opens"),
        Keys::WithoutContents => scene.fixture.open_as_custodian(scene.memory.clone()).expect("opens"),
    };
}

fn data_packs(store: &MemStore) -> BTreeMap<String, Bytes> {
    let is_of_data = |name: &str, content: &[u8]| name.starts_with("packs/") && content[9] == 1;
    store.objects().into_iter().filter(|(name, content)| is_of_data(name, content)).collect()
}

fn names(packs: &BTreeMap<String, Bytes>) -> BTreeSet<String> {
    packs.keys().cloned().collect()
}

fn put(scene: &Scene, name: &str, content: Bytes) {
    let (name, _) = ObjectName::parse(name).expect("a name");
    scene.fixture.block_on(scene.memory.put(&name, content)).expect("puts");
}

/// One bit of each record is another.
fn damage(scene: &Scene, name: &str) {
    let mut content = scene.memory.objects()[name].to_vec();
    for entry in salvage(&content) {
        content[entry.offset as usize + HEADER_BYTES] ^= 1;
    }
    put(scene, name, content.into());
}

/// Most of the values are others.
fn rewrite(state: &mut State, random: &mut Random) {
    for (place, (_, value)) in state.iter_mut().enumerate() {
        if place % 4 > 0 {
            *value = random.bytes(10_000);
        }
    }
}

/// A source of which most was written anew, and whose first point is dropped: of the first pack of data little is needed.
fn sparse(seed: u64) -> (Scene, State) {
    let (mut scene, mut random) = (Scene::new(), Random::new(seed));
    let mut state: State = (0..40u8).map(|key| (vec![key], random.bytes(10_000))).collect();
    scene.capture(SOURCE, 1000, &state);
    rewrite(&mut state, &mut random);
    scene.capture(SOURCE, 1010, &state);
    (scene, state)
}

/// Every kept point reads the same with all keys, and there is no pack of which a record does not open.
fn assert_whole(scene: &Scene) {
    scene.verify();
    let vault = scene.fixture.open(scene.memory.clone()).expect("opens");
    let read = vault.check_data(PackShare::ALL).expect("reads");
    assert!(read.is_good(), "{read:#?}");
}

fn prune(scene: &mut Scene) -> Collected {
    scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
    scene.thin(&last(1));
    scene.collect()
}

#[test]
fn data_is_moved_out_of_sparse_packs_by_who_cannot_open_it() {
    let (mut scene, state) = sparse(1);
    let (before, bytes) = (data_packs(&scene.memory), scene.pack_bytes());
    give(&mut scene, Keys::WithoutContents);
    let done = prune(&mut scene);
    assert!(done.packs_deleted > 0 && done.records_moved > 0, "{done:?}");
    let after = data_packs(&scene.memory);
    assert_eq!(names(&before).difference(&names(&after)).count(), 1, "the sparse one has gone");
    assert_eq!(names(&after).difference(&names(&before)).count(), 1, "what is needed of it was moved");
    assert!(scene.pack_bytes() < bytes * 3 / 4, "{} of {bytes} bytes are left", scene.pack_bytes());
    while !scene.is_idle() {}
    assert_whole(&scene);
    // Writers count on what was moved.
    give(&mut scene, Keys::All);
    let again = scene.capture(OTHER, 2000, &state);
    assert!(again.totals.new_plain_bytes < 20_000, "{:?}", again.totals);
    assert_whole(&scene);
}

#[test]
fn a_sparse_pack_is_read_whole_once_for_all_its_records() {
    let (mut scene, _) = sparse(2);
    let faulty = Arc::new(FaultStore::new(scene.memory.clone()));
    let packs = names(&data_packs(&scene.memory));
    let reads = Arc::new(AtomicU64::new(0));
    for name in &packs {
        let reads = reads.clone();
        let count = move || _ = reads.fetch_add(1, Ordering::SeqCst);
        faulty.then(Trigger::on(Operation::Get).below(name).always(), count);
    }
    scene.vault = scene.fixture.open_as_custodian(faulty).expect("opens");
    let done = prune(&mut scene);
    let left = names(&data_packs(&scene.memory));
    assert!(done.records_moved > 5 && packs.difference(&left).count() == 1, "{done:?}");
    assert_eq!(reads.load(Ordering::SeqCst), 1);
    assert_whole(&scene);
}

#[test]
fn lines_of_captures_are_cared_for_as_with_all_keys() {
    for seed in 0..4 {
        let mut results = Vec::new();
        for keys in [Keys::All, Keys::WithoutContents] {
            let mut scene = Scene::new();
            scene.line(SOURCE, 12, &mut Random::new(seed));
            scene.line(OTHER, 6, &mut Random::new(seed + 100));
            give(&mut scene, keys);
            scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
            scene.thin(&last(3));
            while !scene.is_idle() {}
            assert_whole(&scene);
            results.push((scene.states.len(), data_packs(&scene.memory).len()));
        }
        assert_eq!(results[0], results[1], "seed {seed}");
    }
}

#[test]
fn sparse_groups_are_passed_over_and_all_else_is_done() {
    let (mut scene, _) = rewritten(1, 40);
    give(&mut scene, Keys::WithoutContents);
    scene.collect();
    let thinned = scene.thin(&last(1));
    assert!(thinned.points_dropped == 1 && thinned.runs_merged > 0, "{thinned:?}");
    assert_eq!(thinned.groups_split, 0, "that takes the keys of contents");
    while !scene.is_idle() {}
    assert_whole(&scene);
}

#[test]
fn records_of_compromised_and_of_other_keys_never_share_a_pack() {
    let mut random = Random::new(3);
    let mut scene = Scene::new();
    let mut state = sample(&mut random, 12);
    for n in 0..12 {
        if n == 6 {
            scene.rotate(FormerKeys::Compromised);
        }
        edit(&mut state, &mut random);
        scene.capture(SOURCE, 1000 + 10 * n, &state);
    }
    give(&mut scene, Keys::WithoutContents);
    scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
    scene.thin(&last(8));
    assert!(scene.collect().records_moved > 0);
    while !scene.is_idle() {}
    scene.fixture.assert_kept_apart(&scene.memory);
    assert_eq!(scene.states.len(), 8);
    assert_whole(&scene);
}

/// A captured state, and the names of two packs that each have all of its data.
fn with_two_copies(seed: u64) -> (Scene, State, Vec<String>) {
    let (mut scene, mut random) = (Scene::new(), Random::new(seed));
    let state: State = (0..40u8).map(|key| (vec![key], random.bytes(10_000))).collect();
    scene.capture(SOURCE, 1000, &state);
    let other = Arc::new(MemStore::new());
    let vault = scene.fixture.create(other.clone()).expect("create");
    scene.fixture.capture(&vault, SOURCE, at(1000), &state).expect("capture");
    data_packs(&other).into_iter().for_each(|(name, content)| put(&scene, &name, content));
    // It lists packs that no index object names.
    scene.with_custodian(|custodian| custodian.repair(&RepairMeans::default())).expect("repairs");
    let copies: Vec<String> = data_packs(&scene.memory).into_keys().collect();
    assert_eq!(copies.len(), 2);
    (scene, state, copies)
}

#[test]
fn what_lies_in_a_damaged_pack_is_taken_from_another() {
    for (keys, damaged) in [(Keys::All, 0), (Keys::WithoutContents, 0), (Keys::WithoutContents, 1)] {
        let (mut scene, mut state, copies) = with_two_copies(4);
        rewrite(&mut state, &mut Random::new(5));
        scene.capture(SOURCE, 1010, &state);
        damage(&scene, &copies[damaged]);
        give(&mut scene, keys);
        let done = prune(&mut scene);
        assert!(done.records_moved > 0, "{keys:?}: {done:?}");
        while !scene.is_idle() {}
        let left = names(&data_packs(&scene.memory));
        assert!(!left.contains(&copies[damaged]), "{keys:?}: the damaged one has gone");
        assert_whole(&scene);
    }
}

#[test]
fn a_damaged_copy_is_not_the_one_that_stays() {
    for (keys, damaged) in [(Keys::All, 0), (Keys::WithoutContents, 0), (Keys::WithoutContents, 1)] {
        let (mut scene, _, copies) = with_two_copies(6);
        damage(&scene, &copies[damaged]);
        give(&mut scene, keys);
        while !scene.is_idle() {}
        assert_whole(&scene);
    }
}

#[test]
fn nothing_goes_while_the_only_copy_of_what_is_needed_is_damaged() {
    for keys in [Keys::All, Keys::WithoutContents] {
        let (mut scene, _) = sparse(6);
        give(&mut scene, keys);
        scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
        scene.thin(&last(1));
        let packs = names(&data_packs(&scene.memory));
        packs.iter().for_each(|name| damage(&scene, name));
        let before: BTreeSet<String> = scene.memory.objects().into_keys().collect();
        for _ in 0..2 {
            let refused = scene.pass().expect_err("refused");
            assert!(matches!(refused, VaultError::Chunk { .. }), "{keys:?}: {refused}");
            assert!(refused.to_string().contains("packs/"), "{keys:?}: {refused}");
        }
        let after: BTreeSet<String> = scene.memory.objects().into_keys().collect();
        assert!(before.is_subset(&after), "{keys:?}: nothing has gone");
        // The same bits flip back.
        packs.iter().for_each(|name| damage(&scene, name));
        while !scene.is_idle() {}
        assert_whole(&scene);
    }
}

#[test]
fn a_store_that_does_not_answer_says_nothing_of_a_pack() {
    let (mut scene, _) = sparse(7);
    let packs = names(&data_packs(&scene.memory));
    let faulty = Arc::new(FaultStore::new(scene.memory.clone()));
    for name in &packs {
        faulty.fail(Trigger::on(Operation::Get).below(name).always(), StoreErrorKind::Transient);
    }
    scene.vault = scene.fixture.open_as_custodian(faulty).expect("opens");
    scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
    scene.thin(&last(1));
    let refused = scene.pass().expect_err("refused");
    assert!(refused.is_transient(), "{refused}");
    give(&mut scene, Keys::WithoutContents);
    while !scene.is_idle() {}
    assert_whole(&scene);
}

#[test]
fn a_damaged_pack_of_data_is_left_by_a_repair_that_cannot_open_it_and_all_else_is_mended() {
    let (mut scene, _) = sparse(8);
    scene.collect();
    let packs = data_packs(&scene.memory);
    let [(cut, content), (gone, removed)] = &packs.iter().collect::<Vec<_>>()[..] else {
        panic!("{packs:?}")
    };
    put(&scene, cut, content.slice(..content.len() - 1));
    scene.remove(gone);
    give(&mut scene, Keys::WithoutContents);
    let means = RepairMeans { reads_all: true, ..RepairMeans::default() };
    let outcome = scene.with_custodian(|custodian| custodian.repair(&means));
    assert!(matches!(outcome, Err(VaultError::Damaged { cause: Malformed::Key(_), .. })), "{outcome:?}");
    assert!(scene.memory.objects().contains_key(*cut), "it is left");
    assert_eq!(scene.names("bad/").len(), 1, "what the other had is on the list");
    // Who has all keys salvages what is whole in it: all of it.
    put(&scene, gone, (*removed).clone());
    give(&mut scene, Keys::All);
    let mended = scene.with_custodian(|custodian| custodian.repair(&means)).expect("repairs");
    assert!(mended.records_salvaged > 0 && mended.losses.is_empty(), "{mended:?}");
    while !scene.is_idle() {}
    assert_whole(&scene);
}
