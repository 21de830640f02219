//! The tables beside the entries: of which index objects they are, and in which packs. Owns their bytes in a segment,
//! and what is thought of an object at present.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, PackId, SessionId, SignerKey};

use crate::chunk::ChunkClass;
use crate::index_object::{IndexAuthor, IndexObject};
use crate::pack_keys::{PACK_KEYS_MAX, PackKeys};
use crate::take::Take;

/// Bytes of an object's row.
pub(super) const OBJECT_BYTES: usize = 105;

/// Bytes of a pack's row.
pub(super) const PACK_BYTES: usize = 45;

/// Bytes of a row of keys.
pub(super) const KEYS_BYTES: usize = 1 + 16 * PACK_KEYS_MAX;

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

/// How an index object stands at present. It is never kept in a file: a listing and `trust/` have to say it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not in the listing, or nobody has looked yet, or nobody who may has signed it: it lists nothing.
    Gone,
    /// It was in the newest listing.
    Listed(Belief),
}

/// Which index object, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOrigin {
    /// Hash of the object.
    pub hash: ObjectHash,
    /// The session in its name.
    pub session: SessionId,
    /// Who signed it.
    pub signer: SignerKey,
}

/// An index object whose entries are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedObject {
    /// Which it is.
    pub origin: IndexOrigin,
    /// On whose authority it speaks.
    pub author: IndexAuthor,
    /// The newest collection when it was written.
    pub collection: CollectionNumber,
    /// How many entries it has.
    pub entries: u64,
}

/// A pack as one index object names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRow {
    pub(super) id: PackId,
    pub(super) class: ChunkClass,
    pub(super) bytes: u32,
    /// Place of the object.
    pub(super) object: u32,
    /// Place of the keys with which its records are sealed: nearly all packs have the same few.
    pub(super) keys: u32,
}

/// Objects, and the packs that they name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) objects: Vec<IndexedObject>,
    pub(super) packs: Vec<PackRow>,
    /// Each once.
    pub(super) keys: Vec<PackKeys>,
    /// Where each is.
    key_places: HashMap<PackKeys, u32>,
}

/// How many rows of each kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowCounts {
    pub(super) objects: u32,
    pub(super) packs: u32,
    pub(super) keys: u32,
}

impl RowCounts {
    /// How long the rows are.
    pub(super) fn bytes(self) -> u64 {
        let of = |count: u32, bytes: usize| u64::from(count) * bytes as u64;
        of(self.objects, OBJECT_BYTES) + of(self.packs, PACK_BYTES) + of(self.keys, KEYS_BYTES)
    }
}

impl Rows {
    /// Adds an object with its packs: their first place.
    pub(super) fn add(&mut self, origin: IndexOrigin, content: &IndexObject) -> u32 {
        let (object, first) = (self.objects.len() as u32, self.packs.len() as u32);
        let IndexObject { author, collection, .. } = *content;
        self.objects.push(IndexedObject {
            origin,
            author,
            collection,
            entries: content.entries.len() as u64,
        });
        for pack in &content.packs {
            let keys = self.place_of(pack.keys);
            self.packs.push(PackRow { id: pack.id, class: pack.class, bytes: pack.bytes, object, keys });
        }
        first
    }

    /// With which keys the records of a pack are sealed.
    pub(super) fn keys_of(&self, pack: &PackRow) -> &PackKeys {
        &self.keys[pack.keys as usize]
    }

    /// How many rows there are.
    pub(super) fn counts(&self) -> RowCounts {
        let count = |rows: usize| rows as u32;
        RowCounts {
            objects: count(self.objects.len()),
            packs: count(self.packs.len()),
            keys: count(self.keys.len()),
        }
    }

    fn place_of(&mut self, keys: PackKeys) -> u32 {
        *self.key_places.entry(keys).or_insert_with(|| {
            self.keys.push(keys);
            self.keys.len() as u32 - 1
        })
    }

