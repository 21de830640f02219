//! Who holds keys of the vaults: adding, removing, and a new epoch for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_vault::keys::{AgeIdentity, Bundle, FormerKeys, Role, unwrap_bundle};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::vault::{Vault, VaultKeys};

use super::init::RECOVERY_HOLDER;
use super::{Absent, Vaults, lock};
use crate::failure::Failure;

/// A holder, its recipient, and the bundle that it gets.
type Wrapping = (String, String, Bundle);

/// Whose turn it is in a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Recovery,
    Own,
    Others,
}

/// To whom a holder's keys are wrapped, and what they can do.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// `age1…`.
    pub recipient: String,
    /// What the bundle has.
    pub role: Role,
}

impl Vaults {
    /// Names of those to whom keys are wrapped in a vault.
    pub fn key_holders(&self, name: &str) -> Result<Vec<String>, Failure> {
        Ok(VaultKeys::holders(&self.store(name)?, &self.io)?)
    }

    /// The keys that open a vault, for one more holder: without the admin's, whoever opens it.
    pub fn bundle_of(&self, name: &str) -> Result<Bundle, Failure> {
        self.open(name, Absent::Refuse)?;
        Ok(self.bundle_for(&self.store(name)?)?.without_admin())
    }

    /// Wraps the domain's keys, without the admin's, to one more holder.
    pub fn add_key(&self, name: &str, holder: &str, to: &Recipient) -> Result<(), Failure> {
        let name_in_vault = Named::Key(holder.to_owned()).to_name();
        if ObjectName::parse(name_in_vault.as_str()).is_none() {
            return Err(Failure::usage(format!(
                "{holder:?} is no name for a holder: use 1 to 63 of a-z 0-9 - _"
            )));
        }
        refuse_recovery(holder, &format!("`backstay vault init {name} --recovery FILE`"))?;
        // A vault may have newer keys than this process.
        self.outdate(name)?;
        let vault = self.open(name, Absent::Refuse)?;
        refuse_other_keys_for_node(&vault, name, holder, to)?;
        if self.key_holders(name)?.iter().any(|known| known == holder) {
            return Err(Failure::failed(format!(
                "{holder} has keys in vault {name} already; `backstay vault keys remove {name} {holder}` takes them away first"
            )));
        }
        let bundle = self.bundle().ok_or_else(no_keys_at_hand)?;
        if to.role == Role::Full {
            refuse_some_keys(&bundle)?;
        }
        VaultKeys::add(&vault, holder, &to.recipient, &of_role(&bundle, to.role))?;
        Ok(())
    }

    /// Takes the keys of a holder away.
    pub fn remove_key(&self, name: &str, holder: &str) -> Result<(), Failure> {
        if holder == self.writer.node {
            return Err(Failure::usage(format!(
                "{holder} is this node: without its own keys it cannot open vault {name} when its state is lost"
            )));
        }
        let vault = self.open(name, Absent::Refuse)?;
        if !self.key_holders(name)?.iter().any(|known| known == holder) {
            return Err(Failure::failed(format!("{holder} has no keys in vault {name}")));
        }
        if holder == RECOVERY_HOLDER && !self.lacks_recovery() {
            return Err(Failure::usage(format!(
                "the recovery key alone has the admin's key: without it nobody could name another custodian for vault {name}, or make a vault; nothing was changed"
            )));
        }
        Ok(VaultKeys::remove(&vault, holder)?)
    }

