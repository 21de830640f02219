//! The token by which a receive that was cut off goes on (`receive_resume_token`): which snapshot it was, in which form, and
//! how far it came. Decoded here, so that a plan can be made without asking ZFS.
//!
//! Its form is that of OpenZFS, `module/zfs/dsl_dataset.c`, `get_receive_resume_token_impl`: version `1`, a sum over the
//! compressed bytes, their plain length, and themselves, in hex, with dashes between; compressed by zlib is a packed list.

use crate::guid::SnapshotGuid;
use crate::nvlist::{Item, read};
use crate::zfs::{Form, Resume};

/// Most bytes of the list when it is not compressed: it has a dozen pairs.
const PLAIN_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a token.
const TOKEN_BYTES_MAX: usize = 128 << 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The snapshot that was being received.
    pub to: SnapshotGuid,
    /// On what it builds; nothing for a full.
    pub from: Option<SnapshotGuid>,
    /// How far it came.
    pub resume: Resume,
    /// Its form; `None` of one in which we send nothing.
    pub form: Option<Form>,
}

/// A token that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a resume token is not understood: {0}")]
pub struct TokenError(&'static str);

impl Token {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError("it is too long"));
        }
        let mut parts = text.splitn(4, '-');
        let mut next = || parts.next().ok_or(TokenError("a part is missing"));
        let (version, sum, length, packed) = (next()?, next()?, next()?, next()?);
        if version != "1" {
            return Err(TokenError("it is of another version"));
        }
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| TokenError("a number is none"));
        let (sum, length) = (number(sum)?, number(length)?);
        let packed = unhex(packed).ok_or(TokenError("it is not in hex"))?;
        if fletcher_first(&packed) != sum {
            return Err(TokenError("its sum is wrong"));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= PLAIN_BYTES_MAX);
        let length = length.ok_or(TokenError("its list is too long"))?;
        let plain = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, length)
            .map_err(|_| TokenError("it cannot be decompressed"))?;
        let items = read(&plain).map_err(|_| TokenError("its list is damaged"))?;
        let find = |name: &str| items.iter().find(|(found, _)| found == name).map(|(_, item)| item);
        let number = |name: &str| match find(name) {
            Some(Item::Number(number)) => Some(*number),
            _ => None,
        };
        let needed = |name: &str| number(name).ok_or(TokenError("a number is missing"));
        let has = |name: &str| find(name).is_some();
        // `largeblockok` is there only where the snapshot has large blocks: what was asked for does not matter to it.
        let form = match (has("rawok"), has("compressok"), has("embedok")) {
            (true, ..) => Some(Form::Raw),
            (false, true, false) => Some(Form::Plain),
            _ => None,
        };
        // What was redacted we never send.
        let form = form.filter(|_| !has("redact_snaps") && !has("book_redact_snaps"));
        Ok(Self {
            to: SnapshotGuid(needed("toguid")?),
            from: number("fromguid").filter(|guid| *guid != 0).map(SnapshotGuid),
            resume: Resume { object: needed("object")?, offset_bytes: needed("offset")? },
            form,
        })
    }
}

/// The first word of fletcher-4 over words of 32 bits, as this machine reads them.
fn fletcher_first(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    words.fold(0_u64, |sum, word| sum.wrapping_add(u64::from(word)))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused_in_words() {
        for text in
            ["", "1", "1-2-3", "2-0-0-00", "1-x-0-00", "1-0-0-0", "1-1-10-00000000", "1-0-ffffffffffff-"]
        {
            assert!(Token::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
