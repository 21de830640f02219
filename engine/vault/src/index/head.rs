//! The form of a segment's file: a head of one block, blocks of entries, then tables, fences and filters. Owns the bytes
//! of the head and of a block, and how it is noticed that they are not what was written.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4096 | head: magic, version, vault, key, counts, length and hash of the end, hash of all that |
//! | 4096 for each 85 entries | entries, sorted; 16 bytes of a keyed hash over these and the block's number |
//! | the end | rows of objects, of packs and of their keys, first prefix of each block, filters |

use std::io;

use backstay_core::id::VaultId;

use super::entry::ENTRY_BYTES;
use super::rows::RowCounts;
use crate::take::Take;

/// Bytes of a block, and of the head.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Entries of a block.
pub(super) const BLOCK_ENTRIES: usize = 85;

/// Blocks that share a filter: a million entries, so that building it needs little memory.
pub(super) const PARTITION_BLOCKS: usize = 12_288;

const MAGIC: [u8; 4] = *b"BKIS";
const VERSION: u32 = 2;
const HASH_BYTES: usize = 32;
const CHECK_AT: usize = BLOCK_ENTRIES * ENTRY_BYTES;
const CHECK_BYTES: usize = BLOCK_BYTES - CHECK_AT;

/// A block of entries.
pub(super) type Block = [u8; BLOCK_BYTES];

/// Why a segment cannot be used. It is thrown away then, and what it held is read from the vault.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something is not what was written.
    #[error("its {0} is not what was written")]
    Damaged(&'static str),
    /// It was written by another version of Backstay.
    #[error("it has version {0}")]
    Version(u32),
    /// It is of another vault.
    #[error("it belongs to vault {0}")]
    OtherVault(VaultId),
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) vault: VaultId,
    /// Random, so that no block of another segment is taken for one of this.
    pub(super) key: [u8; 32],
    pub(super) entries: u64,
    /// Different chunks.
    pub(super) chunks: u64,
    /// Their plain bytes.
    pub(super) plain_bytes: u64,
    pub(super) rows: RowCounts,
    pub(super) end_bytes: u64,
    pub(super) end_hash: [u8; HASH_BYTES],
}

impl Head {
    /// How many blocks of entries there are.
    pub(super) fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// How many filters there are.
    pub(super) fn partitions(&self) -> u64 {
        self.blocks().div_ceil(PARTITION_BLOCKS as u64)
    }

    /// Where the end begins.
    pub(super) fn end_at(&self) -> u64 {
        block_at(self.blocks())
    }

    pub(super) fn encode(&self) -> Block {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&self.key);
        for count in [self.entries, self.chunks, self.plain_bytes, self.end_bytes] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for count in [self.rows.objects, self.rows.packs, self.rows.keys] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&self.end_hash);
        out.resize(BLOCK_BYTES - HASH_BYTES, 0);
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out.try_into().expect("as long as a block")
    }

    /// Reads the head of a file of `file_bytes`, of this vault. Its counts fit the length of the file.
    pub(super) fn decode(block: &Block, vault: VaultId, file_bytes: u64) -> Result<Self, SegmentError> {
        let damaged = SegmentError::Damaged("head");
        let (said, hash) = block.split_at(BLOCK_BYTES - HASH_BYTES);
        let mut take = Take::new(said);
        let (Ok(MAGIC), Ok(version)) = (take.array(), take.u32()) else { return Err(damaged) };
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        if blake3::hash(said).as_bytes() != hash {
            return Err(damaged);
        }
        let head = Self::read(&mut take).ok_or(damaged)?;
        if head.vault != vault {
            return Err(SegmentError::OtherVault(head.vault));
        }
        let expected = (head.blocks().checked_add(1))
            .and_then(|blocks| blocks.checked_mul(BLOCK_BYTES as u64))
            .and_then(|bytes| bytes.checked_add(head.end_bytes));
        match expected == Some(file_bytes) && head.entries > 0 {
            true => Ok(head),
            false => Err(SegmentError::Damaged("length")),
        }
    }

    fn read(take: &mut Take<'_>) -> Option<Self> {
        let (vault, key) = (VaultId::new(take.array().ok()?), take.array().ok()?);
        let mut count = || take.u64().ok();
        let (entries, chunks, plain_bytes, end_bytes) = (count()?, count()?, count()?, count()?);
        let mut count = || take.u32().ok();
        let rows = RowCounts { objects: count()?, packs: count()?, keys: count()? };
        let end_hash = take.array().ok()?;
        Some(Self { vault, key, entries, chunks, plain_bytes, rows, end_bytes, end_hash })
    }
}

