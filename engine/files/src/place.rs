//! Placing a tree into a directory: the primitives of a restore. Owns the destination. Whatever the rows or
//! the destination hold, nothing is written outside it: every object is made relative to an open directory,
//! and no symbolic link in it is followed.
//!
//! A restore goes: [`Destination::open`], [`Destination::placer`], [`Placer::place`] and [`Placer::link`] for
//! each row by rising keys, contents into each [`NewFile`] and [`NewFile::finish`] from any thread,
//! [`Placer::finish`], and when all files are finished, [`Destination::complete`]. What was killed before that
//! is continued by the same calls with the same marker.

mod entry;
mod error;
mod file;
mod finish;
mod flush;
mod level;
mod placer;
mod staging;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::keys::{HeadKey, PathKey};
use crate::names::Names;
use crate::stat::FileStat;

use entry::Occupied;
use finish::{Finish, Privilege};
use flush::{FileSystems, Flusher};
use level::Report;
use staging::{Earlier, Staging};

pub use error::{Defect, Lacking, PlaceError, Reach};
pub use file::{NewFile, PendingFile};
pub use finish::Reproduced;
pub use placer::{Finished, Placed, Placer};
pub use staging::{MARKER_BYTES_MAX, STAGING_NAME};

/// What may happen to what is in the destination already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: the destination must be missing or empty.
    Refuse,
    /// What has the name of something that is restored is replaced; directories are gone into, and what
    /// the point does not have stays.
    Replace,
}

/// How a restore begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From the start.
    Fresh,
    /// Where an earlier one with the same marker ended: files that it finished are not written again.
    Resumed,
}

/// A directory into which a tree is placed.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    root: Arc<OwnedFd>,
    flusher: Arc<Flusher>,
    systems: Arc<FileSystems>,
    staging: Arc<Staging>,
    occupied: Occupied,
    privilege: Privilege,
}

impl Destination {
    /// Opens `path`, which may be a symbolic link to a directory; makes it, and what leads to it, if it is
    /// missing. `marker` says what is restored, such as vault and point; at most [`MARKER_BYTES_MAX`].
    pub fn open(path: &Path, marker: &[u8], existing: Existing) -> Result<Self, PlaceError> {
        let failed = Failed(path);
        if marker.len() > MARKER_BYTES_MAX {
            return Err(failed.at("writing the marker", Errno::FBIG));
        }
        let root = open_root(path)?;
        let earlier =
            Staging::look(root.as_fd()).map_err(|e| failed.at("looking for an earlier restore", e))?;
        let in_it = |e| match e {
            Errno::WOULDBLOCK => PlaceError::AtWork { path: path.to_owned() },
            e => failed.at("making .backstay-restore in it", e),
        };
        let occupied = match (&earlier, existing) {
            (Earlier::Restore(found), _) if found == marker => {
                let (there, whole) = Staging::resume(root.as_fd()).map_err(in_it)?;
                return Self::begun(path, root, there, Occupied::Resume(whole));
            }
            (_, Existing::Replace) => Occupied::Replace,
            (Earlier::Restore(_), Existing::Refuse) => {
                return Err(PlaceError::OtherRestore { path: path.to_owned() });
            }
            (Earlier::Foreign, Existing::Refuse) => {
                return Err(PlaceError::NotEmpty { path: path.to_owned() });
            }
            (Earlier::Nothing, Existing::Refuse) => {
                let names = beneath::open_child(&root, b".")
                    .and_then(|again| Names::read(again, |name| name != STAGING_NAME.as_bytes()));
                if names.map_err(|e| failed.at("listing it", e))?.len() > 0 {
                    return Err(PlaceError::NotEmpty { path: path.to_owned() });
                }
                Occupied::Refuse
            }
        };
        let begun = Staging::begin(root.as_fd(), marker).map_err(in_it)?;
        Self::begun(path, root, begun, occupied)
    }

