//! What the configuration that was found says of the sources of its node, against what is in the vault. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use backstay_core::config::{Config, NodeName, SourceKind};

use super::plan::SourceFacts;

/// The sources that are at home on a node, as its configuration has them.
#[derive(Debug)]
pub(super) struct Expected {
    node: String,
    sources: Vec<ExpectedSource>,
}

#[derive(Debug)]
struct ExpectedSource {
    name: String,
    /// Of a tree, where it is.
    root: Option<PathBuf>,
    /// The vaults that it goes to.
    vaults: Vec<String>,
}

/// Why a source is not restored to where it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// The node has no such source.
    Unknown,
    /// It has one, and this is not it.
    Other(String),
}

impl Expected {
    pub(super) fn of(config: &Config, node: &NodeName) -> Self {
        let sources = config.sources_at_home_on(node).filter_map(|source| {
            let root = match &source.kind {
                SourceKind::Files(files) => Some(files.path.clone()),
                SourceKind::Command(_) => None,
                // No version has captured these.
                SourceKind::Zfs(_) | SourceKind::Postgres(_) => return None,
            };
            let vaults = source.flows.iter().filter_map(|flow| flow.target.vault()).map(ToString::to_string);
            Some(ExpectedSource { name: source.name.to_string(), root, vaults: vaults.collect() })
        });
        Self { node: node.to_string(), sources: sources.collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.sources.iter().any(|source| source.name == name)
    }

    /// Why what was captured by `author` does not go to where it was.
    pub(super) fn refuses(&self, found: &SourceFacts, author: &str) -> Option<Unwanted> {
        let Some(known) = self.sources.iter().find(|source| source.name == found.name.as_str()) else {
            return Some(Unwanted::Unknown);
        };
        if author != self.node {
            return Some(Unwanted::Other(format!(
                "its newest point is node {author}'s, and not {}'s: look at it first, with --to DIR",
                self.node
            )));
        }
        match (&known.root, &found.root) {
            (Some(known), Some(found)) if known != found => Some(Unwanted::Other(format!(
                "the configuration has it at {}, and the point is of {}: restore it with --to DIR, and move it",
                known.display(),
                found.display()
            ))),
            _ => None,
        }
    }

    /// What the node captures and is not among what was found, each with where it may be.
    pub(super) fn missing(&self, found: &BTreeSet<String>) -> Vec<String> {
        let missing = self.sources.iter().filter(|source| !found.contains(&source.name));
        missing
            .map(|ExpectedSource { name, vaults, .. }| match vaults.is_empty() {
                true => format!("{name} of {} is in the configuration, and goes to no vault", self.node),
                false => format!(
                    "{name} of {} is in the configuration, and this vault has no such point of it; it goes to: {}",
                    self.node,
                    vaults.join(", ")
                ),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::*;

    fn expected() -> Expected {
        let text = r#"
            [fleet]
            name = "home"
            nodes = { alpha = "10.0.0.1:7420", beta = "10.0.0.2:7420" }
            [node]
            name = "alpha"
            [vault.near]
            kind = "dir"
            path = "/srv/vault"
            [vault.far]
            kind = "s3"
            bucket = "backups"
            [service.web]
            primary = "alpha"
            to = ["near"]
            files = { path = "/srv/web" }
            command.dump = { run = ["dump"], to = ["far"] }
            [service.mail]
            primary = "beta"
            to = ["far"]
            files = { path = "/srv/mail" }
            "#;
        let text = SourceText { name: "test", text };
        let config = Config::parse(ConfigTexts::Single(text)).unwrap_or_else(|errors| panic!("{errors}"));
        Expected::of(&config, &config.node.name)
    }

    fn facts(name: &str, root: &str) -> SourceFacts {
        SourceFacts {
            name: name.parse().expect("a name"),
            kind: "files".to_owned(),
            root: Some(PathBuf::from(root)),
        }
    }

    #[test]
    fn only_what_the_configuration_names_goes_to_where_it_was() {
        let expected = expected();
        assert_eq!(expected.refuses(&facts("web.files", "/srv/web/"), "alpha"), None);
        let unknown = Some(Unwanted::Unknown);
        assert_eq!(expected.refuses(&facts("old.files", "/srv/web"), "alpha"), unknown, "renamed since");
        assert_eq!(
            expected.refuses(&facts("mail.files", "/srv/mail"), "alpha"),
            unknown,
            "at home elsewhere"
        );
        let other = |found: Option<Unwanted>| match found {
            Some(Unwanted::Other(why)) => why,
            found => panic!("{found:?}"),
        };
        assert!(other(expected.refuses(&facts("web.files", "/root/.ssh"), "alpha")).contains("/root/.ssh"));
        assert!(other(expected.refuses(&facts("web.files", "/srv/web"), "beta")).contains("node beta's"));
    }

    #[test]
    fn what_was_not_found_is_named_with_its_vaults() {
        let expected = expected();
        let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert!(expected.missing(&found(&["web.files", "web.dump"])).is_empty());
        let missing = expected.missing(&found(&["web.files", "mail.files"]));
        let [dump] = &missing[..] else { panic!("{missing:?}") };
        assert!(dump.contains("web.dump") && dump.contains("far") && !dump.contains("near"), "{dump}");
    }
}
