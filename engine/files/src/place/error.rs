//! What goes wrong while a tree is placed, and how far it reaches.

use std::path::PathBuf;

use backstay_core::id::LinkId;
use rustix::io::Errno;

use crate::keys::HeadKey;
use crate::row::AttributeName;
use crate::stat::FileKind;

use super::STAGING_NAME;

/// What to do where the destination as a whole is refused.
fn of_destination(error: Errno) -> &'static str {
    match error {
        Errno::NOTDIR | Errno::EXIST => {
            "; it, or something above it, is no directory: give one that is empty or not there"
        }
        Errno::ACCESS | Errno::PERM => "; give a directory that this user may write to, or run as root",
        Errno::ROFS => "; give a directory on a disk that can be written",
        _ => "",
    }
}

/// Why a tree, or an object of it, cannot be placed. [`Self::reach`] tells which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The destination cannot be used.
    #[error("the destination {} cannot be used: {doing}: {error}{}", path.display(), of_destination(*error))]
    Destination {
        /// As it was given.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: Errno,
    },
    /// There is something in the destination, and leave to replace it was not given.
    #[error("the destination {} is not empty: restore to another directory, or give --into to replace what is restored", path.display())]
    NotEmpty {
        /// As it was given.
        path: PathBuf,
    },
    /// Another restore was begun there and not finished.
    #[error("in {} the restore of another point, or of other paths, was begun and not finished: finish that one, restore to another directory, or give --into", path.display())]
    OtherRestore {
        /// As it was given.
        path: PathBuf,
    },
    /// Another restore is writing there.
    #[error("another restore is at work in {}: wait for it or end it, or restore to another directory", path.display())]
    AtWork {
        /// As it was given.
        path: PathBuf,
    },
    /// The system refused something about one object.
    #[error("{key}: {doing}: {error}")]
    Entry {
        /// The object.
        key: HeadKey,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: Errno,
    },
    /// The name under which the restore keeps its own things.
    #[error(
        "{key}: the name {STAGING_NAME} in the root is used by the restore itself; rename it in the source and capture again to have it restored"
    )]
    Reserved {
        /// The object.
        key: HeadKey,
    },
    /// Its name is taken, although nothing was there at the start.
    #[error(
        "{key}: its name is taken already: the destination may not tell upper from lower case, or somebody else writes to it"
    )]
    Taken {
        /// The object.
        key: HeadKey,
    },
    /// A directory that is not empty stands where something else belongs.
    #[error("{key}: a directory that is not empty is in its place: move it away and restore again")]
    InTheWay {
        /// The object.
        key: HeadKey,
    },
    /// Only root may make this.
    #[error("{key}: this user may not make a {kind:?}: restore as root to get it")]
    NotPermitted {
        /// The object.
        key: HeadKey,
        /// Its type.
        kind: FileKind,
    },
    /// The file of which this is one of several names was not placed.
    #[error("{key}: the file {link} of which this is a name was not restored")]
    LinkMissing {
        /// The name.
        key: HeadKey,
        /// The file.
        link: LinkId,
    },
    /// The root of the point is no directory.
    #[error("the root of the point is not a directory: the point is damaged")]
    RootKind,
}

/// What an error makes impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One object. The others can be restored.
    Object,
    /// All that follows would fail as well.
    Restore,
}

impl PlaceError {
    /// Whether the restore can go on.
    pub fn reach(&self) -> Reach {
        match self {
            Self::Destination { .. }
            | Self::NotEmpty { .. }
            | Self::OtherRestore { .. }
            | Self::AtWork { .. }
            | Self::RootKind => Reach::Restore,
            Self::Entry { error, .. } if EXHAUSTED.contains(error) => Reach::Restore,
            _ => Reach::Object,
        }
    }
}

/// What the system says when it is not about the one object.
const EXHAUSTED: [Errno; 8] = [
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::ROFS,
    Errno::IO,
    Errno::STALE,
    Errno::NOMEM,
    Errno::NFILE,
    Errno::MFILE,
];

/// Something that a restored object lacks. Its contents are there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {lacking} could not be set: {error}")]
pub struct Defect {
    /// The object.
    pub key: HeadKey,
    /// What it lacks.
    pub lacking: Lacking,
    /// What the system said, or EPERM where it was not even asked.
    pub error: Errno,
}

/// What a restored object may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacking {
    /// Its owner or group.
    Owner,
    /// Its permissions, or those bits of them that must not be given to another owner.
    Mode,
    /// An extended attribute.
    Attribute(AttributeName),
    /// All extended attributes.
    Attributes,
    /// The time of its last change.
    Time,
    /// Owner, permissions and time, of a directory that could not be opened again.
    Finish,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner => f.write_str("owner and group"),
            Self::Mode => f.write_str("permissions"),
            Self::Attribute(name) => write!(f, "the attribute {}", name.as_bytes().escape_ascii()),
            Self::Attributes => f.write_str("extended attributes"),
            Self::Time => f.write_str("the modification time"),
            Self::Finish => f.write_str("owner, permissions and modification time"),
        }
    }
}
