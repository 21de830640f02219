//! Placing of objects in the order of their keys. Owns the stack of the directories in which it is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use backstay_core::id::LinkId;
use rustix::io::Errno;

use crate::keys::{HeadKey, PathKey};
use crate::row::Object;
use crate::stat::{FileKind, FileStat};

use super::Destination;
use super::entry::{MadeFile, Occupied, Slot};
use super::error::PlaceError;
use super::file::{NewFile, PendingFile};
use super::finish::{Finish, ModeWanted, Reproduced};
use super::level::{Level, Report};
use super::staging::{STAGING_NAME, Staging};

/// How many of the directories on the way to the present one are kept open.
const OPEN_LEVELS_MAX: usize = 128;

/// Places the objects of one point, each key once, by rising keys.
#[derive(Debug)]
pub struct Placer<'d> {
    destination: &'d Destination,
    root: Option<Reproduced>,
    /// The directories below the root in which it is, outermost first. Its depth is bounded by the length of
    /// paths.
    levels: Vec<Level>,
    report: Report,
}

/// What became of an object.
#[derive(Debug)]
#[must_use]
pub enum Placed {
    /// It is there with everything that belongs to it; a directory gets the rest later.
    Done,
    /// It is a file without its contents. These may be written from any thread.
    File(NewFile),
    /// It is a file that can be made from any thread, contents and all.
    Later(PendingFile),
    /// It is a file that an earlier attempt had finished.
    AlreadyDone,
}

/// What is left to do at the very end: see [`Destination::complete`].
#[derive(Debug)]
#[must_use]
pub struct Finished(pub(super) Option<Reproduced>);

impl<'d> Placer<'d> {
    pub(super) fn new(destination: &'d Destination, report: Report) -> Self {
        Self { destination, root: None, levels: Vec::new(), report }
    }

    /// Places an object that is not one of several names. A file with several names is placed under its link
    /// id, and appears with the first [`Self::link`].
    pub fn place(
        &mut self,
        key: &HeadKey,
        object: &Object,
        wanted: Reproduced,
    ) -> Result<Placed, PlaceError> {
        match key {
            HeadKey::Link(link) => {
                let name = Staging::link_name(link);
                let destination = self.destination;
                let directory = destination.staging().links();
                let slot = Slot { directory, name: name.as_bytes(), key, occupied: destination.occupied() };
                self.place_in(slot, object, wanted)
            }
            HeadKey::Path(path) if path.is_root() => match object {
                Object::Directory => {
                    self.begin_directory(self.destination.root().as_fd(), key, &wanted);
                    self.root = Some(wanted);
                    Ok(Placed::Done)
                }
                _ => Err(PlaceError::RootKind),
            },
            HeadKey::Path(path) if *object == Object::Directory => {
                self.go_to_parent(path, key)?;
                self.enter(path, key, Some(wanted))?;
                Ok(Placed::Done)
            }
            HeadKey::Path(path) => {
                self.go_to_parent(path, key)?;
                let parent = self.present_directory(key)?;
                let slot = self.slot(&parent, path, key);
                self.place_in(slot, object, wanted)
            }
        }
    }

    /// Like [`Self::place`] for a file that is written at once: making files is most of the work where these are
    /// small, and threads can share it. A name that may be taken is dealt with here and now.
    pub fn place_later(
        &mut self,
        key: &HeadKey,
        object: &Object,
        wanted: Reproduced,
    ) -> Result<Placed, PlaceError> {
        match (key, object) {
            (HeadKey::Path(path), Object::File(_))
                if !path.is_root() && self.destination.occupied() == Occupied::Refuse =>
            {
                self.go_to_parent(path, key)?;
                let directory = self.present_directory(key)?;
                let unfinished = self.levels.last().map(Level::hold);
                let (key, privilege) = (path.clone(), self.destination.privilege());
                let flusher = Arc::clone(self.destination.flusher());
                Ok(Placed::Later(PendingFile::new(directory, unfinished, key, wanted, privilege, flusher)))
            }
            _ => self.place(key, object, wanted),
        }
    }

    /// Gives the file `link` the name `path`.
    pub fn link(&mut self, path: &PathKey, link: &LinkId) -> Result<(), PlaceError> {
        let key = HeadKey::Path(path.clone());
        self.go_to_parent(path, &key)?;
        let parent = self.present_directory(&key)?;
        let links = self.destination.staging().links();
        match self.slot(&parent, path, &key).make_link(links, &Staging::link_name(link)) {
            Err(PlaceError::Entry { error: Errno::NOENT, key, .. }) => {
                Err(PlaceError::LinkMissing { key, link: *link })
            }
            linked => linked,
        }
    }

