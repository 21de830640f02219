//! One entry of the index, in memory and as 48 bytes of a segment: which chunk, in which pack of a table beside it.
//! Owns the order of entries.

use backstay_core::id::{ChunkId, PackId};

use crate::pack::PackEntry;

/// Bytes of an entry in a segment.
pub(super) const ENTRY_BYTES: usize = 48;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// How long the pack is, bytes.
    pub pack_bytes: u32,
    /// Where the record begins, bytes.
    pub offset: u32,
    /// Length of the record, bytes.
    pub length: u32,
    /// Plain length of the chunk, bytes.
    pub plain_length: u32,
}

/// An entry. Entries are sorted by chunk, then by place of the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) id: ChunkId,
    /// Place of the pack in the table that goes with the entry.
    pub(super) pack: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) plain_length: u32,
}

impl Entry {
    /// The entry of an index object whose packs begin at `first_pack` in the table.
    pub(super) fn of_object(first_pack: u32, pack: u32, entry: &PackEntry) -> Self {
        let PackEntry { id, offset, length, plain_length } = *entry;
        Self { id, pack: first_pack + pack, offset, length, plain_length }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..ChunkId::LENGTH].copy_from_slice(self.id.as_bytes());
        let fields = [self.pack, self.offset, self.length, self.plain_length];
        for (place, field) in bytes[ChunkId::LENGTH..].chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads it back.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (id, fields) = bytes.split_first_chunk().expect("32 of 48 bytes");
        let field = |place: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|byte| fields[4 * place + byte]);
            u32::from_le_bytes([a, b, c, d])
        };
        Self {
            id: ChunkId::new(*id),
            pack: field(0),
            offset: field(1),
            length: field(2),
            plain_length: field(3),
        }
    }

    /// Where that is.
    pub(super) fn location(&self, pack: PackId, pack_bytes: u32) -> Location {
        let Self { offset, length, plain_length, .. } = *self;
        Location { pack, pack_bytes, offset, length, plain_length }
    }
}

/// The first eight bytes of a chunk's id as a number that sorts like the id. Ids are hashes already: it also serves as
/// their hash.
pub(super) fn prefix(id: &ChunkId) -> u64 {
    let first = id.as_bytes().first_chunk().expect("32 bytes have 8");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_its_prefix_sorts_like_its_id() {
        let entry =
            Entry { id: ChunkId::new([7; 32]), pack: 1, offset: 2, length: 0x0102_0304, plain_length: 9 };
        assert_eq!(Entry::decode(&entry.encode()), entry);
        let mut greater = [7; 32];
        greater[1] = 8;
        assert!(prefix(&entry.id) < prefix(&ChunkId::new(greater)));
    }
}
