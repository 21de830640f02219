//! The units of reading ahead: listing a directory, and describing a stretch of its names.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::beneath;
use crate::keys::{COMPONENT_BYTES_MAX, KeyError, PATH_BYTES_MAX, PathKey};
use crate::names::Names;
use crate::stat::{FileKind, FileStat};

use super::Scope;
use super::directory::{Directory, Root};

/// How many names of a directory are described at a time.
pub(super) const SEGMENT_NAMES: usize = 1024;

/// A stretch of the names of a directory with what they stand for. Names that vanished are not in it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) directory: Arc<Directory>,
    names: Arc<Names>,
    first: usize,
    pub(super) entries: Vec<Entry>,
}

/// One name.
#[derive(Debug)]
pub(super) struct Entry {
    place: u32,
    pub(super) seen: Seen,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    /// An object. If it is a directory, the walk goes no deeper here.
    Object(FileStat),
    /// A directory into which the walk goes.
    Descend(FileStat),
    /// A directory by which the walk passes.
    Pass(FileStat),
    /// One of the directories to leave out.
    LeftOut,
    /// Nobody knows. ENAMETOOLONG when its path is too long for a key.
    Unreadable(Errno),
}

/// What became of a directory that was to be listed.
#[derive(Debug)]
pub(super) enum Listed {
    /// Here are its first names.
    Segment(Segment),
    /// It is gone, or belongs to another file system by now: nothing is in it.
    Nothing,
    /// It cannot be read.
    Failed(Errno),
}

impl Segment {
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        self.names.get(entry.place as usize)
    }

    /// The key of `entry`. Fails only where its path is too long.
    pub(super) fn key(&self, entry: &Entry) -> Result<PathKey, KeyError> {
        self.directory.key().child(self.name(entry))
    }

    /// The place of the first entry from `from` on into which the walk goes.
    pub(super) fn next_descent(&self, from: usize) -> Option<usize> {
        let descends = |entry: &Entry| matches!(entry.seen, Seen::Descend(_));
        self.entries.get(from..)?.iter().position(descends).map(|found| from + found)
    }

    /// What follows in the same directory.
    pub(super) fn rest(&self) -> Option<Rest> {
        Rest::behind(&self.directory, &self.names, self.first)
    }

    /// Whether it begins with the first name of its directory.
    pub(super) fn is_first(&self) -> bool {
        self.first == 0
    }

    /// How many names the directory has.
    pub(super) fn names_in_directory(&self) -> usize {
        self.names.len()
    }
}

/// The names of a directory that are not described yet.
#[derive(Debug)]
pub(super) struct Rest {
    directory: Arc<Directory>,
    names: Arc<Names>,
    first: usize,
}

impl Rest {
    /// What follows the segment that begins at `first`.
    fn behind(directory: &Arc<Directory>, names: &Arc<Names>, first: usize) -> Option<Self> {
        let first = first + SEGMENT_NAMES;
        let rest = || Self { directory: Arc::clone(directory), names: Arc::clone(names), first };
        (first < names.len()).then(rest)
    }

    /// What follows the next segment.
    pub(super) fn after(&self) -> Option<Self> {
        Self::behind(&self.directory, &self.names, self.first)
    }

    /// Bytes that sort as the first of the names does among all keys.
    pub(super) fn order(&self) -> Vec<u8> {
        let mut order = self.directory.key().as_bytes().to_vec();
        if !self.directory.key().is_root() {
            order.push(0);
        }
        order.extend_from_slice(self.names.get(self.first));
        order
    }

    /// Describes the next names. If the directory can no longer be opened, that is said of each.
    pub(super) fn describe(self, scope: &Scope) -> Segment {
        let entries = match self.directory.open() {
            Ok(fd) => describe(&fd, self.directory.key(), &self.names, self.first, scope),
            Err(Errno::NOENT) => Vec::new(),
            Err(error) => {
                let unreadable = |place| Entry { place: place as u32, seen: Seen::Unreadable(error) };
                segment_places(&self.names, self.first).map(unreadable).collect()
            }
        };
        let Self { directory, names, first } = self;
        Segment { directory, names, first, entries }
    }
}