    /// After the last object.
    pub fn finish(mut self) -> Finished {
        while let Some(level) = self.levels.pop() {
            level.leave(self.destination);
        }
        Finished(self.root)
    }

    /// Everything but directories.
    fn place_in(
        &mut self,
        slot: Slot<'_>,
        object: &Object,
        wanted: Reproduced,
    ) -> Result<Placed, PlaceError> {
        let (privilege, key) = (self.destination.privilege(), slot.key);
        let defects = match object {
            Object::File(_) => {
                let size_bytes = object.size_bytes();
                return Ok(match slot.make_file(size_bytes, wanted.meta.mtime)? {
                    MadeFile::AlreadyDone => {
                        // What it lacked then it lacks now, and that has to be said again.
                        let fd = slot.pin(FileKind::File)?;
                        let finish = Finish::pinned(&fd, key, privilege);
                        if !finish.is_as(&fd, &wanted) {
                            self.report.all(finish.whole(&wanted, ModeWanted::Yes));
                        }
                        Placed::AlreadyDone
                    }
                    MadeFile::New(fd) => {
                        let flusher = Arc::clone(self.destination.flusher());
                        Placed::File(NewFile::new(fd, key.clone(), wanted, privilege, flusher))
                    }
                });
            }
            Object::Symlink(target) => {
                let fd = slot.make_symlink(target)?;
                Finish::pinned(&fd, key, privilege).whole(&wanted, ModeWanted::No)
            }
            object => {
                let fd = slot.make_node(object)?;
                Finish::pinned(&fd, key, privilege).whole(&wanted, ModeWanted::Yes)
            }
        };
        self.report.all(defects);
        Ok(Placed::Done)
    }

    /// Leaves directories and enters others until the present one is that of `path`.
    fn go_to_parent(&mut self, path: &PathKey, key: &HeadKey) -> Result<(), PlaceError> {
        if path.components().next() == Some(STAGING_NAME.as_bytes()) {
            return Err(PlaceError::Reserved { key: key.clone() });
        }
        let parent = path.parent().unwrap_or_else(PathKey::root);
        while let Some(level) = self.levels.pop_if(|level| !parent.is_within(&level.key)) {
            level.leave(self.destination);
        }
        // Only where rows of directories are missing, as in a restore of some paths.
        while self.levels.len() < parent.depth() {
            let missing = parent.components().take(self.levels.len() + 1);
            let missing = PathKey::from_components(missing).map_err(|_| PlaceError::RootKind)?;
            let missing_key = HeadKey::Path(missing.clone());
            self.enter(&missing, &missing_key, None)?;
        }
        Ok(())
    }

    /// Makes the directory `path` in the present one, and goes into it.
    fn enter(&mut self, path: &PathKey, key: &HeadKey, wanted: Option<Reproduced>) -> Result<(), PlaceError> {
        let parent = self.present_directory(key)?;
        let fd = self.slot(&parent, path, key).make_directory(self.destination.privilege())?;
        let entry_error = |error| PlaceError::Entry { key: key.clone(), doing: "looking at it", error };
        let identity = FileStat::of(&fd).map_err(entry_error)?.identity;
        self.destination.systems().add(identity.device, &fd).map_err(entry_error)?;
        if let Some(wanted) = &wanted {
            self.begin_directory(fd.as_fd(), key, wanted);
        }
        let (privilege, report) = (self.destination.privilege(), self.report.clone());
        self.levels.push(Level::new(path.clone(), identity, fd, wanted, privilege, report));
        if let Some(outer) = self.levels.len().checked_sub(OPEN_LEVELS_MAX + 1) {
            self.levels[outer].close();
        }
        Ok(())
    }

    fn begin_directory(&mut self, fd: BorrowedFd<'_>, key: &HeadKey, wanted: &Reproduced) {
        let defects = Finish::open(fd, key, self.destination.privilege()).begin_directory(wanted);
        self.report.all(defects);
    }

    /// The directory in which it is; `key` is for errors.
    fn present_directory(&mut self, key: &HeadKey) -> Result<Arc<OwnedFd>, PlaceError> {
        let Some(level) = self.levels.last_mut() else { return Ok(Arc::clone(self.destination.root())) };
        level.open(self.destination).map_err(|error| PlaceError::Entry {
            key: key.clone(),
            doing: "opening its directory again",
            error,
        })
    }

    fn slot<'s>(&self, parent: &'s OwnedFd, path: &'s PathKey, key: &'s HeadKey) -> Slot<'s> {
        let name = path.file_name().unwrap_or(b".");
        Slot { directory: parent.as_fd(), name, key, occupied: self.destination.occupied() }
    }
}
