//! References: which chunks a file's contents are in, as bytes and spread over rows. A file may have
//! millions, so they are written and checked as they go by.

use backstay_core::id::ChunkId;

use crate::keys::further_key;

use super::object::SIZE_BYTES_MAX;
use super::{RowError, RowFault, encode_further, varint};

/// Greatest number of references in a head row.
pub const HEAD_REFERENCES_MAX: usize = 16;

/// Greatest number of references in a further row.
pub const FURTHER_REFERENCES_MAX: usize = 256;

/// Greatest length of a chunk, bytes.
pub const CHUNK_BYTES_MAX: u64 = 16 << 20;

const FIELD: &str = "references";

/// A stretch of a file and where its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Where in the file it begins, bytes.
    pub offset_bytes: u64,
    /// The chunk that holds it.
    pub chunk: ChunkId,
    /// Where in the chunk it begins, bytes.
    pub chunk_offset_bytes: u32,
    /// Its length, bytes; at least 1, and within the chunk at most [`CHUNK_BYTES_MAX`].
    pub length_bytes: u32,
}

impl Reference {
    /// The first byte of the file behind it.
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes.saturating_add(u64::from(self.length_bytes))
    }

    fn is_sound(&self) -> bool {
        let in_chunk = u64::from(self.chunk_offset_bytes) + u64::from(self.length_bytes);
        self.length_bytes > 0 && in_chunk <= CHUNK_BYTES_MAX && self.end_bytes() <= SIZE_BYTES_MAX
    }
}

/// The compact byte form, the first gap counted from `start_bytes`.
pub(super) fn encode(references: &[Reference], start_bytes: u64) -> Result<Vec<u8>, RowError> {
    let mut out = Vec::with_capacity(references.len() * (ChunkId::LENGTH + 8));
    let mut end = start_bytes;
    for reference in references {
        let gap = reference.offset_bytes.checked_sub(end).ok_or(fault(RowFault::Order))?;
        if !reference.is_sound() {
            return Err(fault(RowFault::Bounds));
        }
        varint::put(&mut out, gap);
        out.extend_from_slice(reference.chunk.as_bytes());
        varint::put(&mut out, reference.chunk_offset_bytes.into());
        varint::put(&mut out, reference.length_bytes.into());
        end = reference.end_bytes();
    }
    Ok(out)
}

/// From the byte form: sound, rising, without overlap, at most `max`.
pub(super) fn decode(mut bytes: &[u8], start_bytes: u64, max: usize) -> Result<Vec<Reference>, RowError> {
    let mut references = Vec::new();
    let mut end = start_bytes;
    while !bytes.is_empty() {
        if references.len() == max {
            return Err(fault(RowFault::Bounds));
        }
        let gap = varint::take(&mut bytes, FIELD)?;
        let (chunk, rest) = bytes.split_first_chunk().ok_or(fault(RowFault::Short))?;
        bytes = rest;
        let reference = Reference {
            offset_bytes: end.checked_add(gap).ok_or(fault(RowFault::Bounds))?,
            chunk: ChunkId::new(*chunk),
            chunk_offset_bytes: take_u32(&mut bytes)?,
            length_bytes: take_u32(&mut bytes)?,
        };
        if !reference.is_sound() {
            return Err(fault(RowFault::Bounds));
        }
        end = reference.end_bytes();
        references.push(reference);
    }
    Ok(references)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, RowError> {
    u32::try_from(varint::take(bytes, FIELD)?).map_err(|_| fault(RowFault::Bounds))
}

fn fault(fault: RowFault) -> RowError {
    RowError { field: FIELD, fault }
}

/// Key and value of a row.
pub type EncodedRow = (Vec<u8>, Vec<u8>);

/// Spreads the references of one file over its head row and further rows, as they come.
#[derive(Debug)]
pub struct ReferenceRows {
    head_key: Vec<u8>,
    head: Vec<Reference>,
    further: Vec<Reference>,
    total: u64,
}

/// What [`ReferenceRows`] leaves for the head row.
#[derive(Debug)]
pub struct WrittenReferences {
    /// For [`super::RowFacts::references`].
    pub head: Vec<Reference>,
    /// For [`super::RowFacts::references_total`].
    pub total: Option<u64>,
    /// The last further row, if there is one.
    pub last_row: Option<EncodedRow>,
}

impl ReferenceRows {
    /// For the file whose head row has the key `head_key`.
    pub fn new(head_key: &[u8]) -> Self {
        Self { head_key: head_key.to_vec(), head: Vec::new(), further: Vec::new(), total: 0 }
    }

    /// Adds the next reference; gives a further row when that made one full.
    pub fn push(&mut self, reference: Reference) -> Result<Option<EncodedRow>, RowError> {
        self.total += 1;
        if self.head.len() < HEAD_REFERENCES_MAX {
            self.head.push(reference);
            return Ok(None);
        }
        self.further.push(reference);
        if self.further.len() < FURTHER_REFERENCES_MAX { Ok(None) } else { self.take_row() }
    }

    /// What is left after the last reference.
    pub fn finish(mut self) -> Result<WrittenReferences, RowError> {
        let last_row = self.take_row()?;
        let total = (self.total > HEAD_REFERENCES_MAX as u64).then_some(self.total);
        Ok(WrittenReferences { head: self.head, total, last_row })
    }

    fn take_row(&mut self) -> Result<Option<EncodedRow>, RowError> {
        let references = std::mem::take(&mut self.further);
        let Some(first) = references.first() else { return Ok(None) };
        let key = further_key(&self.head_key, first.offset_bytes);
        Ok(Some((key, encode_further(&references)?)))
    }
}

/// Checks the references of one file while its rows are read: in order, within its size, none missing.
#[derive(Debug)]
pub struct ReferenceCheck {
    size_bytes: u64,
    expected: u64,
    seen: u64,
    end_bytes: u64,
}

impl ReferenceCheck {
    /// For a file of this size whose head row has these facts.
    pub fn new(size_bytes: u64, facts: &super::RowFacts) -> Result<Self, RowError> {
        let expected = facts.references_total.unwrap_or(facts.references.len() as u64);
        let mut check = Self { size_bytes, expected, seen: 0, end_bytes: 0 };
        check.row(&facts.references)?;
        Ok(check)
    }

    /// Takes note of the references of the next further row.
    pub fn row(&mut self, references: &[Reference]) -> Result<(), RowError> {
        for reference in references {
            if reference.offset_bytes < self.end_bytes {
                return Err(fault(RowFault::Order));
            }
            if reference.end_bytes() > self.size_bytes || self.seen == self.expected {
                return Err(fault(RowFault::Bounds));
            }
            self.end_bytes = reference.end_bytes();
            self.seen += 1;
        }
        Ok(())
    }

    /// After the last row.
    pub fn finish(self) -> Result<(), RowError> {
        if self.seen == self.expected { Ok(()) } else { Err(fault(RowFault::Missing)) }
    }
}
