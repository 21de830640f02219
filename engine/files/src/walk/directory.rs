//! A directory that the walk is in, or has read ahead: open while there are descriptors to spare, opened
//! again when somebody needs it later.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::beneath;
use crate::keys::PathKey;
use crate::stat::{FileStat, Identity};

/// How many directories one walk keeps open. Beyond them, directories are opened again for each use.
pub(super) const OPEN_DIRECTORIES_MAX: usize = 256;

/// The root and how many directories below it are kept open.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    kept_open: AtomicUsize,
}

impl Root {
    pub(super) fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { fd, kept_open: AtomicUsize::new(0) })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn keep(self: &Arc<Self>, fd: OwnedFd) -> Option<KeptFd> {
        let slot = |open| (open < OPEN_DIRECTORIES_MAX).then_some(open + 1);
        let got = self.kept_open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, slot);
        got.is_ok().then(|| KeptFd { fd, root: Arc::clone(self) })
    }
}

/// A descriptor that counts.
#[derive(Debug)]
struct KeptFd {
    fd: OwnedFd,
    root: Arc<Root>,
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        self.root.kept_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory below the root, or the root.
#[derive(Debug)]
pub(super) struct Directory {
    root: Arc<Root>,
    key: PathKey,
    identity: Identity,
    kept: Option<KeptFd>,
}

impl Directory {
    /// The directory at `key`, open as `fd`, with this identity.
    pub(super) fn new(root: &Arc<Root>, key: PathKey, identity: Identity, fd: OwnedFd) -> Self {
        Self { root: Arc::clone(root), key, identity, kept: root.keep(fd) }
    }

    pub(super) fn key(&self) -> &PathKey {
        &self.key
    }

    /// How many directories of its walk are kept open.
    #[cfg(test)]
    pub(super) fn kept_fd_count(&self) -> usize {
        self.root.kept_open.load(Ordering::Relaxed)
    }

    /// A descriptor of it. Fails with ENOENT when another directory has taken its place meanwhile.
    pub(super) fn open(&self) -> Result<DirectoryFd<'_>, Errno> {
        if let Some(kept) = &self.kept {
            return Ok(DirectoryFd::Kept(kept.fd.as_fd()));
        }
        let fd = beneath::open_directory(self.root.fd(), &self.key)?;
        if FileStat::of(&fd)?.identity != self.identity {
            return Err(Errno::NOENT);
        }
        Ok(DirectoryFd::Again(fd))
    }
}

/// A descriptor for as long as it is used.
#[derive(Debug)]
pub(super) enum DirectoryFd<'d> {
    Kept(BorrowedFd<'d>),
    Again(OwnedFd),
}

impl AsFd for DirectoryFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(fd) => fd.as_fd(),
            Self::Again(fd) => fd.as_fd(),
        }
    }
}
