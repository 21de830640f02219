//! Captures that look only where something was seen to change: what they have, and what they claim.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstay_core::units::Timestamp;
use backstay_files::capture::{CaptureProgress, PartLimits, state_folder};
use backstay_files::keys::PathKey;
use backstay_files::state::State;
use backstay_files::touched::Touched;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::random::Random;
use backstay_vault::store::{MemStore, Operation, StoreErrorKind};

use crate::scene::{NOW_SECONDS, SOURCE, Scene};

/// Histories of random changes.
const HISTORIES: u64 = 40;

/// The directory with this path below the root.
fn directory(path: &Path) -> PathKey {
    let names = path.iter().map(std::os::unix::ffi::OsStrExt::as_bytes);
    PathKey::from_components(names).expect("a key")
}

fn parent(path: &str) -> &Path {
    Path::new(path).parent().expect("it is below the root")
}

fn in_directory(path: &str) -> Touched {
    let mut touched = Touched::nowhere();
    touched.touch(directory(Path::new(path)));
    touched
}

impl Scene {
    fn capture_touched(&self, touched: Touched) {
        let capture = |touched| {
            let (store, progress) = (self.store.clone(), CaptureProgress::default());
            self.capture_where(store, touched, PartLimits::default(), &progress)
        };
        let captured = capture(touched);
        // As the daemon does.
        let is_unsettled = captured.as_ref().is_err_and(|why| why.contains("several names has changed"));
        if is_unsettled { capture(Touched::Everywhere) } else { captured }.expect("captures");
    }

    /// When the capture of the newest point began, up to when that says to be complete, and up to when the vault is.
    fn claims(&self) -> (Timestamp, Timestamp, Timestamp) {
        let vault = self.fixture.open(self.store.clone()).expect("opens");
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let common = &catalogue.newest().expect("a point").common;
        let durable = catalogue.durable_until(vault.id()).expect("something is durable");
        (common.capture_start, common.complete_until(), durable)
    }

    /// The start of the scan to which the local state of the newest point belongs.
    fn scan_start(&self) -> Timestamp {
        let vault = self.fixture.open(self.store.clone()).expect("opens");
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let point = catalogue.newest().expect("a point").link.point;
        let folder = state_folder(&self.folder.path().join("states"), point);
        State::open(&folder, point).expect("a state").header().scan_start
    }

    fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }
}

/// Changes something at random, and says where, as a watcher does.
fn change(scene: &Scene, random: &mut Random, touched: &mut Touched) {
    let mut name = |depth: usize| -> String {
        let names: Vec<String> = (0..=random.below(depth)).map(|_| format!("n{}", random.below(3))).collect();
        names.join("/")
    };
    let (at, to) = (name(3), name(3));
    let what = random.below(7);
    let is_directory = scene.path(&at).is_dir();
    let touch = |touched: &mut Touched, path: &str| touched.touch(directory(parent(path)));
    match what {
        0 | 1 if !is_directory && has_directory(scene, &at) => {
            fs::write(scene.path(&at), random.bytes(1 + random_length(what))).expect("written");
            touch(touched, &at);
        }
        2 if !scene.exists(&at) && has_directory(scene, &at) => {
            fs::create_dir(scene.path(&at)).expect("made");
            touch(touched, &at);
            touched.touch_all_below(directory(Path::new(&at)));
        }
        3 if scene.exists(&at) => {
            if is_directory {
                fs::remove_dir_all(scene.path(&at)).expect("removed");
            } else {
                fs::remove_file(scene.path(&at)).expect("removed");
            }
            touch(touched, &at);
        }
        4 if scene.exists(&at) && !scene.exists(&to) && has_directory(scene, &to) && !to.starts_with(&at) => {
            fs::rename(scene.path(&at), scene.path(&to)).expect("renamed");
            touch(touched, &at);
            touch(touched, &to);
            if is_directory {
                touched.touch_all_below(directory(Path::new(&to)));
            }
        }
        5 if scene.exists(&at) && !is_directory && !scene.exists(&to) && has_directory(scene, &to) => {
            fs::hard_link(scene.path(&at), scene.path(&to)).expect("linked");
            *touched = Touched::Everywhere;
        }
        6 if scene.exists(&at) => {
            let mode = 0o700 + random.below(8) as u32;
            fs::set_permissions(scene.path(&at), fs::Permissions::from_mode(mode)).expect("set");
            touch(touched, &at);
        }
        _ => {}
    }
}

