//! Index objects: which chunk lies where (docs/format.md, section 6). Owns their bytes; what is
//! believed of them is the index's.

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, PackId};

use crate::chunk::ChunkClass;
use crate::malformed::Malformed;
use crate::pack::{PACK_BYTES_MAX, PackEntry};
use crate::pack_keys::PackKeys;
use crate::take::Take;

/// Most entries in one index object.
pub const INDEX_ENTRIES_MAX: usize = 1 << 20;

/// Most packs in one index object.
pub const INDEX_PACKS_MAX: usize = 1 << 16;

const VERSION: u8 = 0;
const HEAD_BYTES: usize = 32;

/// On whose authority an index object speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexAuthor {
    /// A writer's session.
    Session,
    /// The custodian of this term.
    Custodian {
        /// The term.
        term: u64,
    },
}

/// A pack that an index object describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub id: PackId,
    /// Class of its records.
    pub class: ChunkClass,
    /// Length of the pack, bytes.
    pub bytes: u32,
    /// With which its records are sealed.
    pub keys: PackKeys,
}

/// One index object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexObject {
    /// On whose authority.
    pub author: IndexAuthor,
    /// The newest collection when it was written; a writer's carries that of its session.
    pub collection: CollectionNumber,
    /// The packs.
    pub packs: Vec<IndexedPack>,
    /// Place of the pack in `packs`, and the record in it.
    pub entries: Vec<(u32, PackEntry)>,
}

impl IndexObject {
    /// The index of these packs and their records, entries in the order of the format.
    pub fn of_packs(
        author: IndexAuthor,
        collection: CollectionNumber,
        packs: &[(IndexedPack, Vec<PackEntry>)],
    ) -> Self {
        let mut entries: Vec<(u32, PackEntry)> = (0u32..)
            .zip(packs)
            .flat_map(|(place, (_, records))| records.iter().map(move |entry| (place, *entry)))
            .collect();
        entries.sort_unstable_by_key(|(place, entry)| (packs[*place as usize].0.class, entry.id, *place));
        Self { author, collection, packs: packs.iter().map(|(pack, _)| *pack).collect(), entries }
    }

    /// The payload of the object's envelope.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.packs.len() * 54 + self.entries.len() * 48);
        let (author, term) = match self.author {
            IndexAuthor::Session => (1, 0),
            IndexAuthor::Custodian { term } => (2, term),
        };
        out.extend_from_slice(&[VERSION, author, 0, 0]);
        out.extend_from_slice(&term.to_le_bytes());
        out.extend_from_slice(&self.collection.get().to_le_bytes());
        out.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for pack in &self.packs {
            out.extend_from_slice(pack.id.as_bytes());
            out.push(pack.class.code());
            out.extend_from_slice(&pack.bytes.to_le_bytes());
            pack.keys.encode(&mut out);
        }
        for (place, entry) in &self.entries {
            out.extend_from_slice(entry.id.as_bytes());
            for field in [*place, entry.offset, entry.length, entry.plain_length] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out
    }

    /// Reads the payload of an index object's envelope.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(payload);
        match take.u8()? {
            VERSION => {}
            found => return Err(Malformed::Newer { found, known: VERSION }),
        }
        let author = take.u8()?;
        take.bytes(2)?;
        let author = match (author, take.u64()?) {
            (1, 0) => IndexAuthor::Session,
            (2, term) => IndexAuthor::Custodian { term },
            _ => return Err(Malformed::Field("author")),
        };
        let collection = CollectionNumber::new(take.u64()?);
        let (packs, entries) = (take.u32()? as usize, take.u64()?);
        if packs > INDEX_PACKS_MAX || entries > INDEX_ENTRIES_MAX as u64 {
            return Err(Malformed::Field("number of entries"));
        }
        let packs = (0..packs).map(|_| decode_pack(&mut take)).collect::<Result<Vec<_>, _>>()?;
        let entries = (0..entries).map(|_| decode_entry(&mut take, &packs)).collect::<Result<Vec<_>, _>>()?;
        if !take.is_empty() {
            return Err(Malformed::Field("end"));
        }
        Ok(Self { author, collection, packs, entries })
    }
}

fn decode_pack(take: &mut Take<'_>) -> Result<IndexedPack, Malformed> {
    let id = PackId::new(take.array()?);
    let class = ChunkClass::from_code(take.u8()?).ok_or(Malformed::Field("class"))?;
    let bytes = take.u32()?;
    if bytes as usize > PACK_BYTES_MAX {
        return Err(Malformed::Field("size of a pack"));
    }
    Ok(IndexedPack { id, class, bytes, keys: PackKeys::decode(take)? })
}

fn decode_entry(take: &mut Take<'_>, packs: &[IndexedPack]) -> Result<(u32, PackEntry), Malformed> {
    let id = ChunkId::new(take.array()?);
    let place = take.u32()?;
    let entry = PackEntry { id, offset: take.u32()?, length: take.u32()?, plain_length: take.u32()? };
    let pack = packs.get(place as usize).ok_or(Malformed::Field("place of a pack"))?;
    if u64::from(entry.offset) + u64::from(entry.length) > u64::from(pack.bytes) {
        return Err(Malformed::Field("place of a record"));
    }
    Ok((place, entry))
}

#[cfg(test)]
mod tests {
    use backstay_core::id::KeyId;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> IndexObject {
        let keys = PackKeys::of([1, 2].map(|n| KeyId::new([n; 16]))).expect("few");
        let pack = IndexedPack { id: PackId::new([9; 32]), class: ChunkClass::Meta, bytes: 4096, keys };
        let entry = PackEntry { id: ChunkId::new([3; 32]), offset: 32, length: 200, plain_length: 500 };
        IndexObject {
            author: IndexAuthor::Custodian { term: 4 },
            collection: CollectionNumber::new(7),
            packs: vec![pack],
            entries: vec![(0, entry)],
        }
    }

    #[test]
    fn an_index_object_reads_back() {
        assert_eq!(IndexObject::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn the_numbers_of_an_index_object_stand_where_the_document_says() {
        let bytes = sample().encode();
        assert_eq!(bytes[..4], [0, 2, 0, 0]);
        assert_eq!([&bytes[4..12], &bytes[12..20]], [4u64, 7].map(u64::to_le_bytes));
        assert_eq!((&bytes[20..24], &bytes[24..32]), (&1u32.to_le_bytes()[..], &1u64.to_le_bytes()[..]));
        assert_eq!((&bytes[32..64], bytes[69]), (&[9; 32][..], 2));
        assert_eq!([&bytes[70..86], &bytes[86..102]], [[1; 16], [2; 16]]);
    }

    #[test]
    fn the_greatest_index_object_fits_into_an_envelope() {
        let keys = PackKeys::of((0..8).map(|n| KeyId::new([n; 16]))).expect("eight");
        let pack = IndexedPack { keys, ..sample().packs[0] };
        let object = IndexObject {
            packs: vec![pack; INDEX_PACKS_MAX],
            entries: vec![sample().entries[0]; INDEX_ENTRIES_MAX],
            ..sample()
        };
        assert!(object.encode().len() + (1 << 10) < crate::envelope::ENVELOPE_BYTES_MAX);
    }

    #[test]
    fn a_record_outside_of_its_pack_is_refused() {
        let mut object = sample();
        object.entries[0].1.offset = 4000;
        assert_eq!(IndexObject::decode(&object.encode()), Err(Malformed::Field("place of a record")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = IndexObject::decode(&bytes);
        }
    }
}
