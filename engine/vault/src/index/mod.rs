//! The index: where each chunk is, as the listed index objects say. Owns what a reader may use and what a writer may
//! believe (docs/format.md, section 6); reading objects is the vault's.
//!
//! What is new is in a table in memory; what does not fit there is in segments, sorted files that never change, of which
//! only filters and fences are in memory (docs/adr/0013). Both say for each entry of which index object it is, and an
//! entry counts while that object stands in the newest listing. So a file that is older than the vault makes nobody
//! believe anything.

mod bytes;
mod entry;
mod fuse;
mod head;
mod merging;
mod rows;
mod segment;
mod shelf;
mod snapshot;
mod sorted;
mod table;
#[cfg(test)]
mod tests;
mod upkeep;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backstay_core::id::{ChunkId, KeyId, ObjectHash, PackId};

use crate::chunk::ChunkClass;
use crate::collections::Collections;
use crate::index_object::IndexObject;
use crate::pack_keys::PackKeys;
pub use bytes::{read_segment, write_segment};
pub use entry::Location;
pub use head::SegmentError;
pub use merging::{Merge, MergeOutcome};
pub use rows::{Belief, IndexOrigin, IndexedObject, Standing};
use segment::Segment;
pub use shelf::IndexFolder;
use shelf::Shelf;
pub use snapshot::{IndexEntries, IndexSnapshot, MarkedIds, Marks, PackPlace, SnapshotChunks};
use table::Table;
pub use upkeep::{DAMAGES_MAX, IndexLimits};

/// Sums over the index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IndexTotals {
    /// Chunks. One that several segments list is counted for each of them, and of a segment with objects that are gone
    /// the same share of chunks is taken for gone; with no segment on disk this is exact.
    pub chunks: u64,
    /// Plain bytes of the chunks, as exact as their number.
    pub plain_bytes: u64,
    /// Bytes of packs of data.
    pub data_pack_bytes: u64,
    /// Bytes of packs of metadata.
    pub meta_pack_bytes: u64,
    /// Packs.
    pub packs: u64,
}

/// With which keys the places of a chunk are sealed; the best of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sealing {
    /// It has no place.
    Nowhere,
    /// Each lies in a pack that has a record sealed with a compromised key.
    Compromised,
    /// One lies in a pack that has none.
    Trusted,
}

/// All chunks of the listed index objects.
#[derive(Debug)]
pub struct ChunkIndex {
    /// The node for which it was judged what to believe.
    writer: Option<String>,
    /// Keys that somebody else may have: what they have sealed is not there for writers.
    compromised: HashSet<KeyId>,
    table: Table,
    shelved: Vec<Shelved>,
    /// Where each object is: number of the part, and place in its rows.
    whereabouts: HashMap<ObjectHash, (u32, u32)>,
    last_part: u32,
    shelf: Option<Shelf>,
    limits: IndexLimits,
    /// The table is written out before it has more entries: more than the limit after that has failed.
    table_max: u64,
    /// Segments of this process that were found damaged.
    damages: u32,
    /// The last merge could not be written: not tried again before the next refresh.
    is_paused: bool,
    /// No merge is due: since it was looked, nothing has changed.
    is_tidy: bool,
}

/// The number of the table among the parts of an index.
const TABLE: u32 = 0;

/// A segment, and how its objects stand.
#[derive(Debug)]
struct Shelved {
    part: u32,
    segment: Arc<Segment>,
    standings: Vec<Standing>,
    /// Another process has written it, which will merge it: for a look at a vault that would be too much.
    is_borrowed: bool,
}

impl Default for ChunkIndex {
    fn default() -> Self {
        Self {
            writer: None,
            compromised: HashSet::new(),
            table: Table::default(),
            shelved: Vec::new(),
            whereabouts: HashMap::new(),
            last_part: TABLE,
            shelf: None,
            limits: IndexLimits::default(),
            table_max: IndexLimits::default().table_entries_max,
            damages: 0,
            is_paused: false,
            is_tidy: true,
        }
    }
}

impl ChunkIndex {
    /// An index of nothing, in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// An index of nothing, for a domain of which somebody else may have these keys.
    pub fn with_compromised(keys: HashSet<KeyId>) -> Self {
        Self { compromised: keys, ..Self::default() }
    }

    /// The node for which it is judged what to believe.
    pub fn writer(&self) -> Option<&str> {
        self.writer.as_deref()
    }

    /// Whether the object is known, whichever way it stands: it does not have to be read.
    pub fn knows(&self, object: &ObjectHash) -> bool {
        self.whereabouts.contains_key(object)
    }

    /// The known objects, and how they stand.
    pub fn objects(&self) -> Vec<(IndexedObject, Standing)> {
        let known = self.whereabouts.values();
        known.map(|(part, place)| (self.object(*part, *place), self.standing(*part, *place))).collect()
    }

