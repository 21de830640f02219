//! From a source to its targets: which flows it has, and how far behind each may be. Owns what makes a target
//! impossible: no vault, several and none named, no other node.

use std::time::Duration;

use super::declared::Declared;
use super::name::ServiceName;
use super::policy::{Layers, PolicyKeys, Target};
use super::problem::{ProblemKind, Refusal};
use super::table::Table;
use super::vault::{Vault, VaultKind};

/// One way out of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where it leads.
    pub target: Target,
    /// The recovery point objective, above 0.
    pub rpo: Duration,
}

/// What a service lends to the reading of its sources.
pub(super) struct ServiceContext<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) has_secondary: bool,
    /// The service's own layers, the nearest first.
    pub(super) layers: Vec<&'a PolicyKeys>,
    pub(super) declared: &'a Declared,
}

/// The flow of a kind that leads to no vault.
pub(super) enum LiveFlow {
    None,
    /// It is there when a policy speaks of the target and there is a node for it.
    WhenNamed(Target),
    Always(Target),
}

impl<'a> ServiceContext<'a> {
    /// The layers of a source: what its table says, what the policy says that it names, and the service's.
    pub(super) fn layers(&self, table: &mut Table<'_>) -> Layers<'a> {
        let own = PolicyKeys::read(table, &self.declared.vault_names);
        let named = table.get("policy").and_then(|value| value.reference(&self.declared.policy_names));
        let named = named.and_then(|name| self.declared.policies.get(&name));
        Layers { own, outer: named.into_iter().chain(self.layers.iter().copied()).collect() }
    }

    /// The flows of a source, and what speaks against them.
    pub(super) fn flows(&self, table: &Table<'_>, layers: &Layers<'_>, live: LiveFlow) -> Vec<Flow> {
        let (live, is_wanted) = match live {
            LiveFlow::None => (None, false),
            LiveFlow::Always(target) => (Some(target), true),
            LiveFlow::WhenNamed(target) => {
                let is_in_to = layers.pick(|keys| keys.to.clone()).is_some_and(|to| to.contains(&target));
                let is_named = self.has_secondary && layers.names(&target);
                (Some(target), is_in_to || is_named)
            }
        };
        let live = live.filter(|_| is_wanted);
        let mut targets = self.vault_targets(table, layers, live.as_ref());
        for target in &targets {
            self.check_peer(table, target);
        }
        if let Some(target) = live {
            self.check_live(table, &target);
            targets.push(target);
        }
        targets.into_iter().map(|target| Flow { rpo: layers.rpo(&target), target }).collect()
    }

    /// The vaults in `to`; where it is given nowhere, the only vault that there is.
    fn vault_targets(&self, table: &Table<'_>, layers: &Layers<'_>, live: Option<&Target>) -> Vec<Target> {
        let is_vault = |target: &Target| matches!(target, Target::Vault(_));
        let (targets, fix): (Vec<_>, _) = match layers.pick(|keys| keys.to.clone()) {
            Some(to) if to.is_empty() => return to, // reported where it is written
            Some(to) => (to.into_iter().filter(is_vault).collect(), "name a vault in \"to\""),
            None if self.declared.vault_names.len() > 1 => (
                Vec::new(),
                "there are several vaults: say which, as to = [\"VAULT\"], here or in [policy.default]",
            ),
            None => {
                let only = self.declared.vault_names.iter().cloned().map(Target::Vault).collect();
                (
                    only,
                    "declare a vault, such as [vault.local] with kind = \"dir\" and path = \"/srv/backstay/vault\"",
                )
            }
        };
        if targets.is_empty() && live.is_none() {
            table.problem(ProblemKind::MissingKey, || Refusal::new("this source goes nowhere", fix));
        }
        targets
    }

    fn check_peer(&self, table: &Table<'_>, target: &Target) {
        let Target::Vault(name) = target else { return };
        let is_peer = matches!(self.declared.vaults.get(name), Some(Vault { kind: VaultKind::Peer(_), .. }));
        if is_peer && !self.has_secondary {
            table.problem(ProblemKind::Conflict, || {
                let what = format!(
                    "vault {name} is held by the service's other node, and service {} has none",
                    self.service
                );
                Refusal::new(
                    what,
                    "add secondary = [\"NODE\"] to the service, or give it a \"to\" without this vault",
                )
            });
        }
    }

    fn check_live(&self, table: &Table<'_>, target: &Target) {
        if !self.has_secondary {
            table.problem(ProblemKind::Conflict, || {
                let what = format!("a {target} needs another node, and service {} has none", self.service);
                Refusal::new(what, "add secondary = [\"NODE\"] to the service")
            });
        }
    }
}
