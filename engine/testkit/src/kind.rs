//! What a custodian has to know of the made-up kinds of sources of [`crate::capture`].

use std::sync::Arc;

use backstay_core::fold::{FoldRule, NewestStands};
use backstay_core::id::{ChunkId, Element};
use backstay_core::kind::{ChunkRange, KindRules, Kinds, UnreadableRow};

use crate::rows::RowKind;

/// The made-up kinds, and no other.
pub fn kinds() -> Arc<Kinds> {
    let rules = |kind: RowKind| (kind.name(), Arc::new(MadeUp(kind)) as Arc<dyn KindRules>);
    Arc::new(RowKind::ALL.into_iter().map(rules).collect())
}

/// The rules of one of them.
#[derive(Debug)]
pub struct MadeUp(pub RowKind);

impl KindRules for MadeUp {
    fn fold_rule(&self) -> Box<dyn FoldRule + Send> {
        Box::new(NewestStands)
    }

    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow> {
        Ok(Some(self.0.element(key, value)))
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
        self.0.references(value).into_iter().for_each(tell);
        Ok(())
    }

    fn with_references(
        &self,
        _: &[u8],
        value: &[u8],
        moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Result<Option<Vec<u8>>, UnreadableRow> {
        Ok(self.0.moved(value, moved))
    }
}
