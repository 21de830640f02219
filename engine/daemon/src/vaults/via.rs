//! Vaults that another node, their hub, writes to: what is captured for them goes to this node's vault there, and the hub says how far
//! it has come.

use backstay_core::config::{NodeName, Source, VaultKind, ViaVault};
use backstay_core::id::SourceId;
use backstay_vault::keys::KeyRing;
use backstay_wire::peer::Standing;

use super::Vaults;
use crate::failure::Failure;

impl Vaults {
    /// The way to a vault that another node writes to for this one.
    pub fn via(&self, name: &str) -> Option<&ViaVault> {
        self.config.via.iter().find(|(known, _)| known.as_str() == name).map(|(_, via)| via)
    }

    /// The vault to which is captured what is for this one: itself, or this node's vault at its hub.
    pub fn entry<'n>(&'n self, name: &'n str) -> &'n str {
        self.via(name).and_then(|via| via.through.as_ref()).map_or(name, |through| through.as_str())
    }

    /// Whether requests to the vault of this name are paid for one by one.
    pub fn is_costly(&self, name: &str) -> bool {
        let mut vaults = self.config.vaults.iter();
        vaults.any(|(known, vault)| known.as_str() == name && matches!(vault.kind, VaultKind::S3(_)))
    }

    /// Whether this node holds a vault for that one.
    pub fn holds_for(&self, node: &NodeName) -> bool {
        self.config.holds.get(node).is_some_and(|hold| hold.vault.is_some())
    }

    /// Whether a vault of this name was ever there, as far as this node remembers.
    pub fn was_seen(&self, name: &str) -> bool {
        self.known_id(name).is_some()
    }

    /// The vaults from which this node can read a source.
    pub fn to_read(&self, source: &Source) -> Vec<String> {
        self.config.vaults_to_read(source).iter().map(ToString::to_string).collect()
    }

    /// How far its hub has copied a source of this node on to a vault. Blocks for as long as the hub may take.
    pub fn standing(&self, name: &str, source_name: &str) -> Result<Standing, Failure> {
        let via = self.via(name).ok_or_else(|| self.unknown(name))?;
        let source = self.source_id(source_name)?;
        let fleet = self.member_for(name, &via.hub)?;
        let store = fleet.store(&via.hub, None)?;
        Ok(self.io.block_on(store.standing(name, source))?)
    }

    /// The id of a source, by the keys of the domain.
    pub fn source_id(&self, source_name: &str) -> Result<SourceId, Failure> {
        let bundle = self.bundle().ok_or_else(|| {
            Failure::failed("this node has no keys yet: `backstay join INVITATION` brings those of its fleet")
        })?;
        Ok(KeyRing::new(&bundle).source_id(source_name))
    }
}
