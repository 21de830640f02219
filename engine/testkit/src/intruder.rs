//! Connections to a node by hand: of whoever has no certificate, or breaks the rules with a good one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use backstay_wire::peer::{ConnectionKind, Greeting, Hello, MAJOR, MINOR, encode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::time::timeout;

/// How long anything may take that the other side should do at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is shown of oneself: certificates, the own one first, and its key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A connection by this protocol (ALPN), and the address that it comes from. Whoever answers is believed to be anybody.
///
/// # Panics
/// When there is none.
pub async fn connect(address: SocketAddr, protocol: &[u8], shown: Option<Shown>) -> (Connection, SocketAddr) {
    try_connect(address, protocol, shown).await.expect("connects")
}

/// The same, where it may be refused before there is one.
///
/// # Panics
/// When nobody answers at all.
pub async fn try_connect(
    address: SocketAddr,
    protocol: &[u8],
    shown: Option<Shown>,
) -> Result<(Connection, SocketAddr), ConnectionError> {
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut client = match shown {
        Some((chain, key)) => client.with_client_auth_cert(chain, key).expect("a certificate"),
        None => client.with_no_client_auth(),
    };
    client.alpn_protocols = vec![protocol.to_vec()];
    let crypto = QuicClientConfig::try_from(client).expect("QUIC");
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let from = endpoint.local_addr().expect("an address");
    let connecting = endpoint.connect_with(ClientConfig::new(Arc::new(crypto)), address, "x.invalid");
    let connected = timeout(PATIENCE, connecting.expect("begins")).await.expect("in time");
    Ok((connected?, from))
}

/// A hello, as a frame.
pub fn hello_frame(fleet: &str, node: &str, kind: ConnectionKind) -> Vec<u8> {
    let hello = Hello {
        major: MAJOR,
        minor: MINOR,
        software: "intruder".to_owned(),
        kind,
        fleet: fleet.to_owned(),
        node: node.to_owned(),
        capabilities: Vec::new(),
        time_nanos: 0,
        roster: 0,
        fleet_file: None,
    };
    encode(&Greeting::Hello(hello)).expect("a message")
}

/// What is answered to a hello; nothing where the connection ends.
///
/// # Panics
/// When nothing comes at all.
pub async fn greet(connection: &Connection, hello: &[u8]) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    send.write_all(hello).await.expect("writes");
    let _ = send.finish();
    timeout(PATIENCE, receive.read_to_end(2000)).await.expect("in time").unwrap_or_default()
}

/// Believes every certificate, as an intruder may.
#[derive(Debug)]
pub struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
