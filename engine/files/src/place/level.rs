//! A directory in which things are placed. Owns when it is finished: when the keys have left it, and no file that is
//! still to be made in it is left; only then does its time of last change stay.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use crate::beneath;
use crate::keys::{HeadKey, PathKey};
use crate::stat::Identity;

use super::Destination;
use super::error::{Defect, Lacking};
use super::finish::{Finish, Privilege, Reproduced};

/// Hears of what objects lack, from any thread.
#[derive(Clone)]
pub(super) struct Report(pub(super) Arc<dyn Fn(Defect) + Send + Sync>);

impl Report {
    pub(super) fn all(&self, defects: Vec<Defect>) {
        defects.into_iter().for_each(|defect| (self.0)(defect));
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// A directory on the way to the present one.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) key: PathKey,
    identity: Identity,
    fd: Option<Arc<OwnedFd>>,
    unfinished: Arc<Unfinished>,
}

/// Finishes its directory when the last who holds it lets go, if the keys have left it by then.
#[derive(Debug)]
pub(super) struct Unfinished {
    key: PathKey,
    /// `None` for a directory that has no row, and was made because something is in it.
    wanted: Option<Reproduced>,
    privilege: Privilege,
    report: Report,
    /// The directory, once the keys have left it.
    left: OnceLock<Arc<OwnedFd>>,
}

impl Level {
    pub(super) fn new(
        key: PathKey,
        identity: Identity,
        fd: OwnedFd,
        wanted: Option<Reproduced>,
        privilege: Privilege,
        report: Report,
    ) -> Self {
        let unfinished = Unfinished { key: key.clone(), wanted, privilege, report, left: OnceLock::new() };
        Self { key, identity, fd: Some(Arc::new(fd)), unfinished: Arc::new(unfinished) }
    }

    /// Its descriptor; if it was closed, the same directory opened again.
    pub(super) fn open(&mut self, destination: &Destination) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = &self.fd {
            return Ok(Arc::clone(fd));
        }
        let fd = beneath::open_directory(destination.root().as_fd(), &self.key)?;
        if crate::stat::FileStat::of(&fd)?.identity != self.identity {
            return Err(Errno::NOENT);
        }
        let fd = Arc::new(fd);
        self.fd = Some(Arc::clone(&fd));
        Ok(fd)
    }

    /// Gives the descriptor back until it is needed again.
    pub(super) fn close(&mut self) {
        self.fd = None;
    }

    /// Keeps it from being finished.
    pub(super) fn hold(&self) -> Arc<Unfinished> {
        Arc::clone(&self.unfinished)
    }

    /// The keys have left it.
    pub(super) fn leave(mut self, destination: &Destination) {
        if self.unfinished.wanted.is_none() {
            return;
        }
        match self.open(destination) {
            Ok(fd) => {
                // Nobody else sets it: a level is left once.
                let _ = self.unfinished.left.set(fd);
            }
            Err(error) => {
                let key = HeadKey::Path(self.key.clone());
                (self.unfinished.report.0)(Defect { key, lacking: Lacking::Finish, error });
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(fd), Some(wanted)) = (self.left.take(), self.wanted.take()) else { return };
        let key = HeadKey::Path(self.key.clone());
        self.report.all(Finish::open(fd.as_fd(), &key, self.privilege).end_directory(&wanted));
    }
}
