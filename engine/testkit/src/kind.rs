//! What a custodian has to know of the made-up kind of source of [`crate::capture`].

use std::sync::Arc;

use backstay_core::fold::{FoldRule, NewestStands};
use backstay_core::id::{ChunkId, Element};
use backstay_core::kind::{ChunkRange, KindRules, Kinds, UnreadableRow};

use crate::capture::{element, references};

/// Its name.
pub const KIND: &str = "command";

/// The made-up kind, and no other.
pub fn kinds() -> Arc<Kinds> {
    Arc::new(Kinds::from([(KIND, Arc::new(MadeUp) as Arc<dyn KindRules>)]))
}

#[derive(Debug)]
struct MadeUp;

impl KindRules for MadeUp {
    fn fold_rule(&self) -> Box<dyn FoldRule + Send> {
        Box::new(NewestStands)
    }

    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow> {
        Ok(Some(element(key, value)))
    }

    fn path(&self, key: &[u8]) -> String {
        String::from_utf8_lossy(key).into_owned()
    }

    fn references(
        &self,
        _: &[u8],
        value: &[u8],
        tell: &mut dyn FnMut(ChunkRange),
    ) -> Result<(), UnreadableRow> {
        references(value)
            .for_each(|(chunk, bytes)| tell(ChunkRange { chunk, offset: 0, length: bytes as u32 }));
        Ok(())
    }

    fn with_references(
        &self,
        _: &[u8],
        _: &[u8],
        _: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Result<Option<Vec<u8>>, UnreadableRow> {
        // Its elements name chunks.
        Ok(None)
    }
}
