//! What a vault takes for a tree of small files that are written again and again: they lie in groups, of which less and
//! less is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{CaptureMeans, CaptureOptions, CaptureProgress, PartLimits, capture};
use backstay_files::exclude::Exclude;
use backstay_files::kind::FilesKind;
use backstay_files::place::Existing;
use backstay_files::restore::{RestoreProgress, RestoreRequest, Selection, restore};
use backstay_files::touched::Touched;
use backstay_files::walk::{Crossing, WalkOptions};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::keys::{AgeIdentity, Bundle, Secret};
use backstay_vault::store::MemStore;
use backstay_vault::targets::{CaptureSource, Targets};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Reading, Thinned, Vault};

const SOURCE: &str = "home.files";
const FILES: usize = 400;
const FILES_FOLDER: &str = "files";

/// A tree, a vault, and whoever cares for both.
struct Scene {
    folder: tempfile::TempDir,
    fixture: VaultFixture,
    store: Arc<MemStore>,
    vault: Arc<Vault>,
    clock: ManualClock,
    notes: MemoryNotes,
    random: Random,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        // Where groups end follows from these keys, and how much space is wasted from that: always the same, or a bound that
        // holds with room to spare for most keys would be passed by some.
        let bundle = Bundle {
            id: Some(Secret::new([2; 32])),
            cut: Some(Secret::new([3; 32])),
            meta_id: Secret::new([4; 32]),
            ..Bundle::generate()
        };
        let fixture = VaultFixture::with_keys(bundle, &Secret::random(), AgeIdentity::generate());
        let store = Arc::new(MemStore::new());
        let vault = fixture.create(store.clone()).expect("a vault");
        // Behind everything that the file system says of the tree.
        let clock = ManualClock::new(Timestamp::from_seconds(4_000_000_000));
        let random = Random::new(seed);
        let mut scene = Self { folder, fixture, store, vault, clock, notes: MemoryNotes::default(), random };
        fs::create_dir_all(scene.tree().join(FILES_FOLDER)).expect("a tree");
        (0..FILES).for_each(|file| scene.write(file));
        scene
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn path(&self, file: usize) -> PathBuf {
        self.tree().join(FILES_FOLDER).join(format!("{file:04}"))
    }

    fn write(&mut self, file: usize) {
        let length = 1000 + self.random.below(16_000);
        fs::write(self.path(file), self.random.bytes(length)).expect("a file of the tree");
    }

    fn write_some(&mut self, count: usize) {
        for _ in 0..count {
            let file = self.random.below(FILES);
            self.write(file);
        }
    }

