//! The walk: every object of a tree in the order of the keys (depth first, siblings by their bytes, the root
//! first), read ahead by several threads in bounded memory. Owns what is visited and what is not. Follows no
//! symbolic link below the root, and passes over nothing in silence: what cannot be read is said.
//!
//! A name that is gone when it is looked at was never there. A directory that is listed is listed as it was
//! at that moment; what is in it may be older or newer than what is beside it.

mod directory;
mod schedule;
mod segment;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::exclude::Exclude;
use crate::keys::PathKey;
use crate::read::{OpenError, SourceFile};
use crate::stat::{FileKind, FileStat, Identity};
use crate::touched::Touched;

use directory::{Directory, DirectoryFd, Root};
use schedule::{Output, Schedule, TaskKey};
use segment::{Seen, Segment};

/// Greatest number of threads of one walk.
pub const THREADS_MAX: usize = 64;

/// Greatest number of directories that can be left out.
pub const LEAVE_OUT_MAX: usize = 1024;

/// What is walked, and how.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Paths that are left out.
    pub exclude: Exclude,
    /// Directories that are left out wherever they turn up: vaults, the state. Those that do not exist, or cannot be
    /// looked at, are ignored. At most [`LEAVE_OUT_MAX`].
    pub leave_out: Vec<PathBuf>,
    /// What happens at mount points.
    pub crossing: Crossing,
    /// How many threads read ahead, at most [`THREADS_MAX`].
    pub threads: NonZeroUsize,
}

impl WalkOptions {
    /// A hash of what belongs to a walk from a given root. What is left out for Backstay's own sake does not count.
    pub fn scope_hash(&self) -> [u8; 32] {
        let crosses = self.crossing == Crossing::Cross;
        *blake3::Hasher::new().update(self.exclude.hash()).update(&[u8::from(crosses)]).finalize().as_bytes()
    }
}

/// What happens where another file system begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// It appears as an empty directory.
    Stay,
    /// It is walked like the rest.
    Cross,
}

/// Why no walk can begin.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The root is not there, is no directory, or may not be read.
    #[error("the root {} cannot be read: {error}; check that it is mounted and that this user may read it", path.display())]
    Root {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        error: Errno,
    },
    /// The root is one of the directories to leave out.
    #[error("the root {} is itself a directory to leave out (a vault, or the state of Backstay); protect another", path.display())]
    RootLeftOut {
        /// As it was given.
        path: PathBuf,
    },
    /// There are more than [`LEAVE_OUT_MAX`].
    #[error("there are more than {LEAVE_OUT_MAX} directories to leave out; use exclusions")]
    TooManyLeftOut,
    /// The system gives no thread.
    #[error("no thread could be started for reading ahead: {0}; see `ulimit -u` and TasksMax")]
    Thread(std::io::Error),
}

/// A walk in progress. Dropping it ends its threads.
#[derive(Debug)]
pub struct Walk {
    schedule: Arc<Schedule>,
    threads: Vec<JoinHandle<()>>,
    root: Arc<Directory>,
    root_stat: FileStat,
    /// The directories in which the walk is, the root first. Its depth is bounded by the length of paths.
    stack: Vec<Frame>,
    next: Next,
}

#[derive(Debug)]
struct Frame {
    segment: Arc<Segment>,
    /// Place of the next entry of the segment.
    place: usize,
}

/// What comes before the rest of the stack.
#[derive(Debug)]
enum Next {
    Root,
    Listing(PathKey),
    Passing(PathKey),
    Stack,
}

/// What a walk finds. Of an object that is a directory, what is in it follows.
#[derive(Debug)]
pub enum Step {
    /// An object.
    Found(Found),
    /// Something is there, or may be, and cannot be read.
    Unreadable(Unreadable),
    /// A directory that was to be left out, with all below it.
    LeftOut(PathKey),
    /// A directory, found the step before, into which the walk does not go since nothing below it was touched.
    Passed(PathKey),
}

/// An object, and the way to it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub key: PathKey,
    /// What it was when it was looked at.
    pub stat: FileStat,
    parent: Arc<Directory>,
}

/// What could not be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The path at fault.
    pub key: PathKey,
    /// What of it.
    pub part: UnreadablePart,
    /// What the system said.
    pub error: Errno,
}

/// What of a path could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadablePart {
    /// The object: not even its type is known.
    Object,
    /// The list of what is in the directory. The directory itself was found.
    Listing,
    /// Something in the directory whose path is longer than a key can hold.
    LongerPath,
}

