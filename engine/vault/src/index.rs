//! The index in memory: where each chunk is, as the listed index objects say. Owns what a reader may
//! use and what a writer may believe (docs/format.md, section 6); reading objects is the vault's.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId};

use crate::chunk::ChunkClass;
use crate::collections::Collections;
use crate::index_object::{IndexAuthor, IndexObject};

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where the record begins, bytes.
    pub offset: u32,
    /// Length of the record, bytes.
    pub length: u32,
    /// Plain length of the chunk, bytes.
    pub plain_length: u32,
}

/// Whether a writer may count on what an index object lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// Of an acknowledged session of this node.
    Writers,
    /// A custodian's, written when this was the newest collection: what `gc/` says now decides.
    IfVouchedFor {
        /// The collection.
        written: CollectionNumber,
    },
    /// Good for reading only.
    ReadersOnly,
}

/// An index object whose entries are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedObject {
    /// Hash of the object.
    pub hash: ObjectHash,
    /// On whose authority it speaks.
    pub author: IndexAuthor,
    /// The newest collection when it was written.
    pub collection: CollectionNumber,
    /// How many entries it has.
    pub entries: usize,
    belief: Belief,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    pack: u32,
    offset: u32,
    length: u32,
    plain_length: u32,
}

#[derive(Debug)]
struct StoredPack {
    id: PackId,
    class: ChunkClass,
    bytes: u32,
    /// Place in `objects` of the one that names it.
    object: u32,
}

/// Sums over the index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IndexTotals {
    /// Chunks.
    pub chunks: u64,
    /// Plain bytes of the chunks.
    pub plain_bytes: u64,
    /// Bytes of packs of data.
    pub data_pack_bytes: u64,
    /// Bytes of packs of metadata.
    pub meta_pack_bytes: u64,
    /// Packs.
    pub packs: u64,
}

/// All chunks of the listed index objects.
#[derive(Debug, Default)]
pub struct ChunkIndex {
    /// The node for which it was judged what to believe.
    writer: Option<String>,
    known: HashSet<ObjectHash>,
    objects: Vec<IndexedObject>,
    packs: Vec<StoredPack>,
    chunks: HashMap<ChunkId, Stored, BuildHasherDefault<IdHasher>>,
    /// Further places of chunks that were stored more than once.
    duplicates: HashMap<ChunkId, Vec<Stored>>,
}

impl ChunkIndex {
    /// An index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// An index of nothing, in which it will be judged what this node's writers may believe.
    pub fn for_writer(writer: Option<&str>) -> Self {
        Self { writer: writer.map(str::to_owned), ..Self::default() }
    }

    /// The node for which it is judged what to believe.
    pub fn writer(&self) -> Option<&str> {
        self.writer.as_deref()
    }

    /// Whether this object's entries are in.
    pub fn has_object(&self, object: &ObjectHash) -> bool {
        self.known.contains(object)
    }

    /// The objects whose entries are in.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectHash> {
        self.known.iter()
    }

    /// Adds the entries of an object that was just seen in a listing, or just written.
    pub fn add(&mut self, object: ObjectHash, content: &IndexObject, belief: Belief) {
        if !self.known.insert(object) {
            // Another session of this process may have read it while its own was not acknowledged yet.
            if belief == Belief::Writers {
                self.objects
                    .iter_mut()
                    .filter(|known| known.hash == object)
                    .for_each(|known| known.belief = belief);
            }
            return;
        }
        let (place, first) = (self.objects.len() as u32, self.packs.len() as u32);
        self.objects.push(IndexedObject {
            hash: object,
            author: content.author,
            collection: content.collection,
            entries: content.entries.len(),
            belief,
        });
        self.packs.extend(content.packs.iter().map(|pack| StoredPack {
            id: pack.id,
            class: pack.class,
            bytes: pack.bytes,
            object: place,
        }));
        for (pack, entry) in &content.entries {
            let stored = Stored {
                pack: first + pack,
                offset: entry.offset,
                length: entry.length,
                plain_length: entry.plain_length,
            };
            match self.chunks.entry(entry.id) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(stored);
                }
                std::collections::hash_map::Entry::Occupied(_) => {
                    self.duplicates.entry(entry.id).or_default().push(stored);
                }
            }
        }
    }

    /// Every place of a chunk, for a reader.
    pub fn places(&self, id: &ChunkId) -> Vec<Location> {
        self.stored(id).map(|stored| self.location(stored)).collect()
    }

    /// Whether a writer may count on the chunk, given what `gc/` said after its session had begun.
    pub fn writer_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.stored(id).any(|stored| {
            let pack = &self.packs[stored.pack as usize];
            let object = &self.objects[pack.object as usize];
            let believed = match object.belief {
                Belief::Writers => true,
                Belief::IfVouchedFor { written } => collections.vouches_for(&object.hash, written),
                Belief::ReadersOnly => false,
            };
            believed && !collections.dooms(&pack.id)
        })
    }

    /// The packs that are named: id, class and size in bytes. One that several objects name comes once.
    pub fn packs(&self) -> HashMap<PackId, (ChunkClass, u32)> {
        self.packs.iter().map(|pack| (pack.id, (pack.class, pack.bytes))).collect()
    }

    /// The objects whose entries are in, each with the packs that it names.
    pub fn objects_with_packs(&self) -> Vec<(IndexedObject, Vec<PackId>)> {
        let mut objects: Vec<_> = self.objects.iter().map(|object| (*object, Vec::new())).collect();
        for pack in &self.packs {
            objects[pack.object as usize].1.push(pack.id);
        }
        objects
    }

    /// Tells every place of every chunk once, in no order: several objects may list the same.
    pub fn for_each(&self, mut tell: impl FnMut(&ChunkId, Location)) {
        for (id, stored) in &self.chunks {
            tell(id, self.location(stored));
            if self.duplicates.contains_key(id) {
                let places = self.places(id);
                let is_new = |place: &usize| !places[..*place].contains(&places[*place]);
                (1..places.len()).filter(is_new).for_each(|place| tell(id, places[place]));
            }
        }
    }

    /// Sums.
    pub fn totals(&self) -> IndexTotals {
        let mut totals = IndexTotals { chunks: self.chunks.len() as u64, ..IndexTotals::default() };
        totals.plain_bytes = self.chunks.values().map(|stored| u64::from(stored.plain_length)).sum();
        for (class, bytes) in self.packs().values() {
            totals.packs += 1;
            match class {
                ChunkClass::Data => totals.data_pack_bytes += u64::from(*bytes),
                ChunkClass::Meta => totals.meta_pack_bytes += u64::from(*bytes),
            }
        }
        totals
    }

    fn stored(&self, id: &ChunkId) -> impl Iterator<Item = &Stored> {
        self.chunks.get(id).into_iter().chain(self.duplicates.get(id).into_iter().flatten())
    }

    fn location(&self, stored: &Stored) -> Location {
        Location {
            pack: self.packs[stored.pack as usize].id,
            offset: stored.offset,
            length: stored.length,
            plain_length: stored.plain_length,
        }
    }
}

