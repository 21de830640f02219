//! Why a capture failed, and why a single entry of it could not be read.

use std::path::PathBuf;

use backstay_vault::error::VaultError;
use rustix::io::Errno;

use crate::keys::KeyError;
use crate::read::OpenError;
use crate::row::RowError;
use crate::spill::SpillError;
use crate::state::StateError;
use crate::walk::WalkError;

/// A failed capture. Nothing of it was acknowledged, but for partial points.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The source cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The source is no directory.
    #[error("the source {} is a {kind}, not a directory: give the directory it is in, or a `command` source", path.display())]
    NotADirectory {
        /// Path of the source.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The local state has a problem that rebuilding does not mend.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault has a problem.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A row that was stored before is damaged, or one to be stored breaks the rules.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A key that was stored before is damaged.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The spill file has a problem.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// Objects cannot be looked at by their descriptors.
    #[error(
        "/proc is not mounted: without it the attributes of directories and links cannot be read; mount it"
    )]
    NoProc,
    /// The system gives no thread.
    #[error("no thread could be started for reading: {0}; see `ulimit -u` and TasksMax")]
    Thread(std::io::Error),
    /// Somebody else captured the source at the same time.
    #[error(
        "the source got a new point from elsewhere while it was captured; it is captured again from there"
    )]
    CursorMoved,
    /// It has met a file with several names that has changed, and does not look at all names. Which of them lead to the file
    /// still it cannot tell: another one may have its inode by now.
    #[error("a file with several names has changed: everything has to be looked at")]
    LinkChanged,
    /// Somebody has taken away the snapshot that was read.
    #[error(
        "the snapshot that was read is gone, and what was in it would count as gone as well; nothing of this capture counts"
    )]
    SnapshotGone,
    /// It was asked to stop.
    #[error(
        "stopped; nothing of this capture counts but its partial points, from which the next one goes on"
    )]
    Stopped,
}

impl CaptureError {
    /// A word for metrics: the class of the error.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Walk(_) | Self::NotADirectory { .. } | Self::NoProc => "source",
            Self::State(_) | Self::Spill(_) => "state",
            Self::Vault(error) => error.class(),
            Self::Row(_) | Self::Key(_) => "damaged",
            Self::Thread(_) => "resources",
            Self::CursorMoved => "cursor_moved",
            Self::LinkChanged | Self::SnapshotGone => "source",
            Self::Stopped => "stopped",
        }
    }
}

/// Why one entry could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadProblem {
    /// It is gone: it was never there.
    #[error("it has vanished")]
    Vanished,
    /// It is no longer what it was when it was found; the next capture sees what it is.
    #[error("it is replaced again and again")]
    Replaced,
    /// It was small when it was found.
    #[error("it grows while it is read")]
    Grown,
    /// The system says no.
    #[error("{0}")]
    Refused(Errno),
    /// The keys at hand cannot name data.
    #[error("the key bundle at hand is a custodian's and cannot capture")]
    NoKey,
}

impl From<OpenError> for ReadProblem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Vanished => Self::Vanished,
            OpenError::Replaced => Self::Replaced,
            OpenError::Refused(errno) => Self::Refused(errno),
        }
    }
}

impl From<Errno> for ReadProblem {
    fn from(errno: Errno) -> Self {
        OpenError::from(errno).into()
    }
}
