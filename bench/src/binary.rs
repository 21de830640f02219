//! Bytes as they are in executables and libraries: code, strings, tables, padding.
//!
//! Owns a table of instruction-like byte strings and the mixture of sections. The aim is what a backup tool
//! notices: zstd makes them 2 to 2.6 times smaller, with about the work that real libraries cause. Refuses to
//! take bytes from the machine: a report could not be repeated elsewhere.

use crate::random::{Random, Zipf};

const IDIOMS: u32 = 16_384;
/// A file uses this many of the idioms more than others, as one compiler and one subject make it do.
const FAVOURITES: usize = 3_000;
/// Sections are this long before the mixture changes, in bytes.
const SECTION_LEAST: u64 = 2 << 10;
const SECTION_MOST: u64 = 256 << 10;

/// Instruction-like byte strings, shared by all binaries of a data set.
pub(crate) struct Idioms {
    idioms: Vec<Vec<u8>>,
    law: Zipf,
}

impl Idioms {
    pub(crate) fn new(seed: u64) -> Idioms {
        let mut random = Random::new(seed, "idioms");
        let idiom = |random: &mut Random| {
            let mut bytes = vec![0; 2 + random.index(7)];
            random.fill(&mut bytes);
            // Most instructions begin with one of a few prefixes and opcodes.
            bytes[0] = *random.pick(&[0x48, 0x48, 0x48, 0x4c, 0x89, 0x8b, 0x0f, 0x41, 0xe8, 0x83]);
            bytes
        };
        Idioms { idioms: (0..IDIOMS).map(|_| idiom(&mut random)).collect(), law: Zipf::new(IDIOMS) }
    }
}

/// A file of exactly `length` bytes.
pub(crate) fn binary_file(idioms: &Idioms, random: &mut Random, length: usize) -> Vec<u8> {
    let favourites = (0..FAVOURITES).map(|_| idioms.idioms[idioms.law.sample(random)].as_slice()).collect();
    let mut file =
        File { favourites, law: Zipf::new(FAVOURITES as u32), bytes: b"\x7fELF\x02\x01\x01".to_vec() };
    file.bytes.reserve(length + 64);
    while file.bytes.len() < length {
        let end = length.min(file.bytes.len() + random.log_uniform(SECTION_LEAST, SECTION_MOST) as usize);
        match random.below(100) {
            0..66 => file.push_code(random, end),
            66..78 => file.push_strings(random, end),
            78..95 => file.push_table(random, end),
            _ => file.bytes.resize(end, 0),
        }
    }
    file.bytes.truncate(length);
    file.bytes
}

struct File<'a> {
    favourites: Vec<&'a [u8]>,
    law: Zipf,
    bytes: Vec<u8>,
}

impl File<'_> {
    fn push_code(&mut self, random: &mut Random, end: usize) {
        while self.bytes.len() < end {
            self.bytes.extend_from_slice(self.favourites[self.law.sample(random)]);
            match random.below(16) {
                // A displacement from the stack or a structure: small and aligned.
                0..5 => self.bytes.push(random.below(16) as u8 * 8),
                // A relative call or jump: two bytes that vary, then sign extension.
                5..8 => {
                    let target = random.next().to_le_bytes();
                    self.bytes.extend_from_slice(&[target[0], target[1], 0xff, 0xff]);
                }
                _ => {}
            }
        }
    }

    fn push_strings(&mut self, random: &mut Random, end: usize) {
        const LETTERS: &[u8] = b"etaoinsrhldcumfpgwybvk_EST01 .";
        let law = Zipf::new(LETTERS.len() as u32);
        while self.bytes.len() < end {
            let length = 4 + random.index(40);
            (0..length).for_each(|_| self.bytes.push(LETTERS[law.sample(random)]));
            self.bytes.push(0);
        }
    }

    /// Relocations and symbols: 8-byte addresses that grow.
    fn push_table(&mut self, random: &mut Random, end: usize) {
        let mut address = random.below(1 << 24);
        while self.bytes.len() < end {
            address += 8 * (1 + random.below(32));
            self.bytes.extend_from_slice(&address.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, length: usize) -> Vec<u8> {
        binary_file(&Idioms::new(seed), &mut Random::new(seed, "file"), length)
    }

    #[test]
    fn a_file_has_the_length_asked_for_and_the_same_bytes_each_time() {
        for length in [0, 5, 100_000, 1_000_003] {
            let file = sample(3, length);
            assert_eq!(file.len(), length);
            assert_eq!(file, sample(3, length));
        }
        assert_ne!(sample(3, 100_000), sample(4, 100_000));
    }

    #[test]
    fn it_compresses_like_libraries() {
        let file = sample(5, 16 << 20);
        let packed: usize =
            file.chunks(1 << 20).map(|chunk| zstd::bulk::compress(chunk, 1).expect("compresses").len()).sum();
        let ratio = file.len() as f64 / packed as f64;
        assert!((2.0..2.6).contains(&ratio), "zstd makes it {ratio:.2} times smaller");
    }
}
