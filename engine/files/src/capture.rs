//! Capturing a directory tree: the walk is merged with the state before, what is new or differs is read, split
//! and stored, and the edit becomes a run. Owns the order of these steps; sessions and commits are the
//! vault's, the schedule is the daemon's.

mod finish;
mod join;
mod large;
mod links;
mod observation;
mod options;
mod problem;
mod queue;
mod reading;
mod remarks;
mod resume;
mod rows;
mod sink;
mod small;
mod start;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::id::{ChunkId, LinkId, PointId};
use backstay_core::point::{Defect, DefectCount, HeadTarget};
use backstay_core::run::PartRef;
use backstay_core::units::Timestamp;
use backstay_vault::error::VaultError;
use backstay_vault::keys::KeyRing;
use backstay_vault::split::{Gear, SMALL_FILE_BYTES};
use backstay_vault::targets::{CapturedState, RolledBack, Standing, TargetResult, Targets};
use backstay_vault::write::{ChunkWriter, CpuPool};

use self::finish::Finished;
use self::join::{Join, Joined};
use self::large::LargeReader;
use self::links::{LinkRows, Name};
pub(crate) use self::observation::{Observation, Observer};
pub use self::options::{
    CaptureOptions, CaptureProgress, CaptureSummary, ExpectedSight, PartLimits, SnapshotTree, WARNINGS_MAX,
    Warnings,
};
pub use self::problem::CaptureError;
pub(crate) use self::problem::ReadProblem;
use self::queue::{Drain, Place, Queue, Task, Work};
use self::reading::PartEnd;
use self::sink::RowSink;
pub(crate) use self::sink::identity_of;
use self::small::SmallReaders;
use self::start::{Start, prepare};
use crate::devices::{Devices, is_on_btrfs};
use crate::heads::FoundRow;
use crate::stat::{FileKind, FileStat, Identity};
use crate::state::{RowsByInode, State};
use crate::walk::{Crossing, Found, Walk};

/// Threads that read small files.
const READER_THREADS: usize = 4;

/// What the capture works with.
#[derive(Debug, Clone)]
pub struct CaptureMeans {
    /// Threads for CPU work.
    pub pool: Arc<CpuPool>,
    /// Folder for states of this source; one folder below it for each point.
    pub states: PathBuf,
}

/// What a capture has made.
#[derive(Debug)]
pub struct Captured {
    /// What was found.
    pub summary: CaptureSummary,
    /// For each target, the point at which it stands now.
    pub targets: Vec<TargetResult>,
    /// The newest point of each target that has taken it.
    pub seen: Vec<HeadTarget>,
    /// Targets that have lost what was acknowledged in them.
    pub rolled_back: Vec<RolledBack>,
}

/// Captures the tree as an edit of the state before and commits it to all targets, or only a head when nothing
/// differs.
pub fn capture(
    options: &CaptureOptions,
    means: &CaptureMeans,
    mut targets: Targets,
    standing: &Standing,
    clock: &dyn Clock,
    progress: &CaptureProgress,
) -> Result<Captured, CaptureError> {
    let has_lost = !targets.lost_chunks().is_empty();
    let prepared = prepare(options, means, standing, has_lost, clock, progress);
    let outcome = prepared.and_then(|(walk, previous, start)| {
        let mut run =
            CaptureRun::begin(options, means, &mut targets, previous.as_ref(), start, clock, progress)?;
        let resumed = run.resume(standing)?;
        run.scan(walk, resumed)?;
        run.finish()
    });
    match outcome {
        Ok(finished) => Ok(finished.commit(targets, means, clock)),
        Err(error) => {
            let failures = targets.give_up(clock);
            // A target that failed has the reason when the capture only says that it was given up.
            match (error, failures.into_iter().flatten().next()) {
                (CaptureError::Vault(VaultError::GivenUp), Some(reason)) => Err(reason.into()),
                (error, _) => Err(error),
            }
        }
    }
}

/// The path of the local state of a point.
pub fn state_folder(states: &Path, point: PointId) -> PathBuf {
    states.join(point.to_string())
}

