//! Moving of sealed records into new packs. Each is shown to be whole on the way: what is deleted afterwards must not have
//! been the only whole copy.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use backstay_core::id::ChunkId;

use super::renew::Packs;
use super::{Collected, Custodian};
use crate::error::VaultError;
use crate::index::Location;
use crate::read::{Appetite, PackRead, SealedReader, plan_reads};
use crate::record::RecordHeader;
use crate::vault::Vault;
use crate::write::Packer;

/// How often it is looked whether an upload has failed, while it is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Places of bad records that are remembered.
const NOT_WHOLE_MAX: usize = 4096;

/// Most threads that move records, each with a stretch of its own.
const THREADS_MAX: usize = 4;

impl Custodian<'_> {
    /// Of chunks of which one copy stays and another goes, those whose copy that stays is not whole: with the places from
    /// which they have to be moved. A bad copy, which nobody has read, is not to be the only one.
    pub(super) fn not_whole(
        &mut self,
        doubtful: Vec<(ChunkId, Location, Location)>,
    ) -> Result<Vec<(ChunkId, Location)>, VaultError> {
        let mut reader = SealedReader::new(self.vault.clone());
        let gone: HashMap<ChunkId, Location> =
            doubtful.iter().map(|(chunk, _, gone)| (*chunk, *gone)).collect();
        let mut not_whole = Vec::new();
        let places = doubtful.into_iter().map(|(chunk, stays, _)| (chunk, stays)).collect();
        for read in plan_reads(places, Appetite::for_store(self.vault.requests_cost())) {
            let stretch = reader.read(&read);
            for (record, (chunk, begins, _)) in read.records.iter().enumerate() {
                if !reader.is_whole(&read, &stretch, record)? {
                    // Else it would be chosen to stay again in every pass, and the good one moved for ever.
                    if self.notes.not_whole.len() < NOT_WHOLE_MAX {
                        self.notes.not_whole.push((read.pack, read.offset + begins));
                    }
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
        let reads = plan_reads(moved, Appetite::for_store(self.vault.requests_cost()));
        let moving = Moving {
            vault: &self.vault,
            packer: Packer::new(self.vault.clone()),
            reads: &reads,
            next: AtomicUsize::new(0),
        };
        // Whoever reads packs whole has one of them in memory.
        let threads_max = if self.vault.ring().reads_contents() { THREADS_MAX } else { 1 };
        let threads = self.pool.threads().min(threads_max).min(reads.len());
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| moving.work())).collect();
            let own = moving.work();
            // A thread that panicked has said so, and what it had taken was not moved.
            let others =
                others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            others.fold(own, Result::and)
        })?;
        let packs = moving.packer.flush()?;
        done.records_moved += reads.iter().map(|read| read.records.len() as u64).sum::<u64>();
        done.bytes_written += packs.iter().map(|(pack, _)| u64::from(pack.bytes)).sum::<u64>();
        Ok(packs)
    }
}

/// Stretches that several threads move: each takes the next that nobody has.
struct Moving<'m> {
    vault: &'m Arc<Vault>,
    packer: Packer,
    reads: &'m [PackRead],
    next: AtomicUsize,
}

impl Moving<'_> {
    fn work(&self) -> Result<(), VaultError> {
        let mut reader = SealedReader::new(self.vault.clone());
        while let Some(read) = self.reads.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = self.move_one(&mut reader, read) {
                // The others need not go on.
                self.next.store(self.reads.len(), Ordering::Relaxed);
                return Err(error);
            }
            if self.packer.has_failed() {
                break;
            }
        }
        Ok(())
    }

    fn move_one(&self, reader: &mut SealedReader, read: &PackRead) -> Result<(), VaultError> {
        let stretch = reader.read(read);
        for (record, (chunk, ..)) in read.records.iter().enumerate() {
            let sealed = reader.sealed(read, &stretch, record)?;
            let header = RecordHeader::decode(&sealed).map_err(|cause| VaultError::Chunk {
                chunk: *chunk,
                place: self.vault.place(),
                cause: cause.to_string(),
            })?;
            // For as long as it takes: nothing else goes on meanwhile.
            while !self.packer.has_failed() && !self.packer.has_room(LOOK_AGAIN) {}
            self.packer.add(&header, &sealed);
        }
        Ok(())
    }
}
