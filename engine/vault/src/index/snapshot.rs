//! The index as it was at one moment, for passes over all of it: its segments, and a sorted copy of its table. Owns going
//! through all chunks in order of id, and marks, a bit for each entry. Memory: packs and bits, never chunks.

use std::collections::HashMap;
use std::sync::Arc;

use backstay_core::id::{ChunkId, PackId};

use super::entry::{Entry, Location};
use super::head::SegmentError;
use super::rows::{Rows, Standing};
use super::segment::{Segment, SegmentCursor};
use super::sorted::{Merged, Sorted};
use super::table::Table;
use crate::chunk::ChunkClass;
use crate::pack_keys::PackKeys;

/// An index that does not change.
#[derive(Debug, Default)]
pub struct IndexSnapshot {
    entries: IndexEntries,
    /// For each part the number of each pack of its rows; none where the object is gone.
    pack_numbers: Vec<Vec<Option<u32>>>,
    packs: Vec<(PackId, ChunkClass, u32)>,
    /// For each pack whether a compromised key has sealed any record of it.
    compromised: Vec<bool>,
    numbers: HashMap<PackId, u32>,
}

/// The entries of a snapshot without their packs, also those of objects that are gone: what marks are made in.
#[derive(Debug, Default, Clone)]
pub struct IndexEntries(Vec<Entries>);

#[derive(Debug, Clone)]
enum Entries {
    Table(Arc<[Entry]>),
    Segment(Arc<Segment>),
}

/// A place of a chunk, with the pack as its number in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackPlace {
    /// Number of the pack.
    pub pack: u32,
    /// Where the record begins, bytes.
    pub offset: u32,
    /// Length of the record, bytes.
    pub length: u32,
    /// Plain length of the chunk, bytes.
    pub plain_length: u32,
}

/// A bit for each entry of a snapshot.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Marks(Vec<Vec<u64>>);

impl IndexSnapshot {
    /// The packs: id, class and size in bytes, each in the place of its number.
    pub fn packs(&self) -> &[(PackId, ChunkClass, u32)] {
        &self.packs
    }

    /// Whether a compromised key has sealed any record of the pack of this number.
    pub fn is_compromised(&self, pack: u32) -> bool {
        self.compromised[pack as usize]
    }

    /// Whether a pack is named.
    pub fn names(&self, pack: &PackId) -> bool {
        self.numbers.contains_key(pack)
    }

    /// A place with its pack by name.
    pub fn location(&self, place: &PackPlace) -> Location {
        let PackPlace { pack, offset, length, plain_length } = *place;
        let (pack, _, pack_bytes) = self.packs[pack as usize];
        Location { pack, pack_bytes, offset, length, plain_length }
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> Result<SnapshotChunks<'_>, SegmentError> {
        let merged = Merged::new(self.entries.0.iter().map(Entries::cursor).collect())?;
        Ok(SnapshotChunks { snapshot: self, merged, held: None, places: Vec::new() })
    }

    /// Adds a part, whose entries were added to `entries` as well.
    pub(super) fn add(
        &mut self,
        rows: &Rows,
        standings: &[Standing],
        is_compromised: impl Fn(&PackKeys) -> bool,
    ) {
        let number = rows.packs.iter().map(|pack| {
            (standings[pack.object as usize] != Standing::Gone).then(|| {
                let number = *self.numbers.entry(pack.id).or_insert_with(|| {
                    self.packs.push((pack.id, pack.class, pack.bytes));
                    self.compromised.push(false);
                    self.packs.len() as u32 - 1
                });
                self.compromised[number as usize] |= is_compromised(rows.keys_of(pack));
                number
            })
        });
        let numbers = number.collect();
        self.pack_numbers.push(numbers);
    }

    /// A snapshot of these entries, without any packs yet.
    pub(super) fn of(entries: IndexEntries) -> Self {
        Self { entries, ..Self::default() }
    }
}

