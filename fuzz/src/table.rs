//! Sorted tables (docs/format.md, section 7): their parts, and a whole one.

use backstay_core::fold::Cursor;
use backstay_core::id::ChunkId;
use backstay_core::run::{KEY_BYTES_MAX, PartRef, VALUE_BYTES_MAX};
use backstay_vault::malformed::{decode_cbor, encode_cbor};
use backstay_vault::table::{
    BlockBuilder, BlockReader, ChunkSource, LiveTable, PartCursor, PartRoot, decode_index,
};

/// A table may name a block over and over; looking at so many entries is enough.
const ENTRIES_MAX: usize = 20_000;

/// A block: keys rise and are bounded, and written again it reads as it did.
pub fn block(data: &[u8]) {
    let mut reader = BlockReader::new(data.to_vec());
    let mut builder = BlockBuilder::default();
    let mut entries = Vec::new();
    while let Ok(true) = reader.advance() {
        let entry = reader.entry();
        assert!(entry.key.len() <= KEY_BYTES_MAX);
        assert!(entry.change.value().is_none_or(|value| value.len() <= VALUE_BYTES_MAX));
        assert!(entries.last().is_none_or(|last: &Vec<u8>| last.as_slice() < entry.key), "keys rise");
        entries.push(entry.key.to_vec());
        builder.push(&entry);
    }
    let mut again = BlockReader::new(builder.take());
    for key in entries {
        assert_eq!(again.advance(), Ok(true));
        assert_eq!(again.entry().key, key);
    }
    assert_eq!(again.advance(), Ok(false));
}

/// An index block: keys rise.
pub fn index_block(data: &[u8]) {
    if let Ok(rows) = decode_index(data) {
        assert!(rows.is_sorted_by(|a, b| a.first_key < b.first_key));
    }
}

/// A piece of a live table: chunks rise.
pub fn live_table(data: &[u8]) {
    if let Ok(rows) = LiveTable::decode_piece(data) {
        assert!(rows.is_sorted_by(|a, b| a.chunk < b.chunk));
    }
}

/// The root of a part.
pub fn part_root(data: &[u8]) {
    if let Ok(root) = decode_cbor::<PartRoot>(data) {
        assert_eq!(decode_cbor(&encode_cbor(&root)), Ok(root));
    }
}

/// Chunks of which each is named by its place: the id of chunk n is n, 32 times.
struct Places(Vec<Vec<u8>>);

impl ChunkSource for Places {
    type Error = ();

    fn fetch_meta(&self, chunks: &[ChunkId]) -> Result<Vec<Vec<u8>>, ()> {
        chunks.iter().map(|id| self.0.get(usize::from(id.as_bytes()[0])).cloned().ok_or(())).collect()
    }
}

/// A whole part: `data` is its chunks, each after its length (u16), first the root. Read from the key of three bytes
/// with which `data` begins.
pub fn table(data: &[u8]) {
    let Some((from, mut rest)) = data.split_first_chunk::<3>() else { return };
    let mut chunks = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (chunk, after) = after.split_at(length);
        chunks.push(chunk.to_vec());
        rest = after;
    }
    let part = PartRef {
        root: ChunkId::new([0; 32]),
        root_length: 0,
        first_key: vec![],
        last_key: vec![],
        entries: 0,
    };
    let Ok(mut cursor) = PartCursor::open(Places(chunks), &part, from) else { return };
    let mut seen = 0;
    while seen < ENTRIES_MAX && matches!(cursor.advance(), Ok(true)) {
        assert!(seen > 0 || cursor.entry().key >= from.as_slice(), "begins where it was told");
        seen += 1;
    }
}
