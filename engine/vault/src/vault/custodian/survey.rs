//! What a custodian looks at before it decides anything: every source, and the packs that are there. Refuses to go on
//! where something is damaged: what cannot be read may be needed, and nothing may go on its account.

use std::collections::HashMap;

use backstay_core::id::PackId;

use super::super::Catalogue;
use super::Custodian;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// The packs that are there, and their lengths in bytes.
pub(super) type Inventory = HashMap<PackId, u64>;

impl Custodian<'_> {
    /// What the vault holds of every source.
    pub(super) fn survey(&self) -> Result<Vec<Catalogue>, VaultError> {
        let mut catalogues = self.vault.catalogues()?;
        for catalogue in &mut catalogues {
            let damaged =
                catalogue.left_out.iter().position(|error| !matches!(error, VaultError::Untrusted { .. }));
            if let Some(place) = damaged {
                return Err(self.refused(&catalogue.left_out.swap_remove(place).to_string()));
            }
            if let Some((point, missing)) = catalogue.broken().next() {
                let (name, point) = (&point.common.source_name, point.link.point);
                return Err(
                    self.refused(&format!("{name}: point {missing} is missing, which {point} builds on"))
                );
            }
        }
        Ok(catalogues)
    }

    /// Lists all packs.
    pub(super) fn inventory(&self) -> Result<Inventory, VaultError> {
        let listed = self.vault.list(&Folder::new(&[&"packs"]))?;
        let pack = |listed: &Listed| match listed.named {
            Named::Pack(id) => Some((id, listed.bytes)),
            _ => None,
        };
        Ok(listed.iter().filter_map(pack).collect())
    }

    pub(super) fn refused(&self, cause: &str) -> VaultError {
        VaultError::NotCollected { place: self.vault.place(), cause: cause.to_owned() }
    }
}
