//! Moving of sealed records into new packs. They are opened on the way, and compared with their ids: what is deleted
//! afterwards must not have been the only whole copy.

use std::collections::HashMap;
use std::time::Duration;

use backstay_core::id::ChunkId;
use bytes::Bytes;

use super::renew::Packs;
use super::{Collected, Custodian};
use crate::error::VaultError;
use crate::index::Location;
use crate::read::{ChunkReader, plan_reads};
use crate::record::{RecordHeader, RecordOpener};
use crate::write::Packer;

/// How often it is looked whether an upload has failed, while it is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Custodian<'_> {
    /// Of chunks of which one copy stays and another goes, those whose copy that stays is not whole: with the places from
    /// which they have to be moved. A bad copy, which nobody has read, is not to be the only one.
    pub(super) fn not_whole(
        &self,
        doubtful: Vec<(ChunkId, Location, Location)>,
    ) -> Result<Vec<(ChunkId, Location)>, VaultError> {
        let reader = ChunkReader::new(self.vault.clone());
        let mut opener = RecordOpener::new();
        let gone: HashMap<ChunkId, Location> =
            doubtful.iter().map(|(chunk, _, gone)| (*chunk, *gone)).collect();
        let mut not_whole = Vec::new();
        for read in plan_reads(doubtful.into_iter().map(|(chunk, stays, _)| (chunk, stays)).collect()) {
            let stretch = reader.read(&read);
            for (chunk, begins, length) in &read.records {
                let record = match &stretch {
                    Ok(bytes) => bytes.get(*begins as usize..(begins + length) as usize),
                    Err(VaultError::Store(error)) if error.is_transient() => {
                        return Err(error.clone().into());
                    }
                    Err(_) => None,
                };
                let is_whole =
                    record.is_some_and(|record| opener.open(self.vault.ring(), chunk, record).is_ok());
                if !is_whole {
                    not_whole.extend(gone.get(chunk).map(|gone| (*chunk, *gone)));
                }
            }
        }
        Ok(not_whole)
    }

    /// Moves these chunks from where they are, or from another place where they are whole. The new packs are durable
    /// when this returns, and no index object names them yet.
    pub(super) fn repack(
        &self,
        moved: Vec<(ChunkId, Location)>,
        done: &mut Collected,
    ) -> Result<Packs, VaultError> {
        let reader = ChunkReader::new(self.vault.clone());
        let packer = Packer::new(self.vault.clone());
        let mut opener = RecordOpener::new();
        for read in plan_reads(moved) {
            let stretch = reader.read(&read);
            for record in 0..read.records.len() {
                let sealed: Bytes = reader.sealed(&mut opener, &read, &stretch, record)?;
                let chunk = read.records[record].0;
                let header = RecordHeader::decode(&sealed).map_err(|cause| VaultError::Chunk {
                    chunk,
                    place: self.vault.place(),
                    cause: cause.to_string(),
                })?;
                // For as long as it takes: nothing else goes on meanwhile.
                while !packer.has_failed() && !packer.has_room(LOOK_AGAIN) {}
                packer.add(header.class, chunk, header.plain_length, &sealed);
                done.records_moved += 1;
            }
            if packer.has_failed() {
                break;
            }
        }
        let packs = packer.flush()?;
        done.bytes_written += packs.iter().map(|(pack, _)| u64::from(pack.bytes)).sum::<u64>();
        Ok(packs)
    }
}
