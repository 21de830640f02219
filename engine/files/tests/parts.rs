//! Captures in several parts: what is committed on the way, what a capture that is cut short is continued from, and what a
//! custodian takes away meanwhile.

mod scene;
#[path = "parts/touched.rs"]
mod touched;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::PointId;
use backstay_files::capture::{CaptureProgress, PartLimits};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::{Counted, MemStore, Operation, RequestObserver, StoreError, StoreErrorKind};
use backstay_vault::vault::{Custodian, MemoryNotes, Pass};

use scene::{Found, NOW_SECONDS, Scene};

#[test]
fn a_capture_that_is_cut_short_anywhere_is_continued_with_what_its_parts_have_and_no_more() {
    let mut interrupted = 0;
    // How long a part lasts, and behind which of them the store is gone.
    for (seconds, parts) in (3..16).flat_map(|seconds| (1..6).map(move |parts| (seconds, parts))) {
        let mut random = Random::new(1);
        let scene = Scene::new();
        for name in ["a 0", "a 1", "b 0", "b 1", "b 2", "z"] {
            scene.write(&format!("folder/{name}"), random.bytes(9000));
        }
        scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
        // What is gone has no contents that its row would wait for, and a large file comes after it.
        for name in ["b 0", "b 1", "b 2"] {
            fs::remove_file(scene.path(&format!("folder/{name}"))).expect("removed");
        }
        scene.write("folder/a 1", random.bytes(9000));
        for n in 0..4 {
            scene.write(&format!("folder/c {n}"), random.bytes(150_000));
        }
        let failing = Arc::new(FaultStore::new(MemStore::with_objects(scene.store.objects())));
        failing.fail(
            Trigger::on(Operation::Put).below("points/").after(parts).always(),
            StoreErrorKind::ReadOnly,
        );
        let limits = PartLimits { duration: Duration::from_secs(seconds), ..PartLimits::default() };
        interrupted += u64::from(scene.capture(failing.clone(), limits).is_err());
        let left = Scene { store: Arc::new(MemStore::with_objects(failing.inner().objects())), ..scene };
        let story = format!("parts of {seconds} s, cut short after {parts}");
        left.capture(left.store.clone(), limits).unwrap_or_else(|why| panic!("{story}: {why}"));
        left.verify(&story);
    }
    assert!(interrupted > 20, "{interrupted} were cut short");
}

#[test]
fn a_capture_that_rebuilds_its_local_state_is_seen_to_come_further() {
    const FILES: u64 = 40;
    let scene = Scene::new();
    for n in 0..FILES {
        scene.write(&format!("file {n}"), "contents");
    }
    let capture = || {
        let progress = CaptureProgress::default();
        scene.capture_with(scene.store.clone(), PartLimits::default(), &progress).expect("captures");
        progress.mark()
    };
    capture();
    let unchanged = capture();
    fs::remove_dir_all(scene.folder.path().join("states")).expect("removed");
    let rebuilding = capture();
    assert!(rebuilding >= unchanged + FILES, "{rebuilding} as against {unchanged}");
}

/// Bytes of packs that were put.
#[derive(Debug, Default)]
struct Sent(AtomicU64);

impl RequestObserver for Sent {
    fn observe(&self, operation: Operation, _: Option<&StoreError>, _: Duration, payload_bytes: u64) {
        if operation == Operation::Put {
            self.0.fetch_add(payload_bytes, Ordering::Relaxed);
        }
    }
}

