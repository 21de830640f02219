//! Names of the model's objects and small sets of them, sixteen of a kind at most: a state must stay small
//! and quick to hash. Owns no meaning; what the names stand for is the scene's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub, SubAssign};

/// A name that is a small number.
pub(crate) trait Id: Copy {
    const LETTER: char;
    fn nth(number: usize) -> Self;
    fn number(self) -> usize;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $letter:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub(crate) struct $name(u8);
        impl Id for $name {
            const LETTER: char = $letter;
            fn nth(number: usize) -> Self {
                assert!(number < 16, "a scene holds at most 16 of a kind");
                Self(number as u8)
            }
            fn number(self) -> usize {
                usize::from(self.0)
            }
        }
    )*};
}

ids! {
    /// A data chunk, or the record of a run: the model does not tell them apart, the vault does not either.
    Chunk 'c';
    /// A pack. Its number is free again once nothing in the world can name it any more.
    Pack 'P';
    /// A session, of a writer's attempt or of a reader.
    Session 's';
    /// A point, partial or full.
    Point 'p';
    /// A run (from, to].
    Run 'r';
    /// An index object of the custodian.
    IndexSlot 'i';
    /// A gc record.
    GcSlot 'g';
}

/// A set of names of one kind.
pub(crate) struct Set<T>(u16, PhantomData<T>);

impl<T: Id> Set<T> {
    pub(crate) const EMPTY: Self = Self(0, PhantomData);

    pub(crate) fn of(members: &[T]) -> Self {
        members.iter().fold(Self::EMPTY, |set, member| set.with(*member))
    }
    pub(crate) fn with(self, member: T) -> Self {
        Self(self.0 | 1 << member.number(), PhantomData)
    }
    pub(crate) fn without(self, member: T) -> Self {
        Self(self.0 & !(1 << member.number()), PhantomData)
    }
    pub(crate) fn has(self, member: T) -> bool {
        self.0 >> member.number() & 1 == 1
    }
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(crate) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub(crate) fn bits(self) -> u16 {
        self.0
    }
    /// Members in rising order.
    pub(crate) fn iter(self) -> impl Iterator<Item = T> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let number = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(T::nth(number))
        })
    }
    pub(crate) fn first(self) -> Option<T> {
        self.iter().next()
    }
}

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Set<T> {}
impl<T> PartialEq for Set<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Set<T> {}
impl<T> Hash for Set<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u16(self.0);
    }
}
impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(0, PhantomData)
    }
}
impl<T> BitOr for Set<T> {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0, PhantomData)
    }
}
impl<T> BitAnd for Set<T> {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0, PhantomData)
    }
}
impl<T> Sub for Set<T> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0, PhantomData)
    }
}
impl<T> BitOrAssign for Set<T> {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
impl<T> SubAssign for Set<T> {
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}
impl<T: Id> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<T: Id> fmt::Display for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, member) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { " " };
            write!(f, "{comma}{}{}", T::LETTER, member.number())?;
        }
        f.write_str("}")
    }
}