    fn capture(&self) {
        self.clock.advance(Duration::from_secs(86_400));
        let source = CaptureSource {
            name: SOURCE.into(),
            kind: FilesKind::NAME,
            facts: Facts::default(),
            holds: Vec::new(),
            seen: Vec::new(),
            numbered_after: 0,
        };
        let cursor = {
            let catalogue = self.vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
            catalogue.points().last().map(|point| point.link.point)
        };
        let writer = Arc::clone(self.fixture.writer());
        let (targets, standing) =
            Targets::open(vec![self.vault.clone()], writer, source, cursor, &self.clock).expect("opens");
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
            part_limits: PartLimits::default(),
        };
        let means =
            CaptureMeans { pool: self.fixture.pool().clone(), states: self.folder.path().join("states") };
        let standing = standing.expect("a session");
        let captured =
            capture(&options, &means, targets, &standing, &self.clock, &CaptureProgress::default())
                .expect("captures");
        assert_eq!(captured.summary.warnings.unreadable, 0);
    }

    fn with_custodian<T>(&mut self, work: impl FnOnce(&mut Custodian<'_>) -> T) -> T {
        let kinds = Kinds::from([(FilesKind::NAME, Arc::new(FilesKind) as Arc<dyn KindRules>)]);
        let look = Inspection::new(self.vault.clone(), Arc::new(kinds), &self.clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        work(&mut Custodian::new(look, identity, pool, &mut self.notes).expect("a custodian"))
    }

    fn collect(&mut self) {
        while self.with_custodian(|custodian| custodian.collect()).expect("collects") != Pass::Idle {}
    }

    fn thin(&mut self, last: u32) -> Thinned {
        self.collect();
        let keep = Keep::Rules(KeepRules { last: Some(last), ..KeepRules::default() });
        let thinned = self.with_custodian(|custodian| custodian.thin(&|_| Some(keep.clone())));
        self.collect();
        thinned.expect("thins")
    }

    fn pack_bytes(&self) -> u64 {
        let objects = self.store.objects();
        let packs = objects.iter().filter(|(name, _)| name.starts_with("packs/"));
        packs.map(|(_, content)| content.len() as u64).sum()
    }

    fn live_bytes(&self) -> u64 {
        let files = fs::read_dir(self.tree().join(FILES_FOLDER)).expect("the tree");
        files.map(|file| file.expect("an entry").metadata().expect("a file").len()).sum()
    }

    /// Every point of the vault is restored; the newest is the tree.
    fn verify(&self, folder: &str) {
        let catalogue = self.vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let destination = self.folder.path().join("restored");
        for point in catalogue.points() {
            if destination.exists() {
                fs::remove_dir_all(&destination).expect("removed");
            }
            let reading =
                Reading::begin(&self.vault, &catalogue, point.link, None, &self.clock).expect("reads");
            let request = RestoreRequest {
                reading: &reading,
                point,
                selection: &Selection::all(),
                destination: &destination,
                existing: Existing::Refuse,
            };
            let report = restore(&request, self.fixture.pool(), &Arc::new(RestoreProgress::default()));
            assert_eq!(report.expect("restores").problems, Vec::<String>::new());
        }
        assert_eq!(contents(&destination.join(folder)), contents(&self.tree().join(folder)));
    }
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.file_name().expect("a name").into(), fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_year_of_rewritten_small_files_takes_at_most_half_as_much_again_as_what_is_live() {
    let mut scene = Scene::new(1);
    let (mut worst, mut split) = (0.0f64, 0);
    for day in 0..365 {
        scene.write_some(6);
        scene.capture();
        if day % 7 == 6 {
            for _ in 0..2 {
                split += scene.thin(1).groups_split;
            }
            let ratio = scene.pack_bytes() as f64 / scene.live_bytes() as f64;
            worst = worst.max(ratio);
        }
    }
    println!("at most {worst:.3} times what is live; {split} groups split");
    assert!(split > 0);
    assert!(worst < 1.5, "{worst}");
    scene.verify(FILES_FOLDER);
}

#[test]
fn a_file_whose_mode_is_changed_after_its_group_was_split_is_whole() {
    let mut scene = Scene::new(3);
    scene.capture();
    // The last of every five stays as it is.
    for file in (0..FILES).filter(|file| file % 5 > 0) {
        scene.write(file);
    }
    scene.capture();
    scene.capture();
    assert!(scene.thin(1).groups_split > 0);
    // Nobody reads what was replaced: what is in none of the new runs goes.
    scene.thin(1);
    for file in 0..FILES {
        fs::set_permissions(scene.path(file), fs::Permissions::from_mode(0o600)).expect("changes");
    }
    scene.capture();
    scene.thin(1);
    scene.verify(FILES_FOLDER);
}

#[test]
fn a_folder_that_is_renamed_after_groups_of_its_files_were_split_is_whole() {
    let mut scene = Scene::new(2);
    scene.capture();
    // The last of every five stays as it is.
    for file in (0..FILES).filter(|file| file % 5 > 0) {
        scene.write(file);
    }
    scene.capture();
    scene.capture();
    assert!(scene.thin(1).groups_split > 0);
    // What is in the folder is not touched by that, so that it is not read for it.
    fs::rename(scene.tree().join(FILES_FOLDER), scene.tree().join("renamed")).expect("renames");
    scene.capture();
    scene.thin(1);
    scene.verify("renamed");
}
