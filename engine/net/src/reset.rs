//! Stateless resets (RFC 9000, section 10.3) that outlive a process: a node that was started anew tells those who still write to
//! its connections of before that these are no more, and they need not find out by silence.

use std::fmt;
use std::net::SocketAddr;

use backstay_vault::keys::random_bytes;
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes of a connection's id.
const ID_BYTES: usize = 8;

/// What makes the tokens of resets. It follows from the node's key for TLS, and so stays as long as that.
#[derive(Clone, Copy)]
pub(crate) struct ResetKey([u8; 32]);

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

impl ResetKey {
    /// Of the node with this private key (DER).
    pub(crate) fn of(private_key: &[u8]) -> Self {
        Self(blake3::derive_key("backstay 2026-11-30 stateless reset", private_key))
    }

    /// For the socket at this address: by what one socket says nobody learns how connections of another are ended (RFC 9000, section
    /// 21.11).
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self(*blake3::keyed_hash(&self.0, address.to_string().as_bytes()).as_bytes())
    }

    /// For a socket whose address does not come back.
    pub(crate) fn random() -> Self {
        Self(random_bytes())
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        // In constant time.
        match blake3::keyed_hash(&self.0, data) == signature {
            true => Ok(()),
            false => Err(CryptoError),
        }
    }
}

/// Ids at random. None is known to be of another process of this node: each that is not known is answered with a reset.
#[derive(Debug)]
pub(crate) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random_bytes::<ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