fn random_length(what: usize) -> usize {
    if what == 0 { 9 } else { 70_000 }
}

fn has_directory(scene: &Scene, name: &str) -> bool {
    let path: PathBuf = scene.path(name);
    path.parent().is_some_and(Path::is_dir)
}

#[test]
fn what_has_changed_where_it_was_seen_is_captured_as_by_a_whole_scan() {
    for seed in 0..HISTORIES {
        let mut random = Random::new(seed);
        let scene = Scene::new();
        let mut everywhere = Touched::nowhere();
        (0..60).for_each(|_| change(&scene, &mut random, &mut everywhere));
        scene.capture_touched(Touched::Everywhere);
        for step in 0..6 {
            let mut touched = Touched::nowhere();
            let changes = random.below(8);
            (0..changes).for_each(|_| change(&scene, &mut random, &mut touched));
            scene.capture_touched(touched.clone());
            scene.verify(&format!("seed {seed}, step {step}, {changes} changes, touched {touched:?}"));
        }
    }
}

#[test]
fn what_is_told_after_a_capture_has_begun_is_in_the_next() {
    for seed in 0..HISTORIES {
        let mut random = Random::new(seed);
        let scene = Scene::new();
        (0..60).for_each(|_| change(&scene, &mut random, &mut Touched::nowhere()));
        scene.capture_touched(Touched::Everywhere);
        let mut late = Touched::nowhere();
        for _ in 0..4 {
            let mut touched = std::mem::replace(&mut late, Touched::nowhere());
            (0..random.below(6)).for_each(|_| change(&scene, &mut random, &mut touched));
            (0..random.below(6)).for_each(|_| change(&scene, &mut random, &mut late));
            scene.capture_touched(touched);
        }
        scene.capture_touched(late.clone());
        scene.verify(&format!("seed {seed}, told late {late:?}"));
    }
}

#[test]
fn directories_that_change_places_before_anybody_is_told_are_captured_with_what_is_in_them() {
    let scene = Scene::new();
    for site in ["site", "site.new"] {
        scene.write(&format!("www/{site}/pages/index"), site);
        scene.write(&format!("www/{site}/only in {site}"), site);
    }
    scene.write("www/log", "begun");
    scene.capture_touched(Touched::Everywhere);
    scene.write("www/log", "goes on");
    let touched = in_directory("www");
    // Of this only the next capture is told.
    fs::rename(scene.path("www/site"), scene.path("www/site.old")).expect("renamed");
    fs::rename(scene.path("www/site.new"), scene.path("www/site")).expect("renamed");
    scene.write("www/site/pages/new", "after it was put in place");
    scene.capture_touched(touched);
    scene.verify("changed places");
}

#[test]
fn a_name_at_which_nobody_looks_gets_no_contents_of_what_has_its_inode_now() {
    let scene = Scene::new();
    scene.write("seen/one", "of the first");
    fs::create_dir_all(scene.path("unseen/deep")).expect("made");
    fs::hard_link(scene.path("seen/one"), scene.path("unseen/deep/other")).expect("linked");
    scene.capture_touched(Touched::Everywhere);
    let inode = |name: &str| scene.path(name).metadata().expect("is there").ino();
    let before = inode("seen/one");
    fs::remove_file(scene.path("seen/one")).expect("removed");
    fs::remove_file(scene.path("unseen/deep/other")).expect("removed");
    let mut made = (0..1000).map(|n| format!("seen/new {n}"));
    let found = made.find(|name| {
        scene.write(name, "of the second");
        inode(name) == before
    });
    let Some(name) = found else {
        println!("SKIPPED: this file system gives no inode again");
        return;
    };
    fs::hard_link(scene.path(&name), scene.path("seen/linked")).expect("linked");
    scene.capture_touched(in_directory("seen"));
    let restored = scene.restored("given again").pop().expect("a point").1;
    let other = restored.iter().find(|(path, ..)| path == Path::new("unseen/deep/other"));
    assert!(other.is_none_or(|(_, _, contents)| contents == b"of the first"), "{other:?}");
}