/// A capture in progress.
struct CaptureRun<'p> {
    options: &'p CaptureOptions,
    clock: &'p dyn Clock,
    progress: &'p CaptureProgress,
    pool: Arc<CpuPool>,
    targets: &'p mut Targets,
    ring: Arc<KeyRing>,
    large: LargeReader,
    observer: Arc<Observer>,
    chunks: Option<ChunkWriter>,
    queue: Queue,
    sink: RowSink<'p>,
    links: LinkRows,
    previous: Option<&'p State>,
    by_inode: Option<RowsByInode>,
    warnings: Warnings,
    /// Chunks that a target has lost: what refers to them is read again.
    lost: HashSet<ChunkId>,
    start: Start,
    devices: Devices,
    /// The root of what is read, once the walk has begun.
    root: Option<Identity>,
    /// Of a tree on Btrfs that stays on one device: below its root there may be other subvolumes.
    is_on_btrfs: bool,
    parts: Vec<PartRef>,
    /// Up to and with which the partial points of this capture came.
    resume_key: Option<Vec<u8>>,
    part_start: Timestamp,
    part_read_bytes: u64,
}

impl<'p> CaptureRun<'p> {
    fn begin(
        options: &'p CaptureOptions,
        means: &CaptureMeans,
        targets: &'p mut Targets,
        previous: Option<&'p State>,
        start: Start,
        clock: &'p dyn Clock,
        progress: &'p CaptureProgress,
    ) -> Result<Self, CaptureError> {
        let chunks = targets.chunk_writer(&means.pool).ok_or(VaultError::GivenUp)?;
        progress.watch(chunks.meter());
        let lost = targets.lost_chunks();
        let ring = Arc::clone(chunks.ring());
        let cut = ring.cut_key().ok_or(VaultError::GivenUp)?;
        let large = LargeReader::new(Gear::new(cut));
        let observer = Arc::new(Observer::new());
        let readers = SmallReaders::start(READER_THREADS, &ring, &observer).map_err(CaptureError::Thread)?;
        let by_inode = previous.map(State::by_inode).transpose()?;
        let work = means.states.join("unfinished");
        Ok(Self {
            options,
            clock,
            progress,
            pool: Arc::clone(&means.pool),
            targets,
            sink: RowSink::new(Arc::clone(&ring), previous, work.join("state"))?,
            links: LinkRows::new(&work),
            ring,
            large,
            observer,
            chunks: Some(chunks),
            queue: Queue::new(readers),
            previous,
            by_inode,
            warnings: Warnings::default(),
            lost,
            part_start: start.now.wall,
            start,
            devices: Devices::default(),
            root: None,
            is_on_btrfs: false,
            parts: Vec::new(),
            resume_key: None,
            part_read_bytes: 0,
        })
    }

    fn scan(&mut self, walk: Walk, resumed: Option<Vec<u8>>) -> Result<(), CaptureError> {
        let root = walk.root_stat().identity;
        let known = self.previous.map(State::root).transpose()?.flatten();
        self.devices = Devices::of_root(known, root, self.start.is_same_file_system);
        self.check_device(known, root);
        let stays = self.options.walk.crossing == Crossing::Stay;
        self.is_on_btrfs = stays && is_on_btrfs(self.options.tree()).unwrap_or(false);
        self.root = Some(root);
        let old = self.previous.map(State::paths).transpose()?;
        self.resume_key.clone_from(&resumed);
        let mut join = Join::new(walk, old, resumed);
        while let Some(joined) = join.next()? {
            if self.progress.is_stopped() {
                return Err(CaptureError::Stopped);
            }
            self.take(joined)?;
            self.work(Drain::TooMany)?;
            if self.part_is_full() {
                // With all that was read for it: rows that wait would be read again after a crash.
                self.work(Drain::All)?;
                self.commit_part(&[])?;
            }
        }
        self.work(Drain::All)?;
        self.check_snapshot()
    }

    fn take(&mut self, joined: Joined) -> Result<(), CaptureError> {
        match joined {
            Joined::New(found) => {
                self.progress.saw_entry();
                self.look_at(found, None)
            }
            Joined::Both(found, old) => {
                self.progress.saw_entry();
                self.look_at(found, Some(old))
            }
            Joined::Gone(old) => self.enqueue_old(old, Task::Remove),
            Joined::Kept(old) => {
                self.progress.saw_entry();
                self.links.still_named(&old)?;
                self.enqueue_old(old, Task::Keep)
            }
            Joined::Unreadable(unreadable) => {
                self.warnings.unreadable(rows::unreadable_line(&self.options.root, &unreadable));
                Ok(())
            }
            Joined::LeftOut(key) => {
                let path = rows::shown(&self.options.root, &key);
                self.warnings.left_out(format!("{path}: left out, it is a vault or the state of Backstay"));
                Ok(())
            }
        }
    }

