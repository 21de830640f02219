//! What a node does on a disk that loses power: it makes a vault, captures, copies, prunes, brings back and prunes again;
//! now and then it dies, and its next process goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::id::{PointId, SourceId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::State;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::power::{Death, Forgets, LossyDisk, Record};
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::{DirStore, Disk, MemStore};
use backstay_vault::vault::{
    CopyLimits, Copying, Custodian, Inspection, MemoryNotes, NoteStore, Notes, Pass, PendingLayout, Vault,
};

pub(crate) const FILES: &str = "static.files";
const DUMP: &str = "matrix.dump";

/// Where the vault is on its disk.
pub(crate) const VAULT: &str = "vault";

/// For how long what is deleted can be brought back.
pub(crate) const UNDELETE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Lives of a process that dies again and again with one piece of work.
const LIVES_MAX: usize = 3;

/// Changes of the disk up to a death, at most.
const CHANGES_TO_DEATH_MAX: usize = 60;

/// Passes until nothing more is to be done.
pub(crate) const PASSES_MAX: usize = 8;

/// What has become true at a moment of the record.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// The vault is made.
    Made,
    /// A point is acknowledged.
    Acknowledged(PointId, Known),
    /// A point is not to be kept any more.
    Released(PointId),
    /// What a custodian keeps for itself, which is on another disk.
    Custodian(MemoryNotes),
}

/// A point as it was captured.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) source: &'static str,
    pub(crate) state: Arc<State>,
}

/// Whether processes die while there is power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deaths {
    None,
    NowAndThen,
}

/// Runs the workload of a seed; what was done on the disk, and what was acknowledged.
pub(crate) fn record(
    fixture: &VaultFixture,
    seed: u64,
    deaths: Deaths,
    forgets: Forgets,
    folder: &Path,
) -> Vec<Record<Note>> {
    let disk = Arc::new(LossyDisk::new(folder, forgets).expect("a disk"));
    let random = Random::new(seed);
    let (notes, known) = (MemoryNotes::default(), BTreeMap::new());
    let mut node = Node { fixture, disk, folder, deaths, random, notes, known, seconds: 1000 };
    node.work();
    node.disk.records()
}

struct Node<'a> {
    fixture: &'a VaultFixture,
    disk: Arc<LossyDisk<Note>>,
    folder: &'a Path,
    deaths: Deaths,
    random: Random,
    notes: MemoryNotes,
    /// What was acknowledged and not released, and what was released.
    known: BTreeMap<PointId, Known>,
    seconds: i64,
}

