//! `[fleet]`: who belongs together. Owns the rule that a fleet without a list of nodes is this node alone.

use std::collections::{BTreeMap, BTreeSet};

use super::address::NodeAddress;
use super::name::{FleetName, NodeName};
use super::problem::{ProblemKind, Refusal};
use super::table::{Table, read_named};
use super::value::Value;

/// The holder of the recovery key in vaults, which no node may be taken for.
const RECOVERY: &str = "recovery";

/// The fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Its name.
    pub name: FleetName,
    /// Its nodes and where they are reached. An address is absent only where the configuration lists no nodes
    /// and the fleet is this node alone.
    pub nodes: BTreeMap<NodeName, Option<NodeAddress>>,
    /// The nodes that renew certificates; may be empty.
    pub issuers: Vec<NodeName>,
}

/// What of `[fleet]` is known, even where parts of it are wrong: the rest is judged by it.
pub(super) struct FleetDraft {
    pub(super) name: Option<FleetName>,
    /// Nodes whose address is wrong count as declared.
    pub(super) nodes: BTreeMap<NodeName, Option<NodeAddress>>,
    pub(super) names: BTreeSet<NodeName>,
    pub(super) issuers: Vec<NodeName>,
}

impl FleetDraft {
    pub(super) fn finish(self) -> Option<Fleet> {
        Some(Fleet { name: self.name?, nodes: self.nodes, issuers: self.issuers })
    }
}

/// Reads `[fleet]`; `this_node` is the node that it consists of when it lists none.
pub(super) fn read_fleet(value: &Value<'_>, this_node: Option<NodeName>) -> Option<FleetDraft> {
    Table::read(value, |table| {
        let name = table.require("name", "name = \"NAME\"").and_then(|value| value.parse());
        let nodes: BTreeMap<NodeName, _> = match table.get("nodes") {
            Some(listed) => {
                let listed = read_named::<NodeName>(&listed);
                let nodes: BTreeMap<_, Option<NodeAddress>> =
                    listed.iter().map(|(node, address)| (node.clone(), address.parse())).collect();
                refuse_shared_addresses(&listed, &nodes);
                nodes
            }
            None => this_node.into_iter().map(|node| (node, None)).collect(),
        };
        let names: BTreeSet<_> = nodes.keys().cloned().collect();
        if names.iter().any(|name| name.as_str() == RECOVERY) {
            table.problem(ProblemKind::BadValue, || {
                let what =
                    format!("no node can be called {RECOVERY}: so the recovery key's holder is called");
                Refusal::new(what, "give the node another name")
            });
        }
        let issuers = table.get("issuers").map(|value| value.references(&names)).unwrap_or_default();
        FleetDraft { name, nodes, names, issuers }
    })
}

/// Whoever asks for the one would reach the other.
fn refuse_shared_addresses(
    listed: &BTreeMap<NodeName, Value<'_>>,
    nodes: &BTreeMap<NodeName, Option<NodeAddress>>,
) {
    let mut known = BTreeMap::new();
    for (node, address) in nodes {
        let Some(address) = address else { continue };
        // Names of hosts are the same in capitals (RFC 4343).
        let other = known.insert((address.host.to_ascii_lowercase(), address.port), node);
        if let (Some(other), Some(place)) = (other, listed.get(node)) {
            place.problem(ProblemKind::Conflict, || {
                let what = format!("{node} and {other} are both at {address}");
                Refusal::new(
                    what,
                    "give each node the address at which it alone is reached; on one host, each its port",
                )
            });
        }
    }
}
