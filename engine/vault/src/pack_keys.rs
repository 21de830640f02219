//! With which keys the records of a pack are sealed: a short list, so that whoever must not count on a key knows what to pass
//! over without reading packs.

use backstay_core::id::KeyId;

use crate::malformed::Malformed;
use crate::take::Take;

/// Most keys of one pack: an object of the index with as many packs and entries as it may have fits into an envelope then.
pub const PACK_KEYS_MAX: usize = 8;

/// Ids of keys, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackKeys {
    count: u8,
    /// Those behind the count are zero.
    ids: [KeyId; PACK_KEYS_MAX],
}

impl PackKeys {
    /// No keys: a pack without records.
    pub const NONE: Self = Self { count: 0, ids: [KeyId::new([0; 16]); PACK_KEYS_MAX] };

    /// These keys, in any order and each as often as it comes; `None` when they are too many for a pack.
    pub fn of(ids: impl IntoIterator<Item = KeyId>) -> Option<Self> {
        let mut keys = Self::NONE;
        ids.into_iter().all(|id| keys.add(id)).then_some(keys)
    }

    /// Adds a key; whether there was room.
    pub fn add(&mut self, id: KeyId) -> bool {
        let Err(place) = self.ids().binary_search(&id) else { return true };
        let count = usize::from(self.count);
        if count == PACK_KEYS_MAX {
            return false;
        }
        self.ids.copy_within(place..count, place + 1);
        self.ids[place] = id;
        self.count += 1;
        true
    }

    /// Whether the key is among them, or there is room for it.
    pub fn may_take(&self, id: &KeyId) -> bool {
        usize::from(self.count) < PACK_KEYS_MAX || self.ids().binary_search(id).is_ok()
    }

    /// The keys.
    pub fn ids(&self) -> &[KeyId] {
        &self.ids[..usize::from(self.count)]
    }

    /// Appends their number and the keys.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.count);
        self.ids().iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    }

    /// Reads them back. A list that is too long, or does not rise, is refused before more of it is read.
    pub(crate) fn decode(take: &mut Take<'_>) -> Result<Self, Malformed> {
        let count = take.u8()?;
        if usize::from(count) > PACK_KEYS_MAX {
            return Err(Malformed::Field("number of keys"));
        }
        let mut keys = Self { count, ..Self::NONE };
        for place in 0..usize::from(count) {
            keys.ids[place] = KeyId::new(take.array()?);
        }
        match keys.ids().is_sorted_by(|one, next| one < next) {
            true => Ok(keys),
            false => Err(Malformed::Field("order of keys")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> KeyId {
        KeyId::new([n; 16])
    }

    fn bytes_of(keys: &PackKeys) -> Vec<u8> {
        let mut bytes = Vec::new();
        keys.encode(&mut bytes);
        bytes
    }

    #[test]
    fn keys_are_kept_in_order_and_once_and_read_back() {
        let keys = PackKeys::of([3, 1, 2, 3, 1].map(key)).expect("three");
        assert_eq!(keys.ids(), [1, 2, 3].map(key));
        let bytes = bytes_of(&keys);
        assert_eq!((bytes.len(), PackKeys::decode(&mut Take::new(&bytes))), (49, Ok(keys)));
    }

    #[test]
    fn more_keys_than_a_pack_has_are_not_taken() {
        let full = PackKeys::of((1..=8).map(key)).expect("eight");
        assert!(full.may_take(&key(8)) && !full.may_take(&key(9)));
        assert_eq!(PackKeys::of((1..=9).map(key)), None);
        let mut bytes = bytes_of(&full);
        bytes[0] = 9;
        bytes.extend_from_slice(&[9; 16]);
        assert_eq!(PackKeys::decode(&mut Take::new(&bytes)), Err(Malformed::Field("number of keys")));
    }

    #[test]
    fn a_list_that_does_not_rise_is_refused() {
        for keys in [[2, 1], [1, 1]] {
            let bytes = [vec![2], vec![keys[0]; 16], vec![keys[1]; 16]].concat();
            assert_eq!(PackKeys::decode(&mut Take::new(&bytes)), Err(Malformed::Field("order of keys")));
        }
    }
}
