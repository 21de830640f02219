//! A sealed text as lines that go on paper and come back: age's own armour, so that `age -d` opens it, and letters by which a line
//! that was typed wrong is found. Refuses what does not fit, and names the line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";

/// Characters of each line but the last.
const LINE_CHARACTERS: usize = 64;

/// Most lines that are read: 64 KiB, far more than a key and its buckets take.
const LINES_MAX: usize = 1400;

/// What stands before the check letters.
const CHECKS: &str = "Check letters";

/// Check letters of each line.
const LETTERS: usize = 3;

/// Letters that are not taken for one another.
const ALPHABET: &[u8; 20] = b"abcdefghkmnpqrstuwxy";

/// How many check letters go on a line of the page.
const CHECKS_PER_LINE: usize = 8;

/// Why lines are not what was printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// There is a beginning and no end.
    #[error("the key has no last line `{END}`: type that too, and all lines before it")]
    NoEnd,
    /// There are no lines between.
    #[error("there is nothing between `{BEGIN}` and `{END}`")]
    Empty,
    /// It is no page of this program.
    #[error("it has more than {LINES_MAX} lines of a key; is this the right file?")]
    TooLong,
    /// A character that no line has.
    #[error(
        "line {line} of the key has {character:?}, which is in none: only A-Z, a-z, 0-9, +, / and at the very end = are"
    )]
    Character {
        /// From 1.
        line: usize,
        /// Which.
        character: char,
    },
    /// One or more characters are missing or too many.
    #[error(
        "line {line} of the key has {found} characters, and all but the last have {LINE_CHARACTERS}: compare it with the page"
    )]
    Length {
        /// From 1.
        line: usize,
        /// How many.
        found: usize,
    },
    /// The letters do not fit.
    #[error(
        "line {line} of the key was typed wrong, or its check letters were (they are typed as {letters:?}): compare both with the page"
    )]
    Letters {
        /// From 1.
        line: usize,
        /// What was typed.
        letters: String,
    },
    /// Lines are missing, or doubled.
    #[error(
        "there are {lines} lines of the key, and check letters for {checks}: a line is missing, or there twice"
    )]
    Count {
        /// Of the key.
        lines: usize,
        /// For so many there are letters.
        checks: usize,
    },
    /// There is their heading alone.
    #[error(
        "there are no check letters below `{CHECKS}`: type them as they are printed, `1 abc`; or leave that line out as well"
    )]
    NoLetters,
    /// The lines do not decode.
    #[error("the last line of the key is not whole: compare it with the page")]
    LastLine,
}

/// The lines for a sealed text, and below them their check letters.
pub fn to_lines(sealed: &[u8]) -> Vec<String> {
    let text = STANDARD.encode(sealed);
    // Base64 is ASCII.
    let lines: Vec<&str> =
        text.as_bytes().chunks(LINE_CHARACTERS).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let mut out = vec![BEGIN.to_owned()];
    out.extend(lines.iter().map(|line| (*line).to_owned()));
    out.push(END.to_owned());
    out.push(format!("{CHECKS} of the lines of the key, to find what was typed wrong:"));
    let checks: Vec<String> =
        (1..).zip(&lines).map(|(n, line)| format!("{n:>3} {}", letters(n, line))).collect();
    out.extend(checks.chunks(CHECKS_PER_LINE).map(|checks| checks.join("  ")));
    out
}

/// The sealed text among any lines, such as those of a whole page; none where none begins. Looks at the check letters as far as
/// they are there.
///
/// # Errors
/// [`ArmorError`] names the line.
pub fn from_text(text: &str) -> Result<Option<Vec<u8>>, ArmorError> {
    let mut lines = text.lines();
    if !lines.any(|line| is_mark(line, BEGIN)) {
        return Ok(None);
    }
    let mut key: Vec<String> = Vec::new();
    loop {
        let line = lines.next().ok_or(ArmorError::NoEnd)?;
        if is_mark(line, END) {
            break;
        }
        // Who types may leave spaces for the eye.
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        if line.is_empty() {
            continue;
        }
        if key.len() == LINES_MAX {
            return Err(ArmorError::TooLong);
        }
        key.push(line);
    }
    for (n, line) in (1..).zip(&key) {
        check_line(n, line, n == key.len())?;
    }
    let checks = checks(lines).map_err(|()| ArmorError::NoLetters)?;
    check_letters(&key, &checks)?;
    match STANDARD.decode(key.concat()) {
        Ok(sealed) if sealed.is_empty() => Err(ArmorError::Empty),
        Ok(sealed) => Ok(Some(sealed)),
        Err(_) => Err(ArmorError::LastLine),
    }
}

