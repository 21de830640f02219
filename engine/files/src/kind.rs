//! What whoever merges runs has to know of the rows of a directory tree.

use backstay_core::fold::FoldRule;
use backstay_core::id::{ChunkId, Element};
use backstay_core::kind::{ChunkRange, KindRules, UnreadableRow};

use crate::keys::{HeadKey, is_further, split_further};
use crate::row::{HeadRow, Reference, RowError, decode_further, element, encode_further};
use crate::rule::FilesRule;

/// The kind `files`.
#[derive(Debug, Default, Clone, Copy)]
pub struct FilesKind;

impl FilesKind {
    /// Its name, as points carry it.
    pub const NAME: &'static str = "files";
}

impl KindRules for FilesKind {
    fn fold_rule(&self) -> Box<dyn FoldRule + Send> {
        Box::new(FilesRule::default())
    }

    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow> {
        match is_further(key) {
            true => Ok(None),
            false => element(key, value).map(Some).map_err(unreadable),
        }
    }

    fn path(&self, key: &[u8]) -> String {
        HeadKey::parse(split_further(key).0).map_or_else(|error| error.to_string(), |key| key.to_string())
    }

    fn references(
        &self,
        key: &[u8],
        value: &[u8],
        tell: &mut dyn FnMut(ChunkRange),
    ) -> Result<(), UnreadableRow> {
        let mut tell_all = |references: &[Reference]| references.iter().map(range).for_each(&mut *tell);
        match split_further(key).1 {
            Some(first) => tell_all(&decode_further(first, value).map_err(unreadable)?),
            None => {
                let row = HeadRow::decode(value).map_err(unreadable)?;
                tell_all(&row.facts.references);
                tell_all(&row.facts.attribute_references);
            }
        }
        Ok(())
    }

    fn with_references(
        &self,
        key: &[u8],
        value: &[u8],
        moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Result<Option<Vec<u8>>, UnreadableRow> {
        let mut any = false;
        let mut move_all = |references: &mut [Reference]| {
            for reference in references {
                if let Some((chunk, offset)) = moved(range(reference)) {
                    (reference.chunk, reference.chunk_offset_bytes) = (chunk, offset);
                    any = true;
                }
            }
        };
        let value = match split_further(key).1 {
            Some(first) => {
                let mut references = decode_further(first, value).map_err(unreadable)?;
                move_all(&mut references);
                encode_further(&references)
            }
            None => {
                let mut row = HeadRow::decode(value).map_err(unreadable)?;
                if row.encode().map_err(unreadable)? != value {
                    // There is more in it than this version knows, and would be lost.
                    return Ok(None);
                }
                move_all(&mut row.facts.references);
                move_all(&mut row.facts.attribute_references);
                row.encode()
            }
        };
        Ok(any.then_some(value.map_err(unreadable)?))
    }
}

fn range(reference: &Reference) -> ChunkRange {
    ChunkRange {
        chunk: reference.chunk,
        offset: reference.chunk_offset_bytes,
        length: reference.length_bytes,
    }
}

fn unreadable(error: RowError) -> UnreadableRow {
    UnreadableRow(error.to_string())
}
