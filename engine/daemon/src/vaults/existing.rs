//! Opening of vaults that are there: with which keys, and where their indexes lie.

use std::sync::Arc;

use backstay_vault::index::{IndexFolder, IndexLimits};
use backstay_vault::keys::{AgeIdentity, Bundle, KeyRing};
use backstay_vault::store::Store;
use backstay_vault::vault::{FoundVault, ObjectFolder, Vault, VaultKeys};

use super::refusals::{no_keys, wrong_key_file};
use super::{Vaults, lock};
use crate::failure::Failure;
use crate::node::{Access, make_state_folder};

impl Vaults {
    pub(super) fn open_existing(
        &self,
        store: Arc<dyn Store>,
        found: FoundVault,
    ) -> Result<Arc<Vault>, Failure> {
        let bundle = self.bundle_for(&store)?;
        let vault = Vault::open_found(store, self.io.clone(), Arc::new(KeyRing::new(&bundle)), found)?;
        // Another object of this process may note records of collections for it between what it has seen and what it asks for.
        if !lock(&self.opened).insert(vault.id()) {
            vault.forget();
        }
        self.keep_index_of(&vault);
        if let Some(access) = self.objects {
            let folder = self.config.node.state.join("objects");
            let made = match access {
                ObjectFolder::Take => Ok(()),
                ObjectFolder::Fill | ObjectFolder::FillAndTake => make_state_folder(&folder),
            };
            match made {
                Ok(()) => vault.keep_objects_in(&folder.join(vault.id().to_string()), access),
                Err(failure) => tracing::warn!(%failure, "no objects are kept"),
            }
        }
        match self.access {
            Access::Keep => vault.refresh_to_write(&self.writer.node)?,
            Access::ReadOnly => vault.refresh_index_at_first(None)?,
        }
        Ok(Arc::new(vault))
    }

    /// The newest keys for the vault in a store.
    pub(super) fn bundle_for(&self, store: &Arc<dyn Store>) -> Result<Bundle, Failure> {
        // Not held while the store is asked: one that hangs would stop all that is done with others.
        let (own, age) = {
            let identity = lock(&self.identity);
            (identity.bundle.clone(), identity.age.clone())
        };
        match (&self.key_file, own) {
            (Some(key), _) => {
                let recovered = VaultKeys::recover(store, &self.io, key)?;
                recovered.ok_or_else(|| wrong_key_file(store, key))
            }
            (None, Some(bundle)) => self.newest_bundle(store, bundle, &age),
            (None, None) => {
                let recovered = VaultKeys::recover(store, &self.io, &age)?;
                let bundle = recovered.ok_or_else(|| no_keys(store, &age, self.access))?;
                let mut identity = lock(&self.identity);
                if self.access == Access::Keep && identity.bundle.is_none() {
                    identity.keep_bundle(bundle.clone())?;
                }
                Ok(bundle)
            }
        }
    }

    /// Gives the index of a vault its place under the state. Who may not write there reads what the daemon has.
    pub(super) fn keep_index_of(&self, vault: &Vault) {
        let folder = self.config.node.state.join("index");
        let wanted = match self.access {
            Access::Keep => match make_state_folder(&folder) {
                Ok(()) => IndexFolder::Own,
                Err(failure) => {
                    tracing::warn!(%failure, "the index is kept in memory");
                    return;
                }
            },
            Access::ReadOnly => IndexFolder::Borrow,
        };
        vault.keep_index_in(&folder.join(vault.id().to_string()), wanted, IndexLimits::default());
    }

    /// The keys that this node has, or those of a later epoch that another one has wrapped to it.
    fn newest_bundle(
        &self,
        store: &Arc<dyn Store>,
        own: Bundle,
        age: &AgeIdentity,
    ) -> Result<Bundle, Failure> {
        let wrapped = match VaultKeys::recover_of(store, &self.io, &self.writer.node, age) {
            Ok(wrapped) => wrapped,
            // Its own keys are enough to find out what is wrong with the vault.
            Err(error) => {
                tracing::warn!(%error, "it is not known whether there are newer keys");
                return Ok(own);
            }
        };
        let Some(wrapped) = wrapped else { return Ok(own) };
        let joined = own.joined_with(&wrapped);
        let newest = joined.as_ref().unwrap_or(&own);
        // A rotation that was interrupted: with its recovery key alone this vault could not be read.
        if newest.continues(&wrapped) {
            tracing::warn!(
                place = store.place(),
                "the vault has not got the newest keys for its holders: run `backstay vault keys rotate` again"
            );
        }
        let Some(joined) = joined else { return Ok(own) };
        if self.access == Access::Keep {
            lock(&self.identity).keep_bundle(joined.clone())?;
        }
        Ok(joined)
    }
}
