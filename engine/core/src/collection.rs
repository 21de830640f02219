//! Numbers of collections (docs/format.md, section 10): by them it is known without a clock which commit has come
//! too late. Owns the rule; collecting is the vault's.

use std::fmt;

use minicbor::{Decode, Encode};

/// The number of a collection, from 1; or that of the newest which somebody saw, 0 when there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CollectionNumber(#[n(0)] u64);

impl CollectionNumber {
    /// No collection was seen.
    pub const NONE: Self = Self(0);

    /// This number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether a commit that began when this was the newest collection may be acknowledged now that `newest` is. One
    /// more may have begun since. After the second, the fence of the commit may be gone again.
    pub fn may_acknowledge(self, newest: Self) -> bool {
        newest.0 <= self.0.saturating_add(1)
    }
}

impl fmt::Display for CollectionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_outlives_one_collection_and_not_two() {
        let began = CollectionNumber::new(4);
        let may = [4, 5, 6].map(|newest| began.may_acknowledge(CollectionNumber::new(newest)));
        assert_eq!(may, [true, true, false]);
    }
}
