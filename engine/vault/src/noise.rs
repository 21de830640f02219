//! Tells chunks that no compressor makes smaller, so that none is asked: media and archives are a good part of what
//! people keep, and trying costs more than reading them.

/// Shorter chunks are tried at once.
const LEAST_BYTES: usize = 64 << 10;

/// How many windows are looked at, spread evenly.
const WINDOWS: usize = 64;

/// Length of a window, bytes.
const WINDOW_BYTES: usize = 256;

/// How often each value is expected.
const EXPECTED: u32 = (WINDOWS * WINDOW_BYTES / 256) as u32;

/// Chi-square of the values of bytes up to which they count as noise. Random bytes have 255 on average with a standard
/// deviation of 23. At this bound coding each byte by itself would save less than 0.3 %.
const CHI_SQUARE_MAX: u32 = 440;

/// Whether these bytes look random. A chunk that repeats long random stretches does too, and is not made smaller then.
pub(crate) fn is_noise(plain: &[u8]) -> bool {
    if plain.len() < LEAST_BYTES {
        return false;
    }
    let mut counts = [0u32; 256];
    let stride = plain.len() / WINDOWS;
    for window in 0..WINDOWS {
        for byte in &plain[window * stride..][..WINDOW_BYTES] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let squares: u32 = counts.iter().map(|count| count.abs_diff(EXPECTED).pow(2)).sum();
    squares / EXPECTED <= CHI_SQUARE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn random_bytes_are_noise() {
        for seed in 0..200 {
            assert!(is_noise(&noise(seed, (64 << 10) + seed as usize * 1001)), "seed {seed}");
        }
    }

    #[test]
    fn what_can_be_made_smaller_is_not() {
        let text: Vec<u8> = noise(1, 200_000).iter().map(|byte| b' ' + byte % 64).collect();
        let seven_bits: Vec<u8> = noise(2, 200_000).iter().map(|byte| byte & 0x7f).collect();
        let mut partly = noise(3, 1 << 20);
        partly[300_000..400_000].fill(0);
        for plain in [text, seven_bits, partly, vec![0; 100_000]] {
            assert!(!is_noise(&plain));
        }
    }

    #[test]
    fn short_chunks_are_tried() {
        assert!(!is_noise(&noise(4, LEAST_BYTES - 1)));
    }
}
