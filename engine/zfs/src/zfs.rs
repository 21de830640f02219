//! The seam to ZFS: everything that is asked of it. Two implementations: `system`, by processes that may hang without
//! harm, and a model in memory, for tests of what is decided. All of it blocks and belongs on ordinary threads.

use std::fmt;
use std::io::{Read, Write};

use backstay_core::config::DatasetName;
use serde::{Deserialize, Serialize};

use crate::error::{Refusal, ZfsError};
use crate::guid::SnapshotGuid;
use crate::name::{BookmarkName, HoldTag, SnapshotName};
use crate::state::{Dataset, DatasetKind, Pool};

/// What is asked of ZFS on one host.
pub trait Zfs: Send + Sync + fmt::Debug {
    /// A dataset and all below it, parents before children; empty where there is none of this name.
    fn list(&self, root: &DatasetName) -> Result<Vec<Dataset>, ZfsError>;

    /// What there is to know of a pool.
    fn pool(&self, pool: &str) -> Result<Pool, ZfsError>;

    /// Bytes written to a dataset since one of its snapshots.
    fn written_since(&self, snapshot: &SnapshotName) -> Result<u64, ZfsError>;

    /// Takes all of them in one transaction group, or none. They are of one pool, and at most one of each dataset.
    fn snapshot(&self, snapshots: &[SnapshotName]) -> Result<(), ZfsError>;

    /// Destroys those that can be; tells which are kept by something. One that is not there is destroyed.
    fn destroy_snapshots(&self, snapshots: &[SnapshotName]) -> Result<Vec<Kept>, ZfsError>;

    /// Makes a bookmark of a snapshot; one of this name that stands for the same snapshot is as good.
    fn bookmark(&self, snapshot: &SnapshotName, bookmark: &BookmarkName) -> Result<(), ZfsError>;

    /// Destroys bookmarks. One that is not there is destroyed.
    fn destroy_bookmarks(&self, bookmarks: &[BookmarkName]) -> Result<(), ZfsError>;

    /// Holds a snapshot; one that has this hold is held.
    fn hold(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError>;

    /// Releases a hold. One that is not there is released.
    fn release(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError>;

    /// Whose holds a snapshot has.
    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<HoldTag>, ZfsError>;

    /// Has a flow hold one snapshot of a dataset and no other, and have one cursor there: in this order, so that a crash
    /// between any two of them leaves what the next one puts right.
    fn settle(&self, settled: &Settled) -> Result<(), ZfsError> {
        if let Some(held) = &settled.held {
            self.hold(held, &settled.tag)?;
            settled.cursor.as_ref().map_or(Ok(()), |cursor| self.bookmark(held, cursor))?;
        }
        for other in &settled.others {
            if self.holds(other)?.contains(&settled.tag) {
                self.release(other, &settled.tag)?;
            }
        }
        self.destroy_bookmarks(&settled.stale_cursors)
    }

    /// How many bytes a stream will have, about.
    fn send_size(&self, send: &Stream) -> Result<u64, ZfsError>;

    /// Begins to send.
    fn send(&self, send: &Stream) -> Result<Box<dyn Sending>, ZfsError>;

    /// Begins to receive.
    fn receive(&self, receive: &Receive) -> Result<Box<dyn Receiving>, ZfsError>;

    /// Throws away what a receive that was cut off has left.
    fn abort_receive(&self, dataset: &DatasetName) -> Result<(), ZfsError>;

    /// Makes an empty file system that is never mounted, to hold others.
    fn create_holder(&self, dataset: &DatasetName) -> Result<(), ZfsError>;

    /// Sets a property, or has it inherited where there is no value.
    fn set(&self, dataset: &DatasetName, property: &str, value: Option<&str>) -> Result<(), ZfsError>;

    /// Renames a dataset with all below it; in the same pool.
    fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), ZfsError>;

    /// Makes a clone that is not mounted.
    fn clone_of(&self, snapshot: &SnapshotName, clone: &DatasetName) -> Result<(), ZfsError>;

    /// Has a clone take over the snapshots up to its origin.
    fn promote(&self, clone: &DatasetName) -> Result<(), ZfsError>;

    /// Mounts a file system where its `mountpoint` says. One that is mounted is.
    fn mount(&self, dataset: &DatasetName) -> Result<(), ZfsError>;

    /// Unmounts a file system, unless something uses it. One that is not mounted is not.
    fn unmount(&self, dataset: &DatasetName) -> Result<(), ZfsError>;

    /// Waits until what was written so far is on the disks of the pool, so that [`Dataset::written_bytes`] counts it.
    fn sync(&self, pool: &str) -> Result<(), ZfsError>;
}

/// A snapshot that was not destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub snapshot: SnapshotName,
    /// What keeps it: [`Refusal::BUSY`] for a hold, [`Refusal::EXISTS`] for a clone.
    pub by: Refusal,
}

/// What a flow has on a dataset when it is done with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The tag of the flow.
    pub tag: HoldTag,
    /// The snapshot that it holds; none where only its bookmark is left.
    pub held: Option<SnapshotName>,
    /// The bookmark that it gets, at the source.
    pub cursor: Option<BookmarkName>,
    /// Snapshots that may have the hold, too.
    pub others: Vec<SnapshotName>,
    /// Cursors that are of no use any more.
    pub stale_cursors: Vec<BookmarkName>,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// From what on; all of it when absent.
    pub base: Option<Base>,
    /// In which form.
    pub form: Form,
    /// Where to go on.
    pub resume: Option<Resume>,
    /// Whose hold the snapshot gets before.
    pub held_by: Option<HoldTag>,
}

/// What an incremental builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// An earlier snapshot of the dataset, or the one of which it is a clone.
    Snapshot(SnapshotName),
    /// What is left of one.
    Bookmark(BookmarkName),
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(snapshot) => snapshot.fmt(f),
            Self::Bookmark(bookmark) => bookmark.fmt(f),
        }
    }
}

/// The form of a stream: fixed for a lineage, since a replica that was begun in one cannot be continued in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Blocks as they are compressed on disk, large ones whole: `zfs send -L -c`.
    Plain,
    /// As it is encrypted on disk: `zfs send -w`. Whoever has it can keep it, and not read it.
    Raw,
}

/// Where a stream that was cut off goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The number of the object.
    pub object: u64,
    /// Bytes in it.
    pub offset_bytes: u64,
}

/// What is to be received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// The snapshot that it will be; its dataset is made by a full stream.
    pub snapshot: SnapshotName,
    /// What the stream says it is.
    pub guid: SnapshotGuid,
    /// In which form it comes.
    pub form: Form,
    /// The dataset that it makes, where it builds on none.
    pub makes: Option<Making>,
}

/// A dataset that a receive makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// What it will be.
    pub kind: DatasetKind,
    /// Of which snapshot here it becomes a clone.
    pub origin: Option<SnapshotName>,
    /// Properties of Backstay's own that it gets, without their prefix.
    pub properties: Vec<(String, String)>,
}

/// A stream that is being sent.
pub trait Sending: Read + Send {
    /// After its end: whether it was sent whole.
    fn finish(self: Box<Self>) -> Result<(), ZfsError>;
}

/// A stream that is being received. Dropped before [`Self::finish`], it is cut off: what has come stays, to be resumed.
pub trait Receiving: Write + Send {
    /// After the last byte: whether the snapshot is there.
    fn finish(self: Box<Self>) -> Result<(), ZfsError>;
}
