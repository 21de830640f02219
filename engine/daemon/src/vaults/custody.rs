//! Taking over the office of custodian, with the admin's key: also for a node that the vault has never seen, or that has
//! lost its state.

use std::sync::Arc;

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
    /// Has a vault know a node that was built anew, by the admin's key in these keys of the domain. Whether that was necessary.
    pub fn admit_anew(
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
        let Some(role) = role.filter(|_| !is_known) else { return Ok(false) };
        // What the keys were wrapped to before, it does not have any more. First: by its new key it is found to be known.
        let bundle = if role == Some(Role::Custodian) { full.for_custodian() } else { full.without_admin() };
        VaultKeys::add(&vault, node, recipient, &bundle)?;
        let was_necessary = vault.admit_anew(&Signer::from_seed(seed), node, signer, recipient)?;
        self.outdate(name)?;
        Ok(was_necessary)
    }
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
