//! A program whose output a test chooses, vaults, captures from one to the others, and what the points stand for.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstay_command::KIND;
use backstay_command::capture::{CaptureError, capture};
use backstay_command::environment::Environment;
use backstay_command::program::{Launcher, Program};
use backstay_command::restore::{StreamError, StreamProgress, stream};
use backstay_command::user::User;
use backstay_core::clock::ManualClock;
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{CaptureProgress, Captured};
use backstay_files::kind::FilesKind;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::targets::{CaptureSource, Targets};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, PointObject, Reading, Vault};

pub(crate) const SOURCE: &str = "matrix.dump";

pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) fixture: VaultFixture,
    pub(crate) stores: Vec<Arc<MemStore>>,
    pub(crate) clock: ManualClock,
    pub(crate) notes: MemoryNotes,
    pub(crate) progress: CaptureProgress,
    pub(crate) program: Program,
    pub(crate) hold: Option<&'static str>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_vaults(1)
    }

    pub(crate) fn with_vaults(count: usize) -> Self {
        let fixture = VaultFixture::new();
        let stores: Vec<_> = (0..count).map(|_| Arc::new(MemStore::new())).collect();
        for store in &stores {
            fixture.create(store.clone()).expect("a vault");
        }
        let folder = tempfile::tempdir().expect("a folder for the test");
        let user = User::own().expect("somebody");
        let program = Program {
            argv: Vec::new(),
            environment: Environment::of(&user),
            user,
            timeout: Duration::from_secs(120),
            launcher: Launcher::at(env!("CARGO_BIN_EXE_backstay-launcher")),
        };
        let mut scene = Self {
            folder,
            fixture,
            stores,
            clock: ManualClock::new(Timestamp::from_seconds(4_000_000_000)),
            notes: MemoryNotes::default(),
            progress: CaptureProgress::default(),
            program,
            hold: None,
        };
        scene.writes(b"");
        scene.runs("cat", &[scene.path().to_str().expect("text")]);
        scene
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// What the program writes from now on, unless it is another one.
    pub(crate) fn writes(&self, output: &[u8]) {
        fs::write(self.path(), output).expect("written");
    }

    pub(crate) fn runs(&mut self, program: &str, arguments: &[&str]) {
        self.program.argv = [program].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    }

    pub(crate) fn vault(&self, store: usize) -> Arc<Vault> {
        let store: Arc<dyn Store> = self.stores[store].clone();
        self.fixture.open(store).expect("opens")
    }

    pub(crate) fn capture(&self) -> Result<Captured, CaptureError> {
        self.clock.advance(Duration::from_secs(3600));
        let vaults: Vec<_> = (0..self.stores.len()).map(|store| self.vault(store)).collect();
        let catalogue = vaults[0].catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let cursor = vaults[0].parent(&catalogue).expect("reads").map(|point| point.link.point);
        let source = CaptureSource {
            name: SOURCE.into(),
            kind: KIND,
            facts: Facts::default(),
            holds: self.hold.iter().map(|hold| (*hold).to_owned()).collect(),
            seen: Vec::new(),
            numbered_after: 0,
        };
        let writer = Arc::clone(self.fixture.writer());
        let (targets, standing) =
            Targets::open(vaults, writer, source, cursor, &self.clock).expect("sessions");
        let standing = standing.expect("a vault that opens");
        capture(&self.program, self.fixture.pool(), targets, &standing, &self.clock, &self.progress)
    }

    /// The same, which must be good everywhere; whether there is a new point.
    #[track_caller]
    pub(crate) fn captures(&self) -> bool {
        let captured = self.capture().unwrap_or_else(|error| panic!("{error}"));
        let links: Vec<_> = captured.targets.into_iter().map(|target| target.expect("durable")).collect();
        assert!(links.iter().all(Option::is_some), "{links:?}");
        captured.summary.changed
    }

    /// The points of a vault, the oldest first.
    pub(crate) fn points(&self, store: usize) -> Vec<Arc<PointObject>> {
        let catalogue = self.vault(store).catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        catalogue.points().to_vec()
    }

    /// What a point stands for.
    pub(crate) fn streamed(&self, vault: &Arc<Vault>, point: &PointObject) -> Result<Vec<u8>, StreamError> {
        let catalogue = vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue");
        let reading = Reading::begin(vault, &catalogue, point.link, None, &self.clock).expect("reads");
        let (mut out, progress) = (Vec::new(), StreamProgress::default());
        let bytes = stream(&reading, point, &mut out, &progress)?;
        assert_eq!((bytes, progress.bytes()), (out.len() as u64, out.len() as u64));
        Ok(out)
    }

    /// The points of a vault stand for these outputs, the oldest first, and nothing is wrong with it.
    #[track_caller]
    pub(crate) fn assert_points(&self, store: usize, outputs: &[Vec<u8>]) {
        let vault = self.vault(store);
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{report:#?}");
        let points = self.points(store);
        assert_eq!(points.len(), outputs.len());
        for (n, (point, output)) in points.iter().zip(outputs).enumerate() {
            assert_eq!((point.common.entries, point.common.bytes), (1, output.len() as u64));
            let streamed = self.streamed(&vault, point).unwrap_or_else(|error| panic!("point {n}: {error}"));
            assert!(streamed == *output, "point {n} of {} bytes is another", output.len());
        }
    }

    pub(crate) fn with_custodian<T>(&mut self, work: impl FnOnce(&mut Custodian<'_>) -> T) -> T {
        let kinds = Kinds::from([(KIND, Arc::new(FilesKind) as Arc<dyn KindRules>)]);
        let look = Inspection::new(self.vault(0), Arc::new(kinds), &self.clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        work(&mut Custodian::new(look, identity, pool, &mut self.notes).expect("a custodian"))
    }

    pub(crate) fn collect(&mut self) {
        while self.with_custodian(|custodian| custodian.collect()).expect("collects") != Pass::Idle {}
    }
}

/// Numbers that differ from run to run. The seed is shown when the test fails, and can be given again.
pub(crate) fn seeded() -> Random {
    let given = std::env::var("BACKSTAY_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let seed = given.unwrap_or(u64::from(now.subsec_nanos()) ^ (u64::from(std::process::id()) << 32));
    println!("seed: BACKSTAY_TEST_SEED={seed}");
    Random::new(seed)
}