    /// Takes over the rows of another table whose objects are to stay; tells where each of its packs has gone.
    pub(super) fn take_over(&mut self, other: &Rows, stays: impl Fn(usize) -> bool) -> Vec<Option<u32>> {
        let objects: Vec<Option<u32>> = (0..other.objects.len())
            .map(|place| {
                stays(place).then(|| {
                    self.objects.push(other.objects[place]);
                    self.objects.len() as u32 - 1
                })
            })
            .collect();
        let packs = other.packs.iter().map(|pack| {
            let object = objects[pack.object as usize]?;
            let keys = self.place_of(*other.keys_of(pack));
            self.packs.push(PackRow { object, keys, ..*pack });
            Some(self.packs.len() as u32 - 1)
        });
        packs.collect()
    }

    /// Writes all rows.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.objects.iter().try_for_each(|object| out.write_all(&encode_object(object)))?;
        self.packs.iter().try_for_each(|pack| out.write_all(&encode_pack(pack)))?;
        self.keys.iter().try_for_each(|keys| out.write_all(&encode_keys(keys)))
    }

    /// Reads so many rows; `None` where something is no row.
    pub(super) fn read(from: &mut impl Read, counts: RowCounts) -> io::Result<Option<Self>> {
        let [objects, packs] = [counts.objects, counts.packs].map(|count| count as usize);
        let mut rows = Self {
            objects: Vec::with_capacity(objects),
            packs: Vec::with_capacity(packs),
            ..Self::default()
        };
        for _ in 0..objects {
            let mut bytes = [0; OBJECT_BYTES];
            from.read_exact(&mut bytes)?;
            let Some(object) = decode_object(&bytes) else { return Ok(None) };
            rows.objects.push(object);
        }
        for _ in 0..packs {
            let mut bytes = [0; PACK_BYTES];
            from.read_exact(&mut bytes)?;
            let is_row = |pack: &PackRow| pack.object < counts.objects && pack.keys < counts.keys;
            let Some(pack) = decode_pack(&bytes).filter(is_row) else { return Ok(None) };
            rows.packs.push(pack);
        }
        for place in 0..counts.keys {
            let mut bytes = [0; KEYS_BYTES];
            from.read_exact(&mut bytes)?;
            let Ok(keys) = PackKeys::decode(&mut Take::new(&bytes)) else { return Ok(None) };
            if rows.place_of(keys) != place {
                return Ok(None);
            }
        }
        Ok(Some(rows))
    }
}

fn encode_object(object: &IndexedObject) -> Vec<u8> {
    let mut out = Vec::with_capacity(OBJECT_BYTES);
    out.extend_from_slice(object.origin.hash.as_bytes());
    out.extend_from_slice(object.origin.session.as_bytes());
    out.extend_from_slice(object.origin.signer.as_bytes());
    let (author, term) = match object.author {
        IndexAuthor::Session => (1, 0),
        IndexAuthor::Custodian { term } => (2, term),
    };
    out.push(author);
    for field in [term, object.collection.get(), object.entries] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out
}

fn decode_object(bytes: &[u8; OBJECT_BYTES]) -> Option<IndexedObject> {
    let mut take = Take::new(bytes);
    let origin = IndexOrigin {
        hash: ObjectHash::new(take.array().ok()?),
        session: SessionId::new(take.array().ok()?),
        signer: SignerKey::new(take.array().ok()?),
    };
    let author = match (take.u8().ok()?, take.u64().ok()?) {
        (1, 0) => IndexAuthor::Session,
        (2, term) => IndexAuthor::Custodian { term },
        _ => return None,
    };
    let collection = CollectionNumber::new(take.u64().ok()?);
    Some(IndexedObject { origin, author, collection, entries: take.u64().ok()? })
}

