//! Framing: a length of four bytes, little endian, then that many bytes of JSON. Bounded before anything is
//! allocated. A message may hold a recovery key: what it was encoded into is wiped, and never grows, which would leave
//! copies behind.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes that are wiped when they are dropped.
pub type Wiped = Zeroizing<Vec<u8>>;

/// Length of the prefix, bytes.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame is refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than a message may be.
    #[error("a message of {0} bytes is longer than the limit of {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Not the JSON of the expected message.
    #[error("not a message of this protocol ({0}); are client and daemon of the same version?")]
    Malformed(String),
}

/// Encodes a message with its prefix.
pub fn encode<T: Serialize>(message: &T) -> Result<Wiped, FrameError> {
    let malformed = |error: serde_json::Error| FrameError::Malformed(error.to_string());
    let mut length = Length(0);
    serde_json::to_writer(&mut length, message).map_err(malformed)?;
    let Length(length) = length;
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(PREFIX_BYTES + length));
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    serde_json::to_writer(&mut *frame, message).map_err(malformed)?;
    Ok(frame)
}

/// Counts what is written, and keeps nothing.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the body of a frame with this prefix is read into; wiped when it is dropped.
pub fn body_of(prefix: [u8; PREFIX_BYTES]) -> Result<Wiped, FrameError> {
    Ok(Zeroizing::new(vec![0; body_length(prefix)?]))
}

/// How many bytes follow this prefix.
pub fn body_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MESSAGE_BYTES_MAX { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// Decodes the body of a frame.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::{Ask, Request, VERSION};
    use crate::secret::SecretText;
    use crate::upkeep::Upkeep;

    #[test]
    fn a_frame_never_grows_so_that_no_copy_of_a_key_is_left_behind() {
        let recovery = Some(SecretText::new("AGE-SECRET-KEY-1X\n".repeat(1000)));
        let ask = Ask::Upkeep(Upkeep::TakeCustody { vault: "local".into(), recovery });
        let request = Request { version: VERSION, ask };
        let frame: Wiped = encode(&request).expect("encodes");
        assert_eq!(frame.capacity(), frame.len());
        let (prefix, body) = frame.split_at(PREFIX_BYTES);
        let mut read: Wiped = body_of(prefix.try_into().expect("a prefix")).expect("short");
        assert_eq!(read.len(), body.len());
        read.copy_from_slice(body);
        assert_eq!(decode::<Request>(&read).expect("decodes"), request);
    }

    #[test]
    fn a_prefix_beyond_the_limit_is_refused_before_anything_is_read() {
        assert!(matches!(body_length([255; 4]), Err(FrameError::TooLong(_))));
        assert!(matches!(body_length([0, 0, 1, 0]), Ok(65_536)));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&body);
        }
    }
}
