//! Randomness that is the same everywhere: a seed and a label give one sequence, on every machine.
//!
//! Owns the generator and the few distributions that the data set needs. Uses only integer arithmetic and
//! floating-point operations that IEEE 754 rounds exactly (no `exp`, `ln`, `sin`), so that a data set has the
//! same bytes whatever the platform's mathematical library. Refuses to be a source of secrets.

/// A SplitMix64 sequence.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `label` under `seed`. Different labels give unrelated sequences.
    pub(crate) fn new(seed: u64, label: &str) -> Random {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(label.as_bytes());
        let mut state = [0; 8];
        hasher.finalize_xof().fill(&mut state);
        Random { state: u64::from_le_bytes(state) }
    }

    /// One of many short sequences under one seed.
    pub(crate) fn of_number(seed: u64, number: u64) -> Random {
        let mut random = Random { state: seed ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03) };
        Random { state: random.next() }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform below `bound`, which is above 0. Biased by less than `bound` in 2⁶⁴: of no consequence here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A uniform index into something of `length` elements.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in `count` of `of` cases.
    pub(crate) fn chance(&mut self, count: u64, of: u64) -> bool {
        self.below(of) < count
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal with this median, one standard deviation being `doublings` powers of two. The normal is the
    /// sum of twelve uniforms, so nothing is further than six deviations from the median.
    pub(crate) fn log_normal(&mut self, median: u64, doublings: f64) -> u64 {
        let deviations: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        (median as f64 * power_of_two(deviations * doublings)) as u64
    }

    /// Log-uniform between two sizes: each doubling is equally likely.
    pub(crate) fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        let mut doublings = 0.0;
        while low as f64 * power_of_two(doublings + 0.125) <= high as f64 {
            doublings += 0.125;
        }
        let scale = power_of_two(self.unit() * doublings);
        (low as f64 * scale) as u64
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

/// 2^x, straight between whole exponents: at most 6 % above the true value.
fn power_of_two(exponent: f64) -> f64 {
    let whole = exponent.floor();
    let scale = (0..whole.abs() as u32).fold(1.0, |scale, _| scale * 2.0);
    let fraction = 1.0 + (exponent - whole);
    if whole < 0.0 { fraction / scale } else { fraction * scale }
}

/// Ranks of a Zipf law: rank r comes up in proportion to 1 / (r + 1).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    quantiles: Vec<u32>,
}

/// The finest step of probability that a sample distinguishes: 1 in 16 384.
const QUANTILES: u32 = 1 << 14;

impl Zipf {
    /// Over `ranks` ranks, at least one.
    pub(crate) fn new(ranks: u32) -> Zipf {
        let total: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut quantiles = Vec::with_capacity(QUANTILES as usize);
        let (mut rank, mut reached) = (0, 1.0 / total);
        for quantile in 0..QUANTILES {
            while reached <= f64::from(quantile) / f64::from(QUANTILES) && rank + 1 < ranks {
                rank += 1;
                reached += 1.0 / f64::from(rank + 1) / total;
            }
            quantiles.push(rank);
        }
        Zipf { quantiles }
    }

    pub(crate) fn sample(&self, random: &mut Random) -> usize {
        *random.pick(&self.quantiles) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_label_give_one_sequence_for_ever() {
        let mut random = Random::new(7, "tree/a");
        let golden = [random.next(), random.next()];
        assert_eq!(golden, GOLDEN, "the data sets of earlier reports could not be made again");
        assert_ne!(Random::new(7, "tree/b").next(), golden[0]);
        assert_ne!(Random::new(8, "tree/a").next(), golden[0]);
    }

    const GOLDEN: [u64; 2] = [11_725_071_526_000_248_461, 8_502_321_779_605_160_607];

    #[test]
    fn sizes_are_spread_around_their_median() {
        let mut random = Random::new(1, "sizes");
        let mut sizes: Vec<_> = (0..10_001).map(|_| random.log_normal(4096, 1.9)).collect();
        sizes.sort_unstable();
        assert!((3800..4400).contains(&sizes[5000]), "median {}", sizes[5000]);
        let mean = sizes.iter().sum::<u64>() / 10_001;
        assert!((8_000..11_000).contains(&mean), "mean {mean}");
    }

    #[test]
    fn log_uniform_stays_between_its_ends() {
        let mut random = Random::new(1, "ends");
        for _ in 0..1000 {
            let size = random.log_uniform(100_000, 50_000_000);
            assert!((100_000..=50_000_000).contains(&size), "{size}");
        }
        assert_eq!(random.log_uniform(5, 5), 5);
    }

    #[test]
    fn the_first_zipf_rank_is_twice_as_frequent_as_the_second() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(1, "zipf"));
        let mut counts = [0_u32; 1000];
        (0..100_000).for_each(|_| counts[zipf.sample(&mut random)] += 1);
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
        assert!(counts[500..].iter().sum::<u32>() > 5_000, "the tail comes up");
    }
}
