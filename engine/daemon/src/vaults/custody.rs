//! Taking over the office of custodian, with the admin's key: also for a node that the vault has never seen, or that has
//! lost its state.

use std::sync::Arc;

use backstay_core::config::VaultKind;
use backstay_core::id::SignerKey;
use backstay_vault::clear::TrustedNode;
use backstay_vault::keys::{AgeIdentity, Bundle, KeyRing, Role, Signer};
use backstay_vault::vault::{Vault, VaultKeys};

use super::{Absent, Vaults, lock};
use crate::failure::Failure;

impl Vaults {
    /// Makes this node the custodian of a vault, and one that may write to it. Takes the recovery key, unless the admin's
    /// key still lies on this node. Returns the new term.
    pub fn take_custody(&self, name: &str, recovery: Option<&AgeIdentity>) -> Result<u64, Failure> {
        let store = self.store(name)?;
        // Not held while the store is asked: one that hangs would stop all that is done with others.
        let (own, age) = {
            let identity = lock(&self.identity);
            (identity.bundle.clone(), identity.age.clone())
        };
        let full = match (recovery, &own) {
            (Some(recovery), own) => {
                let full = VaultKeys::recover(&store, &self.io, recovery)?.ok_or_else(|| {
                    Failure::failed(format!("the recovery key opens no keys in {}", store.place()))
                })?;
                refuse_other_domain(own, &full)?;
                full
            }
            (None, Some(own)) => own.clone(),
            (None, None) => return Err(needs_key(name)),
        };
        let seed = full.admin_seed.clone().ok_or_else(|| needs_key(name))?;
        let vault = Vault::open(store, self.io.clone(), Arc::new(KeyRing::new(&full)))?;
        let (node, recipient) = (self.writer.node.clone(), age.recipient());
        // To whom the keys of a custodian were wrapped, here or for another vault, that is what it stays.
        let wrapped = VaultKeys::recover(&self.store(name)?, &self.io, &age)?;
        let given = wrapped.as_ref().or(own.as_ref()).map(|bundle| bundle.role);
        let role = given.filter(|role| *role == Role::Custodian);
        let bundle = match role {
            Some(_) => full.for_custodian(),
            None => full.without_admin(),
        };
        let trusted = TrustedNode {
            name: node.clone(),
            signer: self.writer.signer.public(),
            recipient: recipient.clone(),
            writes: vec!["*".to_owned()],
            role,
        };
        {
            let mut identity = lock(&self.identity);
            if identity.bundle.is_none() {
                identity.keep_bundle(bundle.clone())?;
            }
        }
        // Before the office: a custodian that cannot open its vault would be none.
        if wrapped.is_none() {
            VaultKeys::add(&vault, &node, &recipient, &bundle)?;
        }
        let term = vault.take_custody(&Signer::from_seed(&seed), trusted)?;
        self.remember(name, vault.id())?;
        self.outdate(name)?;
        Ok(term)
    }
}

impl Vaults {
    /// Has a vault know a node of the fleet, by the admin's key in these keys of the domain: one that was built anew, and of which the
    /// vault knows an earlier key; and any other, where the vault takes points of others. Whether that was necessary.
    pub fn admit(
        &self,
        name: &str,
        full: &Bundle,
        (node, signer, recipient): (&str, SignerKey, &str),
    ) -> Result<bool, Failure> {
        let seed = full.admin_seed.as_ref().ok_or_else(|| needs_key(name))?;
        let vault = self.open(name, Absent::Refuse)?;
        let known = vault.trust().nodes.iter().filter(|known| known.name == node);
        let (is_known, role) =
            known.fold((false, None), |_, known| (known.signer == signer, Some(known.role)));
        if role.is_none() && self.takes_points_of_others(name) {
            // Of a later rotation only those learn to whom the keys are wrapped there.
            VaultKeys::add(&vault, node, recipient, &full.without_admin())?;
            let node = trusted(node, signer, recipient);
            let was_necessary = vault.admit(&Signer::from_seed(seed), node)?;
            self.outdate(name)?;
            return Ok(was_necessary);
        }
        let Some(role) = role.filter(|_| !is_known) else { return Ok(false) };
        // What the keys were wrapped to before, it does not have any more. First: by its new key it is found to be known.
        let bundle = if role == Some(Role::Custodian) { full.for_custodian() } else { full.without_admin() };
        VaultKeys::add(&vault, node, recipient, &bundle)?;
        let was_necessary = vault.admit_anew(&Signer::from_seed(seed), node, signer, recipient)?;
        self.outdate(name)?;
        Ok(was_necessary)
    }
}

impl Vaults {
    /// Has a vault know all nodes of the fleet, where it takes points of others. Whether that was necessary.
    pub(super) fn admit_members(&self, name: &str, full: &Bundle) -> Result<bool, Failure> {
        let mut was_necessary = false;
        for member in self.other_members(name) {
            was_necessary |= self.admit(name, full, (&member.name, member.signer, &member.recipient))?;
        }
        Ok(was_necessary)
    }

    /// The other nodes of the fleet, for a vault that takes points of them; nobody for any other.
    pub(super) fn other_members(&self, name: &str) -> Vec<TrustedNode> {
        let Some(fleet) = self.fleet().filter(|_| self.takes_points_of_others(name)) else {
            return Vec::new();
        };
        let roster = fleet.roster();
        let others = roster.members.iter().filter(|(node, _)| **node != self.config.node.name);
        others.map(|(node, member)| trusted(node.as_str(), member.signer, &member.recipient)).collect()
    }

    /// Whether points of other nodes come into a vault: by this one as its hub, or since all write to one bucket.
    fn takes_points_of_others(&self, name: &str) -> bool {
        let takes = |vault: &backstay_core::config::Vault| {
            vault.hub.is_some() || matches!(vault.kind, VaultKind::S3(_))
        };
        self.config.vaults.get(name).is_some_and(takes)
    }
}

/// A node that may write all sources.
fn trusted(name: &str, signer: SignerKey, recipient: &str) -> TrustedNode {
    let (name, recipient) = (name.to_owned(), recipient.to_owned());
    TrustedNode { name, signer, recipient, writes: vec!["*".to_owned()], role: None }
}

fn needs_key(name: &str) -> Failure {
    Failure::failed(format!(
        "only the admin's key can name another custodian, and it is with the recovery key: `backstay vault custodian take {name} --key-file FILE`"
    ))
}

fn refuse_other_domain(own: &Option<Bundle>, found: &Bundle) -> Result<(), Failure> {
    match own.as_ref().filter(|own| own.domain != found.domain) {
        None => Ok(()),
        Some(own) => Err(Failure::failed(format!(
            "the vault is of key domain {}, and this node has the keys of {}: one node belongs to one domain; give it a node.state of its own",
            found.domain, own.domain
        ))),
    }
}
