//! Content-defined cuts by a Gear hash whose table comes from the domain's `cut` key, so that lengths of
//! chunks tell strangers nothing about known contents.

use crate::keys::Secret;

/// Least chunk, bytes, but for the last of a stretch.
pub const CHUNK_BYTES_LEAST: usize = 256 << 10;

/// From here on cuts are more likely, bytes.
const CHUNK_BYTES_NORMAL: usize = 1 << 20;

/// Greatest chunk, bytes.
pub const CHUNK_BYTES_GREATEST: usize = 4 << 20;

/// Top 22 bits: a cut every 4 MiB on average.
const MASK_BEFORE_NORMAL: u64 = !0 << (64 - 22);

/// Top 18 bits: a cut every 256 KiB on average.
const MASK_AFTER_NORMAL: u64 = !0 << (64 - 18);

/// Finds cuts.
#[derive(Clone)]
pub struct Gear {
    table: [u64; 256],
}

impl Gear {
    /// The cuts of this `cut` key.
    pub fn new(cut_key: &Secret) -> Self {
        let table = std::array::from_fn(|byte| {
            let mut hasher = blake3::Hasher::new_keyed(cut_key.as_bytes());
            hasher.update(b"gear\0").update(&[byte as u8]);
            let mut first = [0; 8];
            hasher.finalize_xof().fill(&mut first);
            u64::from_le_bytes(first)
        });
        Self { table }
    }

    /// Length of the first chunk of `data`, whose first byte begins a chunk. `None` when more data is needed to
    /// tell; with [`CHUNK_BYTES_GREATEST`] bytes it never is.
    pub fn cut(&self, data: &[u8]) -> Option<usize> {
        let normal = data.len().min(CHUNK_BYTES_NORMAL);
        let greatest = data.len().min(CHUNK_BYTES_GREATEST);
        let mut hash = 0;
        if data.len() <= CHUNK_BYTES_LEAST {
            return None;
        }
        self.search(&data[..normal], CHUNK_BYTES_LEAST, MASK_BEFORE_NORMAL, &mut hash)
            .or_else(|| self.search(&data[..greatest], normal, MASK_AFTER_NORMAL, &mut hash))
            .or((greatest == CHUNK_BYTES_GREATEST).then_some(CHUNK_BYTES_GREATEST))
    }

    /// The place after the first byte from `from` on at which the hash is zero under the mask.
    fn search(&self, data: &[u8], from: usize, mask: u64, hash: &mut u64) -> Option<usize> {
        let mut state = *hash;
        let (fours, rest) = data[from..].as_chunks::<4>();
        let step = |state: u64, byte: u8| (state << 1).wrapping_add(self.table[usize::from(byte)]);
        for (place, four) in fours.iter().enumerate() {
            // The hash is linear: what four bytes add does not wait for the state before them. A third less time than
            // one byte after the other, by the profile of a first capture.
            let first = step(0, four[0]);
            let second = step(first, four[1]);
            let third = step(second, four[2]);
            let fourth = step(third, four[3]);
            let states = [
                (state << 1).wrapping_add(first),
                (state << 2).wrapping_add(second),
                (state << 3).wrapping_add(third),
                (state << 4).wrapping_add(fourth),
            ];
            if states.iter().any(|state| state & mask == 0) {
                let within = states.iter().position(|state| state & mask == 0).unwrap_or_default();
                return Some(from + place * 4 + within + 1);
            }
            state = states[3];
        }
        for (place, byte) in rest.iter().enumerate() {
            state = step(state, *byte);
            if state & mask == 0 {
                return Some(from + fours.len() * 4 + place + 1);
            }
        }
        *hash = state;
        None
    }
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that are the same everywhere: BLAKE3's extended output of a seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(gear: &Gear, data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut rest = data;
        while let Some(length) = gear.cut(rest) {
            lengths.push(length);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            lengths.push(rest.len());
        }
        lengths
    }

    #[test]
    fn golden_boundaries() {
        let gear = Gear::new(&Secret::new([7; 32]));
        assert_eq!(cuts(&gear, &noise(1, 12 << 20)), GOLDEN);
        assert_eq!(cuts(&gear, &vec![0; 9 << 20]), [4 << 20, 4 << 20, 1 << 20]);
    }

    const GOLDEN: [usize; 10] =
        [1255250, 2201820, 706601, 1067330, 1194068, 1510695, 1403877, 1105383, 1316829, 821059];

    #[test]
    fn an_insertion_moves_only_the_boundaries_near_it() {
        let gear = Gear::new(&Secret::new([9; 32]));
        let before = noise(2, 24 << 20);
        let mut after = before.clone();
        after.splice(5_000_000..5_000_000, *b"inserted");
        let ends = |data: &[u8]| -> Vec<usize> {
            let mut end = 0;
            cuts(&gear, data)
                .into_iter()
                .map(|length| {
                    end += length;
                    data.len() - end
                })
                .collect()
        };
        let (before, after) = (ends(&before), ends(&after));
        let common = after.iter().filter(|end| before.contains(end)).count();
        assert!(common * 2 > after.len(), "{common} of {} boundaries stay", after.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn lengths_are_bounded_and_do_not_depend_on_how_much_is_at_hand(seed in any::<u64>(), more in 0usize..5_000_000) {
            let gear = Gear::new(&Secret::new([3; 32]));
            let data = noise(seed, CHUNK_BYTES_GREATEST + more);
            let length = gear.cut(&data[..CHUNK_BYTES_GREATEST]).expect("enough to tell");
            prop_assert!((CHUNK_BYTES_LEAST..=CHUNK_BYTES_GREATEST).contains(&length));
            prop_assert_eq!(gear.cut(&data), Some(length));
        }
    }
}