impl Walk {
    /// Begins at the directory `root`; if that is a symbolic link, at what it leads to.
    pub fn start(root: &Path, options: WalkOptions) -> Result<Self, WalkError> {
        Self::start_where(root, options, Touched::Everywhere)
    }

    /// The same, but goes only into directories that were touched and those that lead to them.
    pub fn start_where(root: &Path, options: WalkOptions, touched: Touched) -> Result<Self, WalkError> {
        let error = |error| WalkError::Root { path: root.to_owned(), error };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(error)?;
        let stat = FileStat::of(&fd).map_err(error)?;
        let scope = Scope { touched, ..Scope::new(&options, stat.identity.device)? };
        if scope.leaves_out(stat.identity) {
            return Err(WalkError::RootLeftOut { path: root.to_owned() });
        }
        let again = rustix::io::fcntl_dupfd_cloexec(&fd, 0).map_err(error)?;
        let root = Root::new(fd);
        let directory = Directory::new(&root, PathKey::root(), stat.identity, again);
        let mut walk = Self {
            schedule: Arc::new(Schedule::new(root, scope)),
            threads: Vec::new(),
            root: Arc::new(directory),
            root_stat: stat,
            stack: Vec::new(),
            next: Next::Root,
        };
        walk.start_threads(options.threads.get().min(THREADS_MAX))?;
        Ok(walk)
    }

    /// The root as it was found at the start.
    pub fn root_stat(&self) -> &FileStat {
        &self.root_stat
    }

    fn start_threads(&mut self, count: usize) -> Result<(), WalkError> {
        for place in 0..count {
            let schedule = Arc::clone(&self.schedule);
            let thread = std::thread::Builder::new().name(format!("walk-{place}"));
            let handle = thread.spawn(move || schedule.read_ahead()).map_err(WalkError::Thread)?;
            self.threads.push(handle);
        }
        Ok(())
    }

    /// Whether what was found last is a directory by which it passes.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.next, Next::Passing(_))
    }

    /// Goes into the directory that was found last, by which it would pass.
    pub(crate) fn look_into(&mut self) {
        let Next::Passing(key) = &self.next else { return };
        let key = key.clone();
        // It is the last entry of the segment on top that was given out.
        if let Some(Frame { segment, place }) = self.stack.last() {
            self.schedule.add(&key, segment, place - 1);
            self.next = Next::Listing(key);
        }
    }

    /// Goes into the directory at `key`; says so if it cannot be listed.
    fn descend(&mut self, key: PathKey) -> Option<Step> {
        match self.schedule.take(&TaskKey::list(&key)) {
            Output::Segment(segment) => self.stack.push(Frame { segment, place: 0 }),
            Output::Nothing => {}
            Output::Failed(error) => {
                return Some(Step::Unreadable(Unreadable { key, part: UnreadablePart::Listing, error }));
            }
        }
        None
    }

    /// The next entry of the directories in which the walk is; `None` if that was only a step on the way.
    fn step(&mut self) -> Option<Step> {
        let frame = self.stack.last_mut()?;
        let Some(entry) = frame.segment.entries.get(frame.place) else {
            self.leave_segment();
            return None;
        };
        frame.place += 1;
        let directory = &frame.segment.directory;
        let Ok(key) = frame.segment.key(entry) else {
            let (key, part) = (directory.key().clone(), UnreadablePart::LongerPath);
            return Some(Step::Unreadable(Unreadable { key, part, error: Errno::NAMETOOLONG }));
        };
        let stat = match entry.seen {
            Seen::Object(stat) => stat,
            Seen::Descend(stat) => {
                self.next = Next::Listing(key.clone());
                stat
            }
            Seen::Pass(stat) => {
                self.next = Next::Passing(key.clone());
                stat
            }
            Seen::LeftOut => return Some(Step::LeftOut(key)),
            Seen::Unreadable(error) => {
                return Some(Step::Unreadable(Unreadable { key, part: UnreadablePart::Object, error }));
            }
        };
        Some(Step::Found(Found { key, stat, parent: Arc::clone(directory) }))
    }

    /// Goes on with the next names of the same directory, or leaves it.
    fn leave_segment(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        if let Some(rest) = frame.segment.rest()
            && let Output::Segment(segment) = self.schedule.take(&TaskKey::describe(&rest))
        {
            self.stack.push(Frame { segment, place: 0 });
        }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            match std::mem::replace(&mut self.next, Next::Stack) {
                Next::Root => {
                    let key = PathKey::root();
                    self.next = Next::Listing(key.clone());
                    let parent = Arc::clone(&self.root);
                    return Some(Step::Found(Found { key, stat: self.root_stat, parent }));
                }
                Next::Listing(key) => {
                    if let Some(step) = self.descend(key) {
                        return Some(step);
                    }
                }
                Next::Passing(key) => return Some(Step::Passed(key)),
                Next::Stack if self.stack.is_empty() => return None,
                Next::Stack => {
                    if let Some(step) = self.step() {
                        return Some(step);
                    }
                }
            }
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.schedule.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Found {
    /// Opens a regular file for reading. May be called from any thread, also after the walk has gone on.
    pub fn open_file(&self) -> Result<SourceFile, OpenError> {
        let parent = self.open_parent().map_err(OpenError::from)?;
        SourceFile::open(parent.as_fd(), self.name(), &self.stat)
    }

    /// Pins the object, so that all that is asked of it is asked of the same; `None` when another one has its name by
    /// now. Of a directory only that it is one: what is in it was listed already.
    pub fn pin(&self) -> Result<Option<Pinned>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.open_parent()?, self.name(), flags, Mode::empty())?;
        let now = FileStat::of(&fd)?;
        let is_directory = self.stat.kind == FileKind::Directory;
        let is_same = now.kind == self.stat.kind && (is_directory || now.identity == self.stat.identity);
        Ok(is_same.then_some(Pinned(fd)))
    }

    /// Whether something is mounted there; also where nobody can tell.
    pub(crate) fn is_mount_point(&self) -> bool {
        let looked = self.open_parent().and_then(|parent| {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            rustix::fs::statx(parent, self.name(), flags, StatxFlags::empty())
        });
        looked.is_ok_and(|found| {
            !found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
                || found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        })
    }

    /// What has its name now.
    pub fn look_again(&self) -> Result<Self, Errno> {
        let stat = FileStat::at(self.open_parent()?, self.name())?;
        Ok(Self { stat, ..self.clone() })
    }

    /// The directory that holds it; of the root, the root itself.
    pub(crate) fn open_parent(&self) -> Result<impl AsFd + use<'_>, Errno> {
        let fd: DirectoryFd<'_> = self.parent.open()?;
        Ok(fd)
    }

    /// Its name in that directory.
    pub(crate) fn name(&self) -> &[u8] {
        self.key.file_name().unwrap_or(b".")
    }
}

