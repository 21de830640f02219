//! The side that asks: the connections from this node to another one, made when they are needed, made again when they are lost,
//! and closed when nobody uses them.

mod ask;
mod backoff;
mod dial;
mod fleet;
mod peer_store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::{NodeAddress, NodeName};
use backstay_core::units::Timestamp;
use backstay_wire::peer::{ConnectionKind, Refusal};
use quinn::{Connection, VarInt};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{sleep, timeout};

pub(crate) use ask::AskError;
pub use fleet::FleetAskError;
pub use peer_store::PeerStore;

use crate::endpoint::Endpoint;
use crate::identity::PeerIdentity;
use backoff::Backoff;

/// A connection that nobody uses for so long is closed: it costs nothing then.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// Bringing both rosters to the same is given up after this.
const LEVELING_MAX: Duration = Duration::from_secs(20);

/// What is asked of a node that is tried again within this time waits for that.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How often it is looked whether a connection is used.
const LOOK: Duration = Duration::from_secs(15);

/// Why a node was not reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// It cannot be reached, or does not answer.
    #[error("cannot reach node {node} at {address}: {why}")]
    Unreachable {
        /// The node.
        node: NodeName,
        /// Where it should be.
        address: NodeAddress,
        /// What happened.
        why: String,
    },
    /// It was reached, and does not let this node in.
    #[error("node {node} refuses: {}", .refusal.text)]
    Refused {
        /// The node.
        node: NodeName,
        /// What it says.
        refusal: Refusal,
    },
}

/// What is known of a node from its hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The version of its software.
    pub software: String,
    /// By how much its clock is ahead of this node's, nanoseconds; with an error of half the time that the hello took.
    pub clock_ahead_nanos: i64,
    /// The time that the hello took.
    pub round_trip: Duration,
    /// Whether it lets journals be appended to.
    pub can_append: bool,
    /// Whether it can keep live replicas.
    pub can_replicate: bool,
    /// Number of the roster that it had then.
    pub roster: u64,
    /// BLAKE3-256 of the fleet.toml that it goes by, where it says so.
    pub fleet_file: Option<[u8; 32]>,
    /// Until when its certificate is valid.
    pub certificate_until: Option<Timestamp>,
}

/// A node, and the connections to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    own: NodeName,
    node: NodeName,
    address: NodeAddress,
    live: Mutex<Way>,
    bulk: Mutex<Way>,
}

/// One of the two connections.
#[derive(Debug, Default)]
struct Way {
    open: Option<Arc<Open>>,
    failed: Option<Failed>,
    backoff: Backoff,
}

/// It was tried, and will not be before then.
#[derive(Debug)]
struct Failed {
    error: LinkError,
    at: Instant,
    until: Instant,
}

/// A connection with its hello done.
#[derive(Debug)]
pub(crate) struct Open {
    connection: Connection,
    /// Who is at its other end, by its certificate.
    identity: PeerIdentity,
    /// The tailnet node that it was vouched for as.
    bound: Option<String>,
    pub(crate) known: Known,
    /// Set when both have the same roster, as far as that can be.
    leveled: OnceCell<()>,
    used: std::sync::Mutex<Instant>,
}

impl Link {
    /// A link to a node, which connects to nobody yet.
    pub fn new(endpoint: Endpoint, own: NodeName, node: NodeName, address: NodeAddress) -> Self {
        let (live, bulk) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { endpoint, own, node, address, live, bulk }) }
    }

    /// The node at its other end.
    pub fn node(&self) -> &NodeName {
        &self.inner.node
    }

    /// This node.
    pub fn own(&self) -> &NodeName {
        &self.inner.own
    }

    /// Where it is.
    pub fn address(&self) -> &NodeAddress {
        &self.inner.address
    }

    /// Reaches the node, and tells what it says of itself.
    pub async fn greet(&self) -> Result<Known, LinkError> {
        Ok(self.open(ConnectionKind::Live).await?.known.clone())
    }

    /// Closes its connections; the next request makes new ones.
    pub async fn close(&self) {
        for way in [&self.inner.live, &self.inner.bulk] {
            if let Some(open) = way.lock().await.open.take() {
                open.connection.close(VarInt::from_u32(0), b"done");
            }
        }
    }

    /// The connection of this kind: the one that is there, or a new one. After a failure it is not tried again before its time.
    pub(crate) async fn open(&self, kind: ConnectionKind) -> Result<Arc<Open>, LinkError> {
        let open = self.connected(kind).await?;
        // Without the lock, and once: until then the other node may not know this one.
        let leveling = || async { _ = timeout(LEVELING_MAX, fleet::level(&self.inner, &open)).await };
        open.leveled.get_or_init(leveling).await;
        Ok(open)
    }

    async fn connected(&self, kind: ConnectionKind) -> Result<Arc<Open>, LinkError> {
        let way = match kind {
            ConnectionKind::Live => &self.inner.live,
            ConnectionKind::Bulk => &self.inner.bulk,
        };
        // Whoever comes meanwhile waits for the same attempt, and takes what came out of it.
        let asked_at = Instant::now();
        let mut way = way.lock().await;
        if let Some(open) = way.open.take_if(|open| !self.is_usable(open)) {
            // Nothing goes to a node that was removed from the fleet.
            open.connection.close(VarInt::from_u32(1), b"not a member of the fleet any more");
        }
        if let Some(open) = &way.open {
            open.touch();
            return Ok(Arc::clone(open));
        }
        if let Some(failed) = &way.failed {
            let left = failed.until.saturating_duration_since(Instant::now());
            if left > WAIT_MAX || failed.at >= asked_at {
                return Err(failed.error.clone());
            }
            // It may just be starting anew.
            sleep(left).await;
        }
        match dial::dial(&self.inner, kind).await {
            Ok(open) => {
                let open = Arc::new(open);
                if way.failed.is_some() {
                    tracing::info!(node = %self.inner.node, ?kind, "it is reached again");
                }
                way.backoff = Backoff::default();
                way.failed = None;
                way.open = Some(Arc::clone(&open));
                tokio::spawn(close_unused(Arc::downgrade(&open)));
                Ok(open)
            }
            Err(error) => {
                // Once, and not each time that it is tried again.
                if way.failed.is_none() {
                    tracing::info!(node = %self.inner.node, ?kind, "{error}");
                }
                let asked = match &error {
                    LinkError::Refused { refusal, .. } => refusal.retry_after.unwrap_or_default(),
                    LinkError::Unreachable { .. } => Duration::ZERO,
                };
                let until = Instant::now() + way.backoff.next().max(asked);
                way.failed = Some(Failed { error: error.clone(), at: Instant::now(), until });
                Err(error)
            }
        }
    }

    /// Whether a connection lives, and leads to a member of the fleet still.
    fn is_usable(&self, open: &Open) -> bool {
        open.connection.close_reason().is_none()
            && self
                .inner
                .endpoint
                .roster()
                .borrow()
                .member(&open.identity)
                .is_ok_and(|member| member.tailnet_id == open.bound)
    }
}

impl Open {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    fn unused_for(&self) -> Duration {
        self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
    }
}

/// Closes a connection when nobody has used it for long.
async fn close_unused(open: std::sync::Weak<Open>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(open) = open.upgrade() else { return };
        if open.connection.close_reason().is_some() {
            return;
        }
        // Whoever uses it has a share of it: this one, the link's, and then theirs.
        if Arc::strong_count(&open) <= 2 && open.unused_for() >= UNUSED_MAX {
            return open.connection.close(VarInt::from_u32(0), b"unused");
        }
    }
}
