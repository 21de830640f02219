//! The seam to the kinds of sources for whoever merges runs without knowing what is in them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::fold::FoldRule;
use crate::id::{ChunkId, Element};

/// A row that its own kind cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableRow(pub String);

/// Bytes of a data chunk to which an entry refers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRange {
    /// The chunk.
    pub chunk: ChunkId,
    /// Where they begin in it, bytes.
    pub offset: u32,
    /// How many there are.
    pub length: u32,
}

/// What there is to know of the rows of one kind of source.
pub trait KindRules: Send + Sync + fmt::Debug {
    /// How its runs fold.
    fn fold_rule(&self) -> Box<dyn FoldRule + Send>;

    /// The element of an entry of a state; `None` of one that stands for nothing restored by itself.
    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow>;

    /// The entry's name for people.
    fn path(&self, key: &[u8]) -> String;

    /// Tells every reference of an entry to a data chunk.
    fn references(
        &self,
        key: &[u8],
        value: &[u8],
        tell: &mut dyn FnMut(ChunkRange),
    ) -> Result<(), UnreadableRow>;

    /// The value of an entry whose bytes lie elsewhere: `moved` says where those of a reference begin now, and in which
    /// chunk; `None` of one that stays. It is asked in the order in which [`Self::references`] tells. The element of the entry stays the same. `None` when nothing of it has moved, and
    /// always from a kind whose elements name chunks.
    fn with_references(
        &self,
        key: &[u8],
        value: &[u8],
        moved: &mut dyn FnMut(ChunkRange) -> Option<(ChunkId, u32)>,
    ) -> Result<Option<Vec<u8>>, UnreadableRow>;
}

/// The kinds that a process knows, by their names. Sources of others are left as they are.
pub type Kinds = HashMap<&'static str, Arc<dyn KindRules>>;
