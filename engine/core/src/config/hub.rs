//! Vaults that one node alone writes to, the *hub*: the others capture to their vaults there, and it copies on. Owns which node
//! goes which way.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{NodeName, SourceName, VaultName};
use super::policy::Target;
use super::source::Source;
use super::vault::{PeerVault, Vault, VaultKind};
use super::{Config, peers};

/// What the name of a node's vault at a hub begins with, where no vault of the kind `peer` leads there.
pub(super) const VIA: &str = "via";

/// A vault that another node, the hub, writes to for this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViaVault {
    /// The hub.
    pub hub: NodeName,
    /// Whether it is a directory of the hub, and lost with it.
    pub is_directory: bool,
    /// This node's own vault there, from which the hub copies; none where no source of this node goes that way.
    pub through: Option<VaultName>,
}

/// What this node, as a hub, copies for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Whose sources they are.
    pub writer: NodeName,
    /// The vault that is held here for it.
    pub from: VaultName,
    /// The vault that they are copied to.
    pub to: VaultName,
    /// The sources that go there.
    pub sources: Vec<SourceName>,
}

impl Config {
    /// Takes vaults that have another node as their hub out of those that this node opens; finds what this node copies as a hub
    /// itself. After [`Config::resolve_peers`].
    pub(super) fn resolve_hubs(&mut self) {
        let own = self.node.name.clone();
        let with_hub =
            |vault: &Vault| Some((vault.name.clone(), vault.hub.clone()?, vault.kind.directory().is_some()));
        for (name, hub, is_directory) in self.vaults.values().filter_map(with_hub).collect::<Vec<_>>() {
            let by_writer = self.sources_by_writer(&name);
            self.peer_pairs.extend(
                by_writer.keys().filter(|node| **node != hub).map(|node| (node.clone(), hub.clone())),
            );
            if hub == own {
                let others = by_writer.into_iter().filter(|(writer, _)| *writer != own);
                self.relays.extend(others.map(|(writer, sources)| {
                    let from = VaultName::prefixed(peers::HELD, &writer);
                    Relay { writer, from, to: name.clone(), sources }
                }));
            } else {
                self.vaults.remove(&name);
                let through = by_writer.contains_key(&own).then(|| self.vault_at(&hub));
                self.via.insert(name, ViaVault { hub, is_directory, through });
            }
        }
    }

    /// The sources that go to a vault, by the nodes where they are at home.
    fn sources_by_writer(&self, vault: &VaultName) -> BTreeMap<NodeName, Vec<SourceName>> {
        let target = Target::Vault(vault.clone());
        let mut by_writer: BTreeMap<NodeName, Vec<SourceName>> = BTreeMap::new();
        for source in
            self.all_sources().filter(|source| source.flows.iter().any(|flow| flow.target == target))
        {
            let Some(home) = self.home_of(source) else { continue };
            by_writer.entry(home.clone()).or_default().push(source.name.clone());
        }
        by_writer
    }

    /// This node's vault at that node; one more where there was none.
    fn vault_at(&mut self, hub: &NodeName) -> VaultName {
        let is_there = |vault: &&Vault| matches!(&vault.kind, VaultKind::Peer(peer) if peer.holder.as_ref() == Some(hub));
        if let Some(known) = self.vaults.values().find(is_there) {
            return known.name.clone();
        }
        let name = VaultName::prefixed(VIA, hub);
        let kind = VaultKind::Peer(PeerVault { holder: Some(hub.clone()), custodian: None, limit: None });
        self.vaults.insert(name.clone(), Vault { name: name.clone(), kind, hub: None });
        name
    }

    /// The vaults from which this node can read a source, by the configuration: of what goes on from a hub, this node's vault there;
    /// as the hub, also what is held for the node whose it is.
    pub fn vaults_to_read(&self, source: &Source) -> Vec<VaultName> {
        let mut vaults: Vec<VaultName> = Vec::new();
        let mut add = |name: &VaultName| {
            if !vaults.contains(name) {
                vaults.push(name.clone());
            }
        };
        let is_at_home = self.home_of(source) == Some(&self.node.name);
        for flow in &source.flows {
            let Target::Vault(name) = &flow.target else { continue };
            match self.via.get(name) {
                Some(via) => via.through.iter().filter(|_| is_at_home).for_each(&mut add),
                None => add(name),
            }
        }
        let relays = self.relays.iter().filter(|relay| relay.sources.contains(&source.name));
        relays.for_each(|relay| add(&relay.from));
        vaults
    }

