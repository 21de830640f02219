//! The fold rule of directory trees (docs/format.md, section 11, "Fold"): a newer head row or tombstone of a
//! path hides the older further rows of that path, unless it says that they are kept.

use backstay_core::fold::{FoldRule, Outcome, Version};
use backstay_core::run::Change;

use crate::keys::split_further;
use crate::row::{OlderRows, keeps_contents, without_kept};

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
                let replacing = versions.iter().find(|version| replaces_contents(version.change));
                self.replaced_by = replacing.map(|version| version.run);
                head_row(versions[0], self.replaced_by)
            }
            (head, Some(_)) => match self.replaced_by.filter(|_| self.head == head) {
                Some(replaced_by) if versions[0].run > replaced_by => Outcome::Hidden,
                _ => Outcome::Newest,
            },
        }
    }
}

/// The newest head row. When it keeps contents that a version below it has replaced, the two together replace what was
/// there before.
fn head_row(newest: Version<'_>, replaced_by: Option<usize>) -> Outcome {
    match (newest.change, replaced_by) {
        (Change::Put(value), Some(replaced_by)) if replaced_by > newest.run => {
            without_kept(value).map_or(Outcome::Newest, Outcome::Rewritten)
        }
        _ => Outcome::Newest,
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

    use backstay_core::fold::{Cursor, Fold, Merge};
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

    fn cursors(newest_first: &[OwnedRun]) -> Vec<MapCursor> {
        let cursor = |run: &OwnedRun| MapCursor { entries: run.clone().into_iter().collect(), next: 0 };
        newest_first.iter().map(cursor).collect()
    }

    fn folded(newest_first: &[OwnedRun]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut fold = Fold::new(cursors(newest_first), FilesRule::default());
        let mut state = BTreeMap::new();
        while let Some((key, value)) = fold.next().expect("infallible") {
            state.insert(key.to_vec(), value.to_vec());
        }
        state
    }

    fn merged(newest_first: &[OwnedRun]) -> OwnedRun {
        let mut merge = Merge::new(cursors(newest_first), FilesRule::default());
        let mut run = OwnedRun::new();
        while merge.advance().expect("infallible") {
            let entry = merge.entry();
            run.insert(entry.key.to_vec(), entry.change.value().map(<[u8]>::to_vec));
        }
        run
    }

    /// What somebody does who applies one edit after the other to a whole state. In it a row keeps what is older
    /// for as long as no row of its path has replaced that.
    fn applied(newest_first: &[OwnedRun]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut replaced = std::collections::BTreeSet::new();
        for run in newest_first.iter().rev() {
            for (head, value) in run.iter().filter(|(key, _)| !is_further(key)) {
                if value.as_deref() != Some(&KEPT[..]) {
                    state.retain(|key, _| !(is_further(key) && split_further(key).0 == head));
                    replaced.insert(head);
                }
            }
            for (key, value) in run {
                match value {
                    Some(value) if replaced.contains(key) && value == &KEPT => {
                        state.insert(key.clone(), REPLACING.to_vec())
                    }
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

        #[test]
        fn runs_may_be_merged_in_any_grouping(a in runs(), b in runs(), c in runs()) {
            let all = [&a[..], &b, &c].concat();
            let (a, b, c) = (merged(&a), merged(&b), merged(&c));
            let newer_first = merged(&[merged(&[a.clone(), b.clone()]), c.clone()]);
            let older_first = merged(&[a, merged(&[b, c])]);
            prop_assert_eq!(&newer_first, &merged(&all));
            prop_assert_eq!(&older_first, &merged(&all));
        }

        #[test]
        fn a_merged_run_does_to_what_is_older_what_its_runs_do(newer in runs(), older in runs()) {
            let all = [&newer[..], &older].concat();
            let with_merged = [&[merged(&newer)][..], &older].concat();
            prop_assert_eq!(folded(&with_merged), applied(&all));
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

    #[test]
    fn a_merge_says_kept_only_when_all_its_rows_do() {
        let with = |row: Option<&[u8]>| OwnedRun::from([(b"\x01a".to_vec(), row.map(<[u8]>::to_vec))]);
        let (kept, replacing, gone) = (with(Some(&KEPT)), with(Some(&REPLACING)), with(None));
        assert_eq!(merged(&[kept.clone(), kept.clone()]), kept);
        assert_eq!(merged(&[kept.clone(), replacing.clone()]), replacing);
        assert_eq!(merged(&[kept.clone(), kept.clone(), gone.clone(), kept.clone()]), replacing);
        assert_eq!(merged(&[gone.clone(), kept]), gone, "a tombstone stays: it speaks to older runs");
    }
}
