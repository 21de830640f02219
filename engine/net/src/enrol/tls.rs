//! TLS where one side has no certificate yet: the inviting node shows one of the fleet's authority, with that of the authority
//! beside it, and the invited one knows the authority by what stands in its invitation.

use std::sync::Arc;

use backstay_core::clock::Clock;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::invitation::Invitation;
use crate::identity::{OwnCertificate, judge};
use crate::tls::{no_suite, not_believed, only_tls13, provider};

/// What both sides call this protocol.
const ALPN: &[u8] = b"backstay-join/0";

/// Of the node that invites.
pub(super) struct InviterJudge {
    pub(super) invitation: Invitation,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for InviterJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InviterJudge")
    }
}

impl ServerCertVerifier for InviterJudge {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let invitation = &self.invitation;
        let is_pinned = |der: &&CertificateDer<'_>| *blake3::hash(der).as_bytes() == invitation.authority;
        let authority = above.iter().find(is_pinned).ok_or_else(|| {
            not_believed(&"whoever answers does not show the authority that the invitation names")
        })?;
        let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|error| not_believed(&error))?;
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(above).cloned().collect();
        let judged = judge(&chain, &[anchor], &invitation.fleet, self.clock.now());
        let identity = judged.map_err(|fault| not_believed(&fault))?;
        if identity.node != invitation.inviter || identity.expired_since.is_some() {
            return Err(not_believed(&format!("{} answers and not {}", identity.node, invitation.inviter)));
        }
        Ok(ServerCertVerified::assertion())
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
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How an invitation is kept open.
pub(super) fn server(own: OwnCertificate) -> Result<QuicServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(no_suite)
}

/// How an invitation is taken up.
pub(super) fn client(invitation: &Invitation, clock: Arc<dyn Clock>) -> Result<QuicClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = InviterJudge { invitation: invitation.clone(), clock, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(no_suite)
}
