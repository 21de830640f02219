//! The side that is asked: takes connections of the fleet's nodes, and answers their requests. Owns the limits on how much of
//! that is done at once; what is granted to whom is the host's to say.

mod connection;
mod fleet;
mod limits;
mod peer;
mod request;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use backstay_core::config::{NodeName, ServiceName};
use backstay_core::id::SourceId;
use backstay_wire::peer::{Reason, Refusal, Standing};
use backstay_zfs::replicate::Holder;
use rustls::pki_types::CertificateDer;
use tokio::task::{JoinHandle, JoinSet};

use crate::endpoint::{Endpoint, HANDSHAKES_MAX};
use crate::hold::{Rights, Space, Writer};
use crate::identity::{Member, PeerIdentity};
use crate::replica::Turns;
use limits::{Connections, Refusals};

/// What this node grants to others.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// This node.
    fn name(&self) -> &NodeName;

    /// BLAKE3-256 of the fleet.toml that it goes by; none where it has none.
    fn fleet_file(&self) -> Option<[u8; 32]> {
        None
    }

    /// Whether a node may connect at all, from that address. Asked once for each connection.
    async fn admit(&self, peer: &PeerIdentity, member: &Member, from: SocketAddr) -> Result<(), Refusal>;

    /// A new certificate for the key of a node, with those above it, where this node issues any.
    fn renew(&self, peer: &PeerIdentity) -> Result<Vec<CertificateDer<'static>>, Refusal>;

    /// What a node may do in the space of that one. Asked for each request; must not wait.
    fn grant(&self, peer: &PeerIdentity, member: &Member, space: &NodeName) -> Result<Granted, Refusal>;

    /// How far a source that `writer` has captured to its space was copied on to a vault; must not wait.
    fn standing(&self, writer: &NodeName, vault: &str, _: SourceId) -> Result<Standing, Refusal> {
        let text = format!("{} copies nothing of {writer} to {vault}", self.name());
        Err(Refusal { reason: Reason::Denied, text, retry_after: None })
    }

    /// Who has the replicas of a service of a node here. Asked for each request of that node; must not wait.
    fn replicas(
        &self,
        peer: &PeerIdentity,
        _: &Member,
        service: &ServiceName,
    ) -> Result<Arc<dyn Holder>, Refusal> {
        let text =
            format!("{} holds no replicas for {}, nor of its service {service}", self.name(), peer.node);
        Err(Refusal { reason: Reason::Denied, text, retry_after: None })
    }
}

/// A space, and what may be done in it.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Where the objects are.
    pub space: Arc<Space>,
    /// What may be done.
    pub rights: Rights,
    /// Who writes there.
    pub writer: Writer,
}

/// What the connections of an endpoint have in common.
#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    host: Arc<dyn Host>,
    connections: Connections,
    refusals: Refusals,
    replica_turns: Turns,
}

/// Takes connections until the endpoint is closed; within a runtime.
pub fn serve(endpoint: Endpoint, host: Arc<dyn Host>) -> JoinHandle<()> {
    let (connections, refusals) = (Connections::default(), Refusals::default());
    let shared = Arc::new(Shared { endpoint, host, connections, refusals, replica_turns: Turns::default() });
    tokio::spawn(accept(shared))
}

async fn accept(shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    while let Some(incoming) = shared.endpoint.quinn().accept().await {
        // What has ended makes room.
        while open.try_join_next().is_some() {}
        let from = incoming.remote_address();
        // Where many knock at once, each has to show that it can be reached where it says it is.
        if shared.connections.handshakes() >= HANDSHAKES_MAX / 4 && !incoming.remote_address_validated() {
            // Who cannot be told so tries again by itself.
            let _ = incoming.retry();
            continue;
        }
        let Some(handshake) = shared.connections.begin_handshake(from.ip()) else {
            shared.refusals.note(from, None, "too many connections are being made at once");
            incoming.refuse();
            continue;
        };
        match incoming.accept() {
            Ok(connecting) => {
                let shared = Arc::clone(&shared);
                open.spawn(connection::serve(shared, connecting, from, handshake));
            }
            Err(error) => shared.refusals.note(from, None, &error.to_string()),
        }
    }
    while open.join_next().await.is_some() {}
}
