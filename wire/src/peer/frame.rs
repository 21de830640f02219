//! Frames of messages between nodes (docs/protocol.md, section 2): bounded before anything is allocated.

use minicbor::{Decode, Encode};

/// Longest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Length of the prefix, bytes.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No message is so long, or so short.
    #[error("a message of {0} bytes: they have 1 to {MESSAGE_BYTES_MAX}")]
    Length(usize),
    /// Not the CBOR of the expected message, or one that breaks its rules.
    #[error("not a message of this protocol: {0}")]
    Malformed(String),
}

/// Encodes a message with its prefix.
pub fn encode<T: Encode<()>>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; PREFIX_BYTES];
    minicbor::encode(message, &mut frame).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = frame.len() - PREFIX_BYTES;
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    // It was just compared.
    frame[..PREFIX_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

/// How long the message behind this prefix is.
pub fn body_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if (1..=MESSAGE_BYTES_MAX).contains(&length) { Ok(length) } else { Err(FrameError::Length(length)) }
}

/// Decodes a message, of which nothing may be left over.
pub fn decode<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Result<T, FrameError> {
    if body.is_empty() || body.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::Length(body.len()));
    }
    let mut decoder = minicbor::Decoder::new(body);
    let message = decoder.decode().map_err(|error| FrameError::Malformed(error.to_string()))?;
    match decoder.position() == body.len() {
        true => Ok(message),
        false => Err(FrameError::Malformed("something follows it".to_owned())),
    }
}