/// An object that keeps its identity, whatever becomes of its name. Not opened for reading.
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What belongs to a walk.
#[derive(Debug)]
pub(crate) struct Scope {
    exclude: Exclude,
    left_out: HashSet<Identity>,
    /// The only device, unless other file systems belong to it, too.
    device: Option<u64>,
    /// Where it goes.
    touched: Touched,
}

impl Scope {
    pub(crate) fn new(options: &WalkOptions, root_file_system: u64) -> Result<Self, WalkError> {
        if options.leave_out.len() > LEAVE_OUT_MAX {
            return Err(WalkError::TooManyLeftOut);
        }
        let mut left_out = HashSet::new();
        for path in &options.leave_out {
            // What cannot be looked at cannot be walked into, either: the walk says so where it meets it.
            if let Ok(stat) = rustix::fs::stat(path) {
                left_out.insert(Identity { device: stat.st_dev, inode: stat.st_ino });
            }
        }
        let device = match options.crossing {
            Crossing::Stay => Some(root_file_system),
            Crossing::Cross => None,
        };
        Ok(Self { exclude: options.exclude.clone(), left_out, device, touched: Touched::Everywhere })
    }

    pub(crate) fn leaves_out(&self, identity: Identity) -> bool {
        self.left_out.contains(&identity)
    }

    /// Whether a path is excluded. That its directory is not is for the caller to know.
    pub(crate) fn excludes(&self, path: &PathKey) -> bool {
        !self.exclude.is_empty() && self.exclude.matches(&path.relative_path())
    }

    fn goes_everywhere(&self) -> bool {
        self.touched == Touched::Everywhere
    }

    /// Whether the walk passes by a directory.
    fn passes_by(&self, directory: &PathKey) -> bool {
        match &self.touched {
            Touched::Everywhere => false,
            Touched::In(touched) => !touched.lead_into(directory),
        }
    }

    pub(crate) fn is_foreign(&self, identity: Identity) -> bool {
        self.device.is_some_and(|device| device != identity.device)
    }
}

#[cfg(test)]
mod tests;
