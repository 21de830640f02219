//! Whether the tailnet vouches for a node: whoever connects in its name must come from the tailnet node that it is bound to.
//! Owns that judgement; asks nobody, and says nothing of certificates.

use std::net::IpAddr;

use backstay_core::config::NodeName;

use super::node::{Peer, StableNodeId};

/// A connection in the name of a node that comes from another tailnet node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the connection from {from} is of tailnet node {found} (host {host}), but node {node} is bound to {bound}; it is refused. If \
     the tailnet node of {node} was made anew, or Headscale was rebuilt, run `backstay node rebind {node}`; if not, somebody \
     else may have the key of {node}"
)]
pub struct Stranger {
    /// Where the connection comes from.
    pub from: IpAddr,
    /// In whose name.
    pub node: NodeName,
    /// The tailnet node that it is bound to.
    pub bound: StableNodeId,
    /// The tailnet node that it comes from.
    pub found: StableNodeId,
    /// The host name of that one.
    pub host: String,
}

/// Whether `peer`, which connects in the name of `node`, is the tailnet node that `node` is bound to.
pub fn vouches(node: &NodeName, bound: &StableNodeId, peer: &Peer) -> Result<(), Stranger> {
    if peer.stable_id == *bound {
        return Ok(());
    }
    Err(Stranger {
        from: peer.from.ip(),
        node: node.clone(),
        bound: bound.clone(),
        found: peer.stable_id.clone(),
        host: peer.host().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(bound: &str, name: &str) -> Result<(), Stranger> {
        let peer = Peer {
            from: "100.64.0.9:51820".parse().unwrap(),
            stable_id: "nXYZ".parse().unwrap(),
            name: name.to_owned(),
        };
        vouches(&"cobblestone".parse().unwrap(), &bound.parse().unwrap(), &peer)
    }

    #[test]
    fn a_node_comes_from_where_it_is_bound_to_whatever_its_name_there() {
        assert_eq!(judged("nXYZ", "anything.tail.net"), Ok(()));
    }

    #[test]
    fn a_stranger_is_told_apart_and_the_way_out_is_named() {
        let text = judged("nABC", "foo.tail.net").expect_err("another node").to_string();
        for part in
            ["100.64.0.9", "nXYZ", "(host foo)", "bound to nABC", "`backstay node rebind cobblestone`"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        let nameless = judged("nABC", "").expect_err("another node").to_string();
        assert!(nameless.contains("(host without a name)"), "{nameless}");
    }

    #[test]
    fn identifiers_are_compared_whole() {
        for bound in ["nXY", "nXYZZ", "nxyz"] {
            assert!(judged(bound, "").is_err(), "{bound} was taken for nXYZ");
        }
    }
}
