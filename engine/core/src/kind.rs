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

/// What there is to know of the rows of one kind of source.
pub trait KindRules: Send + Sync + fmt::Debug {
    /// How its runs fold.
    fn fold_rule(&self) -> Box<dyn FoldRule + Send>;

    /// The element of an entry of a state; `None` of one that stands for nothing restored by itself.
    fn element(&self, key: &[u8], value: &[u8]) -> Result<Option<Element>, UnreadableRow>;

    /// The entry's name for people.
    fn path(&self, key: &[u8]) -> String;

    /// Tells every reference of an entry to a data chunk: the chunk, and how many bytes of it.
    fn references(
        &self,
        key: &[u8],
        value: &[u8],
        tell: &mut dyn FnMut(ChunkId, u64),
    ) -> Result<(), UnreadableRow>;
}

/// The kinds that a process knows, by their names. Sources of others are left as they are.
pub type Kinds = HashMap<&'static str, Arc<dyn KindRules>>;