    /// Begins a new epoch in all vaults of the configuration: wraps it to every holder, then keeps it. All of them must be
    /// there, and all recipients known: nodes from `trust/`, the recovery key from its file, others as they are given.
    pub fn rotate_keys(
        &self,
        former: FormerKeys,
        recovery: Option<&AgeIdentity>,
        others: &BTreeMap<String, Recipient>,
    ) -> Result<usize, Failure> {
        for holder in others.keys() {
            refuse_recovery(holder, "--recovery FILE")?;
        }
        // One that was never made has nobody to whom anything is wrapped.
        let is_there = |name: &&str| match self.open(name, Absent::Refuse) {
            Err(failure) => failure.class != "no_vault" || self.known_id(name).is_some(),
            Ok(_) => true,
        };
        let there: Vec<String> =
            self.config.vaults.keys().map(|name| name.as_str()).filter(is_there).map(str::to_owned).collect();
        let names = || there.iter().map(String::as_str);
        // First: a vault may have newer keys than this process, which another node has begun.
        names().try_for_each(|name| self.outdate(name))?;
        let opened: Vec<Arc<Vault>> =
            names().map(|name| self.open(name, Absent::Refuse)).collect::<Result<_, _>>()?;
        let own = lock(&self.identity).bundle.clone().ok_or_else(no_keys_at_hand)?;
        refuse_some_keys(&own)?;
        let next = self.with_recovered(own, recovery)?.with_new_epoch(former);
        let mut wrapped: Vec<(Arc<Vault>, Vec<Wrapping>)> = Vec::new();
        for (name, vault) in names().zip(opened) {
            let mut holders = Vec::new();
            for holder in self.key_holders(name)? {
                let (recipient, bundle) = self.next_of(name, &vault, &holder, &next, recovery, others)?;
                holders.push((holder, recipient, bundle));
            }
            wrapped.push((vault, holders));
        }
        // Each in all vaults. The recovery key first: a node uses what it finds wrapped to itself, and whatever ends this on
        // the way, the recovery key opens what is sealed with it. Then this node, which goes on with it when it is done again.
        for round in [Round::Recovery, Round::Own, Round::Others] {
            for (vault, holders) in &wrapped {
                for (holder, recipient, bundle) in holders {
                    if self.round_of(holder) == round {
                        VaultKeys::add(vault, holder, recipient, bundle)?;
                    }
                }
            }
        }
        // And to the recovery key for vaults that are made at other nodes from now on.
        if let (Some(fleet), Some(recovery)) = (self.fleet(), recovery)
            && let Some(full) = self.full_by(&next, recovery, &wrapped)
        {
            fleet.seal_recovery(&full, &recovery.recipient())?;
        }
        // Last: what is sealed with it can be opened by all who are to.
        lock(&self.identity).keep_bundle(next)?;
        names().try_for_each(|name| self.outdate(name))?;
        Ok(wrapped.len())
    }

    /// What the recovery key was wrapped, with the seeds that it has, if it was.
    fn full_by(
        &self,
        next: &Bundle,
        recovery: &AgeIdentity,
        wrapped: &[(Arc<Vault>, Vec<Wrapping>)],
    ) -> Option<Bundle> {
        let of_recovery =
            wrapped.iter().flat_map(|(_, holders)| holders).find(|(holder, ..)| holder == RECOVERY_HOLDER);
        let mut full = of_recovery.map(|(_, _, bundle)| bundle.clone());
        // The authority's seed may be in the roster alone.
        let sealed = self.fleet().and_then(|fleet| fleet.roster().recovery.clone());
        if let Some(before) = sealed.and_then(|sealed| unwrap_bundle(&sealed, recovery).ok()) {
            let full = full.get_or_insert_with(|| next.clone());
            full.admin_seed = full.admin_seed.clone().or(before.admin_seed);
            full.authority_seed = full.authority_seed.clone().or(before.authority_seed);
        }
        full.filter(|full| full.admin_seed.is_some())
    }

    fn round_of(&self, holder: &str) -> Round {
        match holder {
            RECOVERY_HOLDER => Round::Recovery,
            holder if holder == self.writer.node => Round::Own,
            _ => Round::Others,
        }
    }

