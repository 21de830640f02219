//! Captures in several parts: what is committed on the way, what a capture that is cut short is continued from, and what a
//! custodian takes away meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{CaptureMeans, CaptureOptions, CaptureProgress, PartLimits, capture};
use backstay_files::exclude::Exclude;
use backstay_files::kind::FilesKind;
use backstay_files::place::Existing;
use backstay_files::restore::{RestoreProgress, RestoreRequest, Selection, restore};
use backstay_files::walk::{Crossing, WalkOptions};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::targets::{CaptureSource, Targets};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Reading, Vault};

const SOURCE: &str = "home.files";

/// Behind everything that the file system says of the tree.
const NOW_SECONDS: i64 = 4_000_000_000;

/// Each look at it is a second later.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Scene {
    folder: tempfile::TempDir,
    fixture: Arc<VaultFixture>,
    store: Arc<MemStore>,
    clock: Ticking,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (fixture, store) = (Arc::new(VaultFixture::new()), Arc::new(MemStore::new()));
        fixture.create(store.clone()).expect("a vault");
        fs::create_dir(folder.path().join("tree")).expect("a tree");
        Self { folder, fixture, store, clock: Ticking(AtomicI64::new(NOW_SECONDS)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tree").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file of the tree");
    }

    /// A capture to the vault in this store; whether it came to its end.
    fn capture(&self, store: Arc<dyn Store>, part_limits: PartLimits) -> bool {
        let vault = self.fixture.open(store).expect("opens");
        let now = self.clock.now();
        self.fixture.fence_dead_sessions(&vault, now).expect("fences");
        let source = CaptureSource {
            name: SOURCE.into(),
            kind: FilesKind::NAME,
            facts: Facts::default(),
            holds: Vec::new(),
            seen: Vec::new(),
        };
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let cursor = catalogue.points().last().map(|point| point.link.point);
        let writer = Arc::clone(self.fixture.writer());
        let (targets, standing) =
            Targets::open(vec![vault], writer, source, cursor, &self.clock).expect("opens");
        let walk = WalkOptions {
            exclude: Exclude::new::<&str>(&[]).expect("nothing"),
            leave_out: Vec::new(),
            crossing: Crossing::Stay,
            threads: 1.try_into().expect("one"),
        };
        let options = CaptureOptions { root: self.path(""), walk, part_limits };
        let pool = self.fixture.pool().clone();
        let means = CaptureMeans { pool, states: self.folder.path().join("states") };
        let standing = standing.expect("a session");
        let captured =
            capture(&options, &means, targets, &standing, &self.clock, &CaptureProgress::default());
        captured.is_ok_and(|captured| captured.targets.iter().all(Result::is_ok))
    }

    /// The newest point is restored as the tree is, and nothing is wrong.
    fn verify(&self, story: &str) {
        let vault = self.fixture.open(self.store.clone()).expect("opens");
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{story}: {report:#?}");
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let point = catalogue.points().last().expect("a point");
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
        assert_eq!(restored.expect("restores").problems, Vec::<String>::new(), "{story}");
        assert!(contents(&destination) == contents(&self.path("")), "{story}: it is another tree");
    }
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        match path.is_dir() {
            true => {
                files.extend(contents(&path).into_iter().map(|(below, content)| (name.join(below), content)))
            }
            false => files.push((name, fs::read(&path).expect("a file"))),
        }
    }
    files.sort();
    files
}

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
        assert!(scene.capture(scene.store.clone(), PartLimits::default()));
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
        let is_whole = scene.capture(failing.clone(), limits);
        interrupted += u64::from(!is_whole);
        let left = Scene { store: Arc::new(MemStore::with_objects(failing.inner().objects())), ..scene };
        let story = format!("parts of {seconds} s, cut short after {parts}");
        assert!(left.capture(left.store.clone(), limits), "{story}");
        left.verify(&story);
    }
    assert!(interrupted > 20, "{interrupted} were cut short");
}

#[test]
fn what_was_sent_of_a_large_file_is_in_the_point_whatever_a_custodian_deletes_meanwhile() {
    let scene = Scene::new();
    scene.write("small", "contents");
    assert!(scene.capture(scene.store.clone(), PartLimits::default()));
    scene.write("large", Random::new(2).bytes(40 << 20));
    let beside = Arc::new(FaultStore::new(MemStore::with_objects(scene.store.objects())));
    let (fixture, custodians) = (Arc::clone(&scene.fixture), Arc::downgrade(&beside));
    // Whatever is announced goes on after the next part.
    let notes = std::sync::Mutex::new(MemoryNotes::default());
    let deleted = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&deleted);
    beside.then(Trigger::on(Operation::Put).below("points/").always(), move || {
        let Some(store) = custodians.upgrade() else { return };
        let vault: Arc<Vault> = fixture.open(store).expect("opens");
        let kinds = Kinds::from([(FilesKind::NAME, Arc::new(FilesKind) as Arc<dyn KindRules>)]);
        let clock = ManualClock::new(Timestamp::from_seconds(NOW_SECONDS));
        let look = Inspection::new(vault, Arc::new(kinds), &clock);
        let mut notes = notes.lock().expect("not poisoned");
        let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
        let mut custodian = Custodian::new(look, identity, pool, &mut *notes).expect("a custodian");
        for _ in 0..3 {
            match custodian.collect().expect("collects") {
                Pass::Done(done) => counted.fetch_add(done.packs_deleted as i64, Ordering::Relaxed),
                Pass::Idle | Pass::Waits(_) => break,
            };
        }
    });
    let limits = PartLimits { read_bytes: 8 << 20, ..PartLimits::default() };
    assert!(scene.capture(beside.clone(), limits), "is acknowledged");
    assert!(deleted.load(Ordering::Relaxed) > 0, "something was deleted meanwhile");
    let whole = Scene { store: Arc::new(MemStore::with_objects(beside.inner().objects())), ..scene };
    whole.verify("beside a custodian");
}
