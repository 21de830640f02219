//! Chunks that points need and that are in no pack: taken from other vaults of the domain, as they lie there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::id::ChunkId;
use backstay_core::run::{PartRef, Run};

use super::super::super::Vault;
use super::super::Custodian;
use super::super::inspection::Inventory;
use super::Repaired;
use super::closer::check_lost;
use crate::error::VaultError;
use crate::read::{Appetite, ChunkReader, SealedReader, plan_reads};
use crate::record::RecordHeader;
use crate::table::part_chunks;
use crate::write::Packer;

/// How often it is looked what is missing: each time chunks of metadata have come that name further ones, or as many as
/// are kept in mind at once.
const LOOKS_MAX: usize = 1024;

/// How often it is looked whether an upload has failed, while it is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whether a missing chunk is of interest.
type Wanted<'w> = dyn Fn(&ChunkId) -> Result<bool, VaultError> + 'w;

/// What is needed and nowhere.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// The chunks, of data or metadata, as many as are kept in mind.
    pub(super) chunks: BTreeSet<ChunkId>,
    /// How many there are more, each counted as often as a part needs it.
    pub(super) more: u64,
    /// So many are kept in mind.
    pub(super) chunks_max: usize,
    /// The packs that were there.
    inventory: Inventory,
    /// Roots of the parts whose entries cannot all be read.
    pub(super) unreadable: BTreeSet<ChunkId>,
    /// Roots of the parts whose entries can all be read, and whose tables of what they refer to cannot.
    pub(super) tables: BTreeSet<ChunkId>,
    /// Roots of the parts that refer to missing chunks of data.
    pub(super) lacking: BTreeSet<ChunkId>,
}

impl Missing {
    /// Whether a chunk is nowhere. What was not kept in mind is looked up.
    pub(super) fn lacks(&self, vault: &Vault, chunk: &ChunkId) -> Result<bool, VaultError> {
        match self.more {
            0 => Ok(self.chunks.contains(chunk)),
            _ => Ok(self.chunks.contains(chunk) || !self.is_there(vault, chunk)?),
        }
    }

    fn is_there(&self, vault: &Vault, chunk: &ChunkId) -> Result<bool, VaultError> {
        Ok(vault.places(chunk)?.iter().any(|place| self.inventory.contains_key(&place.pack)))
    }

    fn add(&mut self, chunk: ChunkId) {
        match self.chunks.len() < self.chunks_max || self.chunks.contains(&chunk) {
            true => drop(self.chunks.insert(chunk)),
            false => self.more += 1,
        }
    }

    pub(super) fn has_unreadable(&self, run: &Run) -> bool {
        run.parts.iter().any(|part| self.unreadable.contains(&part.root))
    }
}

