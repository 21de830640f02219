//! Blocks: entries one after the other, each key without what it shares with the key before.

use backstay_core::id::Element;
use backstay_core::run::{Change, Entry, KEY_BYTES_MAX, VALUE_BYTES_MAX};

use crate::malformed::Malformed;
use crate::take::{Take, put_varint};

const FLAG_TOMBSTONE: u8 = 1;
const FLAG_REPLACED: u8 = 2;

/// Builds a block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    first_key: Vec<u8>,
    entries: u64,
}

impl BlockBuilder {
    /// Appends an entry. Keys rise strictly, and key and value are within the bounds of `core::run`.
    pub fn push(&mut self, entry: &Entry<'_>) {
        if self.entries == 0 {
            self.first_key.extend_from_slice(entry.key);
        }
        let shared = shared_prefix(&self.last_key, entry.key);
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (entry.key.len() - shared) as u64);
        self.bytes.extend_from_slice(&entry.key[shared..]);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&entry.key[shared..]);
        let tombstone = if entry.change == Change::Tombstone { FLAG_TOMBSTONE } else { 0 };
        let replaced = if entry.replaced.is_some() { FLAG_REPLACED } else { 0 };
        self.bytes.push(tombstone | replaced);
        if let Some(element) = &entry.replaced {
            self.bytes.extend_from_slice(element.as_bytes());
        }
        if let Change::Put(value) = entry.change {
            put_varint(&mut self.bytes, value.len() as u64);
            self.bytes.extend_from_slice(value);
        }
        self.entries += 1;
    }

    /// Length of the block so far, bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Least key.
    pub fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// Greatest key.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// How many entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The block; the builder is empty again.
    pub fn take(&mut self) -> Vec<u8> {
        self.last_key.clear();
        self.first_key.clear();
        self.entries = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Reads a block entry by entry, without copying values.
#[derive(Debug, Default)]
pub struct BlockReader {
    bytes: Vec<u8>,
    at: usize,
    key: Vec<u8>,
    value: std::ops::Range<usize>,
    tombstone: bool,
    replaced: Option<Element>,
    started: bool,
}

impl BlockReader {
    /// A reader that stands before the first entry.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Moves to the next entry; false at the end.
    pub fn advance(&mut self) -> Result<bool, Malformed> {
        let mut take = Take::new(&self.bytes[self.at..]);
        if take.is_empty() {
            return Ok(false);
        }
        let shared = take.length(self.key.len())?;
        let rest = take.length(KEY_BYTES_MAX - shared.min(KEY_BYTES_MAX))?;
        let rest = take.bytes(rest)?;
        // Rising keys: what follows the shared beginning must be greater than what stood there.
        if self.started && rest <= &self.key[shared..] {
            return Err(Malformed::Field("order of keys"));
        }
        let flags = take.u8()?;
        if flags & !(FLAG_TOMBSTONE | FLAG_REPLACED) != 0 {
            return Err(Malformed::Field("flags of an entry"));
        }
        self.replaced = if flags & FLAG_REPLACED != 0 { Some(Element::new(take.array()?)) } else { None };
        self.tombstone = flags & FLAG_TOMBSTONE != 0;
        let length = if self.tombstone { 0 } else { take.length(VALUE_BYTES_MAX)? };
        let value_at = self.bytes.len() - take.rest().len();
        take.bytes(length)?;
        self.value = value_at..value_at + length;
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.at = self.value.end;
        self.started = true;
        Ok(true)
    }

    /// The key read last.
    pub(super) fn last_key(&self) -> &[u8] {
        &self.key
    }

    /// The entry at which the reader stands, after [`BlockReader::advance`] said true.
    pub fn entry(&self) -> Entry<'_> {
        let change =
            if self.tombstone { Change::Tombstone } else { Change::Put(&self.bytes[self.value.clone()]) };
        Entry { key: &self.key, change, replaced: self.replaced }
    }
}

pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_read_back(
            entries in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 0..6),
                (proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), proptest::option::of(any::<[u8; 32]>())),
                0..30,
            )
        ) {
            let mut builder = BlockBuilder::default();
            for (key, (value, replaced)) in &entries {
                let change = value.as_deref().map_or(Change::Tombstone, Change::Put);
                builder.push(&Entry { key, change, replaced: replaced.map(Element::new) });
            }
            let mut reader = BlockReader::new(builder.take());
            let mut read = BTreeMap::new();
            while reader.advance().expect("reads") {
                let entry = reader.entry();
                let value = entry.change.value().map(<[u8]>::to_vec);
                read.insert(entry.key.to_vec(), (value, entry.replaced.map(|e| *e.as_bytes())));
            }
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn arbitrary_bytes_end_or_are_refused_and_keys_rise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = BlockReader::new(bytes);
            let mut last: Option<Vec<u8>> = None;
            while let Ok(true) = reader.advance() {
                let key = reader.entry().key.to_vec();
                prop_assert!(last.is_none_or(|last| last < key));
                last = Some(key);
            }
        }
    }
}
