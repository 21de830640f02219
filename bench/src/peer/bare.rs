//! A transfer by quinn alone: one stream, nothing stored at the other end. What the library can do on this machine with both ends
//! on its cores.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use backstay_core::units::Timestamp;
use backstay_net::identity::{Authority, Certificate, NodeKey};
use backstay_testkit::intruder::Anybody;
use backstay_vault::keys::Secret;
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig, VarInt};
use rustls::crypto::aws_lc_rs::default_provider;

/// Bytes that are written at once, and how they repeat: what they are is nothing to the transport.
const PIECE_BYTES: usize = 1 << 20;

/// The windows that Backstay uses for bulk data.
const WINDOW_BYTES: u32 = 16 << 20;

/// Sends so many bytes; the seconds until the other end has them all.
pub(super) fn transfer(size: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(send(size))
}

async fn send(size: u64) -> Result<f64> {
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Endpoint::server(server_config()?, local)?;
    let address = server.local_addr()?;
    let received = tokio::spawn(async move {
        let incoming = server.accept().await.context("no connection")?;
        let mut stream = incoming.await?.accept_uni().await?;
        let mut received = 0;
        while let Some(chunk) = stream.read_chunk(PIECE_BYTES, true).await? {
            received += chunk.bytes.len() as u64;
        }
        anyhow::Ok((received, Instant::now()))
    });
    let client = Endpoint::client(local)?;
    let connection = client.connect_with(client_config()?, address, "bench.invalid")?.await?;
    let piece = Bytes::from(vec![0x5a; PIECE_BYTES]);
    let start = Instant::now();
    let mut stream = connection.open_uni().await?;
    let mut left = size;
    while left > 0 {
        let length = left.min(PIECE_BYTES as u64);
        stream.write_chunk(piece.slice(..length as usize)).await?;
        left -= length;
    }
    stream.finish()?;
    let (bytes, end) = received.await??;
    match bytes == size {
        true => Ok((end - start).as_secs_f64()),
        false => Err(anyhow!("{bytes} of {size} bytes came")),
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES));
    Arc::new(transport)
}

fn server_config() -> Result<ServerConfig> {
    let (fleet, node, now) = ("bench".parse()?, "bench".parse()?, Timestamp::from_seconds(1_800_000_000));
    let authority = Authority::generate(&fleet, &Secret::random(), now)?;
    let seed = Secret::random();
    let issued = authority.issue(&node, &NodeKey::of_seed(&seed), now, Duration::from_secs(3600))?;
    let own = Certificate::from_seed(vec![issued], &seed);
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(own.chain, own.key)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

fn client_config() -> Result<ClientConfig> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        // Who answers is this process itself.
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}