/// Whether a line is one of age's marks: hyphens may be lost, or become dashes, on the way to paper and back.
fn is_mark(line: &str, mark: &str) -> bool {
    let is_hyphen = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}');
    let words =
        |text: &str| text.trim().trim_matches(is_hyphen).split_whitespace().map(str::to_owned).collect();
    let (found, wanted): (Vec<String>, Vec<String>) = (words(line), words(mark));
    found == wanted && line.trim().chars().next().is_some_and(is_hyphen)
}

fn check_line(line: usize, text: &str, is_last: bool) -> Result<(), ArmorError> {
    let padding = if is_last { text.trim_end_matches('=') } else { text };
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    if let Some(character) = padding.chars().find(|c| !is_good(*c)) {
        return Err(ArmorError::Character { line, character });
    }
    let found = text.chars().count();
    if found > LINE_CHARACTERS || (!is_last && found != LINE_CHARACTERS) {
        return Err(ArmorError::Length { line, found });
    }
    Ok(())
}

/// The check letters after the key: pairs of a number and letters, until something else comes. An error where nothing like that
/// follows their heading.
fn checks<'t>(mut after: impl Iterator<Item = &'t str>) -> Result<Vec<(usize, String)>, ()> {
    let mut checks = Vec::new();
    if !after.any(|line| line.trim_start().starts_with(CHECKS)) {
        return Ok(checks);
    }
    // Who types may set them off as it looks good: `1: abc`, `1) abc,`.
    let words = after.flat_map(str::split_whitespace);
    let words = words.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let mut words = words.filter(|word| !word.is_empty());
    while let (Some(number), Some(letters)) = (words.next(), words.next()) {
        let Ok(number) = number.parse() else { break };
        if checks.len() > LINES_MAX {
            break;
        }
        checks.push((number, letters.to_ascii_lowercase()));
    }
    if checks.is_empty() { Err(()) } else { Ok(checks) }
}

fn check_letters(key: &[String], checks: &[(usize, String)]) -> Result<(), ArmorError> {
    for (n, typed) in checks {
        // One beyond the lines that there are is told below.
        let Some(line) = n.checked_sub(1).and_then(|n| key.get(n)) else { continue };
        if *typed != letters(*n, line) {
            return Err(ArmorError::Letters { line: *n, letters: typed.clone() });
        }
    }
    match checks.iter().map(|(n, _)| *n).max() {
        Some(checks) if checks != key.len() => Err(ArmorError::Count { lines: key.len(), checks }),
        _ => Ok(()),
    }
}

/// The check letters of a line: of its place as well, so that lines in another order are found.
fn letters(n: usize, line: &str) -> String {
    let hash = blake3::hash(format!("backstay kit line {n}: {line}").as_bytes());
    let of_byte = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    hash.as_bytes()[..LETTERS].iter().map(of_byte).collect()
}

#[cfg(test)]
mod tests {
    use backstay_testkit::random::{self, Random};

    use super::*;

    fn page(sealed: &[u8]) -> String {
        let mut lines = vec!["A page with a title".to_owned(), String::new()];
        lines.extend(to_lines(sealed));
        lines.push("and more: 1 thing below it".to_owned());
        lines.join("\n")
    }

    #[test]
    fn what_was_printed_is_read_again_from_the_page_and_from_the_key_alone() {
        for bytes in [1, 47, 48, 49, 500] {
            let sealed: Vec<u8> = (0..bytes).map(|n| (n * 7) as u8).collect();
            let printed = page(&sealed);
            assert_eq!(from_text(&printed), Ok(Some(sealed.clone())), "{printed}");
            let end = printed.find(CHECKS).expect("letters");
            assert_eq!(from_text(&printed[..end]), Ok(Some(sealed)), "without letters");
            assert!(printed.lines().all(|line| line.len() <= 80), "{printed}");
        }
        assert_eq!(from_text("AGE-SECRET-KEY-1XYZ\n"), Ok(None));
    }

