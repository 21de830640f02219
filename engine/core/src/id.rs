//! Identifiers: fixed-size byte strings, each a type of its own so that none is taken for another.
//! Shown and parsed as lower-case hex. Owns no randomness: random bytes are arguments.

use std::fmt;
use std::str::FromStr;

/// A text that is not the hex form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected {expected_digits} lower-case hex digits, found {found:?}")]
pub struct ParseIdError {
    /// How many hex digits the identifier has.
    pub expected_digits: usize,
    /// The text that was given, cut to 80 characters.
    pub found: String,
}

macro_rules! identifier {
    ($(#[$meta:meta])* $name:ident, $length:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Length in bytes.
            pub const LENGTH: usize = $length;

            /// The identifier that consists of these bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// The identifier in these bytes; `None` unless there are exactly [`Self::LENGTH`].
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                <[u8; $length]>::try_from(bytes).ok().map(Self)
            }

            /// The hex form cut to eight digits, for people.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $length];
                parse_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let at = d.position();
                Self::from_slice(d.bytes()?).ok_or_else(|| {
                    minicbor::decode::Error::message(concat!(stringify!($name), " of a wrong length")).at(at)
                })
            }
        }
    };
}

identifier!(
    /// Names a chunk: keyed BLAKE3-256 of its plaintext (docs/format.md, section 5).
    ChunkId, 32);
identifier!(
    /// Names a pack: BLAKE3-256 of the whole object.
    PackId, 32);
identifier!(
    /// BLAKE3-256 of an object's stored bytes.
    ObjectHash, 32);
identifier!(
    /// Identity of an entry's restorable content (docs/format.md, section 7, "Element").
    Element, 32);
identifier!(
    /// Identity of a file's contents (docs/format.md, section 11, "Content id").
    ContentId, 32);
identifier!(
    /// Names a point; random.
    PointId, 16);
identifier!(
    /// Names a source without revealing it: keyed hash of `SERVICE.KIND`.
    SourceId, 16);
identifier!(
    /// Names one commit; random.
    SessionId, 16);
identifier!(
    /// Names one line of history of a journal without revealing it: a hash.
    BranchId, 16);
identifier!(
    /// Names a part of a journal that one writer appends to; random.
    JournalId, 16);
identifier!(
    /// Names a vault; random.
    VaultId, 16);
identifier!(
    /// Names a key domain; random.
    DomainId, 16);
identifier!(
    /// Names one epoch of a key; random.
    KeyId, 16);
identifier!(
    /// Names a capture that may span several partial points; random.
    CaptureId, 16);
identifier!(
    /// Names a group of hard links within a source.
    LinkId, 16);
identifier!(
    /// An Ed25519 public key.
    SignerKey, 32);

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str, bytes: &mut [u8]) -> Result<(), ParseIdError> {
    let error = || ParseIdError { expected_digits: bytes.len() * 2, found: text.chars().take(80).collect() };
    let digits = text.as_bytes();
    if digits.len() != bytes.len() * 2 {
        return Err(error());
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    for pair in digits.chunks_exact(2) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => return Err(error()),
        }
    }
    bytes.copy_from_slice(&decoded);
    Ok(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_form_reads_back() {
        let id = PointId::new(*b"\x00\x01\xfeabcdefghijklm");
        assert_eq!(id.to_string(), "0001fe6162636465666768696a6b6c6d");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_not_lower_case_hex_of_the_right_length_is_refused() {
        for text in ["", "00", "0001FE6162636465666768696a6b6c6d", "g001fe6162636465666768696a6b6c6d", "é"] {
            assert!(text.parse::<PointId>().is_err(), "{text:?}");
        }
    }
}
