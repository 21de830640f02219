//! Text as people write it in source trees: indented statements, comments, repeated names.
//!
//! Owns a vocabulary and the shape of lines. The aim is what a backup tool notices: zstd makes such files
//! 3 to 4 times smaller one by one, like the real ones measured for it, since a file uses few names of a large
//! vocabulary, again and again.

use crate::random::{Random, Zipf};

const SYLLABLES: &[&str] = &[
    "ab", "ac", "al", "an", "ar", "ba", "be", "bin", "bo", "ca", "ce", "con", "cur", "da", "de", "di", "do",
    "ed", "el", "en", "er", "es", "fa", "fe", "for", "ge", "go", "ha", "he", "in", "ing", "ion", "ir", "is",
    "ke", "la", "le", "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "no", "on", "op", "or", "ou", "pa",
    "per", "po", "pre", "qu", "ra", "re", "ri", "ro", "sa", "se", "si", "st", "sub", "ta", "te", "ter", "ti",
    "to", "tra", "un", "ur", "us", "va", "ve", "vi", "wa", "we", "wi", "xi",
];
const WORDS: u32 = 4_000;
const NAMES: u32 = 20_000;
/// A file takes this many names from the vocabulary, and one more for each [`BYTES_PER_NAME`].
const LEAST_NAMES: usize = 12;
const BYTES_PER_NAME: usize = 110;
const MOST_INDENT: usize = 6;

/// Words for prose and names for code, shared by all files of a data set.
pub(crate) struct Vocabulary {
    words: Vec<String>,
    names: Vec<String>,
    word_law: Zipf,
    name_law: Zipf,
}

impl Vocabulary {
    pub(crate) fn new(seed: u64) -> Vocabulary {
        let mut random = Random::new(seed, "vocabulary");
        let words: Vec<_> = (0..WORDS).map(|_| word(&mut random)).collect();
        let names = (0..NAMES).map(|_| name(&words, &mut random)).collect();
        Vocabulary { words, names, word_law: Zipf::new(WORDS), name_law: Zipf::new(NAMES) }
    }

    /// A name for a file or a folder.
    pub(crate) fn file_name(&self, random: &mut Random) -> &str {
        &self.names[random.index(self.names.len())]
    }
}

fn word(random: &mut Random) -> String {
    let syllables = 1 + random.index(3);
    (0..syllables).map(|_| *random.pick(SYLLABLES)).collect()
}

fn name(words: &[String], random: &mut Random) -> String {
    let parts: Vec<_> = (0..1 + random.index(3)).map(|_| random.pick(words).as_str()).collect();
    if random.chance(2, 3) {
        return parts.join("_");
    }
    let capital = |part: &&str| part[..1].to_uppercase() + &part[1..];
    parts.iter().map(capital).collect()
}

/// A file of exactly `length` bytes.
pub(crate) fn source_file(vocabulary: &Vocabulary, random: &mut Random, length: usize) -> Vec<u8> {
    let count = LEAST_NAMES + length / BYTES_PER_NAME;
    let names = (0..count).map(|_| vocabulary.names[vocabulary.name_law.sample(random)].as_str()).collect();
    let mut file = File {
        vocabulary,
        names,
        name_law: Zipf::new(count as u32),
        indent: 0,
        text: String::with_capacity(length + 256),
    };
    while file.text.len() < length {
        file.push_line(random);
    }
    let mut bytes = file.text.into_bytes();
    bytes.truncate(length);
    bytes
}

struct File<'a> {
    vocabulary: &'a Vocabulary,
    names: Vec<&'a str>,
    name_law: Zipf,
    indent: usize,
    text: String,
}

impl File<'_> {
    fn push_line(&mut self, random: &mut Random) {
        let pattern = match random.below(100) {
            0..8 => return self.text.push('\n'),
            8..18 => return self.push_comment(random),
            18..30 => "N.N(N, N);",
            30..42 => "let N = N.N(N);",
            42..50 => "let N = N::N { N, N: D };",
            50..55 => "return N(N, N);",
            55..62 => "N.N = N + D;",
            62..66 => "assert_eq!(N.N(), D);",
            66..72 => "if N.N(N) == D {",
            72..76 => "for N in N.N() {",
            76..80 => "fn N(N: &N, N: N) -> N {",
            _ => "}",
        };
        self.push_statement(pattern, random);
    }

    /// `N` stands for a name of this file, `D` for a number.
    fn push_statement(&mut self, pattern: &str, random: &mut Random) {
        if pattern == "}" {
            if self.indent == 0 {
                return self.text.push('\n');
            }
            self.indent -= 1;
        }
        self.push_indent();
        for letter in pattern.chars() {
            match letter {
                'N' => self.text.push_str(self.names[self.name_law.sample(random)]),
                'D' => self.push_number(random),
                other => self.text.push(other),
            }
        }
        self.text.push('\n');
        if pattern.ends_with('{') && self.indent < MOST_INDENT {
            self.indent += 1;
        }
    }

    fn push_comment(&mut self, random: &mut Random) {
        self.push_indent();
        self.text.push_str("//");
        for _ in 0..4 + random.index(10) {
            self.text.push(' ');
            self.text.push_str(&self.vocabulary.words[self.vocabulary.word_law.sample(random)]);
        }
        self.text.push_str(".\n");
    }

    fn push_indent(&mut self) {
        (0..self.indent).for_each(|_| self.text.push_str("    "));
    }

    fn push_number(&mut self, random: &mut Random) {
        let digits = 1 + random.index(3);
        (0..digits).for_each(|_| self.text.push(char::from(b'0' + random.below(10) as u8)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, length: usize) -> Vec<u8> {
        source_file(&Vocabulary::new(seed), &mut Random::new(seed, "file"), length)
    }

    #[test]
    fn a_file_has_the_length_asked_for_and_the_same_bytes_each_time() {
        for length in [0, 1, 4096, 70_000] {
            let file = sample(3, length);
            assert_eq!(file.len(), length);
            assert_eq!(file, sample(3, length));
        }
        assert_ne!(sample(3, 4096), sample(4, 4096));
    }

    #[test]
    fn it_compresses_like_source_code() {
        let vocabulary = Vocabulary::new(5);
        let mut random = Random::new(5, "many");
        let (mut plain, mut packed) = (0, 0);
        for _ in 0..200 {
            let length = random.log_normal(4096, 1.9) as usize;
            let file = source_file(&vocabulary, &mut random, length);
            plain += file.len();
            packed += zstd::bulk::compress(&file, 1).expect("compresses").len();
        }
        let ratio = plain as f64 / packed as f64;
        assert!((3.0..4.0).contains(&ratio), "zstd makes it {ratio:.2} times smaller");
    }
}
