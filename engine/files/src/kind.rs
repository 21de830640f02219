//! What whoever merges runs has to know of the rows of a directory tree.

use backstay_core::fold::FoldRule;
use backstay_core::id::{ChunkId, Element};
use backstay_core::kind::{KindRules, UnreadableRow};

use crate::keys::{HeadKey, is_further, split_further};
use crate::row::{HeadRow, Reference, RowError, decode_further, element};
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
        tell: &mut dyn FnMut(ChunkId, u64),
    ) -> Result<(), UnreadableRow> {
        let mut tell_all = |references: &[Reference]| {
            references.iter().for_each(|reference| tell(reference.chunk, u64::from(reference.length_bytes)));
        };
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
}

fn unreadable(error: RowError) -> UnreadableRow {
    UnreadableRow(error.to_string())
}
