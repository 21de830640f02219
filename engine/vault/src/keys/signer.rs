//! Ed25519 signatures: who made an object.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use backstay_core::id::SignerKey;

use super::secret::Secret;

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// Signs as one node or as the domain's admin.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: SignerKey,
}

impl Signer {
    /// The key pair of this seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).expect("every 32 bytes are a seed");
        let public =
            SignerKey::from_slice(pair.public_key().as_ref()).expect("Ed25519 public keys have 32 bytes");
        Self { pair, public }
    }

    /// The public key.
    pub fn public(&self) -> SignerKey {
        self.public
    }

    /// Signs a message. The message begins with what it is for, so that no signature serves twice.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.pair.sign(message);
        signature.as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public).finish()
    }
}

/// The signature does not belong to the message and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its signature is wrong: it was damaged or forged")]
pub struct BadSignature;

/// Checks a signature.
pub fn verify(signer: &SignerKey, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, signer.as_bytes()).verify(message, signature).map_err(|_| BadSignature)
}