impl IndexEntries {
    /// The entries of a table and of segments.
    pub(super) fn of<'s>(table: &Table, segments: impl Iterator<Item = &'s Arc<Segment>>) -> Self {
        let table = Entries::Table(table.sorted().into());
        let segments = segments.map(|segment| Entries::Segment(Arc::clone(segment)));
        Self(std::iter::once(table).chain(segments).collect())
    }

    /// No marks.
    pub fn no_marks(&self) -> Marks {
        Marks(self.0.iter().map(|part| vec![0; part.count().div_ceil(64) as usize]).collect())
    }

    /// Marks an entry of the chunk; whether there is one.
    pub fn mark(&self, id: &ChunkId, marks: &mut Marks) -> Result<bool, SegmentError> {
        for (part, bits) in self.0.iter().zip(&mut marks.0) {
            if let Some(place) = part.find(id)? {
                bits[place as usize / 64] |= 1 << (place % 64);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The chunks that are marked, in order.
    pub fn marked<'m>(&'m self, marks: &'m Marks) -> Result<MarkedIds<'m>, SegmentError> {
        let parts = self.0.iter().zip(&marks.0);
        let cursors = parts.map(|(part, bits)| MarkedCursor { cursor: part.cursor(), bits });
        Ok(MarkedIds(Merged::new(cursors.collect())?))
    }
}

impl Entries {
    fn count(&self) -> u64 {
        match self {
            Self::Table(entries) => entries.len() as u64,
            Self::Segment(segment) => segment.entries(),
        }
    }

    /// The place of one entry of the chunk.
    fn find(&self, id: &ChunkId) -> Result<Option<u64>, SegmentError> {
        match self {
            Self::Table(entries) => {
                let place = entries.partition_point(|entry| entry.id < *id);
                Ok(entries.get(place).is_some_and(|entry| entry.id == *id).then_some(place as u64))
            }
            Self::Segment(segment) => {
                let mut found = None;
                segment.find(id, |place, _| found = Some(place))?;
                Ok(found)
            }
        }
    }

    fn cursor(&self) -> EntryCursor {
        match self {
            Self::Table(entries) => EntryCursor::Table(Arc::clone(entries), 0),
            Self::Segment(segment) => EntryCursor::Segment(SegmentCursor::new(Arc::clone(segment))),
        }
    }
}

#[derive(Debug)]
enum EntryCursor {
    Table(Arc<[Entry]>, u64),
    Segment(SegmentCursor),
}

impl EntryCursor {
    fn skip_to(&mut self, place: u64) {
        match self {
            Self::Table(_, next) => *next = place.max(*next),
            Self::Segment(cursor) => cursor.skip_to(place),
        }
    }

    fn place(&self) -> u64 {
        match self {
            Self::Table(_, next) => *next,
            Self::Segment(cursor) => cursor.place(),
        }
    }
}

impl Sorted for EntryCursor {
    fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
        match self {
            Self::Table(entries, next) => {
                let entry = entries.get(*next as usize).copied();
                *next += 1;
                Ok(entry)
            }
            Self::Segment(cursor) => Sorted::next(cursor),
        }
    }
}

/// The marked entries of one part.
#[derive(Debug)]
struct MarkedCursor<'m> {
    cursor: EntryCursor,
    bits: &'m [u64],
}

impl Sorted for MarkedCursor<'_> {
    fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
        let place = self.cursor.place();
        let mut word = (place / 64) as usize;
        let mut left = self.bits.get(word).map_or(0, |bits| bits & (u64::MAX << (place % 64)));
        while left == 0 {
            word += 1;
            let Some(bits) = self.bits.get(word) else { return Ok(None) };
            left = *bits;
        }
        self.cursor.skip_to(word as u64 * 64 + u64::from(left.trailing_zeros()));
        self.cursor.next()
    }
}

/// Goes through the chunks of a snapshot in order.
#[derive(Debug)]
pub struct SnapshotChunks<'s> {
    snapshot: &'s IndexSnapshot,
    merged: Merged<EntryCursor>,
    held: Option<(usize, Entry)>,
    places: Vec<PackPlace>,
}

impl SnapshotChunks<'_> {
    /// The next chunk that a listed object has, if there is one; `places` has where it is.
    pub fn advance(&mut self) -> Result<Option<ChunkId>, SegmentError> {
        loop {
            let first = match self.held.take() {
                Some(held) => held,
                None => match self.merged.next()? {
                    Some(first) => first,
                    None => return Ok(None),
                },
            };
            let id = first.1.id;
            self.places.clear();
            self.take(first);
            while let Some(next) = self.merged.next()? {
                if next.1.id != id {
                    self.held = Some(next);
                    break;
                }
                self.take(next);
            }
            if !self.places.is_empty() {
                return Ok(Some(id));
            }
        }
    }

    /// Every place of that chunk, once: several objects may list the same.
    pub fn places(&self) -> &[PackPlace] {
        &self.places
    }

    fn take(&mut self, (part, entry): (usize, Entry)) {
        let Some(pack) = self.snapshot.pack_numbers[part][entry.pack as usize] else { return };
        let Entry { offset, length, plain_length, .. } = entry;
        let place = PackPlace { pack, offset, length, plain_length };
        if !self.places.contains(&place) {
            self.places.push(place);
        }
    }
}

/// Goes through marked chunks in order.
#[derive(Debug)]
pub struct MarkedIds<'m>(Merged<MarkedCursor<'m>>);

impl MarkedIds<'_> {
    /// The next one. None comes twice, since of each chunk one entry is marked.
    pub fn advance(&mut self) -> Result<Option<ChunkId>, SegmentError> {
        Ok(self.0.next()?.map(|(_, entry)| entry.id))
    }
}
