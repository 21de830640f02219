//! What answers of tailscaled say. Owns the fields that are read: of `Status` in `ipn/ipnstate/ipnstate.go`, of `WhoIsResponse`
//! in `client/tailscale/apitype/apitype.go` and of `Node` in `tailcfg/tailcfg.go`. All others may come, go and change.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::error::{BackendState, TailnetError, excerpt};
use super::node::{Interface, OwnNode, Peer, shown_name};

/// The most addresses of a node. There are two today.
const ADDRESSES_MAX: usize = 16;

/// What is read of a `Status`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StatusAnswer {
    backend_state: String,
    #[serde(rename = "TUN")]
    tun: Option<bool>,
    #[serde(rename = "TailscaleIPs")]
    addresses: Option<Vec<IpAddr>>,
    #[serde(rename = "Self")]
    own: Option<OwnAnswer>,
}

#[derive(Debug, Deserialize)]
struct OwnAnswer {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "DNSName")]
    dns_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WhoIsAnswer {
    node: NodeAnswer,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeAnswer {
    #[serde(rename = "StableID")]
    stable_id: String,
    name: Option<String>,
    addresses: Vec<String>,
}

impl StatusAnswer {
    pub(super) fn read(question: &'static str, body: &[u8]) -> Result<Self, TailnetError> {
        read(question, body)
    }
}

/// This node, if it is connected.
pub(super) fn own_node(question: &'static str, status: StatusAnswer) -> Result<OwnNode, TailnetError> {
    let malformed = |why: String| TailnetError::Malformed { question, why };
    match BackendState::named(&status.backend_state) {
        BackendState::Running => {}
        other => return Err(TailnetError::NotRunning(other)),
    }
    let own = status.own.ok_or_else(|| malformed("it runs, but there is no Self".to_owned()))?;
    let stable_id =
        own.id.unwrap_or_default().parse().map_err(|error| malformed(format!("Self.ID: {error}")))?;
    let addresses = own_addresses(status.addresses.unwrap_or_default()).map_err(malformed)?;
    let name = shown_name(&own.dns_name.unwrap_or_default());
    let interface = if status.tun == Some(false) { Interface::Userspace } else { Interface::Tun };
    Ok(OwnNode { stable_id, addresses, name, interface })
}

/// In order, each once. Whoever listens on one must not listen on more than the tailnet.
fn own_addresses(mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, String> {
    addresses.sort_unstable();
    addresses.dedup();
    if let Some(wrong) = addresses.iter().find(|address| !is_of_one_node(**address)) {
        return Err(format!("TailscaleIPs has {wrong}, which cannot be the address of a node"));
    }
    match addresses.len() {
        0 => Err("it runs, but TailscaleIPs is empty".to_owned()),
        1..=ADDRESSES_MAX => Ok(addresses),
        more => Err(format!("TailscaleIPs has {more} addresses, more than {ADDRESSES_MAX}")),
    }
}

fn is_of_one_node(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(special || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The node that has the address `from` itself. In userspace networking tailscaled also names the node for which it has opened a
/// loopback connection; whoever else is on this host could come from the same port with another protocol, so that is no node.
pub(super) fn peer(question: &'static str, from: SocketAddr, body: &[u8]) -> Result<Peer, TailnetError> {
    let WhoIsAnswer { node } = read(question, body)?;
    let stable_id = node
        .stable_id
        .parse()
        .map_err(|error| TailnetError::Malformed { question, why: format!("Node.StableID: {error}") })?;
    if !node.addresses.iter().any(|prefix| address_of(prefix) == Some(from.ip())) {
        return Err(TailnetError::NotANode { address: from });
    }
    Ok(Peer { from, stable_id, name: shown_name(&node.name.unwrap_or_default()) })
}

/// The address of a prefix that has all its bits, such as `100.64.0.1/32`.
fn address_of(prefix: &str) -> Option<IpAddr> {
    let (address, bits) = prefix.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { "32" } else { "128" };
    (bits == whole).then_some(address)
}

fn read<'a, T: Deserialize<'a>>(question: &'static str, body: &'a [u8]) -> Result<T, TailnetError> {
    serde_json::from_slice(body)
        .map_err(|error| TailnetError::Malformed { question, why: excerpt(&error.to_string()) })
}

#[cfg(test)]
mod tests;
