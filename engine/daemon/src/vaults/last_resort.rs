//! Whether a key is enough when nothing else is left: whether it brings back all that a vault has, and lets a new machine go on with it.

use backstay_vault::keys::{Bundle, Role, Signer};

use super::{Absent, Vaults, lock};
use crate::failure::Failure;

/// What a key lacks in a vault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyLack {
    /// The keys of contents.
    #[error(
        "in {0} the key is one of a custodian, which cannot read what was captured: give the file that `backstay vault init {0} --recovery FILE` has written"
    )]
    Contents(String),
    /// The admin's key.
    #[error(
        "in {0} the key lacks the admin's key, without which no new machine can go on with the vault (`backstay vault custodian take {0}`): give the file that `backstay vault init {0} --recovery FILE` has written; where there is none yet, that command makes it"
    )]
    Admin(String),
    /// Keys that this node seals with.
    #[error(
        "in {0} the key lacks keys that this node has: what is sealed with them could not be restored. `backstay vault init {0} --recovery FILE`, with the file of the recovery key, gives it all of them"
    )]
    Epochs(String),
}

impl Vaults {
    /// What the key file by which these vaults are read lacks in this one on the worst day; nothing where it is enough.
    pub fn lack_of_key_file(&self, name: &str) -> Result<Option<KeyLack>, Failure> {
        let opened = self.open(name, Absent::Refuse).map(drop);
        // As it is wrapped, with the admin's key if that is in it.
        let found = self.store(name).and_then(|store| self.bundle_for(&store));
        let own = lock(&self.identity).bundle.clone();
        match (opened, found) {
            (Ok(()), found) => Ok(lack(name, &found?, own.as_ref())),
            // What its keys lack may be why it does not open, and says more.
            (Err(failure), found) => {
                found.ok().and_then(|found| lack(name, &found, own.as_ref())).map(Some).ok_or(failure)
            }
        }
    }
}

/// What keys lack of those that this node has, if it has any.
fn lack(name: &str, found: &Bundle, own: Option<&Bundle>) -> Option<KeyLack> {
    let name = name.to_owned();
    let is_admin = |seed| Signer::from_seed(seed).public() == found.admin;
    match found {
        Bundle { role: Role::Custodian, .. } => Some(KeyLack::Contents(name)),
        _ if own.is_some_and(|own| !found.does_for(own)) => Some(KeyLack::Epochs(name)),
        _ if !found.admin_seed.as_ref().is_some_and(is_admin) => Some(KeyLack::Admin(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use backstay_vault::keys::{FormerKeys, Secret};

    use super::*;

    #[test]
    fn a_key_is_enough_that_has_all_that_the_node_has_and_the_admins_key() {
        let full = Bundle::generate();
        let own = full.without_admin();
        let name = || "local".to_owned();
        let lack = |found: &Bundle, own: Option<&Bundle>| lack("local", found, own);
        assert_eq!(lack(&full, Some(&own)), None);
        assert_eq!(lack(&full, None), None, "a machine without keys of its own");
        assert_eq!(lack(&full, Some(&own.for_custodian())), None, "a custodian has less");
        assert_eq!(lack(&full.for_custodian(), Some(&own)), Some(KeyLack::Contents(name())));
        assert_eq!(lack(&own, Some(&own)), Some(KeyLack::Admin(name())));
        let other = Bundle { admin_seed: Some(Secret::random()), ..full.clone() };
        assert_eq!(lack(&other, Some(&own)), Some(KeyLack::Admin(name())), "another one's");
        for former in [FormerKeys::Trusted, FormerKeys::Compromised] {
            let next = own.with_new_epoch(former);
            assert_eq!(lack(&full, Some(&next)), Some(KeyLack::Epochs(name())));
            assert_eq!(lack(&full.with_new_epoch(former), Some(&own)), None, "the node has not seen it");
        }
        let [one, other] = [(); 2].map(|()| full.with_new_epoch(FormerKeys::Trusted));
        assert_eq!(lack(&one, Some(&other)), Some(KeyLack::Epochs(name())), "begun at the same time");
        let forged = Bundle { domain: full.domain, ..Bundle::generate() };
        assert_eq!(lack(&forged, Some(&own)), Some(KeyLack::Epochs(name())));
    }
}