impl Node<'_> {
    fn work(&mut self) {
        self.lives(|node, store| {
            match node.fixture.create(store.clone()) {
                Err(VaultError::AlreadyThere { .. }) => node.fixture.open(store).map(drop),
                made => made.map(drop),
            }
            .inspect(|()| node.disk.note(Note::Made))
        });
        let mut state = sample(&mut self.random, 8);
        for _ in 0..4 {
            self.edit(&mut state);
            self.capture(FILES, &state);
        }
        self.copy();
        self.prune(2);
        self.edit(&mut state);
        self.capture(FILES, &state);
        self.undelete();
        self.prune(1);
        self.edit(&mut state);
        self.capture(FILES, &state);
    }

    /// Does a piece of work, in another life if the first has ended before it was done.
    fn lives<T>(&mut self, mut work: impl FnMut(&mut Self, Arc<DirStore>) -> Result<T, VaultError>) -> T {
        for life in 0..LIVES_MAX {
            let dies = self.deaths == Deaths::NowAndThen && life + 1 < LIVES_MAX && self.random.once_in(2);
            let death = match self.random.once_in(2) {
                true => Death::Change(self.random.below(CHANGES_TO_DEATH_MAX)),
                false => Death::FolderSync(self.random.below(CHANGES_TO_DEATH_MAX / 4)),
            };
            self.disk.die(dies.then_some(death));
            let disk: Arc<dyn Disk> = self.disk.clone();
            let store = Arc::new(DirStore::on(disk, self.folder.join(VAULT), Some(UNDELETE)));
            match work(self, store) {
                Ok(done) => return done,
                Err(error) => assert!(dies, "the process has not died, and yet {error}"),
            }
        }
        unreachable!("the last life does not end early");
    }

    /// Opens the vault, as each process does.
    fn open(&mut self, store: Arc<DirStore>) -> Result<Arc<Vault>, VaultError> {
        self.seconds += 10;
        let vault = self.fixture.open(store)?;
        self.fixture.fence_dead_sessions(&vault, at(self.seconds))?;
        Ok(vault)
    }

    fn capture(&mut self, source: &'static str, state: &State) {
        let point = self.lives(|node, store| {
            let vault = node.open(store)?;
            Ok(node.fixture.capture(&vault, source, at(node.seconds), state)?.link.point)
        });
        self.acknowledged(point, Known { source, state: Arc::new(state.clone()) });
    }

    fn acknowledged(&mut self, point: PointId, known: Known) {
        self.known.insert(point, known.clone());
        self.disk.note(Note::Acknowledged(point, known));
    }

    /// Copies a source from another vault.
    fn copy(&mut self) {
        let from = self.fixture.create(Arc::new(MemStore::new())).expect("creates");
        let mut state = sample(&mut self.random, 4);
        let mut points = Vec::new();
        for seconds in [500, 510] {
            self.edit(&mut state);
            let captured = self.fixture.capture(&from, DUMP, at(seconds), &state).expect("captures");
            points.push((captured.link.point, Known { source: DUMP, state: Arc::new(state.clone()) }));
        }
        self.lives(|node, store| {
            let to = node.open(store)?;
            let copying = Copying {
                from: from.clone(),
                to,
                writer: node.fixture.writer().clone(),
                kinds: kinds(),
                pool: node.fixture.pool().clone(),
                clock: &ManualClock::new(at(node.seconds)),
                limits: CopyLimits::default(),
            };
            let copied = copying.run(&|_| true, &|_| {})?;
            assert_eq!(copied.failures, []);
            Ok(())
        });
        points.into_iter().for_each(|(point, known)| self.acknowledged(point, known));
    }

    /// Drops all points of the files but the newest, and deletes what nothing needs any more.
    fn prune(&mut self, last: u32) {
        let kept = self.lives(|node, store| {
            let catalogue = node.open(store)?.catalogue(node.fixture.source(FILES))?;
            let newest = catalogue.points().iter().rev().take(last as usize);
            Ok(newest.map(|point| point.link.point).collect::<Vec<_>>())
        });
        let gone = self.known.iter().filter(|(point, known)| known.source == FILES && !kept.contains(point));
        gone.for_each(|(point, _)| self.disk.note(Note::Released(*point)));
        self.lives(|node, store| {
            let vault = node.open(store)?;
            node.with_custodian(vault, |custodian| care(custodian, last))
        });
    }

    /// Brings back what was dropped.
    fn undelete(&mut self) {
        let back = self.lives(|node, store| {
            let vault = node.open(store)?;
            node.with_custodian(vault.clone(), |custodian| {
                custodian.undelete(&|_: SourceId, _: PointId| true, None)
            })?;
            let catalogue = vault.catalogue(node.fixture.source(FILES))?;
            Ok(catalogue.points().iter().map(|point| point.link.point).collect::<Vec<_>>())
        });
        for point in back {
            if let Some(known) = self.known.get(&point).cloned() {
                self.acknowledged(point, known);
            }
        }
    }

    fn with_custodian<T>(
        &mut self,
        vault: Arc<Vault>,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut notes = Noted { notes: &mut self.notes, disk: &self.disk };
        with_custodian(self.fixture, vault, &mut notes, self.seconds, work)
    }

    /// Changes some keys, now and then removes one.
    fn edit(&mut self, state: &mut State) {
        for _ in 0..3 {
            let key = vec![b'a' + self.random.below(8) as u8];
            match self.random.once_in(5) {
                true => drop(state.remove(&key)),
                false => drop(state.insert(key, value(&mut self.random))),
            }
        }
    }
}

/// A custodian at work.
pub(crate) fn with_custodian<T>(
    fixture: &VaultFixture,
    vault: Arc<Vault>,
    notes: &mut dyn NoteStore,
    seconds: i64,
    work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let clock = ManualClock::new(at(seconds));
    let look = Inspection::new(vault, kinds(), &clock);
    let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
    work(&mut Custodian::new(look, identity, pool, notes)?)
}

/// Passes and thinnings, until there is nothing more to do.
pub(crate) fn care(custodian: &mut Custodian<'_>, last: u32) -> Result<(), VaultError> {
    let keep = Keep::Rules(KeepRules { last: Some(last), ..KeepRules::default() });
    let keep_of = |source: &str| (source == FILES).then(|| keep.clone());
    for pass in 0..PASSES_MAX {
        if custodian.collect()? == Pass::Idle && pass > 1 {
            return Ok(());
        }
        custodian.thin(&keep_of)?;
    }
    panic!("a custodian comes to rest");
}

/// Notes of a custodian, which are in the record when they are saved.
struct Noted<'n> {
    notes: &'n mut MemoryNotes,
    disk: &'n LossyDisk<Note>,
}

impl Noted<'_> {
    fn noted(&self) -> Result<(), VaultError> {
        self.disk.note(Note::Custodian(self.notes.clone()));
        Ok(())
    }
}

impl NoteStore for Noted<'_> {
    fn load(&mut self) -> Result<Notes, VaultError> {
        self.notes.load()
    }

    fn save(&mut self, notes: &Notes) -> Result<(), VaultError> {
        self.notes.save(notes).and_then(|()| self.noted())
    }

    fn keep_layout(&mut self, source: SourceId, layout: &PendingLayout) -> Result<(), VaultError> {
        self.notes.keep_layout(source, layout).and_then(|()| self.noted())
    }

    fn layout(&mut self, source: SourceId) -> Result<Option<PendingLayout>, VaultError> {
        self.notes.layout(source)
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn sample(random: &mut Random, keys: u8) -> State {
    (0..keys).map(|key| (vec![b'a' + key], value(random))).collect()
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.below(4000);
    random.bytes(length)
}
