//! Wrapped keys that are no age files any more. Those of this node are wrapped again; of other holders nobody else knows
//! what they are to have.

use super::super::super::check::AGE_MAGIC;
use super::super::Custodian;
use super::Repaired;
use super::losses::Loss;
use super::objects::damage;
use crate::error::VaultError;
use crate::keys::Bundle;
use crate::name::Named;
use crate::store::Folder;
use crate::vault::VaultKeys;

impl Custodian<'_> {
    pub(super) fn mend_keys(&self, bundle: Option<&Bundle>, done: &mut Repaired) -> Result<(), VaultError> {
        let own = &self.identity.node;
        let recipient = self.vault.trust().node(&self.identity.signer.public()).map(|node| &node.recipient);
        let mut has_own = false;
        for listed in self.vault.list(&Folder::new(&[&"keys"]))? {
            let Named::Key(holder) = &listed.named else { continue };
            let read = self.vault.get(&listed.name);
            let is_whole = matches!(&read, Ok(content) if content.starts_with(AGE_MAGIC));
            has_own |= is_whole && holder == own;
            if is_whole || (read.is_err() && damage(read.map_err(VaultError::from))?.is_none()) {
                continue;
            }
            if holder == own && bundle.is_some() {
                continue;
            }
            self.check_office()?;
            self.remove(&listed.name)?;
            done.lost(Loss {
                source_name: listed.name.to_string(),
                point: None,
                path: None,
                why: format!("the keys of {holder} are damaged and were removed: give them again"),
            });
        }
        if let (Some(bundle), Some(recipient), false) = (bundle, recipient, has_own) {
            VaultKeys::add(&self.vault, own, recipient, bundle)?;
            done.mended(format!("{}: wrapped again", Named::Key(own.clone()).to_name()));
        }
        Ok(())
    }
}
