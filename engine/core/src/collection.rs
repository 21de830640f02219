//! Numbers of collections (docs/format.md, section 10): by them it is known without a clock which commit has come
//! too late. Owns the rule; collecting is the vault's.

use std::fmt;

use minicbor::decode::{self, Decoder};
use minicbor::{Decode, Encode};

/// The number of a collection, from 1; or that of the newest which somebody saw, 0 when there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct CollectionNumber(#[n(0)] u64);

impl CollectionNumber {
    /// No collection was seen.
    pub const NONE: Self = Self(0);

    /// All are below this. No vault comes near it: what is greater was made up, and who counts on never overflows.
    pub const END: u64 = 1 << 62;

    /// The number of the collection after this one; `None` at the end.
    pub fn next(self) -> Option<Self> {
        Some(Self(self.0 + 1)).filter(|next| next.0 < Self::END)
    }

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

impl<'b, C> Decode<'b, C> for CollectionNumber {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        let number = u64::decode(decoder, context)?;
        match number < Self::END {
            true => Ok(Self(number)),
            false => Err(decode::Error::message("a number that no collection has")),
        }
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
    fn numbers_have_an_end_and_none_beyond_is_read() {
        let last = CollectionNumber::new(CollectionNumber::END - 1);
        assert_eq!((CollectionNumber::NONE.next(), last.next()), (Some(CollectionNumber::new(1)), None));
        let read = |number: u64| {
            let bytes = minicbor::to_vec(number).expect("encodes");
            minicbor::decode::<CollectionNumber>(&bytes).ok()
        };
        assert_eq!((read(last.get()), read(last.get() + 1)), (Some(last), None));
    }

    #[test]
    fn a_commit_outlives_one_collection_and_not_two() {
        let began = CollectionNumber::new(4);
        let may = [4, 5, 6].map(|newest| began.may_acknowledge(CollectionNumber::new(newest)));
        assert_eq!(may, [true, true, false]);
    }
}
