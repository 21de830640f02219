//! The sources `_fleet.NODE`: under them each node keeps in the vaults what a bare machine needs to come back, without being
//! told to. Owns their names, their targets and their rules; what is in them is the daemon's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::{ByteSize, Span};

use super::Config;
use super::flow::Flow;
use super::keep::{Keep, KeepRules};
use super::name::{NodeName, ServiceName, SourceName};
use super::policy::{VERIFY_EVERY_DEFAULT, Verify, VerifyLevel};
use super::source::{FilesSource, Source, SourceKind};

/// The folder below `node.state` in which what is captured is laid out.
const FOLDER: &str = "fleet-source";

/// How far behind such a source may be, at least: where all that a node captures to a vault may be further behind, as on a disk
/// that is brought weekly, so may this. It seldom changes, and a change that is seen is captured at once.
pub const FLEET_RPO: Duration = Duration::from_secs(24 * 3600);

/// Of each state of the configuration there is one point: few, and small.
const KEPT_LAST: u32 = 10;
const KEPT_DAILY: u32 = 30;
const KEPT_MONTHLY: u32 = 24;

impl Config {
    /// Adds the sources of all nodes that capture anything: each goes to all vaults that its node captures to. After
    /// [`Config::resolve_peers`], which says what these are called here, and before [`Config::resolve_hubs`].
    pub(super) fn add_fleet_sources(&mut self) {
        let mut targets: BTreeMap<NodeName, Vec<Flow>> = BTreeMap::new();
        for source in &self.sources {
            let Some(service) = self.services.get(&source.service) else { continue };
            let of_node = targets.entry(service.primary.clone()).or_default();
            for flow in source.flows.iter().filter(|flow| flow.target.vault().is_some()) {
                let rpo = flow.rpo.max(FLEET_RPO);
                match of_node.iter_mut().find(|known| known.target == flow.target) {
                    Some(known) => known.rpo = known.rpo.max(rpo),
                    None => of_node.push(Flow { target: flow.target.clone(), rpo }),
                }
            }
        }
        let sources = targets.into_iter().filter(|(_, targets)| !targets.is_empty());
        self.fleet_sources = sources
            .map(|(node, targets)| {
                let source = self.fleet_source(&node, targets);
                (node, source)
            })
            .collect();
    }

    fn fleet_source(&self, node: &NodeName, flows: Vec<Flow>) -> Source {
        Source {
            name: SourceName::fleet_of(node),
            service: ServiceName::fleet(),
            kind: SourceKind::Files(FilesSource {
                path: self.node.state.join(FOLDER),
                exclude: Vec::new(),
                mirror: false,
                one_file_system: true,
                watch: false,
                snapshot: None,
            }),
            flows,
            keep: Keep::Rules(KeepRules {
                last: Some(KEPT_LAST),
                daily: Some(KEPT_DAILY),
                monthly: Some(KEPT_MONTHLY),
                ..KeepRules::default()
            }),
            verify: Verify {
                every: Span::new(VERIFY_EVERY_DEFAULT),
                level: VerifyLevel::default(),
                budget_per_day: None::<ByteSize>,
            },
        }
    }

    /// This node's part of the fleet's configuration, where that was read from files and goes to any vault.
    pub fn own_fleet_source(&self) -> Option<&Source> {
        self.read_from.as_ref()?;
        self.fleet_sources.get(&self.node.name)
    }

    /// What this node captures: the sources that are at home on it, and last its part of the fleet's configuration.
    pub fn captured_here(&self) -> impl Iterator<Item = &Source> {
        self.sources_at_home_on(&self.node.name).chain(self.own_fleet_source())
    }