/// A capture of a large file in several parts, with a prune whenever a part is there, by a clock that shows this. How many
/// bytes were put, by the capture and the prunes, and how many packs were deleted.
fn capture_beside_prunes(custodians_seconds: i64) -> (u64, u64) {
    let scene = Scene::new();
    scene.write("small", "contents");
    scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
    scene.write("large", Random::new(2).bytes(80 << 20));
    let sent = Arc::new(Sent::default());
    let store = Arc::new(MemStore::with_objects(scene.store.objects()));
    let beside = Arc::new(FaultStore::new(Counted::new(store.clone(), sent.clone())));
    let (fixture, custodians) = (Arc::clone(&scene.fixture), Arc::downgrade(&beside));
    // Whatever is announced goes on after the next part.
    let notes = Mutex::new(MemoryNotes::default());
    let deleted = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&deleted);
    beside.then(Trigger::on(Operation::Put).below("points/").always(), move || {
        let Some(store) = custodians.upgrade() else { return };
        let mut notes = notes.lock().expect("not poisoned");
        let work = |custodian: &mut Custodian<'_>| {
            // As the daemon does it: nothing is thinned while a pass waits.
            match custodian.accept()? {
                Pass::Waits(_) => return Ok(()),
                Pass::Done(done) => drop(total.fetch_add(done.packs_deleted, Ordering::Relaxed)),
                Pass::Idle => {}
            }
            custodian.thin(&|_| None)?;
            total.fetch_add(collect(custodian)?, Ordering::Relaxed);
            Ok(())
        };
        let pruned = Scene::with_custodian_at(custodians_seconds, &fixture, store, &mut notes, work);
        pruned.expect("prunes");
    });
    let limits = PartLimits { read_bytes: 4 << 20, ..PartLimits::default() };
    let captured = scene.capture(beside.clone(), limits);
    let whole = Scene { store, ..scene };
    // Where what it had committed was taken away under it, it begins anew.
    if captured.is_err() {
        whole.capture(whole.store.clone(), limits).expect("captures");
    }
    whole.verify("beside prunes");
    (sent.0.load(Ordering::Relaxed), deleted.load(Ordering::Relaxed))
}

#[test]
fn a_large_file_is_sent_once_however_often_the_vault_is_pruned_meanwhile() {
    let (sent, _) = capture_beside_prunes(NOW_SECONDS + 10_000);
    assert!(sent < 84 << 20, "{sent} bytes for 80 MiB");
}

#[test]
fn what_was_sent_of_a_large_file_is_in_the_point_whatever_a_custodian_deletes_meanwhile() {
    // What a capture has left on its way is too old by then: all of it, or its first parts.
    let fortnight = 14 * 24 * 3600;
    let ahead = (fortnight + 6..fortnight + 18).step_by(2).chain([1 << 30]);
    let deleted: u64 = ahead.map(|seconds| capture_beside_prunes(NOW_SECONDS + seconds).1).sum();
    assert!(deleted > 0, "something was deleted meanwhile");
}

/// Passes until one waits, or there is nothing to do; how many packs went.
fn collect(custodian: &mut Custodian<'_>) -> Result<u64, VaultError> {
    let mut deleted = 0;
    for _ in 0..8 {
        match custodian.collect()? {
            Pass::Done(done) => deleted += done.packs_deleted,
            Pass::Idle | Pass::Waits(_) => break,
        }
    }
    Ok(deleted)
}

/// A prune that keeps so many points, for all whose commits do not keep it waiting.
fn prune(custodian: &mut Custodian<'_>, last: u32) -> Result<(), VaultError> {
    custodian.accept()?;
    let keep = Keep::Rules(KeepRules { last: Some(last), ..KeepRules::default() });
    custodian.thin(&|_| Some(keep.clone()))?;
    collect(custodian).map(drop)
}

/// Changes something of the tree, as people do.
fn change(scene: &Scene, random: &mut Random) {
    let mut files: Vec<PathBuf> = scene.found().into_iter().map(|(name, ..)| name).collect();
    let some = |random: &mut Random, files: &[PathBuf]| {
        files.get(random.below(files.len().max(1))).map(|name| scene.path(name.to_str().expect("text")))
    };
    for _ in 0..1 + random.below(25) {
        let new = format!("folder {}/file {}", random.below(4), random.below(60));
        match (random.below(9), some(random, &files)) {
            (0..4, _) => {
                let length =
                    if random.once_in(12) { 70_000 + random.below(400_000) } else { random.below(20_000) };
                if !scene.path(&new).is_dir() {
                    scene.write(&new, random.bytes(length));
                    files.push(new.into());
                }
            }
            // What follows may have been moved or removed by an earlier change.
            (4, Some(file)) => drop(fs::remove_file(file)),
            (5 | 6, Some(file)) => {
                let mode = fs::Permissions::from_mode(0o600 + random.below(2) as u32 * 0o44);
                drop(fs::set_permissions(file, mode));
            }
            (7, Some(file)) => drop(fs::rename(file, scene.path(&new))),
            (_, Some(file)) if random.once_in(2) => drop(fs::hard_link(file, scene.path(&new))),
            _ => {
                let [from, to] = [(); 2].map(|()| scene.path(&format!("folder {}", random.below(4))));
                drop(fs::rename(from, to));
            }
        }
    }
    // Times of the file system have steps of some milliseconds, and the clock of the test is no help there.
    std::thread::sleep(Duration::from_millis(15));
}

