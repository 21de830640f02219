//! The end of what a program says on standard error, fit for a message: bounded, on one line, without control characters
//! and without secrets.

use std::collections::VecDeque;

use zeroize::Zeroizing;

/// Bytes of a message.
pub const SAID_BYTES_MAX: usize = 4096;

/// Bytes that are kept: a secret that begins before what is shown has to be found whole.
const KEPT_BYTES_MAX: usize = 2 * SAID_BYTES_MAX;

/// In the place of a secret.
const HIDDEN: &str = "(secret)";

/// Between two lines.
const LINE_END: &str = " | ";

/// Takes everything and keeps the end.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    /// Whether something came before what is kept.
    is_cut: bool,
}

impl Tail {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.is_cut |= self.kept.len() + bytes.len() > KEPT_BYTES_MAX;
        let bytes = &bytes[bytes.len().saturating_sub(KEPT_BYTES_MAX)..];
        let surplus = (self.kept.len() + bytes.len()).saturating_sub(KEPT_BYTES_MAX);
        self.kept.drain(..surplus);
        self.kept.extend(bytes);
    }

    /// What is shown of it; at most [`SAID_BYTES_MAX`] bytes, and an ellipsis before what was cut.
    pub(super) fn said(&self, hidden: &[Zeroizing<Vec<u8>>]) -> String {
        let mut bytes: Vec<u8> = self.kept.iter().copied().collect();
        if self.is_cut {
            // The end of a secret may be at the beginning of what is kept.
            let ends = hidden.iter().filter_map(|secret| end_of(secret, &bytes)).max();
            bytes.drain(..ends.unwrap_or(0));
        }
        for secret in hidden {
            bytes = without(&bytes, secret);
        }
        let text = shown(&String::from_utf8_lossy(&bytes));
        match text.len().checked_sub(SAID_BYTES_MAX).filter(|surplus| *surplus > 0) {
            None => text,
            Some(surplus) => format!("…{}", &text[text.ceil_char_boundary(surplus)..]),
        }
    }
}

/// How many of the first bytes are the end of a secret whose beginning is not kept.
fn end_of(secret: &[u8], bytes: &[u8]) -> Option<usize> {
    let longest = secret.len().saturating_sub(1).min(bytes.len());
    (1..=longest).rev().find(|length| bytes[..*length] == secret[secret.len() - length..])
}

fn without(bytes: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(place) = rest.windows(secret.len()).position(|window| window == secret) {
        kept.extend_from_slice(&rest[..place]);
        kept.extend_from_slice(HIDDEN.as_bytes());
        rest = &rest[place + secret.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// One line: what a program says goes into logs, and must not look like lines of its own there, nor move the cursor of a
/// terminal. A progress that is drawn over and over is as many lines.
fn shown(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(|line| {
        let printable = line.chars().map(|c| if c == '\t' { ' ' } else { c });
        printable.filter(|c| !c.is_control() && !turns_text(*c)).collect::<String>()
    });
    let lines: Vec<String> =
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    lines.join(LINE_END)
}

/// Characters that are not seen and change how the others are shown.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(parts: &[&[u8]], hidden: &[&str]) -> String {
        let mut tail = Tail::default();
        parts.iter().for_each(|part| tail.take(part));
        let hidden: Vec<_> = hidden.iter().map(|secret| Zeroizing::new(secret.as_bytes().to_vec())).collect();
        tail.said(&hidden)
    }

    #[test]
    fn it_is_one_line_that_does_nothing_to_a_terminal() {
        assert_eq!(said(&[b"  one\r\n\ntwo\tx\n"], &[]), "one | two x");
        assert_eq!(said(&[b"\x1b[31mred\x1b[0m\x07 \xff\xfe"], &[]), "[31mred[0m \u{fffd}\u{fffd}");
        assert_eq!(said(&["a\u{202e}b\u{2028}c".as_bytes()], &[]), "abc");
        assert_eq!(said(&[], &[]), "");
    }

    #[test]
    fn only_the_end_of_it_is_kept() {
        let mut tail = Tail::default();
        for n in 0..100_000 {
            tail.take(format!("line {n}\n").as_bytes());
            assert!(tail.kept.len() <= KEPT_BYTES_MAX);
        }
        let said = tail.said(&[]);
        assert!(said.len() <= SAID_BYTES_MAX + '…'.len_utf8(), "{}", said.len());
        assert!(said.starts_with('…') && said.ends_with("line 99998 | line 99999"), "{said}");
        tail.take("é".repeat(KEPT_BYTES_MAX).as_bytes());
        assert!(tail.said(&[]).starts_with("…é"));
    }

    #[test]
    fn the_end_of_a_long_secret_is_hidden_whose_beginning_is_not_kept() {
        let secret: String =
            (0..20_000).map(|n| char::from(b'a' + (n % 7) as u8 + (n / 7 % 11) as u8)).collect();
        let said = said(&[b"the key is ", secret.as_bytes(), b" and more"], &[&secret]);
        assert_eq!(said, "and more");
    }

    #[test]
    fn secrets_are_hidden_also_when_they_come_in_pieces() {
        assert_eq!(said(&[b"pw is hun", b"ter2, hunter2!"], &["hunter2"]), "pw is (secret), (secret)!");
        assert_eq!(said(&[b"key\nof two\nlines"], &["of two\nlines"]), "key | (secret)");
    }
}
