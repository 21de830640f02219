//! Packs that no index object names, listed anew from their own tables of contents.

use backstay_core::id::PackId;

use super::Custodian;
use super::renew::Packs;
use super::repair::is_damage;
use crate::error::VaultError;
use crate::index_object::{INDEX_ENTRIES_MAX, IndexedPack};
use crate::name::Named;
use crate::pack::{Pack, read_pack};
use crate::store::StoreErrorKind;

impl Custodian<'_> {
    /// Reads each of these packs whole and lists what is in them under the custodian's name. Returns those that are not
    /// whole; a pack that is gone is none.
    pub(super) fn index_packs(
        &self,
        packs: impl IntoIterator<Item = PackId>,
    ) -> Result<Vec<PackId>, VaultError> {
        let collection = self.vault.newest_collection()?;
        let (mut read, mut entries, mut damaged) = (Packs::new(), 0, Vec::new());
        for id in packs {
            let content = match self.vault.get(&Named::Pack(id).to_name()) {
                Ok(content) => content,
                Err(error) if error.is_not_found() => continue,
                // Permission is the operator's to give.
                Err(error) if error.is_unreadable() && error.kind != StoreErrorKind::Denied => {
                    damaged.push(id);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match read_pack(self.vault.ring(), id, content) {
                Ok(Pack { id, class, content, entries: of_pack, keys }) => {
                    entries += of_pack.len();
                    read.push((IndexedPack { id, class, bytes: content.len() as u32, keys }, of_pack));
                }
                Err(cause) if !is_damage(&cause) => {
                    return Err(self.vault.damaged(&Named::Pack(id).to_name(), cause));
                }
                Err(cause) => {
                    tracing::warn!(pack = %id, %cause, "not listed");
                    damaged.push(id);
                }
            }
            if entries > INDEX_ENTRIES_MAX / 2 {
                self.put_index(collection, std::mem::take(&mut read))?;
                entries = 0;
            }
        }
        self.put_index(collection, read)?;
        Ok(damaged)
    }

    /// The packs that are there and that no index object names.
    pub(super) fn strays(&self) -> Result<Vec<PackId>, VaultError> {
        let inventory = self.look.inventory()?;
        let named = self.vault.index().packs();
        let mut strays: Vec<PackId> =
            inventory.into_keys().filter(|pack| !named.contains_key(pack)).collect();
        strays.sort_unstable();
        Ok(strays)
    }
}
