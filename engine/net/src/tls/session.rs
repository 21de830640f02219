//! What holds for every connection: TLS 1.3 alone, without early data, and without sessions that are resumed, which would skip the
//! look at the certificate.

use std::fmt::Debug;
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, OtherError, ServerConfig,
    SignatureScheme,
};

/// The one library of cryptography.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// Judges the certificate of the side that this one connects to, and what comes with it.
pub(crate) trait JudgeServer: Debug + Send + Sync + 'static {
    /// Nothing where it is believed.
    fn judge(&self, own: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Error>;
}

/// How a side is connected to that this judge believes; what this side shows is left open.
pub(crate) fn judging(
    provider: Arc<CryptoProvider>,
    judge: impl JudgeServer,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let verifier = Judging { judge, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// A protocol for which every connection is a new one, as the side that is connected to.
pub(crate) fn once_each(mut config: ServerConfig, protocol: &[u8]) -> Result<QuicServerConfig, Error> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(no_suite)
}

/// The same, as the side that connects.
pub(crate) fn connecting_once_each(
    mut config: ClientConfig,
    protocol: &[u8],
) -> Result<QuicClientConfig, Error> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_early_data = false;
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(no_suite)
}

fn no_suite(error: NoInitialCipherSuite) -> Error {
    Error::General(error.to_string())
}

pub(crate) fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken".to_owned())
}

#[derive(Debug)]
struct Judging<J> {
    judge: J,
    provider: Arc<CryptoProvider>,
}

impl<J: JudgeServer> ServerCertVerifier for Judging<J> {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(own, above).map(|()| ServerCertVerified::assertion())
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

/// Why a certificate is not believed, in words, as an error of TLS. The words end up in the log of this side; the other one is
/// told no more than that it is refused.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Words(String);

/// TLS shows the errors of others by this.
impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn not_believed(why: &dyn std::fmt::Display) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Words(why.to_string())))))
}
