//! What `gc/` says to a writer (docs/format.md, sections 6 and 10): which packs are about to go, and which index objects
//! of custodians are in force. Owns the sum over the records; listing and reading them is the vault's.

use std::collections::HashSet;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, PackId};

use crate::commit_object::GcRecord;

/// All records of one listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collections {
    newest: CollectionNumber,
    doomed: HashSet<PackId>,
    vouched: HashSet<ObjectHash>,
    bad: Option<u64>,
}

impl Collections {
    /// Of which nothing is known but the number of the newest.
    pub(crate) fn newest_is(newest: CollectionNumber) -> Self {
        Self { newest, ..Self::default() }
    }

    /// Takes in one record. Several may have the same number.
    pub fn add(&mut self, record: GcRecord) {
        self.doomed.extend(record.packs);
        if record.number > self.newest {
            self.newest = record.number;
            self.vouched.clear();
            self.bad = None;
        }
        if record.number == self.newest {
            self.vouched.extend(record.index);
            self.bad = self.bad.max(record.bad);
        }
    }

    /// Number of the newest.
    pub fn newest(&self) -> CollectionNumber {
        self.newest
    }

    /// Number of the list in `bad/` that is in force.
    pub fn bad(&self) -> Option<u64> {
        self.bad
    }

    /// All packs of which any record says that they are about to go.
    pub fn into_doomed(self) -> HashSet<PackId> {
        self.doomed
    }

    /// Whether any record says that the pack is about to go.
    pub fn dooms(&self, pack: &PackId) -> bool {
        self.doomed.contains(pack)
    }

    /// Whether writers may count on a custodian's index object that was written when `written` was the newest collection.
    /// An older one for which nobody vouches may have landed late, long after it was replaced.
    pub fn vouches_for(&self, object: &ObjectHash, written: CollectionNumber) -> bool {
        written == self.newest || self.vouched.contains(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8) -> PackId {
        PackId::new([n; 32])
    }

    fn object(n: u8) -> ObjectHash {
        ObjectHash::new([n; 32])
    }

    /// A record that dooms pack `n` and vouches for index object `n`.
    fn record(number: u64, n: u8) -> GcRecord {
        let number = CollectionNumber::new(number);
        GcRecord { number, term: 1, packs: vec![pack(n)], index: vec![object(n)], bad: None }
    }

    fn of(records: &[GcRecord]) -> Collections {
        let mut collections = Collections::default();
        records.iter().cloned().for_each(|record| collections.add(record));
        collections
    }

    #[test]
    fn every_record_dooms_and_only_the_newest_vouch_in_whatever_order_they_come() {
        let records = [record(3, 1), record(4, 2), record(4, 3)];
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
            let collections = of(&order.map(|place| records[place].clone()));
            assert_eq!(collections.newest(), CollectionNumber::new(4));
            assert_eq!([1, 2, 3, 4].map(|n| collections.dooms(&pack(n))), [true, true, true, false]);
            let old = CollectionNumber::new(2);
            assert_eq!([1, 2, 3].map(|n| collections.vouches_for(&object(n), old)), [false, true, true]);
        }
    }

    #[test]
    fn an_index_object_that_was_written_since_needs_nobody_to_vouch_for_it() {
        let number = CollectionNumber::new;
        let collections = of(&[record(4, 1)]);
        assert_eq!([3, 4, 5].map(|n| collections.vouches_for(&object(9), number(n))), [false, true, false]);
        let none = Collections::default();
        assert!(none.vouches_for(&object(9), CollectionNumber::NONE), "before the first collection");
        assert!(!none.vouches_for(&object(9), number(1)), "of a record that is not listed");
    }
}