/// Weeks of a tree: captures in parts that are cut short, a custodian that prunes between them and beside them. Every point
/// that was acknowledged and that retention has kept is what the tree was.
fn live(seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut scene = Scene::new();
    let mut acknowledged: BTreeMap<PointId, Vec<Found>> = BTreeMap::new();
    let notes = Arc::new(Mutex::new(MemoryNotes::default()));
    let (mut captures, mut interrupted) = (0, 0);
    for day in 0..10 {
        let story = format!("seed {seed}, day {day}");
        change(&scene, &mut random);
        let store = Arc::new(FaultStore::new(MemStore::with_objects(scene.store.objects())));
        if random.once_in(3) {
            let folder = ["points/", "packs/", "index/", "heads/"][random.below(4)];
            let trigger = Trigger::on(Operation::Put).below(folder).after(random.below(4) as u64).always();
            store.fail(trigger, StoreErrorKind::ReadOnly);
        }
        if random.once_in(2) {
            let (fixture, weak) = (Arc::clone(&scene.fixture), Arc::downgrade(&store));
            let (notes, is_at_work) = (Arc::clone(&notes), AtomicBool::new(false));
            let last = 1 + random.below(3) as u32;
            // Not of packs: they go up on the threads that the custodian's need as well.
            let folder = ["points/", "index/", "heads/"][random.below(3)];
            store.then(Trigger::on(Operation::Put).below(folder).always(), move || {
                // It puts index objects itself.
                if is_at_work.swap(true, Ordering::SeqCst) {
                    return;
                }
                if let Some(store) = weak.upgrade() {
                    let mut notes = notes.lock().expect("not poisoned");
                    let pruned = Scene::with_custodian(&fixture, store, &mut notes, |custodian| {
                        prune(custodian, last)
                    });
                    let is_refused = matches!(&pruned, Err(VaultError::Store(_)));
                    assert!(pruned.is_ok() || is_refused, "{pruned:?}");
                }
                is_at_work.store(false, Ordering::SeqCst);
            });
        }
        let limits = PartLimits {
            duration: Duration::from_secs(2 + random.below(40) as u64),
            read_bytes: 20_000 + random.below(400_000) as u64,
            ..PartLimits::default()
        };
        captures += 1;
        let whole = scene.capture(store.clone(), limits);
        scene.store = Arc::new(MemStore::with_objects(store.inner().objects()));
        // One that goes on from parts has what the tree was at the time of these: it is done before anything changes.
        let point = whole.or_else(|_| {
            interrupted += 1;
            scene.capture(scene.store.clone(), limits)
        });
        acknowledged.insert(point.unwrap_or_else(|why| panic!("{story}: {why}")), scene.found());
        if random.once_in(2) {
            let last = 1 + random.below(3) as u32;
            let (store, mut notes) = (scene.store.clone(), notes.lock().expect("not poisoned"));
            let pruned =
                Scene::with_custodian(&scene.fixture, store, &mut notes, |custodian| prune(custodian, last));
            pruned.unwrap_or_else(|error| panic!("{story}: {error}"));
        }
        for (point, found) in scene.restored(&story) {
            if let Some(was) = acknowledged.get(&point) {
                assert!(found == *was, "{story}: {point} is another tree");
            }
        }
    }
    (captures, interrupted)
}

#[test]
fn points_are_what_the_tree_was_whatever_is_cut_short_and_pruned_meanwhile() {
    let (first, count) = match std::env::var("BACKSTAY_SEED") {
        Ok(seed) => (seed.parse().expect("a number"), 1),
        Err(_) => (0, 12),
    };
    let (mut captures, mut interrupted) = (0, 0);
    for seed in first..first + count {
        let (some, cut) = live(seed);
        (captures, interrupted) = (captures + some, interrupted + cut);
    }
    assert!(interrupted < captures, "{interrupted} of {captures} were cut short");
}

#[test]
#[ignore = "long: some minutes; BACKSTAY_SEEDS sets how many (300)"]
fn points_of_many_trees_are_what_these_were() {
    let count = std::env::var("BACKSTAY_SEEDS").map_or(300, |seeds| seeds.parse().expect("a number"));
    for seed in 0..count {
        live(seed);
    }
}
