//! How TLS is spoken between nodes: with a certificate on both sides, which the roster judges.

mod session;

pub(crate) use session::{
    JudgeServer, connecting_once_each, judging, not_believed, once_each, only_tls13, provider,
};

use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::config::NodeName;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use crate::identity::{CertificateFault, OwnCertificate, PeerIdentity, RosterWatch, judge};

/// What both sides call the protocol.
pub(crate) const ALPN: &[u8] = b"backstay/0";

/// Judges certificates by the roster as it is at that moment.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) roster: RosterWatch,
    pub(crate) clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judge")
    }
}

impl Judge {
    pub(crate) fn new(roster: RosterWatch, clock: Arc<dyn Clock>) -> Self {
        Self { roster, clock, provider: Arc::new(provider()) }
    }

    /// Who this is. That it is a member is asked later, where it can be said in words.
    pub(crate) fn identity(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, CertificateFault> {
        let roster = Arc::clone(&self.roster.borrow());
        judge(chain, &roster.anchors(), &roster.fleet, self.clock.now())
    }

    fn judge(&self, own: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<PeerIdentity, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(above).cloned().collect();
        self.identity(&chain).map_err(|fault| not_believed(&fault))
    }
}

/// Of whoever connects to this node.
#[derive(Debug)]
struct ClientJudge(Judge);

impl ClientCertVerifier for ClientJudge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.judge(own, above).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Of the node that this one connects to.
#[derive(Debug)]
struct ServerJudge {
    judge: Judge,
    expected: NodeName,
}

/// Somebody else answers at the address of a node.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node that answers is {found} and not {expected}: its address in [fleet] nodes is wrong, or somebody else has it"
)]
struct AnotherNode {
    found: NodeName,
    expected: NodeName,
}

impl JudgeServer for ServerJudge {
    fn judge(&self, own: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Error> {
        let identity = self.judge.judge(own, above)?;
        if identity.node != self.expected {
            let (found, expected) = (identity.node, self.expected.clone());
            return Err(not_believed(&AnotherNode { found, expected }));
        }
        self.judge.roster.borrow().member(&identity).map_err(|stranger| not_believed(&stranger))?;
        Ok(())
    }
}

/// How this node takes connections.
pub(crate) fn server(judge: &Judge, own: &OwnCertificate) -> Result<QuicServerConfig, Error> {
    let config = ServerConfig::builder_with_provider(Arc::clone(&judge.provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientJudge(judge.clone())))
        .with_cert_resolver(Arc::new(own.clone()));
    once_each(config, ALPN)
}

/// How this node connects to that one.
pub(crate) fn client(judge: &Judge, own: &OwnCertificate, to: &NodeName) -> Result<QuicClientConfig, Error> {
    let server = ServerJudge { judge: judge.clone(), expected: to.clone() };
    let config =
        judging(Arc::clone(&judge.provider), server)?.with_client_cert_resolver(Arc::new(own.clone()));
    connecting_once_each(config, ALPN)
}

/// The words of an error of TLS, without what is around them.
pub(crate) fn words(error: &str) -> &str {
    const BEFORE: &str = "Other(OtherError(";
    match error.split_once(BEFORE) {
        Some((_, words)) => words.strip_suffix("))").unwrap_or(words),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_certificate_is_not_believed_comes_out_in_words() {
        let error = not_believed(&"it is (somebody else)");
        assert_eq!(words(&error.to_string()), "it is (somebody else)");
        assert_eq!(words("something else"), "something else");
    }
}