/// Places fit into u32: see NAMES_BYTES_MAX.
fn segment_places(names: &Names, first: usize) -> std::ops::Range<usize> {
    first..names.len().min(first + SEGMENT_NAMES)
}

/// Lists the root.
pub(super) fn list_root(root: &Arc<Root>, scope: &Scope) -> Listed {
    list(root, PathKey::root(), beneath::open_child(root.fd(), b"."), scope)
}

/// Lists the directory that the entry of `segment` at `place` stands for.
pub(super) fn list_entry(root: &Arc<Root>, segment: &Segment, place: usize, scope: &Scope) -> Listed {
    let entry = &segment.entries[place];
    let Ok(key) = segment.key(entry) else { return Listed::Failed(Errno::NAMETOOLONG) };
    let fd = segment.directory.open().and_then(|parent| beneath::open_child(parent, segment.name(entry)));
    list(root, key, fd, scope)
}

fn list(root: &Arc<Root>, key: PathKey, fd: Result<OwnedFd, Errno>, scope: &Scope) -> Listed {
    let listed = fd.and_then(|fd| {
        let identity = FileStat::of(&fd)?.identity;
        // It was looked at by name a moment ago; something else may have been mounted or moved there.
        if scope.is_foreign(identity) || scope.leaves_out(identity) {
            return Ok(None);
        }
        let names = read_names(&fd, &key, scope)?;
        let entries = describe(&fd, &key, &names, 0, scope);
        let directory = Arc::new(Directory::new(root, key, identity, fd));
        Ok(Some(Segment { directory, names: Arc::new(names), first: 0, entries }))
    });
    match listed {
        Ok(Some(segment)) => Listed::Segment(segment),
        Ok(None) | Err(Errno::NOENT) => Listed::Nothing,
        Err(error) => Listed::Failed(error),
    }
}

fn read_names(fd: &OwnedFd, key: &PathKey, scope: &Scope) -> Result<Names, Errno> {
    if scope.exclude.is_empty() {
        return Names::read(fd, |_| true);
    }
    let mut path = key.relative_path();
    if !path.is_empty() {
        path.push(b'/');
    }
    let parent_length = path.len();
    path.reserve(COMPONENT_BYTES_MAX);
    Names::read(fd, |name| {
        path.truncate(parent_length);
        path.extend_from_slice(name);
        !scope.exclude.matches(&path)
    })
}

fn describe(fd: impl AsFd, directory: &PathKey, names: &Names, first: usize, scope: &Scope) -> Vec<Entry> {
    // Only the root has no separator after it; there no name is too long.
    let longest = match directory.is_root() {
        true => COMPONENT_BYTES_MAX,
        false => PATH_BYTES_MAX.saturating_sub(directory.as_bytes().len()),
    };
    let describe_one = |place| {
        let name = names.get(place);
        let seen = if name.len() > longest {
            Seen::Unreadable(Errno::NAMETOOLONG)
        } else {
            match FileStat::at(&fd, name) {
                Err(Errno::NOENT) => return None,
                Err(error) => Seen::Unreadable(error),
                Ok(stat) => classify(stat, scope, || directory.child(name).ok()),
            }
        };
        Some(Entry { place: place as u32, seen })
    };
    segment_places(names, first).filter_map(describe_one).collect()
}

fn classify(stat: FileStat, scope: &Scope, key: impl FnOnce() -> Option<PathKey>) -> Seen {
    if stat.kind != FileKind::Directory {
        return Seen::Object(stat);
    }
    if scope.leaves_out(stat.identity) {
        return Seen::LeftOut;
    }
    if scope.is_foreign(stat.identity) {
        return Seen::Object(stat);
    }
    let is_passed = !scope.goes_everywhere() && key().is_some_and(|key| scope.passes_by(&key));
    if is_passed { Seen::Pass(stat) } else { Seen::Descend(stat) }
}
