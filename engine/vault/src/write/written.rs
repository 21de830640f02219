//! What a commit has written to one vault: packs that are durable, and records that wait to be sent with those of others.

use std::collections::HashSet;

use super::packer::{Packer, StoredPack};
use crate::error::VaultError;
use crate::pack::PackBuilder;
use crate::record::RecordHeader;
use crate::vault::WriterView;

/// What one vault of a commit has taken, or is to take.
#[derive(Debug, Default)]
pub struct Written {
    /// All of them durable.
    pub(crate) packs: Vec<StoredPack>,
    /// Records of which nothing was sent.
    withheld: Vec<PackBuilder>,
}

impl Written {
    /// Of packs that are in the store.
    pub(crate) fn durable(packs: Vec<StoredPack>) -> Self {
        Self { packs, withheld: Vec::new() }
    }

    /// Of records that nobody has sent yet.
    pub(crate) fn withheld(withheld: Vec<PackBuilder>) -> Self {
        Self { packs: Vec::new(), withheld }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.withheld.is_empty()
    }

    /// Whether anything of it waits to be sent.
    pub(crate) fn waits(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Bytes of records that wait to be sent.
    pub(crate) fn withheld_bytes(&self) -> usize {
        self.withheld.iter().map(PackBuilder::bytes).sum()
    }

    /// Takes in what another commit has written.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.packs.append(&mut other.packs);
        self.withheld.append(&mut other.withheld);
    }

    /// Sends what waits, in packs that are as full as they can be, and waits until they are durable. What several have sealed is
    /// sent once.
    pub(crate) fn send(mut self, view: &WriterView) -> Result<Self, VaultError> {
        if self.withheld.is_empty() {
            return Ok(self);
        }
        let packer = Packer::of_session(view);
        let mut sent = HashSet::new();
        for unsent in std::mem::take(&mut self.withheld) {
            for record in unsent.records() {
                let header = RecordHeader::decode(record).map_err(|cause| VaultError::Damaged {
                    object: "a sealed record".to_owned(),
                    place: "the memory of this machine (test it, for example with memtester)".to_owned(),
                    cause,
                })?;
                if sent.insert(header.id) {
                    packer.add(&header, record);
                }
            }
        }
        self.packs.append(&mut packer.flush()?);
        Ok(self)
    }
}
