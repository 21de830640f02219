//! ZFS in memory: datasets, snapshots, bookmarks, holds and partial receives of one host, with the errors that OpenZFS
//! has for what does not go (`module/zfs/dmu_recv.c`, `dsl_userhold.c`, `dsl_bookmark.c`). Contents are numbered blocks, each
//! with the transaction group in which it was written, so that an incremental goes from a bookmark as well.

mod host;
mod receive;
mod send;
mod token;

use std::sync::{Arc, Mutex, MutexGuard};

use backstay_core::config::DatasetName;
use backstay_zfs::error::{Refusal, ZfsError};
use backstay_zfs::name::{BookmarkName, HoldTag, SnapshotName};
use backstay_zfs::state::{Dataset, Pool};
use backstay_zfs::zfs::{Kept, Receive, Receiving, Sending, Stream, Zfs};

pub(crate) use host::Host;

/// The ZFS of a host in memory. Clones are of the same host.
#[derive(Debug, Clone)]
pub(crate) struct ModelZfs(Arc<Mutex<Host>>);

impl ModelZfs {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Host::new(seed))))
    }

    pub(crate) fn host(&self) -> MutexGuard<'_, Host> {
        self.0.lock().expect("no test panics with it")
    }
}

fn refused<T>(doing: &str, outcome: Result<T, Refusal>) -> Result<T, ZfsError> {
    outcome.map_err(|refusal| ZfsError::Refused { doing: doing.to_owned(), refusal })
}

impl Zfs for ModelZfs {
    fn list(&self, root: &DatasetName) -> Result<Vec<Dataset>, ZfsError> {
        Ok(self.host().list(root))
    }

    fn pool(&self, _: &str) -> Result<Pool, ZfsError> {
        Ok(Pool { features: vec!["bookmark_v2".to_owned()], is_suspended: false })
    }

    fn written_since(&self, snapshot: &SnapshotName) -> Result<u64, ZfsError> {
        refused("see what was written", self.host().written_since(snapshot))
    }

    fn snapshot(&self, snapshots: &[SnapshotName]) -> Result<(), ZfsError> {
        refused("take snapshots", self.host().snapshot(snapshots))
    }

    fn destroy_snapshots(&self, snapshots: &[SnapshotName]) -> Result<Vec<Kept>, ZfsError> {
        let mut host = self.host();
        let kept = snapshots.iter().filter_map(|snapshot| match host.destroy_snapshot(snapshot) {
            Ok(()) | Err(Refusal::NOT_FOUND) => None,
            Err(by) => Some(Kept { snapshot: snapshot.clone(), by }),
        });
        Ok(kept.collect())
    }

    fn bookmark(&self, snapshot: &SnapshotName, bookmark: &BookmarkName) -> Result<(), ZfsError> {
        refused("make a bookmark", self.host().bookmark(snapshot, bookmark))
    }

    fn destroy_bookmarks(&self, bookmarks: &[BookmarkName]) -> Result<(), ZfsError> {
        bookmarks.iter().for_each(|bookmark| self.host().destroy_bookmark(bookmark));
        Ok(())
    }

    fn hold(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError> {
        refused("hold", self.host().hold(snapshot, tag))
    }

    fn release(&self, snapshot: &SnapshotName, tag: &HoldTag) -> Result<(), ZfsError> {
        self.host().release(snapshot, tag);
        Ok(())
    }

    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<HoldTag>, ZfsError> {
        refused("see holds", self.host().holds(snapshot))
    }

    fn send_size(&self, stream: &Stream) -> Result<u64, ZfsError> {
        refused("see how large it is", self.host().stream(stream).map(|bytes| bytes.len() as u64))
    }

    fn send(&self, stream: &Stream) -> Result<Box<dyn Sending>, ZfsError> {
        send::begin(self, stream)
    }

    fn receive(&self, receive: &Receive) -> Result<Box<dyn Receiving>, ZfsError> {
        Ok(Box::new(receive::Receiver::new(self.clone(), receive.clone())))
    }

    fn abort_receive(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        self.host().abort(dataset);
        Ok(())
    }

    fn create_holder(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        refused("create", self.host().create(dataset))
    }

    fn set(&self, dataset: &DatasetName, property: &str, value: Option<&str>) -> Result<(), ZfsError> {
        refused("set a property", self.host().set(dataset, property, value))
    }

    fn rename(&self, from: &DatasetName, to: &DatasetName) -> Result<(), ZfsError> {
        refused("rename", self.host().rename(from, to))
    }

    fn clone_of(&self, snapshot: &SnapshotName, clone: &DatasetName) -> Result<(), ZfsError> {
        refused("clone", self.host().clone_of(snapshot, clone))
    }

    fn promote(&self, clone: &DatasetName) -> Result<(), ZfsError> {
        refused("promote", self.host().promote(clone))
    }

    fn mount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        refused("mount", self.host().mount(dataset, true))
    }

    fn unmount(&self, dataset: &DatasetName) -> Result<(), ZfsError> {
        refused("unmount", self.host().mount(dataset, false))
    }

    fn sync(&self, _: &str) -> Result<(), ZfsError> {
        Ok(())
    }
}