/// Chunk ids are hashes already: their first bytes serve.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The length prefix of the array comes as `write_usize`, which is left out below.
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_object::GcRecord;
    use crate::index_object::IndexedPack;
    use crate::pack::PackEntry;

    fn object(pack: u8, chunks: &[u8]) -> IndexObject {
        let entry =
            |n: &u8| PackEntry { id: ChunkId::new([*n; 32]), offset: 32, length: 100, plain_length: 10 };
        IndexObject {
            author: IndexAuthor::Session,
            collection: CollectionNumber::NONE,
            packs: vec![IndexedPack { id: PackId::new([pack; 32]), class: ChunkClass::Data, bytes: 4096 }],
            entries: chunks.iter().map(|n| (0, entry(n))).collect(),
        }
    }

    #[test]
    fn a_writer_believes_less_than_a_reader() {
        let mut index = ChunkIndex::new();
        index.add(ObjectHash::new([1; 32]), &object(1, &[5, 6]), Belief::ReadersOnly);
        index.add(ObjectHash::new([2; 32]), &object(2, &[6]), Belief::Writers);
        let (five, six) = (ChunkId::new([5; 32]), ChunkId::new([6; 32]));
        let none = Collections::default();
        assert_eq!((index.places(&five).len(), index.places(&six).len()), (1, 2));
        assert!(!index.writer_has(&five, &none) && index.writer_has(&six, &none));
        assert!(!index.writer_has(&six, &collections(1, &[2], &[])), "its pack is about to go");
    }

    #[test]
    fn what_was_read_before_its_session_was_acknowledged_is_believed_afterwards() {
        let mut index = ChunkIndex::new();
        let five = ChunkId::new([5; 32]);
        for (belief, believed) in [(Belief::ReadersOnly, false), (Belief::Writers, true)] {
            index.add(ObjectHash::new([1; 32]), &object(1, &[5]), belief);
            assert_eq!(index.writer_has(&five, &Collections::default()), believed);
        }
        index.add(ObjectHash::new([1; 32]), &object(1, &[5]), Belief::ReadersOnly);
        assert!(index.writer_has(&five, &Collections::default()), "an acknowledgement is final");
    }

    #[test]
    fn what_a_writer_believes_of_a_custodian_changes_with_the_collections() {
        let mut index = ChunkIndex::new();
        let written = CollectionNumber::new(1);
        index.add(ObjectHash::new([1; 32]), &object(1, &[5]), Belief::IfVouchedFor { written });
        let five = ChunkId::new([5; 32]);
        assert_eq!(index.places(&five).len(), 1);
        assert!(index.writer_has(&five, &collections(1, &[], &[])));
        assert!(!index.writer_has(&five, &collections(2, &[], &[])), "the next one does not know it");
        assert!(index.writer_has(&five, &collections(2, &[], &[1])));
        assert!(!index.writer_has(&five, &collections(2, &[1], &[1])));
    }

    #[test]
    fn a_place_that_two_objects_list_is_told_once() {
        let mut index = ChunkIndex::new();
        for (hash, pack) in [(1, 1), (2, 1), (3, 2)] {
            index.add(ObjectHash::new([hash; 32]), &object(pack, &[5, 6]), Belief::ReadersOnly);
        }
        let mut told = Vec::new();
        index.for_each(|chunk, place| told.push((*chunk, place.pack)));
        told.sort_unstable();
        let place = |chunk, pack| (ChunkId::new([chunk; 32]), PackId::new([pack; 32]));
        assert_eq!(told, [place(5, 1), place(5, 2), place(6, 1), place(6, 2)]);
    }

    fn collections(number: u64, doomed: &[u8], vouched: &[u8]) -> Collections {
        let mut collections = Collections::default();
        collections.add(GcRecord {
            number: CollectionNumber::new(number),
            term: 1,
            packs: doomed.iter().map(|n| PackId::new([*n; 32])).collect(),
            index: vouched.iter().map(|n| ObjectHash::new([*n; 32])).collect(),
            bad: None,
        });
        collections
    }
}
