//! The fold rule of directory trees (docs/format.md, section 11, "Fold"): a newer head row or tombstone of a
//! path hides the older further rows of that path, unless it says that they are kept.

use backstay_core::fold::{FoldRule, Outcome, Version};
use backstay_core::run::Change;

use crate::keys::split_further;
use crate::row::{OlderRows, keeps_contents};

/// Remembers which run of the stack last replaced the contents of the path at hand.
#[derive(Debug, Default)]
pub struct FilesRule {
    head: Vec<u8>,
    /// Place in the stack of the newest run that replaced or removed the contents of `head`. Further rows of
    /// runs with a greater place are older and hidden.
    replaced_by: Option<usize>,
}

impl FoldRule for FilesRule {
    fn fold(&mut self, key: &[u8], versions: &[Version<'_>]) -> Outcome {
        match split_further(key) {
            (head, None) => {
                self.head.clear();
                self.head.extend_from_slice(head);
                self.replaced_by = versions.iter().find(|v| replaces_contents(v.change)).map(|v| v.run);
                Outcome::Newest
            }
            (head, Some(_)) => match self.replaced_by.filter(|_| self.head == head) {
                Some(replaced_by) if versions[0].run > replaced_by => Outcome::Hidden,
                _ => Outcome::Newest,
            },
        }
    }
}

/// A row that cannot be read replaces, too: it is refused where it is decoded, and nothing is mixed into it.
fn replaces_contents(change: Change<'_>) -> bool {
    match change {
        Change::Tombstone => true,
        Change::Put(value) => keeps_contents(value) != Ok(OlderRows::Kept),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use backstay_core::fold::{Cursor, Fold};
    use backstay_core::run::Entry;
    use proptest::prelude::*;

    use super::*;
    use crate::keys::{further_key, is_further};

    /// `None` is a tombstone.
    type OwnedRun = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    struct MapCursor {
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        next: usize,
    }

    impl Cursor for MapCursor {
        type Error = Infallible;

        fn advance(&mut self) -> Result<bool, Infallible> {
            self.next += 1;
            Ok(self.next <= self.entries.len())
        }

        fn entry(&self) -> Entry<'_> {
            let (key, value) = &self.entries[self.next - 1];
            Entry { key, change: value.as_deref().map_or(Change::Tombstone, Change::Put), replaced: None }
        }
    }

    fn folded(newest_first: &[OwnedRun]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let cursor = |run: &OwnedRun| MapCursor { entries: run.clone().into_iter().collect(), next: 0 };
        let mut fold = Fold::new(newest_first.iter().map(cursor).collect(), FilesRule::default());
        let mut state = BTreeMap::new();
        while let Some((key, value)) = fold.next().expect("infallible") {
            state.insert(key.to_vec(), value.to_vec());
        }
        state
    }

    /// What somebody does who applies one edit after the other to a whole state.
    fn applied(newest_first: &[OwnedRun]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for run in newest_first.iter().rev() {
            for (head, value) in run.iter().filter(|(key, _)| !is_further(key)) {
                if value.as_deref() != Some(&KEPT[..]) {
                    state.retain(|key, _| !(is_further(key) && split_further(key).0 == head));
                }
            }
            for (key, value) in run {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    /// A row of an empty fifo, and the same with contents kept. The rule looks at nothing else.
    const REPLACING: [u8; 14] = [0xa6, 0, 3, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0xa0];
    const KEPT: [u8; 16] = [0xa6, 0, 3, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0xa1, 8, 1];

    fn runs() -> impl Strategy<Value = Vec<OwnedRun>> {
        let head = prop_oneof![
            Just(b"\x01".to_vec()),
            Just(b"\x01a".to_vec()),
            Just(b"\x01a\0b".to_vec()),
            Just([0; 17].to_vec()),
            Just([&[0][..], &[7; 16]].concat()),
        ];
        let row = prop_oneof![Just(Some(REPLACING.to_vec())), Just(Some(KEPT.to_vec())), Just(None)];
        let head_entry = (head.clone(), row);
        let further = (head, 0..4u64).prop_map(|(head, offset)| further_key(&head, offset));
        let further_entry = (further, proptest::option::of(proptest::collection::vec(any::<u8>(), 1..3)));
        proptest::collection::vec(
            proptest::collection::vec(prop_oneof![head_entry, further_entry], 0..12)
                .prop_map(|entries| entries.into_iter().collect()),
            0..6,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fold_is_what_applying_the_edits_one_by_one_gives(newest_first in runs()) {
            prop_assert_eq!(folded(&newest_first), applied(&newest_first));
        }
    }

    #[test]
    fn a_row_that_says_kept_leaves_older_contents_and_one_that_does_not_hides_them() {
        let further = further_key(b"\x01a", 9);
        let old =
            OwnedRun::from([(b"\x01a".to_vec(), Some(REPLACING.to_vec())), (further.clone(), Some(vec![1]))]);
        let with = |row: &[u8]| OwnedRun::from([(b"\x01a".to_vec(), Some(row.to_vec()))]);
        assert!(folded(&[with(&KEPT), old.clone()]).contains_key(&further));
        assert!(!folded(&[with(&REPLACING), old.clone()]).contains_key(&further));
        assert!(!folded(&[with(&KEPT), with(&REPLACING), old]).contains_key(&further));
    }
}
