//! A tree, a vault, and captures from one to the other in several parts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::id::PointId;
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{CaptureMeans, CaptureOptions, CaptureProgress, PartLimits, capture};
use backstay_files::devices::file_system_of;
use backstay_files::exclude::Exclude;
use backstay_files::kind::FilesKind;
use backstay_files::place::Existing;
use backstay_files::restore::{RestoreProgress, RestoreRequest, Selection, restore};
use backstay_files::touched::Touched;
use backstay_files::walk::{Crossing, WalkOptions};
use backstay_testkit::fixture::VaultFixture;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::targets::{CaptureSource, Targets};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Reading};

pub(crate) const SOURCE: &str = "home.files";

/// Behind everything that the file system says of the tree.
pub(crate) const NOW_SECONDS: i64 = 4_000_000_000;

/// Each look at it is a second later.
pub(crate) struct Ticking(pub(crate) AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) fixture: Arc<VaultFixture>,
    pub(crate) store: Arc<MemStore>,
    pub(crate) clock: Ticking,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (fixture, store) = (Arc::new(VaultFixture::new()), Arc::new(MemStore::new()));
        fixture.create(store.clone()).expect("a vault");
        fs::create_dir(folder.path().join("tree")).expect("a tree");
        Self { folder, fixture, store, clock: Ticking(AtomicI64::new(NOW_SECONDS)) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("tree").join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file of the tree");
    }

    /// A capture to the vault in this store; the point that stands for the tree, if it came to its end.
    pub(crate) fn capture(&self, store: Arc<dyn Store>, part_limits: PartLimits) -> Result<PointId, String> {
        self.capture_with(store, part_limits, &CaptureProgress::default())
    }

    /// The same, seen by whoever looks how far it has come.
    pub(crate) fn capture_with(
        &self,
        store: Arc<dyn Store>,
        part_limits: PartLimits,
        progress: &CaptureProgress,
    ) -> Result<PointId, String> {
        self.capture_where(store, Touched::Everywhere, part_limits, progress)
    }

    /// The same, looking only at what was touched.
    pub(crate) fn capture_where(
        &self,
        store: Arc<dyn Store>,
        touched: Touched,
        part_limits: PartLimits,
        progress: &CaptureProgress,
    ) -> Result<PointId, String> {
        let vault = self.fixture.open(store).map_err(told)?;
        let now = self.clock.now();
        self.fixture.fence_dead_sessions(&vault, now).map_err(told)?;
        let source = CaptureSource {
            name: SOURCE.into(),
            kind: FilesKind::NAME,
            facts: Facts { root_file_system: file_system_of(&self.path("")), ..Facts::default() },
            holds: Vec::new(),
            seen: Vec::new(),
            numbered_after: 0,
        };
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).map_err(told)?;
        let cursor = vault.parent(&catalogue).map_err(told)?.map(|point| point.link.point);
        let writer = Arc::clone(self.fixture.writer());
        let (mut targets, standing) =
            Targets::open(vec![vault], writer, source, cursor, &self.clock).map_err(told)?;
        let walk = WalkOptions {
            exclude: Exclude::new::<&str>(&[]).expect("nothing"),
            leave_out: Vec::new(),
            crossing: Crossing::Stay,
            threads: 1.try_into().expect("one"),
        };
        let options = CaptureOptions { root: self.path(""), snapshot: None, walk, touched, part_limits };
        let pool = self.fixture.pool().clone();
        let means = CaptureMeans { pool, states: self.folder.path().join("states") };
        let Some(standing) = standing else { return Err(targets.take_failure().to_string()) };
        let captured = capture(&options, &means, targets, &standing, &self.clock, progress).map_err(told)?;
        let link = captured.targets.into_iter().next().expect("one target").map_err(told)?;
        link.map(|link| link.point).ok_or_else(|| "no point".to_owned())
    }

    /// What the custodian of the vault in this store does, if the store lets it; by a clock that is many years ahead.
    pub(crate) fn with_custodian(
        fixture: &VaultFixture,
        store: Arc<dyn Store>,
        notes: &mut MemoryNotes,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        Self::with_custodian_at(NOW_SECONDS + (1 << 30), fixture, store, notes, work)
    }

    /// The same when it is so late.
    pub(crate) fn with_custodian_at(
        seconds: i64,
        fixture: &VaultFixture,
        store: Arc<dyn Store>,
        notes: &mut MemoryNotes,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let vault = fixture.open(store)?;
        let kinds = Kinds::from([(FilesKind::NAME, Arc::new(FilesKind) as Arc<dyn KindRules>)]);
        let clock = ManualClock::new(Timestamp::from_seconds(seconds));
        let look = Inspection::new(vault, Arc::new(kinds), &clock);
        let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
        work(&mut Custodian::new(look, identity, pool, notes)?)
    }

    /// Nothing is wrong; each point that counts, oldest first, and what it is restored as.
    pub(crate) fn restored(&self, story: &str) -> Vec<(PointId, Vec<Found>)> {
        let vault = self.fixture.open(self.store.clone()).expect("opens");
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{story}: {report:#?}");
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let restored = catalogue.points().iter().map(|point| {
            let destination = self.folder.path().join("restored");
            let reading = Reading::begin(&vault, &catalogue, point.link, None, &self.clock).expect("reads");
            let request = RestoreRequest {
                reading: &reading,
                point,
                selection: &Selection::all(),
                destination: &destination,
                existing: Existing::Refuse,
            };
            let done = restore(&request, self.fixture.pool(), &Arc::new(RestoreProgress::default()));
            let problems = done.unwrap_or_else(|error| panic!("{story}: {error}")).problems;
            assert_eq!(problems, Vec::<String>::new(), "{story}");
            let found = found_below(&destination);
            fs::remove_dir_all(&destination).expect("removed");
            (point.link.point, found)
        });
        restored.collect()
    }

    /// What the tree is.
    pub(crate) fn found(&self) -> Vec<Found> {
        found_below(&self.path(""))
    }

    /// The newest point is restored as the tree is, and nothing is wrong.
    pub(crate) fn verify(&self, story: &str) {
        let (_, newest) = self.restored(story).pop().expect("a point");
        assert!(newest == self.found(), "{story}: it is another tree");
    }
}

/// Name, mode and content of a file.
pub(crate) type Found = (PathBuf, u32, Vec<u8>);

pub(crate) fn found_below(folder: &Path) -> Vec<Found> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        if path.is_dir() {
            files.extend(
                found_below(&path).into_iter().map(|(below, mode, bytes)| (name.join(below), mode, bytes)),
            );
        } else {
            let mode = path.metadata().expect("is there").permissions().mode();
            files.push((name, mode, fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
