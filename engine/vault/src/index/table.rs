//! What is new in the index, in memory: a table by chunk, until it is written out as a segment. Owns the hash table and
//! how objects in it stand.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use backstay_core::id::ChunkId;

use super::entry::Entry;
use super::rows::{Belief, IndexOrigin, Rows, Standing};
use crate::index_object::IndexObject;

#[derive(Debug, Clone, Copy)]
struct Stored {
    pack: u32,
    offset: u32,
    length: u32,
    plain_length: u32,
}

impl Stored {
    fn entry(self, id: ChunkId) -> Entry {
        let Self { pack, offset, length, plain_length } = self;
        Entry { id, pack, offset, length, plain_length }
    }
}

/// Entries by chunk.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: Rows,
    /// How each object stands.
    pub(super) standings: Vec<Standing>,
    chunks: HashMap<ChunkId, Stored, BuildHasherDefault<IdHasher>>,
    /// Further places of chunks that were stored more than once.
    duplicates: HashMap<ChunkId, Vec<Stored>>,
    /// All entries, also those of objects that are gone.
    pub(super) entries: u64,
}

impl Table {
    /// Adds the entries of an object: its place.
    pub(super) fn add(&mut self, origin: IndexOrigin, content: &IndexObject, belief: Belief) -> u32 {
        let place = self.standings.len() as u32;
        let first = self.rows.add(origin, content);
        self.standings.push(Standing::Listed(belief));
        for (pack, entry) in &content.entries {
            self.insert(Entry::of_object(first, *pack, entry));
        }
        place
    }

    /// Every entry of a chunk.
    pub(super) fn find(&self, id: &ChunkId) -> impl Iterator<Item = Entry> {
        let further = self.duplicates.get(id).into_iter().flatten();
        self.chunks.get(id).into_iter().chain(further).map(|stored| stored.entry(*id))
    }

    /// The same entries without those of objects that are gone.
    pub(super) fn without_what_is_gone(&self) -> Self {
        let mut kept = Self::default();
        let packs = kept.rows.take_over(&self.rows, |place| self.is_listed(place));
        kept.standings = self.standings.iter().copied().filter(|s| *s != Standing::Gone).collect();
        for entry in self.all() {
            if let Some(pack) = packs[entry.pack as usize] {
                kept.insert(Entry { pack, ..entry });
            }
        }
        kept
    }

    /// The same, if there is anything to leave out.
    pub(super) fn without_what_is_gone_if_any(&self) -> Option<Self> {
        self.standings.contains(&Standing::Gone).then(|| self.without_what_is_gone())
    }

    /// All entries, sorted.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.entries as usize);
        entries.extend(self.all());
        entries.sort_unstable();
        entries
    }

    /// How many different chunks it has, and their plain bytes.
    pub(super) fn sums(&self) -> (u64, u64) {
        let is_listed =
            |stored: &&Stored| self.is_listed(self.rows.packs[stored.pack as usize].object as usize);
        let listed = self.chunks.iter().filter_map(|(id, stored)| {
            let further = self.duplicates.get(id).into_iter().flatten();
            std::iter::once(stored).chain(further).find(is_listed)
        });
        listed.fold((0, 0), |(chunks, bytes), stored| (chunks + 1, bytes + u64::from(stored.plain_length)))
    }

    fn is_listed(&self, object: usize) -> bool {
        self.standings[object] != Standing::Gone
    }

    fn all(&self) -> impl Iterator<Item = Entry> {
        let further = self.duplicates.iter();
        let further = further.flat_map(|(id, all)| all.iter().map(|stored| stored.entry(*id)));
        self.chunks.iter().map(|(id, stored)| stored.entry(*id)).chain(further)
    }

    fn insert(&mut self, entry: Entry) {
        let Entry { id, pack, offset, length, plain_length } = entry;
        let stored = Stored { pack, offset, length, plain_length };
        self.entries += 1;
        match self.chunks.entry(id) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(stored);
            }
            std::collections::hash_map::Entry::Occupied(_) => {
                self.duplicates.entry(id).or_default().push(stored);
            }
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
