//! Folding: the k-way merge of a stack of runs into one sorted sequence, a state or another run. Owns the order and
//! the seam for the rules of each kind of source; reading blocks is the vault's, the rules are the kinds' own.

use std::cmp::Ordering;

use crate::run::{Change, Entry};

/// A run being read in key order. Keys rise strictly.
pub trait Cursor {
    /// Why reading failed.
    type Error;

    /// Moves to the next entry, the first one at the first call; false at the end.
    fn advance(&mut self) -> Result<bool, Self::Error>;

    /// Moves to the next entry whose key is not below `key`; false at the end. What can be passed over is not read by
    /// cursors that know where it ends.
    fn seek(&mut self, key: &[u8]) -> Result<bool, Self::Error> {
        while self.advance()? {
            if self.entry().key >= key {
                return Ok(true);
            }
        }
        Ok(false)
    }

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The newest version stands.
    Newest,
    /// The newest version stands with this value: an older one has said something that the newest says from now on.
    Rewritten(Vec<u8>),
    /// All versions are hidden by what a newer run did elsewhere.
    Hidden,
}

/// How a kind of source folds its entries. Called for every key in rising order, with all
/// versions of it, newest first and at least one, so that a rule can remember what a key that came
/// before (a path, an object) does to those that follow.
///
/// Folding must not depend on the grouping: a merge of neighbours, folded with the rest, is the fold of all.
///
/// Whoever seeks leaves keys out. What a rule remembers may only reach as far as keys that one would not seek into the
/// middle of: those of one path, or of one object.
pub trait FoldRule {
    /// Decides on one key.
    fn fold(&mut self, key: &[u8], versions: &[Version<'_>]) -> Outcome;
}

impl<R: FoldRule + ?Sized> FoldRule for Box<R> {
    fn fold(&mut self, key: &[u8], versions: &[Version<'_>]) -> Outcome {
        (**self).fold(key, versions)
    }
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
pub struct Fold<C, R>(Merge<C, R>);

impl<C: Cursor, R: FoldRule> Fold<C, R> {
    /// Folds `cursors`, newest run first.
    pub fn new(cursors: Vec<C>, rule: R) -> Self {
        Self(Merge::new(cursors, rule))
    }

    /// Passes over the entries below `key`, which begins what the rule sees as one thing: the next one that is told is
    /// not below it, and not one that was told already.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), C::Error> {
        self.0.pass_over(key)
    }

    /// The next entry of the state: key and value; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends from self, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<KeyValue<'_>>, C::Error> {
        while self.0.advance()? {
            if self.0.entry().change != Change::Tombstone {
                let entry = self.0.entry();
                return Ok(entry.change.value().map(|value| (entry.key, value)));
            }
        }
        Ok(None)
    }
}

/// The merge of runs that follow each other into one that does what they do one after the other. Keeps tombstones,
/// the newest value, and the element that the oldest version replaces.
#[derive(Debug)]
pub struct Merge<C, R> {
    cursors: Vec<C>,
    rule: R,
    /// Indices of the cursors that are not at their end, a binary heap by (key, place in the stack).
    heap: Vec<usize>,
    /// The cursors that stand at the key that was handed out last, newest first; they move at the next call.
    standing: Vec<usize>,
    /// The value that the rule wants instead of the newest.
    rewritten: Option<Vec<u8>>,
    started: bool,
}

impl<C: Cursor, R: FoldRule> Cursor for Merge<C, R> {
    type Error = C::Error;

    fn advance(&mut self) -> Result<bool, C::Error> {
        loop {
            self.move_on()?;
            if self.standing.is_empty() {
                return Ok(false);
            }
            let versions: Vec<Version<'_>> = self
                .standing
                .iter()
                .map(|&run| Version { run, change: self.cursors[run].entry().change })
                .collect();
            let key = self.cursors[self.standing[0]].entry().key;
            self.rewritten = match self.rule.fold(key, &versions) {
                Outcome::Newest => None,
                Outcome::Rewritten(value) => Some(value),
                Outcome::Hidden => continue,
            };
            return Ok(true);
        }
    }

    fn entry(&self) -> Entry<'_> {
        let newest = self.cursors[self.standing[0]].entry();
        let oldest = self.cursors[self.standing[self.standing.len() - 1]].entry();
        let change = self.rewritten.as_deref().map_or(newest.change, Change::Put);
        Entry { key: newest.key, change, replaced: oldest.replaced }
    }
}

impl<C: Cursor, R: FoldRule> Merge<C, R> {
    /// Merges `cursors`, newest run first.
    pub fn new(cursors: Vec<C>, rule: R) -> Self {
        Self { cursors, rule, heap: Vec::new(), standing: Vec::new(), rewritten: None, started: false }
    }

