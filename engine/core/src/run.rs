//! Runs and their parts: which edits exist, between which points, and what one entry of them is.
//! Owns the model; blocks and tables on disk are the vault's.

use minicbor::{Decode, Encode};

use crate::id::{ChunkId, Element};

/// Greatest length of a key, bytes.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

/// Greatest length of one entry's value, bytes.
pub const VALUE_BYTES_MAX: usize = 96 * 1024;

/// What an entry does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The key has this value from here on.
    Put(&'a [u8]),
    /// The key is gone from here on.
    Tombstone,
}

impl<'a> Change<'a> {
    /// The value, if there is one.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Change::Put(value) => Some(value),
            Change::Tombstone => None,
        }
    }
}

/// One entry of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Order-preserving bytes.
    pub key: &'a [u8],
    /// Put or tombstone.
    pub change: Change<'a>,
    /// The element that this entry replaces or removes in the point before, if that had one.
    pub replaced: Option<Element>,
}

/// Where a part of a run is, and what it spans. A part is a sorted table of metadata chunks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PartRef {
    /// The chunk that holds the part's root.
    #[n(0)]
    pub root: ChunkId,
    /// Plain length of that chunk, bytes.
    #[n(1)]
    pub root_length: u32,
    /// Least key, inclusive.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub first_key: Vec<u8>,
    /// Greatest key, inclusive.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub last_key: Vec<u8>,
    /// How many entries.
    #[n(4)]
    pub entries: u64,
}

/// A run: the edit that turns one state into a later one. Between which points it leads, a point or a layout says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Run {
    /// Parts with disjoint key ranges, in rising order.
    #[n(0)]
    pub parts: Vec<PartRef>,
}

/// Parts whose key ranges overlap or are out of order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "part {part} of the run ends before it begins, or begins before the one before it ends: the run is damaged or was written wrongly"
)]
pub struct OverlappingParts {
    /// Place of the offending part, from 0.
    pub part: usize,
}

/// Checks that the parts are in rising order and do not overlap.
pub fn check_parts(parts: &[PartRef]) -> Result<(), OverlappingParts> {
    let mut before: Option<&PartRef> = None;
    for (place, part) in parts.iter().enumerate() {
        let follows = before.is_none_or(|before| before.last_key < part.first_key);
        if !follows || part.first_key > part.last_key {
            return Err(OverlappingParts { part: place });
        }
        before = Some(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: &[u8], last: &[u8]) -> PartRef {
        PartRef {
            root: ChunkId::new([1; 32]),
            root_length: 1,
            first_key: first.to_vec(),
            last_key: last.to_vec(),
            entries: 2,
        }
    }

    #[test]
    fn parts_in_order_pass_and_overlapping_ones_are_named() {
        assert_eq!(check_parts(&[part(b"a", b"b"), part(b"c", b"c")]), Ok(()));
        assert_eq!(check_parts(&[part(b"a", b"c"), part(b"c", b"d")]), Err(OverlappingParts { part: 1 }));
        assert_eq!(check_parts(&[part(b"b", b"a")]), Err(OverlappingParts { part: 0 }));
    }
}