    #[test]
    fn spaces_empty_lines_and_lost_hyphens_do_no_harm() {
        let sealed = [9u8; 100];
        let mut typed = String::new();
        for line in page(&sealed).lines() {
            let line = match line.len() == LINE_CHARACTERS {
                true => format!("  {} {}", &line[..32], &line[32..]),
                false => line.replace("-----", "\u{2014}").to_owned(),
            };
            typed += &format!("{line}  \n\n");
        }
        assert_eq!(from_text(&typed), Ok(Some(sealed.to_vec())), "{typed}");
    }

    /// Every single slip in every line is told with the number of that line.
    #[test]
    fn a_line_that_was_typed_wrong_is_named() {
        let seed = random::seed();
        println!("seed: BACKSTAY_TEST_SEED={seed}");
        let mut random = Random::new(seed);
        let sealed = random.bytes(400);
        let lines = to_lines(&sealed);
        let count = lines.iter().position(|line| line == END).expect("an end") - 1;
        let mut unnamed = 0;
        for n in 1..=count {
            for _ in 0..20 {
                let mut wrong = lines.clone();
                let at = (random.bytes(1)[0] as usize) % wrong[n].len();
                let old = wrong[n].as_bytes()[at];
                let new = if old == b'B' { "8" } else { "B" };
                wrong[n].replace_range(at..=at, new);
                match from_text(&wrong.join("\n")) {
                    Err(ArmorError::Letters { line, .. } | ArmorError::Character { line, .. }) => {
                        assert_eq!(line, n);
                    }
                    Ok(_) => unnamed += 1,
                    Err(other) => panic!("line {n}: {other}"),
                }
            }
        }
        // One in eight thousand has the same letters by chance.
        assert!(unnamed <= 1, "{unnamed}");
        let without = |n: usize| {
            let mut wrong = lines.clone();
            wrong.remove(n);
            from_text(&wrong.join("\n")).expect_err("a line is missing").to_string()
        };
        assert!(without(2).contains("line 2 of the key"), "{}", without(2));
        let mut short = lines.clone();
        short[3].pop();
        assert_eq!(from_text(&short.join("\n")), Err(ArmorError::Length { line: 3, found: 63 }));
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert!(matches!(from_text(&swapped.join("\n")), Err(ArmorError::Letters { line: 1, .. })));
        let mut letters = lines;
        let of_checks = letters.len() - 1;
        letters[of_checks] = letters[of_checks].replace("  9 ", "  9 z");
        assert!(matches!(from_text(&letters.join("\n")), Err(ArmorError::Letters { line: 9, .. })));
    }

    #[test]
    fn check_letters_may_be_set_off_and_do_not_go_missing_in_silence() {
        let lines = to_lines(&[9u8; 100]);
        let end = lines.iter().position(|line| line == END).expect("an end");
        let checks = |text: &str| {
            let key = lines[..=end + 1].join("\n");
            from_text(&format!("{key}\n{text}"))
        };
        let of = |n: usize| letters(n, &lines[n]);
        assert!(checks(&format!("1: {}, 2: {}; 3) {}", of(1), of(2), of(3))).is_ok());
        let wrong = Err(ArmorError::Letters { line: 1, letters: "zzz".to_owned() });
        assert_eq!(checks(&format!("1: zzz 2: {} 3: {}", of(2), of(3))), wrong);
        assert_eq!(checks(""), Err(ArmorError::NoLetters));
        assert_eq!(checks("abc abd"), Err(ArmorError::NoLetters));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let text = |middle: &str| from_text(&format!("{BEGIN}\n{middle}\n{END}"));
        assert_eq!(text(""), Err(ArmorError::Empty));
        assert_eq!(from_text(BEGIN), Err(ArmorError::NoEnd));
        assert_eq!(text("AB\u{451}D"), Err(ArmorError::Character { line: 1, character: '\u{451}' }));
        assert_eq!(text("ABC"), Err(ArmorError::LastLine));
        assert_eq!(text(&"A\n".repeat(LINES_MAX + 1)), Err(ArmorError::TooLong));
    }
}