    /// The nodes that a vault of this node takes points of, beside this node; none where only this node writes to it.
    pub fn writers_of(&self, vault: &str) -> BTreeSet<&NodeName> {
        let to_it = self.relays.iter().filter(|relay| relay.to.as_str() == vault);
        to_it.map(|relay| &relay.writer).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigTexts, SourceText, Target, ViaVault};

    /// Three nodes, of which beta alone writes to a disk, seen from one of them.
    fn seen_from(node: &str, to: &str) -> Config {
        let text = format!(
            r#"
            [fleet]
            name = "home"
            nodes = {{ alpha = "10.0.0.1:7420", beta = "10.0.0.2:7420", gamma = "10.0.0.3:7420" }}
            [node]
            name = "{node}"
            [vault.twin]
            kind = "peer"
            [vault.nas]
            kind = "dir"
            path = "/mnt/nas/backstay"
            via = "beta"
            [policy.default]
            to = {to}
            [service.web]
            primary = "alpha"
            secondary = ["beta"]
            files = {{ path = "/srv/web" }}
            [service.mail]
            primary = "beta"
            secondary = ["gamma"]
            files = {{ path = "/srv/mail" }}
            "#
        );
        let source = SourceText { name: "test", text: &text };
        Config::parse(ConfigTexts::Single(source)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Hub, and this node's vault there.
    fn way(via: &ViaVault) -> (&str, Option<&str>) {
        (via.hub.as_str(), via.through.as_ref().map(|name| name.as_str()))
    }

    fn vaults(config: &Config) -> Vec<&str> {
        config.vaults.keys().map(|name| name.as_str()).collect()
    }

    #[test]
    fn a_node_reaches_a_vault_of_a_hub_through_the_vault_that_it_has_there() {
        let alpha = seen_from("alpha", r#"["twin", "nas"]"#);
        assert_eq!(vaults(&alpha), ["twin"], "one vault there is enough for both");
        assert_eq!(way(&alpha.via["nas"]), ("beta", Some("twin")));
        assert!(alpha.relays.is_empty());
        let alone = seen_from("alpha", r#"["nas"]"#);
        assert_eq!(vaults(&alone), ["via.beta"]);
        assert_eq!(way(&alone.via["nas"]), ("beta", Some("via.beta")));
        let pair = ("alpha".parse().expect("a name"), "beta".parse().expect("a name"));
        assert!(alone.peer_pairs.contains(&pair), "its vault there has to be signed for");
    }

    #[test]
    fn the_hub_opens_the_vault_and_copies_for_the_others() {
        let beta = seen_from("beta", r#"["nas"]"#);
        assert_eq!(vaults(&beta), ["nas"]);
        let [relay] = &beta.relays[..] else { panic!("{:?}", beta.relays) };
        assert_eq!(
            (relay.writer.as_str(), relay.from.as_str(), relay.to.as_str()),
            ("alpha", "held.alpha", "nas")
        );
        let sources: Vec<&str> = relay.sources.iter().map(|source| source.as_str()).collect();
        assert_eq!(sources, ["web.files", "_fleet.alpha"], "its own go there by themselves");
        assert_eq!(beta.writers_of("nas").len(), 1);
    }

    #[test]
    fn a_node_without_such_a_source_goes_no_way_there() {
        let gamma = seen_from("gamma", r#"["nas"]"#);
        assert!(vaults(&gamma).is_empty());
        assert_eq!(way(&gamma.via["nas"]), ("beta", None));
        let target = Target::Vault("nas".parse().expect("a name"));
        assert!(gamma.sources.iter().all(|source| source.flows[0].target == target));
    }
}
