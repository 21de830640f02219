//! What a custodian looks at before it decides anything: every source, and the packs that are there. Refuses to go on
//! where something is damaged: what cannot be read may be needed, and nothing may go on its account.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::clock::Clock;
use backstay_core::id::{PackId, SessionId};
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::units::Timestamp;

use super::super::settled::KnownSession;
use super::super::{Catalogue, Vault};
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// The packs that are there, and their lengths in bytes.
pub(super) type Inventory = HashMap<PackId, u64>;

/// A look at a vault as its custodian has it. Writes nothing, and needs no office.
#[derive(Clone)]
pub struct Inspection<'a> {
    vault: Arc<Vault>,
    kinds: Arc<Kinds>,
    clock: &'a dyn Clock,
    /// Sessions that have been seen to have ended.
    ended: Arc<Mutex<HashMap<SessionId, Arc<KnownSession>>>>,
}

impl<'a> Inspection<'a> {
    /// A look at this vault, with what is known of kinds of sources.
    pub fn new(vault: Arc<Vault>, kinds: Arc<Kinds>, clock: &'a dyn Clock) -> Self {
        Self { vault, kinds, clock, ended: Arc::default() }
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    pub(super) fn ended(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<KnownSession>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self, kind: &str) -> Option<Arc<dyn KindRules>> {
        self.kinds.get(kind).cloned()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the vault holds of every source.
    pub(super) fn survey(&self) -> Result<Vec<Catalogue>, VaultError> {
        self.vault.catalogues()?.into_iter().map(|catalogue| self.sound(catalogue)).collect()
    }

    /// The same, unless something of it is damaged or missing.
    pub(super) fn sound(&self, mut catalogue: Catalogue) -> Result<Catalogue, VaultError> {
        let is_damaged = |error: &VaultError| !matches!(error, VaultError::Untrusted { .. });
        if let Some(place) = catalogue.left_out.iter().position(is_damaged) {
            return Err(self.refused(&catalogue.left_out.swap_remove(place).to_string()));
        }
        match catalogue.broken().next() {
            None => {}
            Some((point, missing)) => {
                let (name, point) = (&point.common.source_name, point.link.point);
                let cause = format!("{name}: point {missing} is missing, which {point} builds on");
                return Err(self.refused(&cause));
            }
        }
        Ok(catalogue)
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

impl fmt::Debug for Inspection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection").field("vault", &self.vault).finish_non_exhaustive()
    }
}