    /// Adds the entries of an object that was just seen in a listing, or just written.
    pub fn add(&mut self, origin: IndexOrigin, content: &IndexObject, belief: Belief) {
        if let Some((part, place)) = self.whereabouts.get(&origin.hash).copied() {
            // Another session of this process may have read it while its own was not acknowledged yet.
            let standing = self.standing_mut(part, place);
            if *standing == Standing::Gone || belief == Belief::Writers {
                *standing = Standing::Listed(belief);
            }
            return;
        }
        self.make_room(content.entries.len() as u64);
        let place = self.table.add(origin, content, belief);
        self.whereabouts.insert(origin.hash, (TABLE, place));
    }

    /// Says how objects stand from now on, as judged for the writers of this node. Of one that is not known nothing is
    /// kept.
    pub fn settle(&mut self, writer: Option<&str>, standings: &[(ObjectHash, Standing)]) {
        self.writer = writer.map(str::to_owned);
        for (object, standing) in standings {
            if let Some((part, place)) = self.whereabouts.get(object).copied() {
                *self.standing_mut(part, place) = *standing;
            }
        }
        self.drop_what_is_gone();
    }

    /// Every place of a chunk, for a reader; those first that no compromised key has sealed, so that what is copied from them
    /// is as good.
    ///
    /// # Errors
    /// A segment turned out damaged: it is thrown away by the next refresh, which reads its objects anew.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Location>, SegmentError> {
        let (mut places, mut compromised) = (Vec::new(), Vec::new());
        self.each_place(id, |keys, place| match self.is_compromised(keys) {
            true => compromised.push(place),
            false => places.push(place),
        })?;
        places.append(&mut compromised);
        Ok(places)
    }

    /// How a chunk is sealed that readers find.
    ///
    /// # Errors
    /// As of [`ChunkIndex::places`].
    pub fn sealing(&self, id: &ChunkId) -> Result<Sealing, SegmentError> {
        let mut sealing = Sealing::Nowhere;
        self.each_place(id, |keys, _| {
            let here = if self.is_compromised(keys) { Sealing::Compromised } else { Sealing::Trusted };
            sealing = sealing.max(here);
        })?;
        Ok(sealing)
    }

    /// Tells every place of a chunk in an object that is listed, and the keys of its pack.
    fn each_place(
        &self,
        id: &ChunkId,
        mut tell: impl FnMut(&PackKeys, Location),
    ) -> Result<(), SegmentError> {
        let mut take = |rows: &rows::Rows, standings: &[Standing], entry: entry::Entry| {
            let pack = &rows.packs[entry.pack as usize];
            if standings[pack.object as usize] != Standing::Gone {
                tell(rows.keys_of(pack), entry.location(pack.id, pack.bytes));
            }
        };
        self.table.find(id).for_each(|entry| take(&self.table.rows, &self.table.standings, entry));
        for Shelved { segment, standings, .. } in &self.shelved {
            segment.find(id, |_, entry| take(&segment.rows, standings, entry))?;
        }
        Ok(())
    }

    /// Whether any pack may have a record that a compromised key has sealed. One of an object that is gone counts as well.
    pub fn has_compromised(&self) -> bool {
        let mut keys = self.parts().flat_map(|(rows, _)| &rows.keys);
        !self.compromised.is_empty() && keys.any(|keys| self.is_compromised(keys))
    }

    /// Whether a writer may count on the chunk, given what `gc/` said after its session had begun. What a damaged segment
    /// says does not count: then the chunk is stored once more. Neither does what a compromised key has sealed.
    pub fn writer_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.has_for_writer(id, collections, |keys| !self.is_compromised(keys))
    }

    /// The same with whatever keys, for who takes over what is sealed.
    pub fn copier_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.has_for_writer(id, collections, |_| true)
    }

    fn has_for_writer(
        &self,
        id: &ChunkId,
        collections: &Collections,
        is_fit: impl Fn(&PackKeys) -> bool,
    ) -> bool {
        let is_believed = |rows: &rows::Rows, standings: &[Standing], pack: u32| {
            let pack = &rows.packs[pack as usize];
            let Standing::Listed(belief) = standings[pack.object as usize] else { return false };
            let is_believed = match belief {
                Belief::Writers => true,
                Belief::IfVouchedFor { written } => {
                    collections.vouches_for(&rows.objects[pack.object as usize].origin.hash, written)
                }
                Belief::ReadersOnly => false,
            };
            is_believed && is_fit(rows.keys_of(pack)) && !collections.dooms(&pack.id)
        };
        let Table { rows, standings, .. } = &self.table;
        let mut in_table = self.table.find(id);
        in_table.any(|entry| is_believed(rows, standings, entry.pack))
            || self.shelved.iter().any(|Shelved { segment, standings, .. }| {
                let mut has = false;
                let found = segment.find(id, |_, entry| {
                    has |= is_believed(&segment.rows, standings, entry.pack);
                });
                found.is_ok() && has
            })
    }

    /// In how many segments a chunk has to be looked for because their filters let it through. For measurements.
    pub fn looks_for(&self, id: &ChunkId) -> usize {
        self.shelved.iter().filter(|shelved| shelved.segment.may_have(id)).count()
    }

    /// The packs that are named: id, class and size in bytes. One that several objects name comes once.
    pub fn packs(&self) -> HashMap<PackId, (ChunkClass, u32)> {
        let parts = self.parts();
        let listed = parts.flat_map(|(rows, standings)| {
            rows.packs.iter().filter(|pack| standings[pack.object as usize] != Standing::Gone)
        });
        listed.map(|pack| (pack.id, (pack.class, pack.bytes))).collect()
    }

    /// The objects that are listed, each with the packs that it names.
    pub fn objects_with_packs(&self) -> Vec<(IndexedObject, Vec<PackId>)> {
        let mut all = Vec::new();
        for (rows, standings) in self.parts() {
            let mut objects: Vec<_> = rows.objects.iter().map(|object| (*object, Vec::new())).collect();
            for pack in &rows.packs {
                objects[pack.object as usize].1.push(pack.id);
            }
            let listed = objects.into_iter().zip(standings).filter(|(_, s)| **s != Standing::Gone);
            all.extend(listed.map(|(object, _)| object));
        }
        all
    }

    /// Sums.
    pub fn totals(&self) -> IndexTotals {
        let (chunks, plain_bytes) = self.table.sums();
        let mut totals = IndexTotals { chunks, plain_bytes, ..IndexTotals::default() };
        for shelved in &self.shelved {
            let (all, gone) = (shelved.segment.entries(), shelved.gone());
            let share = |sum: u64| (u128::from(sum) * u128::from(all - gone) / u128::from(all)) as u64;
            totals.chunks += share(shelved.segment.head.chunks);
            totals.plain_bytes += share(shelved.segment.head.plain_bytes);
        }
        for (class, bytes) in self.packs().values() {
            totals.packs += 1;
            match class {
                ChunkClass::Data => totals.data_pack_bytes += u64::from(*bytes),
                ChunkClass::Meta => totals.meta_pack_bytes += u64::from(*bytes),
            }
        }
        totals
    }

    /// What it says now, for a pass over all of it: later changes are not in it.
    pub fn snapshot(&self) -> IndexSnapshot {
        let mut snapshot = IndexSnapshot::of(self.entries());
        let is_compromised = |keys: &PackKeys| self.is_compromised(keys);
        self.parts().for_each(|(rows, standings)| snapshot.add(rows, standings, is_compromised));
        snapshot
    }

    /// All entries that it has now, without their packs.
    pub fn entries(&self) -> IndexEntries {
        IndexEntries::of(&self.table, self.shelved.iter().map(|shelved| &shelved.segment))
    }

    /// One record is enough: of a pack with several keys it is not known which record has which.
    fn is_compromised(&self, keys: &PackKeys) -> bool {
        !self.compromised.is_empty() && keys.ids().iter().any(|key| self.compromised.contains(key))
    }

    fn parts(&self) -> impl Iterator<Item = (&rows::Rows, &[Standing])> {
        let shelved =
            self.shelved.iter().map(|shelved| (&shelved.segment.rows, shelved.standings.as_slice()));
        std::iter::once((&self.table.rows, self.table.standings.as_slice())).chain(shelved)
    }

    fn object(&self, part: u32, place: u32) -> IndexedObject {
        self.shelved(part).map_or(&self.table.rows, |shelved| &shelved.segment.rows).objects[place as usize]
    }

    fn standing(&self, part: u32, place: u32) -> Standing {
        self.shelved(part).map_or(&self.table.standings, |shelved| &shelved.standings)[place as usize]
    }

    fn standing_mut(&mut self, part: u32, place: u32) -> &mut Standing {
        let shelved = self.shelved.iter_mut().find(|shelved| shelved.part == part);
        &mut shelved.map_or(&mut self.table.standings, |shelved| &mut shelved.standings)[place as usize]
    }

    fn shelved(&self, part: u32) -> Option<&Shelved> {
        self.shelved.iter().find(|shelved| shelved.part == part)
    }
}

impl Shelved {
    /// Entries of objects that are gone.
    fn gone(&self) -> u64 {
        let objects = self.segment.rows.objects.iter().zip(&self.standings);
        let gone = objects.filter(|(_, standing)| **standing == Standing::Gone);
        let sum = gone.fold(0u64, |sum, (object, _)| sum.saturating_add(object.entries));
        sum.min(self.segment.entries())
    }
}
