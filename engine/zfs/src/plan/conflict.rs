//! What is in the way of a member and goes away by itself only when somebody decides (docs/zfs.md, section 4).

use std::fmt;

use backstay_core::config::DatasetName;

/// A conflict: what stands against what. It is shown as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The replica has snapshots that the source has not.
    Diverged {
        /// The replica.
        replica: DatasetName,
        /// The newest snapshot that both have.
        common: String,
        /// Those that only the replica has, oldest first.
        only_there: Vec<String>,
    },
    /// The replica was written to since its newest snapshot.
    Modified {
        /// The replica.
        replica: DatasetName,
        /// Its newest snapshot.
        since: String,
        /// How much.
        written_bytes: u64,
    },
    /// They have no snapshot in common any more.
    NothingInCommon {
        /// The replica.
        replica: DatasetName,
        /// Its newest snapshot, if it has any.
        newest: Option<String>,
    },
    /// Where the replica is to be there is something that is nobody's replica.
    Occupied {
        /// What is there.
        by: DatasetName,
    },
    /// The source is encrypted, and the replica was received unencrypted.
    NotRaw {
        /// The replica.
        replica: DatasetName,
    },
    /// Its name would be longer than OpenZFS allows.
    NameTooLong {
        /// Where the replica would be.
        place: String,
    },
}

impl Conflict {
    /// The word for it, in metrics and for scripts.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Diverged { .. } => "diverged",
            Self::Modified { .. } => "modified",
            Self::NothingInCommon { .. } => "nothing-in-common",
            Self::Occupied { .. } => "occupied",
            Self::NotRaw { .. } => "not-raw",
            Self::NameTooLong { .. } => "name-too-long",
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged { replica, common, only_there } => {
                let count = only_there.len();
                let newest = only_there.last().map_or("", String::as_str);
                write!(
                    f,
                    "{replica} has {count} snapshots since @{common} that the source has not (the newest is @{newest})"
                )
            }
            Self::Modified { replica, since, written_bytes } => {
                write!(f, "{written_bytes} bytes were written to {replica} since @{since}")
            }
            Self::NothingInCommon { replica, newest: Some(newest) } => {
                write!(f, "{replica} has no snapshot that the source has as well (its newest is @{newest})")
            }
            Self::NothingInCommon { replica, newest: None } => write!(f, "{replica} has no snapshot"),
            Self::Occupied { by } => write!(f, "{by} is there already, and is no replica"),
            Self::NotRaw { replica } => {
                write!(f, "{replica} was received unencrypted, and the source is encrypted")
            }
            Self::NameTooLong { place } => write!(f, "{place} is longer than a name can be"),
        }
    }
}