fn encode_pack(pack: &PackRow) -> [u8; PACK_BYTES] {
    let mut out = [0; PACK_BYTES];
    out[..32].copy_from_slice(pack.id.as_bytes());
    out[32] = pack.class.code();
    out[33..37].copy_from_slice(&pack.bytes.to_le_bytes());
    out[37..41].copy_from_slice(&pack.object.to_le_bytes());
    out[41..].copy_from_slice(&pack.keys.to_le_bytes());
    out
}

/// As in an index object, with zeros up to the length of a row.
fn encode_keys(keys: &PackKeys) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEYS_BYTES);
    keys.encode(&mut out);
    out.resize(KEYS_BYTES, 0);
    out
}

fn decode_pack(bytes: &[u8; PACK_BYTES]) -> Option<PackRow> {
    let mut take = Take::new(bytes);
    let id = PackId::new(take.array().ok()?);
    let class = ChunkClass::from_code(take.u8().ok()?)?;
    let (bytes, object) = (take.u32().ok()?, take.u32().ok()?);
    Some(PackRow { id, class, bytes, object, keys: take.u32().ok()? })
}

#[cfg(test)]
pub(super) mod tests {
    use backstay_core::id::KeyId;

    use super::*;
    use crate::index_object::IndexedPack;

    /// An origin that is told apart by one number.
    pub(crate) fn origin(n: u8) -> IndexOrigin {
        IndexOrigin {
            hash: ObjectHash::new([n; 32]),
            session: SessionId::new([n; 16]),
            signer: SignerKey::new([1; 32]),
        }
    }

    fn content(packs: &[u8], author: IndexAuthor) -> IndexObject {
        let pack = |n: &u8| IndexedPack {
            id: PackId::new([*n; 32]),
            class: if n.is_multiple_of(2) { ChunkClass::Data } else { ChunkClass::Meta },
            bytes: 4096,
            // Packs 1 and 3 have the same.
            keys: PackKeys::of([KeyId::new([n % 2; 16])]).expect("one"),
        };
        let collection = CollectionNumber::new(3);
        IndexObject { author, collection, packs: packs.iter().map(pack).collect(), entries: Vec::new() }
    }

    #[test]
    fn rows_read_back_and_those_of_objects_that_go_are_left_out() {
        let mut rows = Rows::default();
        assert_eq!(rows.add(origin(1), &content(&[1, 2], IndexAuthor::Session)), 0);
        assert_eq!(rows.add(origin(2), &content(&[3], IndexAuthor::Custodian { term: 7 })), 2);
        let mut bytes = Vec::new();
        rows.write(&mut bytes).expect("a vector takes all");
        let counts = RowCounts { objects: 2, packs: 3, keys: 2 };
        assert_eq!((rows.counts(), counts.bytes()), (counts, bytes.len() as u64));
        let read = Rows::read(&mut &bytes[..], counts).expect("there is enough");
        assert_eq!(read.as_ref(), Some(&rows));
        let mut kept = Rows::default();
        assert_eq!(kept.take_over(&rows, |place| place == 1), [None, None, Some(0)]);
        assert_eq!(
            (kept.objects.len(), kept.packs[0].id, kept.packs[0].object),
            (1, PackId::new([3; 32]), 0)
        );
        assert_eq!((kept.keys.len(), kept.keys_of(&kept.packs[0])), (1, rows.keys_of(&rows.packs[0])));
    }

    #[test]
    fn a_pack_of_an_object_or_of_keys_that_are_not_there_is_no_row() {
        let mut rows = Rows::default();
        rows.add(origin(1), &content(&[1], IndexAuthor::Session));
        for (object, keys) in [(1, 0), (0, 1)] {
            let mut wrong = rows.clone();
            (wrong.packs[0].object, wrong.packs[0].keys) = (object, keys);
            let mut bytes = Vec::new();
            wrong.write(&mut bytes).expect("a vector takes all");
            assert_eq!(Rows::read(&mut &bytes[..], rows.counts()).expect("there is enough"), None);
        }
    }
}
