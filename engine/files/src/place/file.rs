//! A file that was made and waits for its contents, or that is made once they are there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::keys::{HeadKey, PathKey};

use super::entry::{Occupied, Slot};
use super::error::{Defect, PlaceError};
use super::finish::{Finish, ModeWanted, Privilege, Reproduced};
use super::flush::Flusher;
use super::level::Unfinished;

/// Files that are written in pieces of this size are kept out of the page cache.
const LEAVE_CACHE_BYTES_LEAST: usize = 256 << 10;

/// An empty file under its final name. Until [`Self::finish`] only its owner may read it, and nothing takes
/// it for done.
#[derive(Debug)]
pub struct NewFile {
    fd: OwnedFd,
    key: HeadKey,
    wanted: Reproduced,
    privilege: Privilege,
    flusher: Arc<Flusher>,
}

/// A file that is still to be made. Its directory is not finished before it is, or is dropped.
#[derive(Debug)]
pub struct PendingFile {
    directory: Arc<OwnedFd>,
    /// `None` in the root, which is finished last of all.
    _unfinished: Option<Arc<Unfinished>>,
    path: PathKey,
    wanted: Reproduced,
    privilege: Privilege,
    flusher: Arc<Flusher>,
}

impl PendingFile {
    pub(super) fn new(
        directory: Arc<OwnedFd>,
        unfinished: Option<Arc<Unfinished>>,
        path: PathKey,
        wanted: Reproduced,
        privilege: Privilege,
        flusher: Arc<Flusher>,
    ) -> Self {
        Self { directory, _unfinished: unfinished, path, wanted, privilege, flusher }
    }

    /// Which file it will be.
    pub fn key(&self) -> HeadKey {
        HeadKey::Path(self.path.clone())
    }

    /// Makes it. From any thread.
    pub fn make(self) -> Result<NewFile, PlaceError> {
        let name = self.path.file_name().unwrap_or(b".");
        let key = HeadKey::Path(self.path.clone());
        let slot = Slot { directory: self.directory.as_fd(), name, key: &key, occupied: Occupied::Refuse };
        let fd = slot.make_new_file()?;
        Ok(NewFile::new(fd, key, self.wanted, self.privilege, self.flusher))
    }
}

impl NewFile {
    pub(super) fn new(
        fd: OwnedFd,
        key: HeadKey,
        wanted: Reproduced,
        privilege: Privilege,
        flusher: Arc<Flusher>,
    ) -> Self {
        Self { fd, key, wanted, privilege, flusher }
    }

    /// Which file it is.
    pub fn key(&self) -> &HeadKey {
        &self.key
    }

    /// Gives it its length. What is not written is a hole then.
    pub fn set_size(&self, size_bytes: u64) -> Result<(), PlaceError> {
        rustix::fs::ftruncate(&self.fd, size_bytes).map_err(|error| self.error("setting its length", error))
    }

    /// Writes all of `bytes`. May be called from several threads at once.
    pub fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), PlaceError> {
        self.write_all_at(offset_bytes, bytes)?;
        match bytes.len() {
            LEAVE_CACHE_BYTES_LEAST.. => self.leave_cache(),
            few => self.flusher.cached(few as u64),
        }
        Ok(())
    }

    fn write_all_at(&self, offset_bytes: u64, mut bytes: &[u8]) -> Result<(), PlaceError> {
        let mut at = offset_bytes;
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.fd, bytes, at) {
                Ok(0) => return Err(self.error("writing its contents", Errno::IO)),
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.error("writing its contents", error)),
            }
        }
        Ok(())
    }

    /// Has what was written so far sent to the disk and taken out of the page cache once it is there, as far as the
    /// system cares to: a large restore does not push out what the services of the host have cached, and the same pages
    /// of memory are used again and again.
    fn leave_cache(&self) {
        // Advice: nothing depends on it.
        let _ = rustix::fs::fadvise(&self.fd, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// After the last byte: gives it everything else, the time last. Says what it lacks.
    pub fn finish(self) -> Vec<Defect> {
        let finish = Finish::open(self.fd.as_fd(), &self.key, self.privilege);
        finish.whole(&self.wanted, ModeWanted::Yes)
    }

    fn error(&self, doing: &'static str, error: Errno) -> PlaceError {
        PlaceError::Entry { key: self.key.clone(), doing, error }
    }
}
