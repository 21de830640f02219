//! A binary fuse filter of eight bits (Graf and Lemire, "Binary Fuse Filters", 2022): says of a key that was put in
//! "perhaps", and of any other "no" but in one of 256 cases, for nine bits of memory a key. Owns building and asking.
//! Written here since it is short, and since what a file claims of a filter has to be bounded before it is believed.

/// How often building begins anew with another seed. With different keys the first one nearly always serves.
const SEEDS_MAX: u64 = 64;

/// Bytes of a filter's head in a file.
pub(super) const FUSE_HEAD_BYTES: usize = 16;

/// Greatest length of a segment of the filter, fingerprints.
const SEGMENT_LENGTH_MAX: u32 = 1 << 18;

/// A set of keys, approximately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fuse {
    seed: u64,
    shape: Shape,
    /// Empty when no seed has served: then every key is perhaps there.
    fingerprints: Box<[u8]>,
}

/// Where the three fingerprints of a key lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    segment_length: u32,
    /// Segments in which the first of the three may lie; two more follow.
    segments: u32,
}

impl Shape {
    fn for_keys(keys: usize) -> Self {
        let count = keys.max(2) as f64;
        let segment_length = 1u32 << (count.ln() / 3.33f64.ln() + 2.25).floor() as u32;
        let segment_length = segment_length.min(SEGMENT_LENGTH_MAX);
        let factor = (0.875 + 0.25 * 1_000_000f64.ln() / count.ln()).max(1.125);
        let all = ((count * factor).round() as u32).div_ceil(segment_length);
        Self { segment_length, segments: all.saturating_sub(2).max(1) }
    }

    fn fingerprints(self) -> usize {
        (self.segments as usize + 2) * self.segment_length as usize
    }

    fn places(self, hash: u64) -> [usize; 3] {
        let first_places = u64::from(self.segments) * u64::from(self.segment_length);
        let first = ((u128::from(hash) * u128::from(first_places)) >> 64) as u32;
        let mask = self.segment_length - 1;
        let second = (first + self.segment_length) ^ ((hash >> 18) as u32 & mask);
        let third = (first + 2 * self.segment_length) ^ (hash as u32 & mask);
        [first as usize, second as usize, third as usize]
    }
}

impl Fuse {
    /// The filter of these keys, which are all different.
    pub(super) fn of(keys: &[u64]) -> Self {
        let shape = Shape::for_keys(keys.len());
        let mut peeling = Peeling::new(shape, keys.len());
        for attempt in 0..SEEDS_MAX {
            let seed = mix(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if let Some(fingerprints) = peeling.attempt(keys, seed) {
                return Self { seed, shape, fingerprints };
            }
        }
        // Two keys are equal, or somebody has chosen them: right, and only slow.
        Self { seed: 0, shape, fingerprints: Box::default() }
    }

    /// Whether the key may be in.
    pub(super) fn contains(&self, key: u64) -> bool {
        let hash = mix(key.wrapping_add(self.seed));
        if self.fingerprints.is_empty() {
            return true;
        }
        let [a, b, c] = self.shape.places(hash);
        fingerprint(hash) == self.fingerprints[a] ^ self.fingerprints[b] ^ self.fingerprints[c]
    }

    /// What has to be kept: the head, and then the fingerprints.
    pub(super) fn to_parts(&self) -> ([u8; FUSE_HEAD_BYTES], &[u8]) {
        let mut head = [0; FUSE_HEAD_BYTES];
        head[..8].copy_from_slice(&self.seed.to_le_bytes());
        head[8..12].copy_from_slice(&self.shape.segment_length.to_le_bytes());
        // A filter without fingerprints says so by having no segment.
        let segments = if self.fingerprints.is_empty() { 0 } else { self.shape.segments };
        head[12..].copy_from_slice(&segments.to_le_bytes());
        (head, &self.fingerprints)
    }

    /// What a head says: the filter, with its fingerprints still zero, to be read into. `None` unless such a filter
    /// could be one of at most `keys_max` keys.
    pub(super) fn from_head(head: &[u8; FUSE_HEAD_BYTES], keys_max: usize) -> Option<Self> {
        let field = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let seed = u64::from(field(0)) | u64::from(field(4)) << 32;
        let (segment_length, segments) = (field(8), field(12));
        if !segment_length.is_power_of_two() || segment_length > SEGMENT_LENGTH_MAX {
            return None;
        }
        if segments == 0 {
            return Some(Self {
                seed,
                shape: Shape { segment_length, segments: 1 },
                fingerprints: Box::default(),
            });
        }
        let shape = Shape { segment_length, segments };
        let most = Shape::for_keys(keys_max).fingerprints();
        let fits = segments as usize <= most && shape.fingerprints() <= most;
        fits.then(|| Self { seed, shape, fingerprints: vec![0; shape.fingerprints()].into() })
    }

    /// The fingerprints, to be read into.
    pub(super) fn fingerprints_mut(&mut self) -> &mut [u8] {
        &mut self.fingerprints
    }

    /// Bytes of memory.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.fingerprints.len()
    }
}

