//! A holder over a way that is cut in the middle of one stream.

use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;

use backstay_core::config::DatasetName;
use backstay_net::replica::RemoteHolder;
use backstay_zfs::error::ZfsError;
use backstay_zfs::guid::SnapshotGuid;
use backstay_zfs::name::{FlowId, OwnSnapshot};
use backstay_zfs::plan::Structure;
use backstay_zfs::replicate::{Arriving, Holder, HolderError};
use backstay_zfs::state::Dataset;
use backstay_zfs::zfs::Receiving;

type Cut = Box<dyn FnOnce() + Send>;

pub(crate) struct Cutting {
    holder: RemoteHolder,
    replica: DatasetName,
    after_bytes: usize,
    cut: Mutex<Option<Cut>>,
}

impl Cutting {
    /// Cuts when so many bytes of the stream to this replica were written.
    pub(crate) fn new(holder: RemoteHolder, replica: DatasetName, after_bytes: usize, cut: Cut) -> Self {
        Self { holder, replica, after_bytes, cut: Mutex::new(Some(cut)) }
    }
}

impl fmt::Debug for Cutting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holder.fmt(f)
    }
}

impl Holder for Cutting {
    fn place(&self) -> &DatasetName {
        self.holder.place()
    }

    fn list(&self) -> Result<Vec<Dataset>, HolderError> {
        self.holder.list()
    }

    fn change(&self, structure: &Structure) -> Result<(), HolderError> {
        self.holder.change(structure)
    }

    fn receive(&self, arriving: &Arriving) -> Result<Box<dyn Receiving>, HolderError> {
        let receiving = self.holder.receive(arriving)?;
        let is_it = arriving.replica == self.replica;
        let cut = self.cut.lock().expect("no panic").take_if(|_| is_it);
        Ok(Box::new(Counted { receiving, left: self.after_bytes, cut }))
    }

    fn settle(&self, replica: &DatasetName, guid: SnapshotGuid, flow: FlowId) -> Result<(), HolderError> {
        self.holder.settle(replica, guid, flow)
    }

    fn complete(&self, set: OwnSnapshot) -> Result<(), HolderError> {
        self.holder.complete(set)
    }
}

struct Counted {
    receiving: Box<dyn Receiving>,
    left: usize,
    cut: Option<Cut>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.receiving.write(bytes)?;
        self.left = self.left.saturating_sub(written);
        if self.left == 0
            && let Some(cut) = self.cut.take()
        {
            cut();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.receiving.flush()
    }
}

impl Receiving for Counted {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        self.receiving.finish()
    }
}
