//! Texts of a bounded length.

use minicbor::decode::{Decoder, Error};

/// Longest name of a node or a fleet, bytes.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Reads a text of 1 to so many bytes.
pub(super) fn bounded<'b>(decoder: &mut Decoder<'b>, bytes_max: usize) -> Result<&'b str, Error> {
    let at = decoder.position();
    let text = decoder.str()?;
    if (1..=bytes_max).contains(&text.len()) {
        return Ok(text);
    }
    Err(Error::message(format!("a text of {} bytes where there can be 1 to {bytes_max}", text.len())).at(at))
}
