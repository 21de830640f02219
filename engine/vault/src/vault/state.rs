//! The state of a point: the fold of its stack of runs, read from the vault a few blocks at a time.

use std::sync::Arc;

use backstay_core::fold::{Fold, FoldRule};
use backstay_core::run::Run;

use super::Vault;
use crate::read::ChunkReader;
use crate::table::RunCursor;

/// The state of a point, entry by entry in order of key.
pub type StateFold<R> = Fold<RunCursor<ChunkReader>, R>;

impl Vault {
    /// Folds a stack of runs (newest first) from the first key that is not below `from`.
    pub fn fold<R: FoldRule>(self: &Arc<Self>, stack: &[Run], rule: R, from: &[u8]) -> StateFold<R> {
        fold(&ChunkReader::new(Arc::clone(self)), stack, rule, from)
    }
}

/// The same by somebody who reads.
pub(super) fn fold<R: FoldRule>(reader: &ChunkReader, stack: &[Run], rule: R, from: &[u8]) -> StateFold<R> {
    let cursors = stack.iter().map(|run| RunCursor::new(reader.clone(), &run.parts, from)).collect();
    Fold::new(cursors, rule)
}
