//! A UDP socket on which nodes speak QUIC: how it is tuned, and what it never does. Owns the parameters of the transport.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::NodeName;
use backstay_core::units::Timestamp;
use backstay_wire::peer::ConnectionKind;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;

use crate::identity::{
    CertificateFault, OwnCertificate, PeerIdentity, RosterKeeper, RosterWatch, valid_until,
};
use crate::reset::{RandomIds, ResetKey};
use crate::tailnet::Voucher;
use crate::tls::{self, Judge};

/// Requests at once on one connection (docs/protocol.md, section 6).
pub(crate) const STREAMS_MAX: u32 = 64;

/// What is under way unacknowledged on a bulk connection: 1 Gbit/s for 100 ms, and somewhat more.
const BULK_WINDOW_BYTES: u32 = 16 << 20;

/// The same for a live connection: what it carries is small.
const LIVE_WINDOW_BYTES: u32 = 2 << 20;

/// Datagrams grow up to this where the way carries them, as in networks with jumbo frames: fewer packets are less work. Ten of them,
/// which is what quinn hands to the system at once, are below the 64 KiB that it takes.
const DATAGRAM_BYTES_MAX: u16 = 6400;

/// A connection on which nothing comes for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often whoever made a connection shows that it is there. It closes what it does not use.
const KEPT_ALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long the end of all connections is waited for. Whoever does not hear it finds out by itself.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What the system is asked to keep of datagrams that come faster than they are read.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Handshakes that may be under way.
pub(crate) const HANDSHAKES_MAX: usize = 64;

/// Datagrams of handshakes are kept, until somebody looks at them, up to so many bytes in all.
const INCOMING_BYTES_MAX: u64 = 4 << 20;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be used.
    #[error("cannot listen on UDP {address}: {cause}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// TLS cannot be set up with this certificate.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Whether others may connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepting {
    /// They may.
    Yes,
    /// It only connects to others.
    No,
}

/// A socket, and what is shown and believed on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    judge: Judge,
    rosters: Arc<RosterKeeper>,
    own: OwnCertificate,
    voucher: Option<Voucher>,
}

impl Endpoint {
    /// Opens one; within a runtime.
    pub fn open(
        address: SocketAddr,
        own: OwnCertificate,
        rosters: Arc<RosterKeeper>,
        clock: Arc<dyn Clock>,
        accepting: Accepting,
    ) -> Result<Self, EndpointError> {
        let judge = Judge::new(rosters.watch(), clock);
        let server = match accepting {
            Accepting::Yes => Some(server_config(&judge, &own)?),
            Accepting::No => None,
        };
        let bind = |cause| EndpointError::Bind { address, cause };
        let socket = UdpSocket::bind(address).map_err(bind)?;
        // As much as the system gives.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
        let reset_key = match accepting {
            Accepting::Yes => own.reset_key().at(socket.local_addr().map_err(bind)?),
            Accepting::No => ResetKey::random(),
        };
        let quinn = quinn::Endpoint::new(endpoint_config(reset_key), server, socket, Arc::new(TokioRuntime));
        Ok(Self { quinn: quinn.map_err(bind)?, judge, rosters, own, voucher: None })
    }

    /// The same, on which it is asked as well which tailnet node is at an address before it is connected to.
    #[must_use]
    pub fn with_voucher(self, voucher: Option<Voucher>) -> Self {
        Self { voucher, ..self }
    }

    pub(crate) fn voucher(&self) -> Option<&Voucher> {
        self.voucher.as_ref()
    }

    /// The address that it has.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// The members of the fleet, as this node knows them.
    pub(crate) fn roster(&self) -> &RosterWatch {
        &self.judge.roster
    }

    /// Who keeps the roster.
    pub fn rosters(&self) -> &RosterKeeper {
        &self.rosters
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.judge.clock
    }

    pub(crate) fn quinn(&self) -> &quinn::Endpoint {
        &self.quinn
    }

    /// Ends all connections, tells the nodes at their other ends, and takes no more.
    pub async fn close(&self) {
        self.quinn.close(VarInt::from_u32(0), b"the node is stopping");
        let _ = tokio::time::timeout(FAREWELL_MAX, self.quinn.wait_idle()).await;
    }

    /// Begins to connect to a node.
    pub(crate) fn connect(
        &self,
        node: &NodeName,
        address: SocketAddr,
        kind: ConnectionKind,
    ) -> Result<quinn::Connecting, ConnectError> {
        let tls = tls::client(&self.judge, &self.own, node)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        let mut transport = transport(kind);
        transport.keep_alive_interval(Some(KEPT_ALIVE_EVERY));
        config.transport_config(Arc::new(transport));
        // The name is not sent, and not what the certificate is judged by.
        Ok(self.quinn.connect_with(config, address, "backstay.invalid")?)
    }

    /// What was shown at the other end of a connection.
    pub(crate) fn shown(&self, connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
        let shown = connection.peer_identity();
        let chain = shown.and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        chain.map(|chain| *chain).unwrap_or_default()
    }

    /// Until when that is valid.
    pub(crate) fn valid_until(&self, chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
        let roster = Arc::clone(&self.judge.roster.borrow());
        valid_until(chain, &roster.anchors(), &roster.fleet)
    }

    /// Who that is, by the authorities and the time of now.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, CertificateFault> {
        self.judge.identity(chain)
    }
}

/// Why a connection was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Begin(#[from] quinn::ConnectError),
}

/// Version 1 of QUIC, and none of the drafts before it.
fn endpoint_config(reset_key: ResetKey) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(|| Box::new(RandomIds));
    config.supported_versions(vec![1]);
    // Never an error: it is between the bounds of the protocol.
    let _ = config.max_udp_payload_size(DATAGRAM_BYTES_MAX);
    config
}

fn server_config(judge: &Judge, own: &OwnCertificate) -> Result<ServerConfig, EndpointError> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls::server(judge, own)?));
    // Which kind a connection is, is known by its hello.
    config.transport_config(Arc::new(transport(ConnectionKind::Live)));
    // It would leave the address that was vouched for.
    config.migration(false);
    config.max_incoming(HANDSHAKES_MAX);
    config.incoming_buffer_size(INCOMING_BYTES_MAX / HANDSHAKES_MAX as u64);
    config.incoming_buffer_size_total(INCOMING_BYTES_MAX);
    Ok(config)
}

/// A socket on which others may connect that are not known yet, and which connects to nobody.
pub(crate) fn bare_server(
    address: SocketAddr,
    crypto: QuicServerConfig,
) -> Result<quinn::Endpoint, EndpointError> {
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(ConnectionKind::Live)));
    config.migration(false);
    config.max_incoming(HANDSHAKES_MAX);
    quinn::Endpoint::server(config, address).map_err(|cause| EndpointError::Bind { address, cause })
}

/// Gives a connection the windows of one for bulk data.
pub(crate) fn widen(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(BULK_WINDOW_BYTES));
    connection.set_send_window(u64::from(BULK_WINDOW_BYTES));
}

/// Packets begin with 1200 bytes, which any tunnel for IPv6 carries, and grow where the way carries more.
fn transport(kind: ConnectionKind) -> TransportConfig {
    let mut growth = MtuDiscoveryConfig::default();
    growth.upper_bound(DATAGRAM_BYTES_MAX);
    let window = match kind {
        ConnectionKind::Live => LIVE_WINDOW_BYTES,
        ConnectionKind::Bulk => BULK_WINDOW_BYTES,
    };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // Bounded by that of the connection.
        .stream_receive_window(VarInt::from_u32(BULK_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(window))
        .mtu_discovery_config(Some(growth))
        .max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok());
    transport
}
