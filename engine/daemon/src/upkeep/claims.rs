//! What a job needs for itself, so that the daemon can do it beside captures, prunes and other jobs.

use std::collections::BTreeSet;

use backstay_core::config::Config;
use backstay_wire::upkeep::Upkeep;

/// What nobody else may do meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Vaults that nobody else cares for: no prune, and no other job that needs the custodian or what he could take away.
    pub care: BTreeSet<String>,
    /// Vaults, of these, to which nothing is captured: the job mends what captures count on.
    pub closed: BTreeSet<String>,
    /// Whether the job changes who has keys: one at a time.
    pub keys: bool,
}

impl Claims {
    /// What a job needs, on a node with this configuration.
    pub fn of(job: &Upkeep, config: &Config) -> Self {
        let set = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect::<BTreeSet<_>>();
        let cares_for = |vault| Self { care: set(&[vault]), closed: BTreeSet::new(), keys: false };
        match job {
            // Captures go on: these write layouts only, or a capture finds its session as it was.
            Upkeep::Undelete { vault, .. } | Upkeep::Release { vault, .. } => cares_for(vault),
            Upkeep::TakeCustody { vault, .. } => Self { keys: true, ..cares_for(vault) },
            Upkeep::Repair { vault, from, .. } => {
                let from = from.iter().cloned();
                Self { care: from.chain([vault.clone()]).collect(), closed: set(&[vault]), keys: false }
            }
            // Captures go on: a copier is one writer more, and writers need nothing of each other. That a prune or a
            // repair takes away what is being copied, or what the copy was told is there, is what `care` is for.
            Upkeep::Copy { from, to, .. } => {
                Self { care: set(&[from, to]), closed: BTreeSet::new(), keys: false }
            }
            Upkeep::AddKey { .. } | Upkeep::RemoveKey { .. } => {
                Self { care: BTreeSet::new(), closed: BTreeSet::new(), keys: true }
            }
            // Who cares for a vault with the old keys could not read what is sealed with the new ones.
            Upkeep::RotateKeys { .. } => {
                let all = config.vaults.keys().map(ToString::to_string);
                Self { care: all.collect(), closed: BTreeSet::new(), keys: true }
            }
        }
    }

    /// Whether two jobs cannot be done at the same time.
    pub fn exclude(&self, other: &Self) -> bool {
        (self.keys && other.keys) || !self.care.is_disjoint(&other.care)
    }
}

/// The vaults of the configuration that a job names.
pub fn named(job: &Upkeep) -> Vec<&str> {
    match job {
        Upkeep::Undelete { vault, .. }
        | Upkeep::Release { vault, .. }
        | Upkeep::TakeCustody { vault, .. }
        | Upkeep::AddKey { vault, .. }
        | Upkeep::RemoveKey { vault, .. } => vec![vault],
        Upkeep::Repair { vault, from, .. } => {
            std::iter::once(vault).chain(from).map(String::as_str).collect()
        }
        Upkeep::Copy { from, to, .. } => vec![from, to],
        Upkeep::RotateKeys { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use backstay_core::config::{ConfigTexts, SourceText};
    use backstay_wire::upkeep::OldKeys;

    use super::*;

    const CONFIG: &str = r#"
[fleet]
name = "home"
[node]
name = "alpha"
state = "/tmp/state"
[vault.local]
kind = "dir"
path = "/srv/local"
[vault.usb]
kind = "dir"
path = "/srv/usb"
[policy.default]
to = ["local"]
[service.data]
files = { path = "/srv/data" }
"#;

    fn claims(job: &Upkeep) -> Claims {
        let text = SourceText { name: "backstay.toml", text: CONFIG };
        Claims::of(job, &Config::parse(ConfigTexts::Single(text)).expect("a configuration"))
    }

    #[test]
    fn jobs_exclude_each_other_where_they_meet() {
        let release = |vault: &str| Upkeep::Release { vault: vault.into(), points: Vec::new() };
        let copy = Upkeep::Copy { from: "local".into(), to: "usb".into(), sources: Vec::new() };
        let remove = Upkeep::RemoveKey { vault: "local".into(), holder: "anna".into() };
        let rotate =
            Upkeep::RotateKeys { recovery: None, recipients: BTreeMap::new(), old: OldKeys::Trusted };
        let exclude = |a: &Upkeep, b: &Upkeep| claims(a).exclude(&claims(b));
        assert!(exclude(&release("local"), &copy) && exclude(&release("usb"), &copy));
        assert!(!exclude(&release("local"), &release("usb")));
        assert!(!exclude(&remove, &copy) && !exclude(&remove, &release("local")));
        assert!(exclude(&remove, &rotate) && exclude(&rotate, &copy) && exclude(&release("usb"), &rotate));
    }

    #[test]
    fn captures_are_kept_from_vaults_that_are_mended() {
        let closed = |job: &Upkeep| claims(job).closed.into_iter().collect::<Vec<_>>();
        let copy = Upkeep::Copy { from: "local".into(), to: "usb".into(), sources: Vec::new() };
        assert!(closed(&copy).is_empty());
        let repair = Upkeep::Repair {
            vault: "local".into(),
            reads_all: false,
            from: vec!["usb".into()],
            drops_damaged: false,
        };
        assert_eq!(closed(&repair), ["local"]);
        let release = Upkeep::Release { vault: "local".into(), points: Vec::new() };
        assert!(closed(&release).is_empty());
    }
}
