//! Why bytes are not what they should be: the common error of all decoders.

use crate::keys::{BadSignature, MissingKey};

/// What is wrong with the bytes of an object or record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("it is cut short")]
    Short,
    /// A field has a value that the format does not allow; says which.
    #[error("its {0} is wrong")]
    Field(&'static str),
    /// It was made by a later version of the format.
    #[error("it has version {found}, this backstay reads up to {known}; install a newer backstay")]
    Newer {
        /// The version found.
        found: u8,
        /// The greatest version known.
        known: u8,
    },
    /// The bytes do not have the hash or id that names them.
    #[error("its contents do not match its name: it was damaged, cut short or swapped with another")]
    Hash,
    /// Authenticated decryption failed.
    #[error("it does not open: it was damaged or swapped with another")]
    Sealed,
    /// The compressed contents do not expand to what was promised.
    #[error("it does not decompress")]
    Compressed,
    /// Sealed with a key that is not at hand.
    #[error(transparent)]
    Key(#[from] MissingKey),
    /// The signature is not good.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// Not valid CBOR of the expected shape.
    #[error("its CBOR is wrong: {0}")]
    Cbor(String),
}

impl From<minicbor::decode::Error> for Malformed {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Cbor(error.to_string())
    }
}

/// Decodes a CBOR value that must fill `bytes` to its end.
pub fn decode_cbor<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, Malformed> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    if decoder.position() != bytes.len() {
        return Err(Malformed::Field("end"));
    }
    Ok(value)
}

/// Encodes a value as CBOR.
pub fn encode_cbor<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory cannot fail")
}
