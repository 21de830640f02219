//! The state digest: a set hash to which elements are added and from which they are removed
//! (docs/format.md, section 7, "Element and state digest"). Owns the arithmetic; what an element is
//! of is the business of each kind of source.

use crate::id::Element;

const LANES: usize = 1024;
const LANE_CONTEXT: &str = "backstay 0 state digest lane";

/// LtHash with 1024 lanes of 16 bits: the sum of what its elements expand to. Equal sets give equal
/// digests in whatever order they were added, and the difference of two digests is that of the edit.
#[derive(Clone, PartialEq, Eq)]
pub struct StateDigest(Box<[u16; LANES]>);

impl StateDigest {
    /// Length of the byte form.
    pub const LENGTH: usize = LANES * 2;

    /// The digest of nothing.
    pub fn empty() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// Adds one element.
    pub fn add(&mut self, element: &Element) {
        self.combine(&expand(element), u16::wrapping_add);
    }

    /// Takes one element out again.
    pub fn remove(&mut self, element: &Element) {
        self.combine(&expand(element), u16::wrapping_sub);
    }

    /// Adds all of `other`: the digest of the edit that is done after this one.
    pub fn add_all(&mut self, other: &Self) {
        for (lane, value) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*value);
        }
    }

    /// The byte form, lanes little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// From the byte form; `None` unless it has [`Self::LENGTH`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::LENGTH {
            return None;
        }
        let mut digest = Self::empty();
        for (lane, pair) in digest.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_le_bytes([pair[0], pair[1]]);
        }
        Some(digest)
    }

    fn combine(&mut self, expanded: &[u8; Self::LENGTH], operation: fn(u16, u16) -> u16) {
        for (lane, pair) in self.0.iter_mut().zip(expanded.chunks_exact(2)) {
            *lane = operation(*lane, u16::from_le_bytes([pair[0], pair[1]]));
        }
    }
}

impl std::fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateDigest({})", blake3::hash(&self.to_bytes()).to_hex())
    }
}

impl<C> minicbor::Encode<C> for StateDigest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for StateDigest {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        Self::from_bytes(d.bytes()?)
            .ok_or_else(|| minicbor::decode::Error::message("state digest of a wrong length").at(at))
    }
}

fn expand(element: &Element) -> [u8; StateDigest::LENGTH] {
    let mut expanded = [0; StateDigest::LENGTH];
    let mut hasher = blake3::Hasher::new_derive_key(LANE_CONTEXT);
    hasher.update(element.as_bytes());
    hasher.finalize_xof().fill(&mut expanded);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(seed: u8) -> Element {
        Element::new([seed; 32])
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removing_undoes_adding(mut seeds in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut forward = StateDigest::empty();
            seeds.iter().for_each(|s| forward.add(&element(*s)));
            seeds.reverse();
            let mut backward = StateDigest::empty();
            seeds.iter().for_each(|s| backward.add(&element(*s)));
            prop_assert_eq!(&forward, &backward);
            seeds.iter().for_each(|s| forward.remove(&element(*s)));
            prop_assert_eq!(forward, StateDigest::empty());
        }
    }

    #[test]
    fn a_set_is_told_from_a_multiset_and_from_another_set() {
        let mut once = StateDigest::empty();
        once.add(&element(1));
        let mut twice = once.clone();
        twice.add(&element(1));
        let mut other = StateDigest::empty();
        other.add(&element(2));
        assert!(once != twice && once != other && once != StateDigest::empty());
    }

    #[test]
    fn the_byte_form_reads_back_and_its_length_is_checked() {
        let mut digest = StateDigest::empty();
        digest.add(&element(7));
        assert_eq!(StateDigest::from_bytes(&digest.to_bytes()), Some(digest));
        assert_eq!(StateDigest::from_bytes(&[0; 2047]), None);
    }
}
