//! A state as 64 bits. The numbers of packs mean nothing, so two states that differ only in them share a
//! fingerprint: a pack is described by what it holds and who names it how, and the descriptions are hashed
//! in sorted order.

use std::hash::{Hash, Hasher};

use crate::sets::{Id, Set};
use crate::state::State;
use crate::store::PACKS;

/// Never zero.
pub(crate) fn fingerprint(state: &State) -> u64 {
    let mut rest = *state;
    let mut packs = [0_u64; PACKS];
    let mut bit = CONTENTS_BITS;
    rest.for_each_pack_set(|set| {
        for pack in set.iter() {
            packs[pack.number()] |= 1 << bit;
        }
        bit += 1;
        *set = Set::EMPTY;
    });
    for (description, contents) in packs.iter_mut().zip(&mut rest.store.contents) {
        *description |= u64::from(contents.bits());
        *contents = Set::EMPTY;
    }
    packs.sort_unstable();
    let mut mixer = Mixer::default();
    rest.hash(&mut mixer);
    packs.iter().for_each(|description| mixer.write_u64(*description));
    mixer.finish().max(1)
}

/// A description has what the pack holds in its lowest bits, then one bit for each set of packs in a state.
const CONTENTS_BITS: u32 = 16;

/// Gathers small fields into words; multiplies each word to 128 bits and folds it.
#[derive(Default, Clone)]
struct Mixer {
    mixed: u64,
    word: u64,
    filled: u32,
}

impl Mixer {
    fn gather(&mut self, field: u64, bits: u32) {
        if self.filled + bits > u64::BITS {
            self.mix();
        }
        self.word |= field << self.filled;
        self.filled += bits;
    }

    fn mix(&mut self) {
        let product = u128::from(self.mixed ^ self.word ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        self.mixed = (product as u64 ^ (product >> 64) as u64).wrapping_add(self.word.rotate_left(29));
        self.word = 0;
        self.filled = 0;
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.gather(u64::from(*byte), 8));
    }
    fn write_u8(&mut self, field: u8) {
        self.gather(u64::from(field), 8);
    }
    fn write_u16(&mut self, field: u16) {
        self.gather(u64::from(field), 16);
    }
    fn write_u64(&mut self, field: u64) {
        self.mix();
        self.word = field;
        self.mix();
    }
    /// Which variant of an enum: none here has more than 255.
    fn write_isize(&mut self, variant: isize) {
        self.gather(variant as u64 & 0xff, 8);
    }
    fn finish(&self) -> u64 {
        let mut last = self.clone();
        last.mix();
        last.mix();
        last.mixed
    }
}