    /// Decides what is to be done with an object that is there.
    fn look_at(&mut self, found: Found, old: Option<FoundRow>) -> Result<(), CaptureError> {
        self.check_subvolume(&found);
        // The links of a directory are its subdirectories; it has one name.
        if found.stat.kind != FileKind::Directory && found.stat.links > 1 {
            return self.look_at_name(found, old);
        }
        if let Some(old) = &old
            && self.still_holds(old, &found.stat)?
        {
            let place = Place::Path(found.key);
            self.queue.push(Work { place, old: Some(old.clone()), task: Task::Keep });
            return Ok(());
        }
        let place = Place::Path(found.key.clone());
        self.look_closely(found, place, old)
    }

    /// One of several names of an object: its row says which object, and that has a row of its own.
    fn look_at_name(&mut self, found: Found, old: Option<FoundRow>) -> Result<(), CaptureError> {
        let (id, name) = self.links.name(&self.devices.known_stat(&found.stat), &self.ring);
        let task = Task::Name(id, Box::new(found.clone()));
        let place = Place::Path(found.key.clone());
        if name == Name::First {
            self.look_at_linked(found, id)?;
        }
        self.queue.push(Work { place, old, task });
        Ok(())
    }

    fn look_at_linked(&mut self, found: Found, id: LinkId) -> Result<(), CaptureError> {
        let old = self.old_link(id, &found.stat)?;
        let unchanged = match &old {
            Some(old) => self.still_holds(old, &found.stat)?,
            None => false,
        };
        if !unchanged && old.is_some() && self.start.whole_until.is_some() {
            return Err(CaptureError::LinkChanged);
        }
        let place = Place::Link(id, found.key.clone());
        if unchanged {
            self.queue.push(Work { place, old, task: Task::Keep });
            return Ok(());
        }
        self.look_closely(found, place, old)
    }

    /// Reads an object that is new or may have changed.
    fn look_closely(
        &mut self,
        found: Found,
        place: Place,
        old: Option<FoundRow>,
    ) -> Result<(), CaptureError> {
        match found.stat.kind {
            FileKind::File => self.look_at_file(found, place, old),
            _ => {
                let (found, task) = self.observe(found, &place);
                match task {
                    Some(task) => self.queue.push(Work { place, old, task }),
                    // A file has taken its place.
                    None => return self.look_at_file(found, place, old),
                }
                Ok(())
            }
        }
    }

    fn look_at_file(
        &mut self,
        found: Found,
        place: Place,
        old: Option<FoundRow>,
    ) -> Result<(), CaptureError> {
        if let Place::Path(_) = &place
            && let Some(moved) = self.moved_from(&found.stat)?
        {
            self.queue.push(Work { place, old, task: Task::Moved(moved) });
            return Ok(());
        }
        if found.stat.size_bytes < SMALL_FILE_BYTES as u64 {
            self.queue.push_small(found, place, old);
            return Ok(());
        }
        let task = self.read_file(&found, PartEnd::Within)?;
        self.queue.push(Work { place, old, task });
        Ok(())
    }

    fn enqueue_old(&mut self, old: FoundRow, task: Task) -> Result<(), CaptureError> {
        let place = Place::Path(crate::keys::PathKey::parse(&old.key)?);
        self.queue.push(Work { place, old: Some(old), task });
        Ok(())
    }

    /// Whether an object is as its row says, and all its contents are in every target.
    fn still_holds(&self, row: &FoundRow, stat: &FileStat) -> Result<bool, CaptureError> {
        let stat = self.devices.known_stat(stat);
        Ok(rows::unchanged(row, &stat, self.last_scan())? && !rows::refers_to(row, &self.lost)?)
    }

    /// Whether every target has the groups in which the contents of an object are.
    fn is_stored(&self, row: &FoundRow) -> Result<bool, CaptureError> {
        rows::has_groups(row, self.chunks.as_ref().ok_or(VaultError::GivenUp)?)
    }

    fn last_scan(&self) -> Timestamp {
        self.previous.map_or(Timestamp::from_nanos(i64::MIN), |state| state.header().scan_start)
    }

    /// The row before of an object with several names, whether it has changed since or not.
    fn old_link(&mut self, id: LinkId, stat: &FileStat) -> Result<Option<FoundRow>, CaptureError> {
        let Some(by_inode) = &mut self.by_inode else { return Ok(None) };
        let known = self.devices.known(stat.identity);
        let found = by_inode.find(known, |value| rows::is_inode(value, known))?;
        Ok(found.filter(|row| row.key == crate::keys::link_key(&id)))
    }

