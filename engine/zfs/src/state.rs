//! What stands on a pool: datasets with their snapshots, bookmarks and whatever else decisions depend on. Owns no decision.

use std::collections::BTreeMap;

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guid::{DatasetGuid, SnapshotGuid, Txg};
use crate::name::SnapshotName;

/// Properties that are Backstay's own begin so.
pub const PROPERTY_PREFIX: &str = "backstay:";

/// A dataset and everything that hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: DatasetName,
    /// What it is known by.
    pub guid: DatasetGuid,
    /// What it holds.
    pub kind: DatasetKind,
    /// Its encryption, if it has any.
    pub encryption: Option<Encryption>,
    /// The snapshot of which it is a clone.
    pub origin: Option<SnapshotName>,
    /// Bytes written since its newest snapshot; what the last seconds brought may be missing.
    pub written_bytes: u64,
    /// Bytes that it and its snapshots take.
    pub used_bytes: u64,
    /// Bytes that it refers to.
    pub referenced_bytes: u64,
    /// Whether it is mounted.
    pub is_mounted: bool,
    /// Where it would be mounted: a path, `none` or `legacy`. Nothing for a volume.
    pub mountpoint: Option<String>,
    /// By which a receive that was cut off can be resumed.
    pub resume_token: Option<String>,
    /// Those of its own properties that are Backstay's, without [`PROPERTY_PREFIX`].
    pub properties: BTreeMap<String, String>,
    /// Oldest first, by [`Snapshot::txg`].
    pub snapshots: Vec<Snapshot>,
    /// Oldest first, by the txg of the snapshots for which they stand.
    pub bookmarks: Vec<Bookmark>,
}

impl Dataset {
    /// Its newest snapshot.
    pub fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.last()
    }

    /// Its snapshot of this GUID.
    pub fn snapshot(&self, guid: SnapshotGuid) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.guid == guid)
    }

    /// A bookmark of the snapshot of this GUID.
    pub fn bookmark(&self, guid: SnapshotGuid) -> Option<&Bookmark> {
        self.bookmarks.iter().find(|bookmark| bookmark.guid == guid)
    }
}

/// The kinds of datasets that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetKind {
    /// A file system.
    Filesystem,
    /// A block device, also called zvol.
    Volume,
}

/// The encryption of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The dataset whose key it has.
    pub root: DatasetName,
    /// Whether that is loaded.
    pub key: Key,
}

/// Whether a key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// It is loaded.
    Loaded,
    /// It is not.
    NotLoaded,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, without that of the dataset.
    pub mark: String,
    /// What it is known by.
    pub guid: SnapshotGuid,
    /// When it was taken, in the time of its pool.
    pub txg: Txg,
    /// When it was taken, by the clock of the node where it was.
    pub at: Timestamp,
    /// Bytes written between the snapshot before it and this one.
    pub written_bytes: u64,
    /// How many holds it has. Of each, `Zfs::holds` tells whose.
    pub holds: u64,
}

/// What is left of a snapshot, from which an incremental can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    /// Its name, without that of the dataset.
    pub mark: String,
    /// The snapshot for which it stands.
    pub guid: SnapshotGuid,
    /// That of this snapshot.
    pub txg: Txg,
    /// When the snapshot was taken.
    pub at: Timestamp,
}

/// A pool, as far as a receive depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Features that it has switched on, by their names, such as `bookmark_v2`.
    pub features: Vec<String>,
    /// Whether it stands still until somebody mends its devices.
    pub is_suspended: bool,
}
