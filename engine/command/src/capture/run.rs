//! The run of an output that has changed: its rows, in parts.

use backstay_core::id::Element;
use backstay_core::run::{Change, Entry, PartRef};
use backstay_files::keys::split_further;
use backstay_files::row::{Reference, decode_further};
use backstay_vault::error::VaultError;
use backstay_vault::table::PartWriter;
use backstay_vault::write::ChunkWriter;

use super::problem::CaptureError;
use crate::row::EncodedStdout;

/// Chunks to which a part refers, before another begins: all of them are in memory until it ends.
const PART_CHUNKS: usize = 128 << 10;

/// The parts of the run that puts these rows in the place of one with the element `replaced`.
pub(super) fn run_of(
    rows: EncodedStdout,
    replaced: Option<Element>,
    chunks: &mut ChunkWriter,
) -> Result<Vec<PartRef>, CaptureError> {
    let EncodedStdout { head, head_references, further, .. } = rows;
    let mut writing = Writing { chunks, part: PartWriter::new(), parts: Vec::new() };
    writing.push(&head.0, &head.1, replaced, &head_references)?;
    for (key, value) in further {
        let first = split_further(&key).1.unwrap_or_default();
        let references = decode_further(first, &value)?;
        writing.push(&key, &value, None, &references)?;
    }
    writing.finish_part()?;
    Ok(writing.parts)
}

struct Writing<'c> {
    chunks: &'c mut ChunkWriter,
    part: PartWriter,
    parts: Vec<PartRef>,
}

impl Writing<'_> {
    fn push(
        &mut self,
        key: &[u8],
        value: &[u8],
        replaced: Option<Element>,
        references: &[Reference],
    ) -> Result<(), VaultError> {
        let ring = std::sync::Arc::clone(self.chunks.ring());
        self.part.push(&ring, self.chunks, &Entry { key, change: Change::Put(value), replaced })?;
        for reference in references {
            self.part.refer(reference.chunk, u64::from(reference.length_bytes));
        }
        if self.part.chunks() >= PART_CHUNKS { self.finish_part() } else { Ok(()) }
    }

    fn finish_part(&mut self) -> Result<(), VaultError> {
        self.parts.extend(std::mem::take(&mut self.part).finish(self.chunks)?);
        Ok(())
    }
}
