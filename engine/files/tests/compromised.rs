//! What a capture takes over of a tree whose keys were compromised: nothing. Looked at in a store without the packs that
//! these have sealed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{
    CaptureError, CaptureMeans, CaptureOptions, CaptureProgress, CaptureSummary, PartLimits, capture,
};
use backstay_files::exclude::Exclude;
use backstay_files::kind::FilesKind;
use backstay_files::place::Existing;
use backstay_files::restore::{RestoreProgress, RestoreRequest, Selection, restore};
use backstay_files::touched::Touched;
use backstay_files::walk::{Crossing, WalkOptions};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::keys::FormerKeys;
use backstay_vault::store::MemStore;
use backstay_vault::targets::{CaptureSource, Targets};
use backstay_vault::vault::{Reading, Vault};

const SOURCE: &str = "home.files";

/// A tree with small files, which are grouped, a large one, and one with two names.
#[derive(Debug)]
struct Scene {
    folder: tempfile::TempDir,
    fixture: VaultFixture,
    store: Arc<MemStore>,
    vault: Arc<Vault>,
    clock: ManualClock,
    /// What captures have read, bytes.
    read_bytes: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let fixture = VaultFixture::new();
        let store = Arc::new(MemStore::new());
        let vault = fixture.create(store.clone()).expect("a vault");
        // Behind everything that the file system says of the tree.
        let clock = ManualClock::new(Timestamp::from_seconds(4_000_000_000));
        let scene = Self { folder, fixture, store, vault, clock, read_bytes: 0 };
        let mut random = Random::new(7);
        fs::create_dir_all(scene.tree().join("small")).expect("a tree");
        for n in 0..50 {
            let length = 1000 + random.below(8000);
            fs::write(scene.tree().join(format!("small/{n:02}")), random.bytes(length)).expect("a file");
        }
        fs::write(scene.tree().join("large"), random.bytes(3 << 20)).expect("a file");
        fs::hard_link(scene.tree().join("small/07"), scene.tree().join("linked")).expect("a link");
        scene
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn rotate(&mut self, former: FormerKeys) {
        self.fixture.rotate(former);
        self.vault = self.fixture.open(self.store.clone()).expect("opens");
    }

    fn capture(&mut self) -> CaptureSummary {
        let progress = CaptureProgress::default();
        self.clock.advance(Duration::from_secs(60));
        let summary = self.try_capture(PartLimits::default(), &progress, &self.clock).expect("captures");
        self.read_bytes += progress.read_bytes();
        assert_eq!(summary.warnings.unreadable, 0);
        summary
    }

    fn try_capture(
        &self,
        part_limits: PartLimits,
        progress: &CaptureProgress,
        clock: &dyn Clock,
    ) -> Result<CaptureSummary, CaptureError> {
        let source = CaptureSource {
            name: SOURCE.into(),
            kind: FilesKind::NAME,
            facts: Facts::default(),
            holds: Vec::new(),
            seen: Vec::new(),
            numbered_after: 0,
        };
        let catalogue = self.vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let cursor = self.vault.parent(&catalogue).expect("reads").map(|point| point.link.point);
        let writer = Arc::clone(self.fixture.writer());
        let (targets, standing) =
            Targets::open(vec![self.vault.clone()], writer, source, cursor, clock).expect("opens");
        let walk = WalkOptions {
            exclude: Exclude::new::<&str>(&[]).expect("nothing"),
            leave_out: Vec::new(),
            crossing: Crossing::Stay,
            threads: 1.try_into().expect("one"),
        };
        let options = CaptureOptions {
            root: self.tree(),
            snapshot: None,
            walk,
            touched: Touched::Everywhere,
            part_limits,
        };
        let means =
            CaptureMeans { pool: self.fixture.pool().clone(), states: self.folder.path().join("states") };
        let standing = standing.expect("a session");
        capture(&options, &means, targets, &standing, clock, progress).map(|captured| captured.summary)
    }

