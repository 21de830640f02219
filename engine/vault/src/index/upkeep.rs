//! Keeping the index within its memory: when the table is written out, when segments are merged, and what becomes of
//! those that are damaged. A cache that cannot be written costs memory and a warning, never a capture.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use backstay_core::id::VaultId;

use super::head::SegmentError;
use super::merging::{Merge, MergeOutcome, Size, due};
use super::rows::{Rows, Standing};
use super::segment::Segment;
use super::shelf::{IndexFolder, Shelf, remove};
use super::table::Table;
use super::{ChunkIndex, Shelved, TABLE};
use crate::index_object::INDEX_ENTRIES_MAX;

/// How much of the index is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLimits {
    /// Entries of the table at most, where segments can be written.
    pub table_entries_max: u64,
    /// A table with fewer entries is not worth a file when a refresh ends, unless it has many objects.
    pub worth_entries: u64,
    /// So many objects are worth a file: the next process need not read them one by one.
    pub worth_objects: usize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        // The table takes one index object of the greatest size.
        Self { table_entries_max: INDEX_ENTRIES_MAX as u64, worth_entries: 1 << 16, worth_objects: 256 }
    }
}

/// A table is made anew when more than one of so many of its entries is gone.
const GONE_PARTS: u64 = 4;

/// After so many damaged segments the disk is taken to be bad, and the index stays in memory.
pub const DAMAGES_MAX: u32 = 3;

