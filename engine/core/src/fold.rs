//! Folding: the k-way merge of a stack of runs into one sorted sequence. Owns the order and the seam
//! for the rules of each kind of source; reading blocks is the vault's, the rules are the kinds' own.

use std::cmp::Ordering;

use crate::run::{Change, Entry};

/// A run being read in key order. Keys rise strictly.
pub trait Cursor {
    /// Why reading failed.
    type Error;

    /// Moves to the next entry, the first one at the first call; false at the end.
    fn advance(&mut self) -> Result<bool, Self::Error>;

    /// The entry at which the cursor stands. Called only after [`Cursor::advance`] said true.
    fn entry(&self) -> Entry<'_>;
}

/// One run's entry for a key.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// Place of the run in the stack, 0 is the newest.
    pub run: usize,
    /// What it does to the key.
    pub change: Change<'a>,
}

/// What remains of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The newest version stands.
    Newest,
    /// All versions are hidden by what a newer run did elsewhere.
    Hidden,
}

/// How a kind of source folds its entries. Called for every key in rising order, with all
/// versions of it, newest first and at least one, so that a rule can remember what a key that came
/// before (a path, an object) does to those that follow.
pub trait FoldRule {
    /// Decides on one key.
    fn fold(&mut self, key: &[u8], versions: &[Version<'_>]) -> Outcome;
}

/// The rule of sources whose keys know nothing of each other: the newest version stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct NewestStands;

impl FoldRule for NewestStands {
    fn fold(&mut self, _: &[u8], _: &[Version<'_>]) -> Outcome {
        Outcome::Newest
    }
}

/// Key and value of one entry of a state.
pub type KeyValue<'a> = (&'a [u8], &'a [u8]);

/// The state of a point: the fold of its stack, entry by entry, without tombstones.
#[derive(Debug)]
pub struct Fold<C, R> {
    cursors: Vec<C>,
    rule: R,
    /// Indices of the cursors that are not at their end, a binary heap by (key, place in the stack).
    heap: Vec<usize>,
    /// The cursors that stand at the key that was handed out last; they move at the next call.
    standing: Vec<usize>,
    started: bool,
}

impl<C: Cursor, R: FoldRule> Fold<C, R> {
    /// Folds `cursors`, newest run first.
    pub fn new(cursors: Vec<C>, rule: R) -> Self {
        Self { cursors, rule, heap: Vec::new(), standing: Vec::new(), started: false }
    }

    /// The next entry of the state: key and value; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends from self, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<KeyValue<'_>>, C::Error> {
        loop {
            self.move_on()?;
            if self.standing.is_empty() {
                return Ok(None);
            }
            let versions: Vec<Version<'_>> = self
                .standing
                .iter()
                .map(|&run| Version { run, change: self.cursors[run].entry().change })
                .collect();
            let key = self.cursors[self.standing[0]].entry().key;
            if self.rule.fold(key, &versions) == Outcome::Newest && versions[0].change != Change::Tombstone {
                break;
            }
        }
        let entry = self.cursors[self.standing[0]].entry();
        Ok(entry.change.value().map(|value| (entry.key, value)))
    }

    /// Moves the standing cursors and collects those that share the least key, newest first.
    fn move_on(&mut self) -> Result<(), C::Error> {
        if !self.started {
            self.started = true;
            self.standing.extend(0..self.cursors.len());
        }
        while let Some(run) = self.standing.pop() {
            if self.cursors[run].advance()? {
                self.push(run);
            }
        }
        while let Some(&run) = self.heap.first() {
            let same_key = self
                .standing
                .first()
                .is_none_or(|&first| self.cursors[first].entry().key == self.cursors[run].entry().key);
            if !same_key {
                break;
            }
            self.pop_first();
            self.standing.push(run);
        }
        Ok(())
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        self.cursors[a].entry().key.cmp(self.cursors[b].entry().key).then(a.cmp(&b))
    }

    fn push(&mut self, run: usize) {
        self.heap.push(run);
        let mut at = self.heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.order(self.heap[at], self.heap[parent]) != Ordering::Less {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn pop_first(&mut self) {
        let last = self.heap.len() - 1;
        self.heap.swap(0, last);
        self.heap.truncate(last);
        let mut at = 0;
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.order(self.heap[child], self.heap[least]) == Ordering::Less
                {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    type OwnedRun = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    struct MapCursor {
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        at: usize,
    }

    impl MapCursor {
        fn new(run: &OwnedRun) -> Self {
            Self { entries: run.clone().into_iter().collect(), at: usize::MAX }
        }
    }

    impl Cursor for MapCursor {
        type Error = Infallible;

        fn advance(&mut self) -> Result<bool, Infallible> {
            self.at = self.at.wrapping_add(1);
            Ok(self.at < self.entries.len())
        }

        fn entry(&self) -> Entry<'_> {
            let (key, value) = &self.entries[self.at];
            let change = value.as_deref().map_or(Change::Tombstone, Change::Put);
            Entry { key, change, replaced: None }
        }
    }

    fn runs() -> impl Strategy<Value = Vec<OwnedRun>> {
        let key = proptest::collection::vec(0u8..4, 0..3);
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3));
        proptest::collection::vec(proptest::collection::btree_map(key, value, 0..12), 0..6)
    }

    proptest! {
        #[test]
        fn the_fold_is_what_applying_the_edits_one_by_one_gives(newest_first in runs()) {
            let mut expected = BTreeMap::new();
            for run in newest_first.iter().rev() {
                for (key, value) in run {
                    match value {
                        Some(value) => expected.insert(key.clone(), value.clone()),
                        None => expected.remove(key),
                    };
                }
            }
            let cursors = newest_first.iter().map(MapCursor::new).collect();
            let mut fold = Fold::new(cursors, NewestStands);
            let mut folded = BTreeMap::new();
            while let Some((key, value)) = fold.next().expect("infallible") {
                folded.insert(key.to_vec(), value.to_vec());
            }
            prop_assert_eq!(folded, expected);
        }
    }
}