    /// Has all cursors pass over the entries below `key`; then none is standing.
    fn pass_over(&mut self, key: &[u8]) -> Result<(), C::Error> {
        self.begin();
        while let Some(run) = self.standing.pop() {
            if self.cursors[run].seek(key)? {
                self.push(run);
            }
        }
        while let Some(&run) = self.heap.first()
            && self.cursors[run].entry().key < key
        {
            self.pop_first();
            if self.cursors[run].seek(key)? {
                self.push(run);
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        if !self.started {
            self.started = true;
            self.standing.extend(0..self.cursors.len());
        }
    }

    /// Moves the standing cursors and collects those that share the least key, newest first.
    fn move_on(&mut self) -> Result<(), C::Error> {
        self.begin();
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
    use crate::digest::StateDigest;
    use crate::id::Element;

    type State = BTreeMap<Vec<u8>, Vec<u8>>;

    /// The value, `None` for a tombstone, and the element that it replaces.
    type Written = (Option<Vec<u8>>, Option<Element>);

    type Edit = BTreeMap<Vec<u8>, Written>;

    /// What is to change, `None` to remove.
    type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    struct MapCursor {
        entries: Vec<(Vec<u8>, Written)>,
        at: usize,
    }

    impl MapCursor {
        fn new(edit: &Edit) -> Self {
            Self { entries: edit.clone().into_iter().collect(), at: usize::MAX }
        }
    }

    impl Cursor for MapCursor {
        type Error = Infallible;

        fn advance(&mut self) -> Result<bool, Infallible> {
            self.at = self.at.wrapping_add(1);
            Ok(self.at < self.entries.len())
        }

        fn entry(&self) -> Entry<'_> {
            let (key, (value, replaced)) = &self.entries[self.at];
            let change = value.as_deref().map_or(Change::Tombstone, Change::Put);
            Entry { key, change, replaced: *replaced }
        }
    }

    fn element(key: &[u8], value: &[u8]) -> Element {
        Element::new(*blake3::hash(&[key, b"=", value].concat()).as_bytes())
    }

    /// The edits as a source writes them, newest first, and the states that they lead to, newest first.
    fn written(changes: &[Changes]) -> (Vec<Edit>, Vec<State>) {
        let (mut edits, mut states, mut state) = (Vec::new(), Vec::new(), State::new());
        for changes in changes {
            let replaced = |key: &Vec<u8>| state.get(key).map(|value| element(key, value));
            edits.insert(0, changes.iter().map(|(k, v)| (k.clone(), (v.clone(), replaced(k)))).collect());
            for (key, value) in changes {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
            states.insert(0, state.clone());
        }
        (edits, states)
    }

    fn folded(newest_first: &[Edit]) -> State {
        let cursors = newest_first.iter().map(MapCursor::new).collect();
        let mut fold = Fold::new(cursors, NewestStands);
        let mut state = State::new();
        while let Some((key, value)) = fold.next().expect("infallible") {
            state.insert(key.to_vec(), value.to_vec());
        }
        state
    }

    fn merged(newest_first: &[Edit]) -> Edit {
        let cursors = newest_first.iter().map(MapCursor::new).collect();
        let mut merge = Merge::new(cursors, NewestStands);
        let mut edit = Edit::new();
        while merge.advance().expect("infallible") {
            let entry = merge.entry();
            edit.insert(entry.key.to_vec(), (entry.change.value().map(<[u8]>::to_vec), entry.replaced));
        }
        edit
    }

    fn digest(state: &State) -> StateDigest {
        let mut digest = StateDigest::empty();
        state.iter().for_each(|(key, value)| digest.add(&element(key, value)));
        digest
    }

    fn changes() -> impl Strategy<Value = Vec<Changes>> {
        let key = proptest::collection::vec(0u8..4, 0..3);
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3));
        proptest::collection::vec(proptest::collection::btree_map(key, value, 0..12), 1..6)
    }

    proptest! {
        #[test]
        fn the_fold_is_what_applying_the_edits_one_by_one_gives(changes in changes()) {
            let (edits, states) = written(&changes);
            prop_assert_eq!(&folded(&edits), &states[0]);
        }

        #[test]
        fn leaps_over_a_fold_land_where_going_through_it_would(
            changes in changes(),
            leaps in proptest::collection::vec(proptest::collection::vec(0u8..5, 0..3), 0..8),
        ) {
            let (edits, states) = written(&changes);
            let mut fold = Fold::new(edits.iter().map(MapCursor::new).collect(), NewestStands);
            let mut rest: Vec<Vec<u8>> = states[0].keys().cloned().collect();
            for leap in leaps {
                fold.seek(&leap).expect("infallible");
                rest.retain(|key| *key >= leap);
                let landed = fold.next().expect("infallible").map(|(key, _)| key.to_vec());
                prop_assert_eq!(landed.as_ref(), rest.first(), "after a leap to {:?}", leap);
                rest.drain(..rest.len().min(1));
            }
        }

        #[test]
        fn a_merged_run_does_what_its_runs_do_one_after_the_other(
            changes in changes(),
            cut in any::<[prop::sample::Index; 2]>(),
        ) {
            let (edits, states) = written(&changes);
            let mut cut = cut.map(|index| index.index(edits.len()));
            cut.sort_unstable();
            let stretch = cut[0]..cut[1] + 1;
            let merge = merged(&edits[stretch.clone()]);
            let around = [&edits[..stretch.start], std::slice::from_ref(&merge), &edits[stretch.end..]].concat();
            prop_assert_eq!(&folded(&around), &states[0], "the state on top of it is the same");
            prop_assert_eq!(merged(&around), merged(&edits), "and so is every merge that takes it in");

            let before = states.get(stretch.end).cloned().unwrap_or_default();
            let mut after = digest(&before);
            for (key, (value, replaced)) in &merge {
                prop_assert_eq!(replaced, &before.get(key).map(|value| element(key, value)));
                replaced.iter().for_each(|element| after.remove(element));
                value.iter().for_each(|value| after.add(&element(key, value)));
            }
            prop_assert_eq!(after, digest(&states[stretch.start]), "new minus replaced is the difference");
        }
    }

    #[test]
    fn a_tombstone_stays_in_a_merge_and_goes_from_a_state() {
        let (edits, _) = written(&[
            BTreeMap::from([(b"key".to_vec(), Some(b"old".to_vec()))]),
            BTreeMap::from([(b"key".to_vec(), Some(b"new".to_vec()))]),
            BTreeMap::from([(b"key".to_vec(), None)]),
        ]);
        let gone = (None, Some(element(b"key", b"old")));
        assert_eq!(merged(&edits[..2]), Edit::from([(b"key".to_vec(), gone)]));
        assert!(folded(&edits).is_empty());
    }
}
