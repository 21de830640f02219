//! The root of a part and its index blocks: how a key is found without reading the whole part.

use backstay_core::id::ChunkId;
use backstay_core::run::KEY_BYTES_MAX;
use minicbor::{Decode, Encode};

use super::block::shared_prefix;
use crate::chunk::CHUNK_BYTES_MAX;
use crate::malformed::Malformed;
use crate::take::{Take, put_varint};

/// The root of a part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PartRoot {
    /// Version of the table's form: 0.
    #[n(0)]
    pub version: u32,
    /// Least key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub first_key: Vec<u8>,
    /// Greatest key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub last_key: Vec<u8>,
    /// How many entries.
    #[n(3)]
    pub entries: u64,
    /// Plain bytes in blocks.
    #[n(4)]
    pub bytes: u64,
    /// Index blocks, in order.
    #[n(5)]
    pub index: Vec<IndexBlockRef>,
    /// Pieces of the live table, in order.
    #[n(6)]
    pub live: Vec<PieceRef>,
    /// Pieces of the range tombstones, in order.
    #[n(7)]
    pub range_tombstones: Vec<PieceRef>,
}

/// Where an index block is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct IndexBlockRef {
    /// Least key below it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub first_key: Vec<u8>,
    /// The chunk.
    #[n(1)]
    pub chunk: ChunkId,
    /// Its plain length, bytes.
    #[n(2)]
    pub length: u32,
    /// How many blocks it lists.
    #[n(3)]
    pub blocks: u64,
}

/// Where a piece of a list is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PieceRef {
    /// The chunk.
    #[n(0)]
    pub chunk: ChunkId,
    /// Its plain length, bytes.
    #[n(1)]
    pub length: u32,
}

/// One row of an index block: where a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Least key in the block.
    pub first_key: Vec<u8>,
    /// The chunk.
    pub chunk: ChunkId,
    /// Its plain length, bytes.
    pub length: u32,
    /// How many entries it has.
    pub entries: u64,
}

/// Appends a row to an index block; `last_key` is the key of the row before, empty for the first.
pub(super) fn encode_index_row(out: &mut Vec<u8>, last_key: &[u8], row: &IndexRow) {
    let shared = shared_prefix(last_key, &row.first_key);
    put_varint(out, shared as u64);
    put_varint(out, (row.first_key.len() - shared) as u64);
    out.extend_from_slice(&row.first_key[shared..]);
    out.extend_from_slice(row.chunk.as_bytes());
    put_varint(out, u64::from(row.length));
    put_varint(out, row.entries);
}

/// An index block is closed at this size, bytes.
pub(super) const INDEX_BLOCK_BYTES: usize = 64 << 10;

/// Greatest index block: it is closed at the row with which it has [`INDEX_BLOCK_BYTES`], and a row has a key and little else.
const INDEX_BLOCK_BYTES_MAX: usize = INDEX_BLOCK_BYTES + KEY_BYTES_MAX + 64;

/// Reads an index block.
pub fn decode_index(bytes: &[u8]) -> Result<Vec<IndexRow>, Malformed> {
    // Keys that share their beginnings take more room here than there.
    if bytes.len() > INDEX_BLOCK_BYTES_MAX {
        return Err(Malformed::Field("length of an index block"));
    }
    let mut rows: Vec<IndexRow> = Vec::new();
    let mut take = Take::new(bytes);
    let mut key: Vec<u8> = Vec::new();
    while !take.is_empty() {
        let shared = take.length(key.len())?;
        let rest = take.length(KEY_BYTES_MAX - shared.min(KEY_BYTES_MAX))?;
        key.truncate(shared);
        key.extend_from_slice(take.bytes(rest)?);
        if rows.last().is_some_and(|last| last.first_key >= key) {
            return Err(Malformed::Field("order of keys"));
        }
        let chunk = ChunkId::new(take.array()?);
        let length = take.length(CHUNK_BYTES_MAX)? as u32;
        rows.push(IndexRow { first_key: key.clone(), chunk, length, entries: take.varint()? });
    }
    // The part would end here.
    if rows.is_empty() { Err(Malformed::Short) } else { Ok(rows) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn index_rows_read_back() {
        let row = |key: &[u8]| IndexRow {
            first_key: key.to_vec(),
            chunk: ChunkId::new([1; 32]),
            length: 9,
            entries: 3,
        };
        let rows = vec![row(b""), row(b"abc"), row(b"abd")];
        let mut bytes = Vec::new();
        let mut last: &[u8] = b"";
        for row in &rows {
            encode_index_row(&mut bytes, last, row);
            last = &row.first_key;
        }
        assert_eq!(decode_index(&bytes), Ok(rows));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_index(&bytes);
            let _ = crate::malformed::decode_cbor::<PartRoot>(&bytes);
        }
    }
}
