//! Whether the tailnet vouches for the node at the other end of a connection, in both directions: for whoever connects, and for
//! the address at which a node is reached.

use std::net::SocketAddr;

use backstay_core::config::NodeName;

use super::error::TailnetError;
use super::local_api::LocalApi;
use super::node::StableNodeId;
use super::vouch::{Stranger, vouches};
use crate::identity::Member;

/// Asks tailscaled.
#[derive(Debug, Clone)]
pub struct Voucher {
    api: LocalApi,
}

/// Why a node is not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum NotVouchedFor {
    /// tailscaled cannot tell. Nobody is let in as long as it cannot.
    #[error("it is not known which tailnet node {address} is, and `tailnet = \"required\"`: {cause}")]
    Unknown {
        /// Of whom it was asked.
        address: SocketAddr,
        /// Why it cannot.
        cause: TailnetError,
    },
    /// It is another tailnet node.
    #[error(transparent)]
    Stranger(#[from] Stranger),
    /// The roster does not say which tailnet node it is.
    #[error(
        "node {node} is bound to no tailnet node, since it was enrolled without one: run `backstay node rebind {node}` where the admin's key is"
    )]
    Unbound {
        /// The node.
        node: NodeName,
    },
}

impl NotVouchedFor {
    /// Whether it may be otherwise at the next try.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unknown { cause, .. } if cause.is_transient())
    }
}

impl Voucher {
    /// One that asks this tailscaled.
    pub fn new(api: LocalApi) -> Self {
        Self { api }
    }

    /// Whether the tailnet node behind an address is the one that the node of the fleet is bound to.
    pub async fn vouch(
        &self,
        node: &NodeName,
        member: &Member,
        address: SocketAddr,
    ) -> Result<(), NotVouchedFor> {
        let bound: Option<StableNodeId> = member.tailnet_id.as_ref().and_then(|id| id.parse().ok());
        let bound = bound.ok_or_else(|| NotVouchedFor::Unbound { node: node.clone() })?;
        let peer =
            self.api.whois(address).await.map_err(|cause| NotVouchedFor::Unknown { address, cause })?;
        Ok(vouches(node, &bound, &peer)?)
    }
}
