//! What is left to do on a machine that has its configuration and its data back, as commands: its own keys are in no vault, so that
//! none knows it. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, VaultKind};

use crate::cli::CONFIG_DEFAULT;
use crate::kit::quoted;

/// Where the recovery key goes that commands take which write.
const KEY_FILE: &str = "/root/backstay-recovery.key";

/// Before a command.
const INDENT: &str = "    ";

/// What it depends on.
#[derive(Debug)]
pub(super) struct Next<'a> {
    /// The configuration that was restored.
    pub(super) config: &'a Config,
    /// Where it is read.
    pub(super) read_from: PathBuf,
    /// What was given as the key, and whether it is a page.
    pub(super) key_file: &'a Path,
    pub(super) is_page: bool,
    /// Who belonged to the fleet, or why that is not known.
    pub(super) roster: Option<&'a Result<String, String>>,
}

impl Next<'_> {
    /// The lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let node = &self.config.node.name;
        let mut lines = vec![format!(
            "Left to do, as root (docs/worst-day.md, step 5). The keys by which vaults knew {node} were in its state alone, and are gone:"
        )];
        let others: Vec<&str> = self
            .config
            .fleet
            .nodes
            .keys()
            .filter(|other| *other != node)
            .map(|other| other.as_str())
            .collect();
        match others.is_empty() {
            true => lines.extend(self.known_again()),
            false => {
                lines.push(match self.roster {
                    Some(Ok(members)) => format!("The fleet, as its admin has signed it last: {members}."),
                    Some(Err(why)) => {
                        format!("Who belonged to the fleet is not known, its roster cannot be read: {why}.")
                    }
                    None => format!(
                        "{node} kept no roster of the fleet; fleet.toml names: {}.",
                        others.join(", ")
                    ),
                });
                lines.push("Where another node lives: the first on it, with the recovery key in FILE, and the second here, with what that prints:".to_owned());
                lines.push(format!("{INDENT}backstay invite {node} --again --recovery FILE"));
                lines.push(self.command("join INVITATION"));
                lines.push("Where all are gone, these here; each of the others is invited then, when it is there again:".to_owned());
                lines.extend(self.known_again());
                let key = self.key();
                lines.push(self.command(&format!("init {node} --recovery {key}")));
                lines.extend(
                    others.iter().map(|other| self.command(&format!("invite {other} --recovery {key}"))),
                );
                lines.push("Then:".to_owned());
            }
        }
        lines.extend(["doctor", "now"].map(|command| self.command(command)));
        lines
    }

    /// Has the vaults that are left know this machine.
    fn known_again(&self) -> Vec<String> {
        let opened = self.is_page.then(|| {
            format!(
                "{INDENT}backstay kit --open {} --to {KEY_FILE}",
                quoted(&self.key_file.display().to_string())
            )
        });
        let sources = self.config.sources_at_home_on(&self.config.node.name);
        let written: BTreeSet<&str> =
            sources.flat_map(|source| &source.flows).filter_map(|flow| flow.target.vault()).collect();
        // One at another node knows this one again when it has joined, and one that a hub writes to only knows that.
        let own = written.into_iter().filter(|name| {
            let kind = self.config.vaults.get(*name).map(|vault| &vault.kind);
            matches!(kind, Some(VaultKind::Dir(_) | VaultKind::S3(_)))
        });
        let key = self.key();
        let taken = own.map(|vault| self.command(&format!("vault custodian take {vault} --key-file {key}")));
        opened.into_iter().chain(taken).collect()
    }

    fn key(&self) -> String {
        match self.is_page {
            true => KEY_FILE.to_owned(),
            false => quoted(&self.key_file.display().to_string()),
        }
    }

    fn command(&self, words: &str) -> String {
        match self.read_from == Path::new(CONFIG_DEFAULT) {
            true => format!("{INDENT}backstay {words}"),
            false => {
                format!("{INDENT}backstay --config {} {words}", quoted(&self.read_from.display().to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::*;

    fn config(nodes: &str) -> Config {
        let text = format!(
            r#"
            [fleet]
            name = "home"
            {nodes}
            [node]
            name = "alpha"
            [vault.near]
            kind = "dir"
            path = "/srv/vault"
            [vault.far]
            kind = "s3"
            bucket = "backups"
            [vault.unused]
            kind = "dir"
            path = "/srv/unused"
            [service.web]
            primary = "alpha"
            to = ["near", "far"]
            files = {{ path = "/srv/web" }}
            "#
        );
        let text = SourceText { name: "test", text: &text };
        Config::parse(ConfigTexts::Single(text)).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn commands(next: &Next<'_>) -> Vec<String> {
        let lines = next.lines();
        lines.iter().filter_map(|line| line.strip_prefix(INDENT)).map(str::to_owned).collect()
    }

    #[test]
    fn a_node_alone_takes_the_vaults_that_it_writes_to() {
        let config = config("");
        let page = Next {
            config: &config,
            read_from: CONFIG_DEFAULT.into(),
            key_file: Path::new("my kit.txt"),
            is_page: true,
            roster: None,
        };
        let take = |vault: &str| {
            format!("backstay vault custodian take {vault} --key-file /root/backstay-recovery.key")
        };
        assert_eq!(
            commands(&page),
            [
                "backstay kit --open 'my kit.txt' --to /root/backstay-recovery.key".to_owned(),
                take("far"),
                take("near"),
                "backstay doctor".to_owned(),
                "backstay now".to_owned()
            ]
        );
        let read_from = "/etc/backstay/backstay.toml".into();
        let key = Next { read_from, key_file: Path::new("/mnt/key"), is_page: false, ..page };
        let [far, ..] = &commands(&key)[..] else { panic!("{key:?}") };
        let config = "--config /etc/backstay/backstay.toml";
        assert_eq!(*far, format!("backstay {config} vault custodian take far --key-file /mnt/key"));
    }

    #[test]
    fn a_node_of_a_fleet_is_invited_by_another_or_begins_it_anew() {
        let config = config("nodes = { alpha = \"10.0.0.1:7420\", beta = \"10.0.0.2:7420\" }");
        let roster = Ok("alpha, beta (roster 3 of today)".to_owned());
        let next = Next {
            config: &config,
            read_from: CONFIG_DEFAULT.into(),
            key_file: Path::new("/mnt/key"),
            is_page: false,
            roster: Some(&roster),
        };
        assert_eq!(
            commands(&next),
            [
                "backstay invite alpha --again --recovery FILE",
                "backstay join INVITATION",
                "backstay vault custodian take far --key-file /mnt/key",
                "backstay vault custodian take near --key-file /mnt/key",
                "backstay init alpha --recovery /mnt/key",
                "backstay invite beta --recovery /mnt/key",
                "backstay doctor",
                "backstay now"
            ]
        );
        assert!(next.lines().join("\n").contains("alpha, beta (roster 3 of today)"));
        let damaged = Err("signed by another".to_owned());
        for (roster, told) in [(Some(&damaged), "signed by another"), (None, "fleet.toml names: beta")] {
            let next = Next { roster, read_from: CONFIG_DEFAULT.into(), ..next };
            let lines = next.lines().join("\n");
            assert!(lines.contains(told), "{lines}");
        }
    }
}