#[test]
fn another_root_or_a_state_of_a_time_to_come_is_looked_at_as_a_whole() {
    let scene = Scene::new();
    scene.write("seen/file", "old");
    scene.write("unseen/file", "old");
    scene.capture_touched(Touched::Everywhere);
    let tree = scene.path("");
    fs::rename(&tree, scene.folder.path().join("away")).expect("renamed");
    scene.write("seen/file", "of another tree");
    scene.write("unseen/file", "of another tree");
    scene.capture_touched(in_directory("seen"));
    scene.verify("another root");
    let (start, complete, _) = scene.claims();
    assert_eq!(complete, start);
    // The clock is set back.
    scene.clock.0.store(NOW_SECONDS - 1000, Ordering::Relaxed);
    scene.write("unseen/file", "after that");
    scene.capture_touched(in_directory("seen"));
    scene.verify("a clock that was set back");
}

#[test]
fn what_nobody_has_seen_is_not_claimed_and_comes_with_the_next_whole_scan() {
    let scene = Scene::new();
    scene.write("seen/file", "old");
    scene.write("unseen/file", "old");
    scene.capture_touched(Touched::Everywhere);
    let (first, complete, durable) = scene.claims();
    assert_eq!((complete, durable), (first, first));
    scene.write("seen/file", "new, and seen");
    scene.write("unseen/file", "new, and unseen");
    scene.capture_touched(in_directory("seen"));
    let restored = scene.restored("seen alone").pop().expect("a point").1;
    let contents = |name: &str| {
        let found = restored.iter().find(|(path, ..)| path == Path::new(name));
        String::from_utf8(found.expect("is there").2.clone()).expect("text")
    };
    assert_eq!((contents("seen/file").as_str(), contents("unseen/file").as_str()), ("new, and seen", "old"));
    let (second, complete, durable) = scene.claims();
    assert!(second > first);
    assert_eq!((complete, durable), (first, first), "nothing is claimed of what nobody has looked at");
    // By which it is judged whether a file can have changed in the moment after it was read.
    assert_eq!(scene.scan_start(), first);
    // Nor by one that finds nothing new, and writes a head only.
    scene.capture_touched(Touched::nowhere());
    assert_eq!(scene.claims(), (second, first, first));
    scene.capture_touched(Touched::Everywhere);
    scene.verify("looked at as a whole");
    let (third, complete, durable) = scene.claims();
    assert_eq!((complete, durable), (third, third));
}

#[test]
fn whoever_goes_on_from_a_capture_that_did_not_look_at_everything_does_not_claim_that_it_has() {
    let mut interrupted = 0;
    for parts in 1..5u64 {
        let mut random = Random::new(parts);
        let scene = Scene::new();
        scene.write("a unseen/file", "old");
        for n in 0..4 {
            scene.write(&format!("b seen/file {n}"), random.bytes(150_000));
        }
        scene.capture_touched(Touched::Everywhere);
        let (first, ..) = scene.claims();
        scene.write("a unseen/file", "new");
        for n in 0..4 {
            scene.write(&format!("b seen/file {n}"), random.bytes(150_000));
        }
        let failing = Arc::new(FaultStore::new(MemStore::with_objects(scene.store.objects())));
        failing.fail(
            Trigger::on(Operation::Put).below("points/").after(parts).always(),
            StoreErrorKind::ReadOnly,
        );
        let limits = PartLimits { duration: Duration::from_secs(4), ..PartLimits::default() };
        let progress = CaptureProgress::default();
        let ended = scene.capture_where(failing.clone(), in_directory("b seen"), limits, &progress);
        if ended.is_ok() {
            continue;
        }
        interrupted += 1;
        let left = Scene { store: Arc::new(MemStore::with_objects(failing.inner().objects())), ..scene };
        left.capture_touched(Touched::Everywhere);
        let (_, complete, durable) = left.claims();
        let has_all = left.restored("went on").pop().expect("a point").1 == left.found();
        assert!(has_all || (complete, durable) == (first, first), "after {parts} parts");
        left.capture_touched(Touched::Everywhere);
        left.verify(&format!("after {parts} parts, looked at as a whole"));
    }
    assert!(interrupted > 0, "none was cut short");
}
