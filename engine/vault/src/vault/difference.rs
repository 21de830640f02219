//! What can differ between two points: the keys of those runs that only one of them has. Owns which these are; what a
//! change is, is for the kinds of sources to say.

use std::sync::Arc;

use backstay_core::fold::{Cursor, Merge, NewestStands};
use backstay_core::run::Run;

use super::Reading;
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::RunCursor;

/// The keys at which two points of one vault may differ, in order. What takes time are the runs that they do not share:
/// of two points that follow each other, what was changed in between.
#[derive(Debug)]
pub struct DifferingKeys {
    points: [Arc<Reading>; 2],
    stacks: [Vec<Run>; 2],
    keys: Merge<RunCursor<ChunkReader>, NewestStands>,
    last: Option<Vec<u8>>,
}

impl DifferingKeys {
    /// Those of two points that are read.
    pub fn of(points: [&Arc<Reading>; 2]) -> Self {
        let stacks = points.map(|point| point.stack());
        let keys = differing(points[0], &stacks, &[]);
        Self { points: points.map(Arc::clone), stacks, keys, last: None }
    }

    /// The next key; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends from self, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, VaultError> {
        while !self.step()? {}
        Ok(self.last.as_deref())
    }

    /// False when it begins anew, with the runs that make up the points now.
    fn step(&mut self) -> Result<bool, VaultError> {
        let error = match self.keys.advance().map_err(VaultError::from) {
            Ok(false) => {
                self.last = None;
                return Ok(true);
            }
            Ok(true) => {
                let key = self.keys.entry().key;
                if self.last.as_deref().is_some_and(|last| key <= last) {
                    return Ok(false);
                }
                let last = self.last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                return Ok(true);
            }
            Err(error) => error,
        };
        if !matches!(error, VaultError::Chunk { .. }) {
            return Err(error);
        }
        let mut any = false;
        for (point, stack) in self.points.iter().zip(&mut self.stacks) {
            if let Some(other) = point.other_than(stack)? {
                *stack = other;
                any = true;
            }
        }
        if !any {
            return Err(error);
        }
        // Where other runs are shared other keys may differ: those told already are passed over all the same, since
        // whoever asks has compared them.
        self.keys = differing(&self.points[0], &self.stacks, self.last.as_deref().unwrap_or_default());
        Ok(false)
    }
}

/// The merge of the runs above those that both stacks begin with.
fn differing(
    point: &Arc<Reading>,
    stacks: &[Vec<Run>; 2],
    from: &[u8],
) -> Merge<RunCursor<ChunkReader>, NewestStands> {
    let [a, b] = stacks;
    let shared = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let own = a[..a.len() - shared].iter().chain(&b[..b.len() - shared]);
    let reader = ChunkReader::new(Arc::clone(point.vault()));
    let cursors = own.map(|run| RunCursor::new(reader.clone(), &run.parts, from)).collect();
    Merge::new(cursors, NewestStands)
}