    /// The row of an unchanged file that had another name at the last scan.
    fn moved_from(&mut self, stat: &FileStat) -> Result<Option<FoundRow>, CaptureError> {
        let Some(by_inode) = &mut self.by_inode else { return Ok(None) };
        let known = self.devices.known_stat(stat);
        let found = by_inode.find(known.identity, |value| rows::is_of(value, &known))?;
        match found {
            // Its references go into the new run, and a custodian may have put what is in them elsewhere.
            Some(row) if self.still_holds(&row, stat)? && self.is_stored(&row)? => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    /// Finishes rows whose turn has come.
    fn work(&mut self, drain: Drain) -> Result<(), CaptureError> {
        loop {
            let chunks = self.chunks.as_ref().ok_or(VaultError::GivenUp)?;
            let Some(work) = self.queue.pop(drain, chunks)? else { return Ok(()) };
            let path = match &work.place {
                Place::Path(path) => Some(path.as_bytes().to_vec()),
                Place::Link(..) => None,
            };
            self.finish_row(work)?;
            self.resume_key = path.or(self.resume_key.take());
        }
    }

    fn part_is_full(&self) -> bool {
        let limits = &self.options.part_limits;
        self.progress.read_bytes() - self.part_read_bytes >= limits.read_bytes
            || self.sink.chunks() >= limits.chunks
            || self.clock.now().duration_since(self.part_start) >= limits.duration
    }

    /// Commits everything up to the last path whose row has left as a partial point, and chunks to which no row refers yet.
    /// Whether there was anything to go on from.
    fn commit_part(&mut self, unreferred: &[ChunkId]) -> Result<bool, CaptureError> {
        self.check_snapshot()?;
        let nothing_read = self.progress.read_bytes() == self.part_read_bytes;
        let Some(resume_key) = self.resume_key.clone() else { return Ok(false) };
        let mut chunks = self.chunks.take().ok_or(VaultError::GivenUp)?;
        self.parts.extend(self.sink.finish_part(&mut chunks)?);
        let links = self.links.part_so_far(self.previous, &self.ring, &mut chunks)?;
        let parts: Vec<PartRef> = links.into_iter().chain(self.parts.iter().cloned()).collect();
        let state = self.state_so_far();
        if parts.is_empty() && nothing_read {
            // Nothing differs so far.
            self.chunks = Some(chunks);
        } else {
            self.targets.commit_partial(chunks, &parts, &resume_key, unreferred, &state, self.clock)?;
            let chunks = self.targets.chunk_writer(&self.pool).ok_or(VaultError::GivenUp)?;
            self.progress.watch(chunks.meter());
            self.chunks = Some(chunks);
        }
        self.part_start = self.clock.now();
        self.part_read_bytes = self.progress.read_bytes();
        Ok(true)
    }

    fn state_so_far(&self) -> CapturedState {
        let count = |defect, count: u64| {
            let before = self.start.defects.iter().filter(|before| before.defect == defect);
            let count = before.map(|before| before.count).fold(count, u64::max);
            (count > 0).then_some(DefectCount { defect, count })
        };
        let unreadable = count(Defect::Unreadable, self.warnings.unreadable);
        let changed = count(Defect::ChangedWhileRead, self.warnings.changed_while_read);
        CapturedState {
            digest: self.sink.digest.clone(),
            entries: self.sink.entries,
            bytes: self.sink.bytes,
            defects: unreadable.into_iter().chain(changed).collect(),
            start: self.start.now.wall,
            whole_until: self.start.whole_until,
        }
    }

    fn finish(mut self) -> Result<Finished, CaptureError> {
        let mut chunks = self.chunks.take().ok_or(VaultError::GivenUp)?;
        self.parts.extend(self.sink.finish_part(&mut chunks)?);
        if self.targets.makes_a_point_anyhow() {
            self.sink.begin_change(None)?;
        }
        let links = self.links.finish(self.previous, &self.ring, &mut self.sink, &mut chunks)?;
        self.check_losses();
        let found = self.state_so_far();
        let summary = CaptureSummary {
            capture_start: self.start.now,
            whole_until: self.start.whole_until,
            changed: self.sink.changed,
            entries: found.entries,
            bytes: found.bytes,
            warnings: self.warnings,
        };
        let run = self.sink.changed.then(|| links.into_iter().chain(self.parts).collect());
        Ok(Finished {
            chunks,
            found,
            summary,
            run,
            state: self.sink.into_state(),
            previous: self.previous.map(|state| state.header().point),
        })
    }
}