    /// All sources, and last what nodes keep of the fleet's configuration.
    pub fn all_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().chain(self.fleet_sources.values())
    }

    /// The node where a source is at home.
    pub fn home_of(&self, source: &Source) -> Option<&NodeName> {
        let own = self.fleet_sources.iter().find(|(_, own)| own.name == source.name);
        let of_service = || self.services.get(&source.service).map(|service| &service.primary);
        own.map(|(node, _)| node).or_else(of_service)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{Config, ConfigTexts, SourceText};

    /// Two nodes with a service each, and one without.
    fn seen_from(node: &str) -> Config {
        let text = format!(
            r#"
            [fleet]
            name = "home"
            nodes = {{ alpha = "10.0.0.1:7420", beta = "10.0.0.2:7420", gamma = "10.0.0.3:7420" }}
            [node]
            name = "{node}"
            [vault.local]
            kind = "dir"
            path = "/srv/vault"
            [vault.twin]
            kind = "peer"
            [vault.offsite]
            kind = "s3"
            bucket = "backups"
            [service.web]
            primary = "alpha"
            secondary = ["beta"]
            to = ["twin", "offsite"]
            files = {{ path = "/srv/web" }}
            command.dump = {{ run = ["dump"], to = ["local"] }}
            [service.mail]
            primary = "beta"
            secondary = ["gamma"]
            to = ["offsite"]
            files = {{ path = "/srv/mail" }}
            "#
        );
        let source = SourceText { name: "test", text: &text };
        Config::parse(ConfigTexts::Single(source)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn targets(config: &Config, node: &str) -> Vec<String> {
        let flows = config.fleet_sources.get(node).map(|source| &source.flows).into_iter().flatten();
        flows.map(|flow| flow.target.to_string()).collect()
    }

    #[test]
    fn each_node_keeps_its_part_in_every_vault_that_it_captures_to() {
        let alpha = seen_from("alpha");
        assert_eq!(targets(&alpha, "alpha"), ["local", "twin", "offsite"]);
        assert_eq!(targets(&alpha, "beta"), ["offsite"]);
        assert_eq!(targets(&alpha, "gamma"), [""; 0], "it captures nothing");
        let own = &alpha.fleet_sources["alpha"];
        assert_eq!((own.name.as_str(), own.service.as_str()), ("_fleet.alpha", "_fleet"));
        assert_eq!(alpha.home_of(own).map(|node| node.as_str()), Some("alpha"));
    }

    #[test]
    fn its_objective_is_a_day_or_the_longest_of_what_goes_to_the_same_vault() {
        let text = r#"
            [fleet]
            name = "home"
            [node]
            name = "box"
            [vault.near]
            kind = "dir"
            path = "/srv/vault"
            [vault.disk]
            kind = "dir"
            path = "/mnt/disk/vault"
            [policy.weekly]
            rpo = "7d"
            [service.web]
            to = ["near"]
            files = { path = "/srv/web" }
            [service.old]
            policy = "weekly"
            to = ["disk"]
            files = { path = "/srv/old" }
            "#;
        let source = SourceText { name: "test", text };
        let config = Config::parse(ConfigTexts::Single(source)).unwrap_or_else(|errors| panic!("{errors}"));
        let flows = config.fleet_sources["box"].flows.iter();
        let days: Vec<(String, u64)> =
            flows.map(|flow| (flow.target.to_string(), flow.rpo.as_secs() / (24 * 3600))).collect();
        assert_eq!(days, [("disk".to_owned(), 7), ("near".to_owned(), 1)]);
    }

    #[test]
    fn a_node_captures_its_own_part_last_and_only_what_was_read_from_files() {
        let names = |config: &Config| -> Vec<String> {
            config.captured_here().map(|source| source.name.to_string()).collect()
        };
        let parsed = seen_from("beta");
        assert_eq!(names(&parsed), ["mail.files"]);
        let read = Config { read_from: Some(PathBuf::from("/etc/backstay")), ..parsed };
        assert_eq!(names(&read), ["mail.files", "_fleet.beta"]);
    }

    #[test]
    fn the_short_name_is_this_nodes_part_and_the_long_one_that_of_any() {
        let beta = seen_from("beta");
        let found = |typed: &str| beta.find_source(typed).map(|source| source.name.to_string());
        assert_eq!(found("_fleet").as_deref(), Ok("_fleet.beta"));
        assert_eq!(found("_fleet.alpha").as_deref(), Ok("_fleet.alpha"));
        assert!(found("_fleet.gamma").is_err());
        assert!(seen_from("gamma").find_source("_fleet").is_err(), "it has none");
    }
}