/// Where a block of entries lies.
pub(super) fn block_at(number: u64) -> u64 {
    (number + 1) * BLOCK_BYTES as u64
}

/// Puts the hash into a block whose entries are in.
pub(super) fn seal_block(key: &[u8; 32], number: u64, block: &mut Block) {
    let hash = hash(key, number, block);
    block[CHECK_AT..].copy_from_slice(&hash);
}

/// That the block is what was written in this place of this segment. What follows its entries is overwritten: hashing
/// a block whole is twice as fast as in two pieces, and takes most of the time of a lookup.
pub(super) fn check_block(key: &[u8; 32], number: u64, block: &mut Block) -> Result<(), SegmentError> {
    let written: [u8; CHECK_BYTES] = *block.last_chunk().expect("a block is longer");
    match hash(key, number, block) == written {
        true => Ok(()),
        false => Err(SegmentError::Damaged("block of entries")),
    }
}

/// The hash of a block with its number in the place of the hash.
fn hash(key: &[u8; 32], number: u64, block: &mut Block) -> [u8; CHECK_BYTES] {
    block[CHECK_AT..].fill(0);
    block[CHECK_AT..CHECK_AT + 8].copy_from_slice(&number.to_le_bytes());
    let hash = blake3::keyed_hash(key, block);
    *hash.as_bytes().first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            vault: VaultId::new([1; 16]),
            key: [2; 32],
            entries: 86,
            chunks: 85,
            plain_bytes: 1000,
            rows: RowCounts { objects: 1, packs: 2, keys: 1 },
            end_bytes: 500,
            end_hash: [3; 32],
        }
    }

    const FILE_BYTES: u64 = 3 * BLOCK_BYTES as u64 + 500;

    #[test]
    fn a_head_reads_back_and_is_refused_with_one_byte_changed_anywhere() {
        let bytes = head().encode();
        assert_eq!(Head::decode(&bytes, head().vault, FILE_BYTES).expect("good"), head());
        for place in 0..BLOCK_BYTES {
            let mut damaged = bytes;
            damaged[place] ^= 1;
            assert!(Head::decode(&damaged, head().vault, FILE_BYTES).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_head_of_another_vault_or_of_a_file_that_was_cut_is_refused() {
        let bytes = head().encode();
        let other = Head::decode(&bytes, VaultId::new([9; 16]), FILE_BYTES);
        assert!(matches!(other, Err(SegmentError::OtherVault(_))));
        assert!(matches!(
            Head::decode(&bytes, head().vault, FILE_BYTES - 1),
            Err(SegmentError::Damaged("length"))
        ));
    }

    #[test]
    fn a_block_is_good_in_its_place_only() {
        let mut block = [5; BLOCK_BYTES];
        seal_block(&[1; 32], 7, &mut block);
        let check = |key: u8, number, mut block: Block| check_block(&[key; 32], number, &mut block);
        assert!(check(1, 7, block).is_ok());
        assert!(check(1, 8, block).is_err(), "another place");
        assert!(check(2, 7, block).is_err(), "another segment");
        block[100] ^= 1;
        assert!(check(1, 7, block).is_err());
    }
}