impl ChunkIndex {
    /// Keeps what does not fit in memory in this folder, for this vault, and takes up what lies there. Nothing of that
    /// counts before it was settled by a listing. Where the folder cannot be used, all stays in memory.
    pub fn keep_in(&mut self, folder: &Path, vault: VaultId, wanted: IndexFolder, limits: IndexLimits) {
        (self.limits, self.table_max) = (limits, limits.table_entries_max);
        match Shelf::open(folder, vault, wanted) {
            Ok((shelf, segments)) => {
                self.shelf = Some(shelf);
                segments.into_iter().for_each(|segment| self.put_segment(segment));
            }
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "the index is kept in memory: its folder cannot be used");
            }
        }
    }

    /// Lets go of the folder, for the same vault that this process is about to open again. What lies there is read on, and
    /// what comes stays in memory.
    pub fn leave_folder(&mut self) {
        self.shelf = None;
        self.shelved.iter_mut().for_each(|shelved| shelved.is_borrowed = true);
    }

    /// Throws away segments that were found damaged, before a listing says what has to be read in their stead.
    pub fn drop_damaged(&mut self) {
        self.is_paused = false;
        let damaged: HashSet<u32> =
            self.shelved.iter().filter(|s| s.segment.is_damaged()).map(|s| s.part).collect();
        if damaged.is_empty() {
            return;
        }
        self.damages += damaged.len() as u32;
        let is_hopeless = self.damages >= DAMAGES_MAX;
        if is_hopeless {
            tracing::warn!("the index is kept in memory: files of it were damaged {} times", self.damages);
            self.shelf = None;
        }
        self.drop_segments(|part| is_hopeless || damaged.contains(&part));
    }

    /// Merges what is due, one after the other.
    pub fn tidy(&mut self) {
        while let Some(merge) = self.due_merge() {
            self.put_merged(merge.run());
        }
    }

    /// The merge that is due. It is to be run, without a lock on the index, and its outcome put.
    pub fn due_merge(&mut self) -> Option<Merge> {
        let shelf = self.shelf.as_ref().filter(|_| !self.is_paused && !self.is_tidy)?;
        let own: Vec<&Shelved> = self.shelved.iter().filter(|shelved| !shelved.is_borrowed).collect();
        let size = |shelved: &&Shelved| Size { entries: shelved.segment.entries(), gone: shelved.gone() };
        let sizes: Vec<Size> = own.iter().map(size).collect();
        let due = due(&sizes);
        if due.is_empty() {
            self.is_tidy = true;
            return None;
        }
        match shelf.begin() {
            Ok(output) => {
                let input = |place: usize| {
                    let Shelved { part, segment, standings, .. } = own[place];
                    (*part, Arc::clone(segment), standings.clone())
                };
                Some(Merge { inputs: due.into_iter().map(input).collect(), output })
            }
            Err(error) => {
                self.pause(&error.into());
                None
            }
        }
    }

    /// Puts what was merged in the place of what it was made of.
    pub fn put_merged(&mut self, outcome: MergeOutcome) {
        let MergeOutcome { inputs, merged } = outcome;
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) => return self.pause(&error),
        };
        // As they stand now: meanwhile a session of this process may have been acknowledged.
        let standings = merged.as_ref().map(|segment| self.standings_of(&segment.rows));
        self.drop_segments(|part| inputs.contains(&part));
        if let Some((segment, standings)) = merged.zip(standings) {
            self.shelve(segment, standings);
        }
    }

    /// Writes the table out at the end of a refresh, if it is worth a file.
    pub fn keep_what_is_worth_it(&mut self) {
        let IndexLimits { worth_entries, worth_objects, .. } = self.limits;
        let is_worth = self.table.entries >= worth_entries || self.table.standings.len() >= worth_objects;
        // Not while the folder takes nothing.
        if is_worth && self.table_max == self.limits.table_entries_max {
            self.write_out();
        }
    }

    /// Writes the table out when so many entries more would be too many.
    pub(super) fn make_room(&mut self, entries: u64) {
        if self.table.entries > 0 && self.table.entries + entries > self.table_max {
            self.write_out();
        }
    }

    /// Lets go of what belongs to objects that are gone, where that is much.
    pub(super) fn drop_what_is_gone(&mut self) {
        self.is_tidy = false;
        let is_gone = |shelved: &Shelved| shelved.standings.iter().all(|s| *s == Standing::Gone);
        // Also when nobody has looked yet: only a listing settles anything.
        let gone: HashSet<u32> = self.shelved.iter().filter(|s| is_gone(s)).map(|s| s.part).collect();
        self.drop_segments(|part| gone.contains(&part));
        let objects = self.table.rows.objects.iter().zip(&self.table.standings);
        let gone = objects.filter(|(_, standing)| **standing == Standing::Gone);
        let gone: u64 = gone.map(|(object, _)| object.entries.max(1)).sum();
        if gone > self.table.entries / GONE_PARTS {
            let kept = self.table.without_what_is_gone();
            self.replace_table(kept);
        }
    }

    pub(super) fn write_out(&mut self) {
        let Some(shelf) = &self.shelf else { return };
        let mut kept = self.table.without_what_is_gone_if_any();
        let table = kept.as_mut().unwrap_or(&mut self.table);
        let entries = table.sorted();
        let written = shelf.begin().map_err(SegmentError::from).and_then(|unfinished| {
            unfinished.complete(|writer| {
                entries.iter().try_for_each(|entry| writer.push(entry))?;
                Ok::<Rows, SegmentError>(table.rows.clone())
            })
        });
        let standings = std::mem::take(&mut table.standings);
        match written {
            Ok(segment) => {
                self.replace_table(Table::default());
                if let Some(segment) = segment {
                    self.shelve(segment, standings);
                }
                self.table_max = self.limits.table_entries_max;
            }
            Err(error) => {
                table.standings = standings;
                self.table_max = self.table.entries + self.limits.table_entries_max;
                tracing::warn!(%error, "the index stays in memory: it cannot be written to its folder");
            }
        }
    }

    /// Adds a segment that lay in the folder: what it holds is not listed yet.
    fn put_segment(&mut self, segment: Segment) {
        let standings = vec![Standing::Gone; segment.rows.objects.len()];
        self.shelve(segment, standings);
        if let Some(shelved) = self.shelved.last_mut() {
            // Of its own folder this process removes what has been merged.
            shelved.is_borrowed = shelved.segment.path.is_none();
        }
    }

    /// Adds a segment. An object that is known already, because a merge was cut short, stays where it is.
    fn shelve(&mut self, segment: Segment, mut standings: Vec<Standing>) {
        self.is_tidy = false;
        self.last_part += 1;
        let part = self.last_part;
        for (place, object) in (0u32..).zip(&segment.rows.objects) {
            let known = self.whereabouts.entry(object.origin.hash);
            match known {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert((part, place));
                }
                std::collections::hash_map::Entry::Occupied(_) => {
                    standings[place as usize] = Standing::Gone;
                }
            }
        }
        self.shelved.push(Shelved { part, segment: Arc::new(segment), standings, is_borrowed: false });
    }

    fn replace_table(&mut self, table: Table) {
        self.whereabouts.retain(|_, (part, _)| *part != TABLE);
        let objects = (0u32..).zip(&table.rows.objects);
        self.whereabouts.extend(objects.map(|(place, object)| (object.origin.hash, (TABLE, place))));
        self.table = table;
    }

    fn drop_segments(&mut self, goes: impl Fn(u32) -> bool) {
        self.shelved.retain(|shelved| {
            let goes = goes(shelved.part);
            if goes && !shelved.is_borrowed {
                remove(shelved.segment.path.as_deref());
            }
            !goes
        });
        self.whereabouts.retain(|_, (part, _)| *part == TABLE || !goes(*part));
    }

    fn standings_of(&self, rows: &Rows) -> Vec<Standing> {
        let standing = |hash| match self.whereabouts.get(hash) {
            Some((part, place)) => self.standing(*part, *place),
            None => Standing::Gone,
        };
        rows.objects.iter().map(|object| standing(&object.origin.hash)).collect()
    }

    fn pause(&mut self, error: &SegmentError) {
        self.is_paused = true;
        tracing::warn!(%error, "files of the local index are not merged for now");
    }
}
