//! Segments of the local index: files under a node's state. Their hashes keep damage from what is behind them, so one
//! target makes the hashes right.

use backstay_core::id::VaultId;
use backstay_vault::index::read_segment;

/// The vault of all segments here.
pub const SEGMENT_VAULT: VaultId = VaultId::new([5; 16]);

const BLOCK_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 48;
const BLOCK_ENTRIES: usize = 85;
const CHECK_BYTES: usize = 16;
const KEY: [u8; 32] = [6; 32];

/// Counts that a short input stands for: entries, objects, packs, keys, and bytes of entries that follow.
pub const SEALED_SEGMENT_HEAD_BYTES: usize = 8 + 4 + 4 + 4 + 2;

/// Most blocks that are made of what is not there, so that an input cannot ask for a large file.
const BLOCKS_MAX: usize = 4;

/// A whole file.
pub fn segment(data: &[u8]) {
    let _ = read_segment(data, SEGMENT_VAULT);
}

/// A file whose counts, entries and end are these, with hashes that are right. `data` is the number of entries (u64), of
/// objects, of packs and of lists of keys (u32 each), the length of the entries that follow (u16), these, and the end.
pub fn sealed_segment(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<SEALED_SEGMENT_HEAD_BYTES>() else { return };
    let (counts, length) = head.split_at(20);
    let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
    let (entries, end) = rest.split_at(length);
    let _ = read_segment(&file(counts, entries, end), SEGMENT_VAULT);
}

fn file(counts: &[u8], entries: &[u8], end: &[u8]) -> Vec<u8> {
    let said = u64::from_le_bytes(counts[..8].try_into().expect("8 bytes"));
    let blocks = (said.div_ceil(BLOCK_ENTRIES as u64) as usize)
        .min(BLOCKS_MAX.max(entries.len().div_ceil(BLOCK_ENTRIES * ENTRY_BYTES)));
    let mut out = b"BKIS\x02\0\0\0".to_vec();
    out.extend_from_slice(SEGMENT_VAULT.as_bytes());
    out.extend_from_slice(&KEY);
    out.extend_from_slice(&counts[..8]);
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&(end.len() as u64).to_le_bytes());
    out.extend_from_slice(&counts[8..]);
    out.extend_from_slice(blake3::hash(end).as_bytes());
    out.resize(BLOCK_BYTES - 32, 0);
    out.extend_from_slice(blake3::hash(&out).as_bytes());
    for number in 0..blocks {
        let each = BLOCK_ENTRIES * ENTRY_BYTES;
        let held = entries.get(number * each..).unwrap_or_default();
        let mut block = held[..held.len().min(each)].to_vec();
        block.resize(BLOCK_BYTES - CHECK_BYTES, 0);
        block.extend_from_slice(&(number as u64).to_le_bytes());
        block.resize(BLOCK_BYTES, 0);
        let check = blake3::keyed_hash(&KEY, &block);
        block.truncate(BLOCK_BYTES - CHECK_BYTES);
        out.extend_from_slice(&block);
        out.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
    }
    out.extend_from_slice(end);
    out
}