    /// These keys and those that only the recovery key opens in some vault.
    fn with_recovered(&self, mut own: Bundle, recovery: Option<&AgeIdentity>) -> Result<Bundle, Failure> {
        let Some(recovery) = recovery else { return Ok(own) };
        for name in self.config.vaults.keys() {
            let recovered = VaultKeys::recover(&self.store(name.as_str())?, &self.io, recovery)?;
            let before = recovered.map(|recovered| recovered.without_admin());
            if let Some(joined) = before.and_then(|before| own.joined_with(&before)) {
                own = joined;
            }
        }
        Ok(own)
    }

    /// To whom and what is wrapped for a holder in the new epoch.
    fn next_of(
        &self,
        name: &str,
        vault: &Vault,
        holder: &str,
        next: &Bundle,
        recovery: Option<&AgeIdentity>,
        others: &BTreeMap<String, Recipient>,
    ) -> Result<(String, Bundle), Failure> {
        if let Some(to) = others.get(holder) {
            return Ok((to.recipient.clone(), of_role(next, to.role)));
        }
        if holder == self.writer.node {
            return Ok((lock(&self.identity).age.recipient(), next.clone()));
        }
        if holder == RECOVERY_HOLDER {
            let Some(recovery) = recovery else {
                return Err(Failure::usage(
                    "there is a recovery key, which has to get the new keys as well: give it with --recovery FILE",
                ));
            };
            let before = VaultKeys::recover(&self.store(name)?, &self.io, recovery)?;
            let before = before.filter(|before| before.domain == next.domain).ok_or_else(|| {
                Failure::failed(format!(
                    "the recovery key does not open the keys of vault {name}; nothing was changed"
                ))
            })?;
            let (admin_seed, authority_seed) = (before.admin_seed, before.authority_seed);
            return Ok((recovery.recipient(), Bundle { admin_seed, authority_seed, ..next.clone() }));
        }
        let node = vault.trust().nodes.iter().rev().find(|node| node.name == holder);
        match node {
            Some(node) => Ok((node.recipient.clone(), of_role(next, node.role.unwrap_or(Role::Full)))),
            None => Err(Failure::usage(format!(
                "{holder} has keys in vault {name}, and its recipient is not known: give it with --recipient {holder}=age1…, or take its keys away with `backstay vault keys remove {name} {holder}`; nothing was changed"
            ))),
        }
    }
}

fn of_role(bundle: &Bundle, role: Role) -> Bundle {
    match role {
        Role::Full => bundle.without_admin(),
        Role::Custodian => bundle.for_custodian(),
    }
}

/// The recovery key has the admin's key as well, which is in no bundle that others get.
fn refuse_recovery(holder: &str, instead: &str) -> Result<(), Failure> {
    match holder == RECOVERY_HOLDER {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "{holder} is the recovery key, which has the admin's key as well: give it with {instead}; nothing was changed"
        ))),
    }
}

/// A rotation wraps the keys of a node to whom `trust/` names, with the role that it has there: others would lose theirs then.
fn refuse_other_keys_for_node(
    vault: &Vault,
    name: &str,
    holder: &str,
    to: &Recipient,
) -> Result<(), Failure> {
    let Some(node) = vault.trust().nodes.iter().rev().find(|node| node.name == holder) else { return Ok(()) };
    if (node.recipient.as_str(), node.role.unwrap_or(Role::Full)) == (to.recipient.as_str(), to.role) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{holder} is a node of vault {name}, there with another recipient or role, and the next rotation of the keys would go by that: `backstay vault custodian take {name} --key-file FILE` on {holder} names its new keys, or give the holder another name; nothing was changed"
    )))
}

/// What a custodian would wrap to others lacks the keys of contents: a recovery key would not restore anything any more.
pub(super) fn refuse_some_keys(bundle: &Bundle) -> Result<(), Failure> {
    match bundle.role {
        Role::Full => Ok(()),
        Role::Custodian => Err(Failure::usage(
            "this node has the keys of a custodian, without those of contents: run it on a node that has all; nothing was changed",
        )),
    }
}

fn no_keys_at_hand() -> Failure {
    Failure::failed("the keys of the domain are not at hand: make a vault first (`backstay vault init`)")
}