/// Which keys share which places: one after the other is taken out that has a place of its own.
struct Peeling {
    shape: Shape,
    /// For each place the number of keys there, times four, and the places' numbers (0, 1, 2) xored together.
    counts: Vec<u8>,
    /// For each place the hashes of the keys there, xored together.
    hashes: Vec<u64>,
    /// Places with one key.
    alone: Vec<u32>,
    /// Keys in the order in which they were taken out, and by which of their places.
    order: Vec<(u64, u8)>,
}

impl Peeling {
    fn new(shape: Shape, keys: usize) -> Self {
        let places = shape.fingerprints();
        let (counts, hashes) = (vec![0; places], vec![0; places]);
        Self { shape, counts, hashes, alone: Vec::new(), order: Vec::with_capacity(keys) }
    }

    fn attempt(&mut self, keys: &[u64], seed: u64) -> Option<Box<[u8]>> {
        self.counts.fill(0);
        self.hashes.fill(0);
        self.alone.clear();
        self.order.clear();
        for key in keys {
            let hash = mix(key.wrapping_add(seed));
            for (number, place) in (0u8..).zip(self.shape.places(hash)) {
                // More than 63 keys in one place: such a seed is no good.
                self.counts[place] = self.counts[place].checked_add(4)? ^ number;
                self.hashes[place] ^= hash;
            }
        }
        let is_alone = |count: &u8| *count >> 2 == 1;
        self.alone.extend((0u32..).zip(&self.counts).filter(|(_, count)| is_alone(count)).map(|(p, _)| p));
        while let Some(place) = self.alone.pop() {
            let count = self.counts[place as usize];
            if !is_alone(&count) {
                continue;
            }
            let (hash, found) = (self.hashes[place as usize], count & 3);
            self.order.push((hash, found));
            for (number, place) in (0u8..).zip(self.shape.places(hash)) {
                let left = (self.counts[place] - 4) ^ number;
                self.counts[place] = left;
                self.hashes[place] ^= hash;
                if is_alone(&left) {
                    self.alone.push(place as u32);
                }
            }
        }
        if self.order.len() != keys.len() {
            return None;
        }
        let mut fingerprints = vec![0u8; self.shape.fingerprints()].into_boxed_slice();
        for (hash, found) in self.order.iter().rev() {
            let places = self.shape.places(*hash);
            let [a, b, c] = places.map(|place| fingerprints[place]);
            // The one that is set here is still zero.
            fingerprints[places[*found as usize]] = fingerprint(*hash) ^ a ^ b ^ c;
        }
        Some(fingerprints)
    }
}

fn fingerprint(hash: u64) -> u8 {
    (hash ^ (hash >> 32)) as u8
}

/// The finalizer of MurmurHash3.
fn mix(mut key: u64) -> u64 {
    key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(count: u64, salt: u64) -> Vec<u64> {
        (0..count).map(|n| mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)).collect()
    }

    #[test]
    fn every_key_is_found_and_few_others_for_nine_bits_a_key() {
        for count in [0, 1, 2, 3, 10, 100, 1000, 100_000, 1_000_000] {
            let inside = keys(count, 0);
            let filter = Fuse::of(&inside);
            assert!(inside.iter().all(|key| filter.contains(*key)), "{count} keys");
            assert!(count < 1_000_000 || filter.bytes() * 8 < 9_300_000, "{} bytes", filter.bytes());
            let false_ones = keys(100_000, 1 << 63).iter().filter(|key| filter.contains(**key)).count();
            assert!(count == 0 || !filter.fingerprints.is_empty());
            assert!(false_ones < 600, "{false_ones} of 100000 with {count} keys");
        }
    }

    #[test]
    fn equal_keys_make_a_filter_that_lets_everything_through() {
        let filter = Fuse::of(&[5, 5, 5, 5]);
        assert!(filter.fingerprints.is_empty() && filter.contains(5) && filter.contains(6));
        let (head, rest) = filter.to_parts();
        assert!(rest.is_empty() && Fuse::from_head(&head, 4).is_some_and(|read| read.contains(7)));
    }

    #[test]
    fn a_filter_reads_back() {
        let filter = Fuse::of(&keys(5000, 3));
        let (head, fingerprints) = filter.to_parts();
        let mut read = Fuse::from_head(&head, 5000).expect("a good head");
        read.fingerprints_mut().copy_from_slice(fingerprints);
        assert_eq!(read, filter);
    }

    proptest! {
        #[test]
        fn the_head_of_a_filter_never_claims_more_than_its_keys_need(head: [u8; FUSE_HEAD_BYTES]) {
            if let Some(filter) = Fuse::from_head(&head, 1000) {
                prop_assert!(filter.bytes() <= Shape::for_keys(1000).fingerprints());
            }
        }
    }
}
