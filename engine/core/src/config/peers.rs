//! Vaults at other nodes, as this node sees them: which node holds the vault of a source, and what is held here for others.
//! Owns the names of vaults that follow from that.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{NodeName, VaultName};
use super::policy::Target;
use super::service::Service;
use super::vault::{HeldVaultOf, PeerVault, Vault, VaultKind};
use super::{Config, Hold};

/// What the name of a vault begins with that is held for another node.
pub(super) const HELD: &str = "held";

/// A vault of the kind `peer` that is a second name for one: a node has one vault at another.
pub(super) struct SecondName {
    pub(super) name: VaultName,
    pub(super) writer: NodeName,
    pub(super) holder: NodeName,
}

impl Config {
    /// Says of each vault of the kind `peer` which node holds it, and adds those that are held here. Where services of this node
    /// have different other nodes, there is a vault at each of them: `VAULT.NODE`. What is held here is `held.NODE`, also for
    /// the sources of that node.
    pub(super) fn resolve_peers(&mut self) -> Vec<SecondName> {
        let mut second_names = Vec::new();
        let own = self.node.name.clone();
        let is_peer = |vault: &Vault| matches!(vault.kind, VaultKind::Peer(_));
        let peers: Vec<Vault> = self.vaults.values().filter(|vault| is_peer(vault)).cloned().collect();
        for peer in &peers {
            let pairs = self.pairs_of(&peer.name);
            let own_holders: Vec<&NodeName> =
                pairs.iter().filter(|(writer, _)| *writer == own).map(|(_, holder)| holder).collect();
            let name_at = |holder: &NodeName| match own_holders.len() {
                1 => peer.name.clone(),
                _ => VaultName::prefixed(peer.name.as_str(), holder),
            };
            let holders: BTreeMap<NodeName, VaultName> =
                own_holders.iter().map(|holder| ((*holder).clone(), name_at(holder))).collect();
            // One that is not used from here is none of this node's.
            self.vaults.remove(&peer.name);
            for (holder, name) in &holders {
                let VaultKind::Peer(keys) = &peer.kind else { continue };
                let kind = VaultKind::Peer(PeerVault { holder: Some(holder.clone()), ..keys.clone() });
                self.vaults.insert(name.clone(), Vault { name: name.clone(), kind, hub: None });
            }
            self.lead_flows(&peer.name, &own, &holders);
            for (writer, holder) in pairs {
                if !self.peer_pairs.insert((writer.clone(), holder.clone())) {
                    second_names.push(SecondName { name: peer.name.clone(), writer, holder });
                }
            }
        }
        let held = self.holds.iter().filter_map(|(node, hold)| Some((node.clone(), hold.vault.clone()?)));
        for (node, held) in held.collect::<Vec<_>>() {
            let name = VaultName::prefixed(HELD, &node);
            let kind = VaultKind::Held(HeldVaultOf { writer: node, held });
            self.vaults.insert(name.clone(), Vault { name, kind, hub: None });
        }
        second_names
    }

    /// Nodes whose sources go to this vault, each with the node that holds it.
    fn pairs_of(&self, peer: &VaultName) -> BTreeSet<(NodeName, NodeName)> {
        let target = Target::Vault(peer.clone());
        let there =
            self.sources.iter().filter(|source| source.flows.iter().any(|flow| flow.target == target));
        let pair = |service: &Service| Some((service.primary.clone(), service.secondary.first()?.clone()));
        there.filter_map(|source| self.services.get(&source.service)).filter_map(pair).collect()
    }

    /// Has each flow to this vault lead to the one that is meant.
    fn lead_flows(&mut self, peer: &VaultName, own: &NodeName, holders: &BTreeMap<NodeName, VaultName>) {
        for source in &mut self.sources {
            let Some(service) = self.services.get(&source.service) else { continue };
            let Some(holder) = service.secondary.first() else { continue };
            let holds_it = |hold: &Hold| hold.vault.is_some();
            let name = if service.primary == *own {
                holders.get(holder).cloned()
            } else if holder == own && self.holds.get(&service.primary).is_some_and(holds_it) {
                Some(VaultName::prefixed(HELD, &service.primary))
            } else {
                // None of this node's: not to be taken for its own vault of that name.
                Some(VaultName::prefixed(peer.as_str(), holder))
            };
            let Some(name) = name else { continue };
            for flow in &mut source.flows {
                if flow.target == Target::Vault(peer.clone()) {
                    flow.target = Target::Vault(name.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigTexts, SourceText, VaultKind};

    /// Three nodes in a ring, seen from one of them.
    fn seen_from(node: &str, services: &str, holds: &str) -> Config {
        let text = format!(
            r#"
            [fleet]
            name = "home"
            nodes = {{ alpha = "10.0.0.1:7420", beta = "10.0.0.2:7420", gamma = "10.0.0.3:7420" }}
            [node]
            name = "{node}"
            [vault.twin]
            kind = "peer"
            {services}
            {holds}
            "#
        );
        let source = SourceText { name: "test", text: &text };
        Config::parse(ConfigTexts::Single(source)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const ONE_EACH: &str = r#"
        [service.web]
        primary = "alpha"
        secondary = ["beta"]
        files = { path = "/srv/web" }
        [service.mail]
        primary = "beta"
        secondary = ["gamma", "alpha"]
        files = { path = "/srv/mail" }
        "#;

    fn flows(config: &Config) -> Vec<String> {
        let of = |source: &crate::config::Source| format!("{} to {}", source.name, source.flows[0].target);
        config.sources.iter().map(of).collect()
    }

    fn vaults(config: &Config) -> Vec<String> {
        let of = |vault: &crate::config::Vault| match &vault.kind {
            VaultKind::Peer(peer) => format!("{} at {}", vault.name, peer.holder.as_ref().expect("one")),
            VaultKind::Held(held) => format!("{} of {}", vault.name, held.writer),
            _ => vault.name.to_string(),
        };
        config.vaults.values().map(of).collect()
    }

    #[test]
    fn a_peer_vault_is_at_the_first_other_node_of_the_service() {
        let alpha = seen_from("alpha", ONE_EACH, "");
        assert_eq!(vaults(&alpha), ["twin at beta"]);
        let beta = seen_from(
            "beta",
            ONE_EACH,
            "[hold.alpha]
vault = { path = \"/srv/alpha\" }",
        );
        assert_eq!(vaults(&beta), ["held.alpha of alpha", "twin at gamma"]);
        assert_eq!(flows(&beta), ["mail.files to twin", "web.files to held.alpha"]);
        assert_eq!(
            flows(&alpha),
            ["mail.files to twin.gamma", "web.files to twin"],
            "that of others is told apart"
        );
        let pairs: Vec<String> =
            beta.peer_pairs.iter().map(|(writer, holder)| format!("{writer} {holder}")).collect();
        assert_eq!(pairs, ["alpha beta", "beta gamma"]);
    }

    #[test]
    fn where_services_have_different_other_nodes_there_is_a_vault_at_each() {
        let services = format!(
            "{ONE_EACH}\n[service.wiki]\nprimary = \"alpha\"\nsecondary = [\"gamma\"]\nfiles = {{ path = \"/srv/wiki\" }}"
        );
        let alpha = seen_from("alpha", &services, "");
        assert_eq!(vaults(&alpha), ["twin.beta at beta", "twin.gamma at gamma"]);
        assert_eq!(
            flows(&alpha),
            ["mail.files to twin.gamma", "web.files to twin.beta", "wiki.files to twin.gamma"]
        );
        assert_eq!(vaults(&seen_from("gamma", &services, "")), [""; 0], "nothing of it is used from there");
    }
}
