//! A process that dies: after so many things that it has asked of ZFS, nothing is done any more.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backstay_core::config::DatasetName;
use backstay_zfs::error::ZfsError;
use backstay_zfs::name::{BookmarkName, HoldTag, SnapshotName};
use backstay_zfs::state::{Dataset, Pool};
use backstay_zfs::zfs::{Kept, Receive, Receiving, Sending, Stream, Zfs};

/// For how many things it lives, all together.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    things: Arc<AtomicI64>,
    sent_bytes: Arc<AtomicI64>,
}

impl Life {
    pub(crate) fn of(things: i64) -> Self {
        Self { things: Arc::new(AtomicI64::new(things)), sent_bytes: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    /// It dies in the middle of a stream, when so many bytes of all were sent.
    pub(crate) fn of_stream(bytes: i64) -> Self {
        Self { things: Arc::new(AtomicI64::new(i64::MAX)), sent_bytes: Arc::new(AtomicI64::new(bytes)) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.things.load(Ordering::SeqCst) < 0
    }

    fn take(&self) -> Result<(), ZfsError> {
        match self.things.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(ZfsError::Worker { doing: "live".to_owned(), why: "it has died".to_owned() }),
        }
    }

    fn send(&self, bytes: usize) {
        if self.sent_bytes.fetch_sub(bytes as i64, Ordering::SeqCst) < 0 {
            self.things.store(-1, Ordering::SeqCst);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Dying<Z> {
    pub(crate) zfs: Z,
    pub(crate) life: Life,
}

macro_rules! asks {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$result, ZfsError> {
            self.life.take()?;
            self.zfs.$name($($argument),*)
        })+
    };
}

impl<Z: Zfs> Zfs for Dying<Z> {
    asks! {
        list(root: &DatasetName) -> Vec<Dataset>;
        pool(pool: &str) -> Pool;
        written_since(snapshot: &SnapshotName) -> u64;
        snapshot(snapshots: &[SnapshotName]) -> ();
        destroy_snapshots(snapshots: &[SnapshotName]) -> Vec<Kept>;
        bookmark(snapshot: &SnapshotName, bookmark: &BookmarkName) -> ();
        destroy_bookmarks(bookmarks: &[BookmarkName]) -> ();
        hold(snapshot: &SnapshotName, tag: &HoldTag) -> ();
        release(snapshot: &SnapshotName, tag: &HoldTag) -> ();
        holds(snapshot: &SnapshotName) -> Vec<HoldTag>;
        send_size(stream: &Stream) -> u64;
        abort_receive(dataset: &DatasetName) -> ();
        create_holder(dataset: &DatasetName) -> ();
        set(dataset: &DatasetName, property: &str, value: Option<&str>) -> ();
        rename(from: &DatasetName, to: &DatasetName) -> ();
        clone_of(snapshot: &SnapshotName, clone: &DatasetName) -> ();
        promote(clone: &DatasetName) -> ();
        mount(dataset: &DatasetName) -> ();
        unmount(dataset: &DatasetName) -> ();
        sync(pool: &str) -> ();
    }

    fn send(&self, stream: &Stream) -> Result<Box<dyn Sending>, ZfsError> {
        // It holds the snapshot and may die before it sends.
        if let Some(tag) = &stream.held_by {
            self.hold(&stream.snapshot, tag)?;
        }
        self.life.take()?;
        Ok(Box::new(DyingSend { sending: self.zfs.send(stream)?, life: self.life.clone() }))
    }

    fn receive(&self, receive: &Receive) -> Result<Box<dyn Receiving>, ZfsError> {
        self.life.take()?;
        Ok(Box::new(DyingReceive { receiving: self.zfs.receive(receive)?, life: self.life.clone() }))
    }
}

struct DyingSend {
    sending: Box<dyn Sending>,
    life: Life,
}

impl Read for DyingSend {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.life.take().map_err(io::Error::other)?;
        let read = self.sending.read(buffer)?;
        self.life.send(read);
        Ok(read)
    }
}

impl Sending for DyingSend {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        self.life.take()?;
        self.sending.finish()
    }
}

struct DyingReceive {
    receiving: Box<dyn Receiving>,
    life: Life,
}

impl Write for DyingReceive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.life.take().map_err(io::Error::other)?;
        self.receiving.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.receiving.flush()
    }
}

impl Receiving for DyingReceive {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        self.life.take()?;
        self.receiving.finish()
    }
}