impl Custodian<'_> {
    /// Takes what is missing from the other vaults, one after the other; what is missing then.
    pub(super) fn mend_chunks(
        &self,
        others: &[Arc<Vault>],
        chunks_max: usize,
        done: &mut Repaired,
    ) -> Result<Missing, VaultError> {
        for other in others {
            if other.format().domain != self.vault.format().domain {
                let (found, expected) = (other.format().domain, self.vault.format().domain);
                return Err(VaultError::WrongKey { place: other.place(), found, expected });
            }
            other.refresh_index(None)?;
        }
        // What no other vault has takes no place of what some has.
        let has = |chunk: &ChunkId| -> Result<bool, VaultError> {
            for other in others {
                if !other.places(chunk)?.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        for _ in 0..if others.is_empty() { 0 } else { LOOKS_MAX } {
            let missing = self.missing_of(&has, chunks_max)?;
            let fetched = self.fetch(&missing.chunks, others)?;
            done.chunks_fetched += fetched;
            if fetched == 0 {
                break;
            }
        }
        self.missing(chunks_max)
    }

    /// What the points that count need, the partial ones, and the layouts. No more than so many chunks are kept in mind.
    pub(super) fn missing(&self, chunks_max: usize) -> Result<Missing, VaultError> {
        self.missing_of(&|_| Ok(true), chunks_max)
    }

    /// Of that the chunks for which `wanted` says so; the parts that lack any are all told.
    fn missing_of(&self, wanted: &Wanted<'_>, chunks_max: usize) -> Result<Missing, VaultError> {
        let reader = ChunkReader::new(self.vault.clone());
        // In this order: what a commit puts comes before the point that needs it.
        let catalogues = self.vault.catalogues()?;
        self.vault.refresh_index(Some(&self.identity.node))?;
        let mut missing = Missing { inventory: self.look.inventory()?, chunks_max, ..Missing::default() };
        let mut seen: BTreeSet<ChunkId> = BTreeSet::new();
        for catalogue in catalogues {
            let points = catalogue.points().iter().chain(catalogue.partial_points());
            // What has no stack is lost whatever is there.
            let mut runs: Vec<Run> =
                points.flat_map(|point| catalogue.runs_of(point, |_| true).unwrap_or_default()).collect();
            // A collection may go other ways than a reader.
            runs.extend(catalogue.layout.iter().flat_map(|layout| layout.needed_runs()).cloned());
            for part in runs.iter().flat_map(|run| &run.parts) {
                if seen.insert(part.root) {
                    self.look_at(&reader, part, wanted, &mut missing)?;
                }
            }
        }
        Ok(missing)
    }

    fn look_at(
        &self,
        reader: &ChunkReader,
        part: &PartRef,
        wanted: &Wanted<'_>,
        missing: &mut Missing,
    ) -> Result<(), VaultError> {
        let mut is_lacking = false;
        let mut unknown = None;
        let read = part_chunks(reader, part, &mut |chunk| {
            let outcome = missing.is_there(&self.vault, &chunk).and_then(|is_there| {
                is_lacking |= !is_there;
                if !is_there && wanted(&chunk)? {
                    missing.add(chunk);
                }
                Ok(())
            });
            if let Err(error) = outcome {
                unknown.get_or_insert(error);
            }
        });
        if let Some(error) = unknown {
            return Err(error);
        }
        let has_tables = match read.map_err(VaultError::from) {
            Ok(()) => true,
            Err(VaultError::Chunk { chunk, place, cause }) => {
                check_lost(&self.vault, chunk, VaultError::Chunk { chunk, place, cause })?;
                if wanted(&chunk)? {
                    missing.add(chunk);
                }
                false
            }
            Err(VaultError::Table(wrong)) => {
                tracing::warn!(part = %part.root, wrong, "damaged");
                false
            }
            Err(error) => return Err(error),
        };
        if has_tables && !is_lacking {
            return Ok(());
        }
        // Leaves of the metadata are told like data: without them the entries cannot be read either.
        let kind = match (self.reads_whole(reader, part)?, has_tables) {
            (false, _) => &mut missing.unreadable,
            (true, false) => &mut missing.tables,
            (true, true) => &mut missing.lacking,
        };
        kind.insert(part.root);
        Ok(())
    }

    fn reads_whole(&self, reader: &ChunkReader, part: &PartRef) -> Result<bool, VaultError> {
        use backstay_core::fold::Cursor;

        let mut cursor = crate::table::RunCursor::new(reader.clone(), std::slice::from_ref(part), b"");
        loop {
            match cursor.advance().map_err(VaultError::from) {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(VaultError::Chunk { chunk, place, cause }) => {
                    check_lost(&self.vault, chunk, VaultError::Chunk { chunk, place, cause })?;
                    return Ok(false);
                }
                Err(VaultError::Table(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Copies these chunks, as far as the others have them whole; how many.
    fn fetch(&self, chunks: &BTreeSet<ChunkId>, others: &[Arc<Vault>]) -> Result<u64, VaultError> {
        let mut left = chunks.clone();
        let packer = Packer::new(self.vault.clone());
        for other in others {
            let mut reader = SealedReader::new(other.clone());
            let mut located = Vec::new();
            for chunk in &left {
                located.extend(other.places(chunk)?.first().map(|place| (*chunk, *place)));
            }
            for read in plan_reads(located, Appetite::for_store(other.requests_cost())) {
                let stretch = reader.read(&read);
                for (place, (chunk, ..)) in read.records.iter().enumerate() {
                    let sealed = match reader.sealed(&read, &stretch, place) {
                        Ok(sealed) => sealed,
                        Err(VaultError::Chunk { chunk, place, cause }) => {
                            // Damaged there as well.
                            check_lost(other, chunk, VaultError::Chunk { chunk, place, cause })?;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let Ok(header) = RecordHeader::decode(&sealed) else { continue };
                    while !packer.has_failed() && !packer.has_room(LOOK_AGAIN) {}
                    packer.add(&header, &sealed);
                    left.remove(chunk);
                }
            }
        }
        self.put_index(self.vault.newest_collection()?, packer.flush()?)?;
        Ok((chunks.len() - left.len()) as u64)
    }
}