    /// Whether the newest point is restored as the tree is, from a store without these objects.
    fn stands_without(&self, hidden: &BTreeSet<String>) -> bool {
        let vault = self.fixture.open(self.fixture.without(&self.store, hidden)).expect("opens");
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let point = catalogue.newest().expect("a point");
        let destination = self.folder.path().join("restored");
        if destination.exists() {
            fs::remove_dir_all(&destination).expect("removed");
        }
        let reading = Reading::begin(&vault, &catalogue, point.link, None, &self.clock).expect("reads");
        let request = RestoreRequest {
            reading: &reading,
            point,
            selection: &Selection::all(),
            destination: &destination,
            existing: Existing::Refuse,
        };
        let restored = restore(&request, self.fixture.pool(), &Arc::new(RestoreProgress::default()));
        restored.is_ok_and(|report| report.problems.is_empty())
            && contents(&destination) == contents(&self.tree())
    }

    fn compromised(&self) -> BTreeSet<String> {
        self.fixture.compromised_packs(&self.store)
    }
}

/// Files below a folder, by path.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => {
                    let path = entry.strip_prefix(folder).expect("below it").to_path_buf();
                    files.push((path, fs::read(&entry).expect("a file")));
                }
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_tree_that_has_not_changed_is_captured_in_full_after_keys_were_compromised() {
    let mut scene = Scene::new();
    scene.capture();
    let once = scene.read_bytes;
    assert!(!scene.capture().changed && scene.read_bytes == once);
    scene.rotate(FormerKeys::Trusted);
    assert!(!scene.capture().changed && scene.read_bytes == once);
    scene.rotate(FormerKeys::Compromised);
    let old = scene.compromised();
    assert!(!old.is_empty());
    assert!(scene.capture().changed);
    assert_eq!(scene.read_bytes, 2 * once, "every file is read again");
    assert!(scene.stands_without(&old) && scene.stands_without(&scene.compromised()));
    // And that is built on.
    assert!(!scene.capture().changed);
    fs::rename(scene.tree().join("small"), scene.tree().join("renamed")).expect("renames");
    assert!(scene.capture().changed);
    assert_eq!(scene.read_bytes, 2 * once, "what is renamed is not read again");
    assert!(scene.stands_without(&old));
    scene.rotate(FormerKeys::Trusted);
    assert!(!scene.capture().changed);
}

#[test]
fn what_is_renamed_just_before_is_read_again() {
    let mut scene = Scene::new();
    scene.capture();
    let once = scene.read_bytes;
    fs::rename(scene.tree().join("small"), scene.tree().join("renamed")).expect("renames");
    scene.rotate(FormerKeys::Compromised);
    let old = scene.compromised();
    scene.capture();
    assert_eq!(scene.read_bytes, 2 * once);
    assert!(scene.stands_without(&old));
}

#[test]
fn a_point_on_a_plain_rotation_needs_what_was_there() {
    let mut scene = Scene::new();
    scene.capture();
    let old = packs_of_now(&scene);
    scene.rotate(FormerKeys::Trusted);
    fs::write(scene.tree().join("new"), b"contents").expect("writes");
    scene.capture();
    assert!(!scene.stands_without(&old) && scene.stands_without(&BTreeSet::new()));
}

fn packs_of_now(scene: &Scene) -> BTreeSet<String> {
    scene.store.objects().into_keys().filter(|name| name.starts_with("packs/")).collect()
}

/// Stops the capture as soon as it has left a partial point.
#[derive(Debug)]
struct Stopping<'s> {
    scene: &'s Scene,
    progress: &'s CaptureProgress,
}

impl Clock for Stopping<'_> {
    fn now(&self) -> Timestamp {
        if self.scene.store.objects().keys().any(|name| name.starts_with("points/")) {
            self.progress.stop();
        }
        self.scene.clock.now()
    }
}

#[test]
fn a_capture_that_was_interrupted_before_is_not_gone_on_with() {
    let mut scene = Scene::new();
    let parts = PartLimits { read_bytes: 50_000, ..PartLimits::default() };
    let progress = CaptureProgress::default();
    let stopping = Stopping { scene: &scene, progress: &progress };
    let outcome = scene.try_capture(parts, &progress, &stopping);
    assert!(matches!(outcome, Err(CaptureError::Stopped)), "{outcome:?}");
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    assert!(!catalogue.partial_points().is_empty());
    scene.rotate(FormerKeys::Compromised);
    let old = scene.compromised();
    assert!(!old.is_empty());
    scene.capture();
    assert!(scene.stands_without(&old));
}
