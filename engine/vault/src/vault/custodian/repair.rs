//! Mending of a damaged vault. What cannot be read goes, what can be made anew is: the index from packs, packs from the
//! records in them that are whole, layouts from the custodian's own copy, chunks from other vaults of the domain. What is
//! lost for good is named. Owns the order; each step can be done again, so that a repair may end anywhere.

mod chunks;
mod closer;
mod damaged;
mod keys;
mod losses;
mod objects;
mod packs;
mod piecewise;
mod points;
mod runs;

use std::sync::Arc;

use backstay_core::id::PointId;

use super::super::Vault;
use super::Custodian;
use crate::error::VaultError;
use crate::keys::Bundle;
use losses::LOST_MAX;

pub use losses::Loss;
pub(super) use objects::{damage, is_damage};

/// Most lines of what was mended, and of what is lost, that are kept.
const LINES_MAX: usize = 1000;

/// How a repair goes about it.
#[derive(Debug)]
pub struct RepairMeans<'m> {
    /// Whether every pack is read, and not only those that are suspect.
    pub reads_all: bool,
    /// Vaults of the same domain, from which chunks are taken that are missing.
    pub others: &'m [Arc<Vault>],
    /// The keys that this node has, for its own object in `keys/`.
    pub bundle: Option<&'m Bundle>,
    /// Whether points are dropped that lack contents, as retention drops points.
    pub drops_damaged: bool,
    /// How many missing chunks are kept in mind at once, and named in the list of what is lost.
    pub chunks_max: usize,
}

impl Default for RepairMeans<'_> {
    fn default() -> Self {
        Self { reads_all: false, others: &[], bundle: None, drops_damaged: false, chunks_max: LOST_MAX }
    }
}

/// What a repair has found and done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What was mended, a line each; at most 1000.
    pub mended: Vec<String>,
    /// How many lines there are more.
    pub more_mended: u64,
    /// What is lost; at most 1000.
    pub losses: Vec<Loss>,
    /// How many losses there are more.
    pub more_losses: u64,
    /// Chunks that came from other vaults.
    pub chunks_fetched: u64,
    /// Records that were moved out of damaged packs.
    pub records_salvaged: u64,
    /// Chunks that points need and that are nowhere; beyond [`RepairMeans::chunks_max`] one is counted for each part that
    /// needs it.
    pub chunks_lost: u64,
    /// Points that were dropped: they could not be read any more, or that was wanted of those that lack contents.
    pub points_lost: u64,
}

impl Repaired {
    fn mended(&mut self, line: String) {
        tracing::warn!("{line}");
        match self.mended.len() < LINES_MAX {
            true => self.mended.push(line),
            false => self.more_mended += 1,
        }
    }

    fn lost(&mut self, loss: Loss) {
        match self.losses.len() < LINES_MAX {
            true => self.losses.push(loss),
            false => self.more_losses += 1,
        }
    }

    fn lost_point(&mut self, source_name: &str, point: PointId, why: String) {
        self.points_lost += 1;
        self.lost(Loss { source_name: source_name.to_owned(), point: Some(point), path: None, why });
    }
}

impl Custodian<'_> {
    /// Mends what can be mended.
    ///
    /// # Errors
    /// What is no damage: a store that does not answer or refuses, keys that are not at hand, a newer format. Nothing is
    /// taken for damaged that this process cannot read for such a reason. A custodian without the keys of contents leaves
    /// damaged packs of data, does all else, and fails last.
    pub fn repair(&mut self, means: &RepairMeans<'_>) -> Result<Repaired, VaultError> {
        self.check_office()?;
        self.put_layout_again()?;
        let mut done = Repaired::default();
        self.mend_keys(means.bundle, &mut done)?;
        self.mend_records(&mut done)?;
        self.mend_fences(&mut done)?;
        self.mend_layouts(&mut done)?;
        self.remove_damaged(&mut done)?;
        self.vault.refresh_index(Some(&self.identity.node))?;
        let left = self.mend_packs(means.reads_all, &mut done)?;
        let mut lost = self.mend_chunks(means.others, means.chunks_max, &mut done)?;
        if self.mend_runs(&lost, &mut done)? {
            lost = self.missing(means.chunks_max)?;
        }
        // What could not be written anew stops every collection.
        lost.unreadable.extend(std::mem::take(&mut lost.tables));
        if self.mend_points(&lost, &mut done)? {
            lost = self.missing(means.chunks_max)?;
        }
        if means.drops_damaged && self.drop_damaged(&lost, &mut done)? {
            lost = self.missing(means.chunks_max)?;
        }
        self.name_lost(&lost, &mut done)?;
        // Runs without the points that were dropped, and without rows that refer to what is lost and that nobody sees.
        self.thin(&|_| None)?;
        self.vault.refresh_index(Some(&self.identity.node))?;
        left.map_or(Ok(done), Err)
    }
}
