//! This node's own certificate and key. A certificate that was renewed is shown from the next connection on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use backstay_vault::keys::Secret;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureScheme};

use super::issue::pkcs8;
use crate::reset::ResetKey;
use crate::tls::provider;

/// A certificate with those above it, and its private key.
pub struct Certificate {
    /// The node's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} in its chain)", self.chain.len())
    }
}

impl Certificate {
    /// From a chain and an Ed25519 key.
    pub fn from_seed(chain: Vec<CertificateDer<'static>>, seed: &Secret) -> Self {
        Self { chain, key: PrivateKeyDer::from(pkcs8(seed)) }
    }
}

/// What this node shows to others. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    shown: Arc<RwLock<Arc<CertifiedKey>>>,
    reset_key: ResetKey,
}

impl OwnCertificate {
    /// Shows this certificate.
    pub fn new(certificate: Certificate) -> Result<Self, Error> {
        let reset_key = ResetKey::of(certificate.key.secret_der());
        Ok(Self { shown: Arc::new(RwLock::new(Arc::new(certified(certificate)?))), reset_key })
    }

    /// Shows another one from now on.
    pub fn replace(&self, certificate: Certificate) -> Result<(), Error> {
        let certified = Arc::new(certified(certificate)?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }

    /// The chain that is shown now.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current().cert.clone()
    }

    /// By which resets of connections are made.
    pub(crate) fn reset_key(&self) -> ResetKey {
        self.reset_key
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Fails where the key is not that of the certificate.
fn certified(certificate: Certificate) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(certificate.chain, certificate.key, &provider())
}