    fn begun(path: &Path, root: OwnedFd, staging: Staging, occupied: Occupied) -> Result<Self, PlaceError> {
        let failed = Failed(path);
        let (staging, systems) = (Arc::new(staging), Arc::new(FileSystems::default()));
        let device = FileStat::of(&root).map_err(|e| failed.at("looking at it", e))?.identity.device;
        systems.add(device, &root).map_err(|e| failed.at("opening it", e))?;
        let flusher = Flusher::start(Arc::clone(&staging), Arc::clone(&systems));
        Ok(Self {
            path: path.to_owned(),
            staging,
            flusher: Arc::new(flusher.map_err(|e| failed.at("starting a thread for it", errno(&e)))?),
            systems,
            root: Arc::new(root),
            occupied,
            privilege: Privilege::of_process(),
        })
    }

    /// The marker of the unfinished restore in `path`, if there is one.
    pub fn read_marker(path: &Path) -> Result<Option<Vec<u8>>, PlaceError> {
        let failed = Failed(path);
        let root = match rustix::fs::open(path, ROOT_FLAGS, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed.at("opening it", error)),
        };
        match Staging::look(root.as_fd()).map_err(|e| failed.at("looking for an earlier restore", e))? {
            Earlier::Restore(marker) => Ok(Some(marker)),
            Earlier::Nothing | Earlier::Foreign => Ok(None),
        }
    }

    /// Whether an earlier restore is continued.
    pub fn begin(&self) -> Begin {
        if matches!(self.occupied, Occupied::Resume(_)) { Begin::Resumed } else { Begin::Fresh }
    }

    /// Begins to place. `report` hears what objects lack, while [`Placer`] is used.
    pub fn placer(&self, report: impl Fn(Defect) + Send + Sync + 'static) -> Placer<'_> {
        Placer::new(self, Report(Arc::new(report)))
    }

    /// When all is placed and every file is finished: makes it durable, takes away the restore's own things and
    /// finishes the root. Gives what the root lacks.
    pub fn complete(self, finished: Finished) -> Result<Vec<Defect>, PlaceError> {
        let failed = Failed(&self.path);
        // Before the marker goes: without it, what is here counts as whole.
        self.flusher.stop().map_err(|e| failed.at("writing it to disk", e))?;
        self.staging.sync(&self.systems.all()).map_err(|e| failed.at("writing it to disk", e))?;
        let key = HeadKey::Path(PathKey::root());
        let finish = || Finish::open(self.root.as_fd(), &key, self.privilege);
        // Before the marker goes, where that does not close the root to this user: a kill between the two would leave
        // a root that nothing finishes any more.
        let wanted = finished.0.as_ref();
        let early = wanted.filter(|_| self.privilege == Privilege::Root).map(|w| finish().end_directory(w));
        self.staging.remove(self.root.as_fd()).map_err(|e| failed.at("removing .backstay-restore", e))?;
        let defects = match (early, wanted) {
            (Some(mut defects), Some(wanted)) => {
                defects.extend(finish().time_only(wanted));
                defects
            }
            (_, wanted) => wanted.map_or_else(Vec::new, |wanted| finish().end_directory(wanted)),
        };
        rustix::fs::fsync(&self.root).map_err(|e| failed.at("writing it to disk", e))?;
        Ok(defects)
    }

    fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    fn systems(&self) -> &FileSystems {
        &self.systems
    }

    fn staging(&self) -> &Staging {
        &self.staging
    }

    fn occupied(&self) -> Occupied {
        self.occupied
    }

    fn flusher(&self) -> &Arc<Flusher> {
        &self.flusher
    }

    fn privilege(&self) -> Privilege {
        self.privilege
    }
}

const ROOT_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Nobody but this user may look into a destination that is made here until it is finished.
const ROOT_MODE: u32 = 0o700;

fn open_root(path: &Path) -> Result<OwnedFd, PlaceError> {
    let failed = Failed(path);
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
    {
        let made = std::fs::create_dir_all(parent);
        made.map_err(|error| failed.at("making what leads to it", errno(&error)))?;
    }
    match std::fs::DirBuilder::new().mode(ROOT_MODE).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed.at("making it", errno(&error)));
        }
        _ => {}
    }
    rustix::fs::open(path, ROOT_FLAGS, Mode::empty()).map_err(|error| failed.at("opening it", error))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Makes errors about a destination.
#[derive(Clone, Copy)]
struct Failed<'p>(&'p Path);

impl Failed<'_> {
    fn at(self, doing: &'static str, error: Errno) -> PlaceError {
        PlaceError::Destination { path: self.0.to_owned(), doing, error }
    }
}

#[cfg(test)]
mod tests;
