//! Framing: a length of four bytes, little endian, then that many bytes of JSON. Bounded before anything is
//! allocated.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

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
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let json = serde_json::to_vec(message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    if json.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(json.len()));
    }
    let mut frame = Vec::with_capacity(PREFIX_BYTES + json.len());
    frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
    frame.extend_from_slice(&json);
    Ok(frame)
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
    use crate::control::Request;

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
