//! Which vault is at which place: remembered, so that an unmounted disk is never taken for a new vault.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use backstay_core::id::VaultId;

use crate::failure::Failure;

/// Vault ids by the vaults' names.
#[derive(Debug)]
pub struct KnownVaults {
    path: PathBuf,
    ids: BTreeMap<String, VaultId>,
}

impl KnownVaults {
    /// Reads what is known under `state`.
    pub fn load(state: &Path) -> Result<Self, Failure> {
        let path = state.join("vaults.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => "{}".into(),
            Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
        };
        let named: BTreeMap<String, String> = serde_json::from_str(&text)
            .map_err(|error| Failure::failed(format!("{} is damaged: {error}; remove it", path.display())))?;
        let ids = named
            .into_iter()
            .map(|(name, id)| Ok((name, id.parse()?)))
            .collect::<Result<_, backstay_core::id::ParseIdError>>()
            .map_err(|error| Failure::failed(format!("{} is damaged: {error}; remove it", path.display())))?;
        Ok(Self { path, ids })
    }

    /// The id of the vault of this name, if it was ever seen.
    pub fn id(&self, name: &str) -> Option<VaultId> {
        self.ids.get(name).copied()
    }

    /// Whether a vault of this name was ever seen, at whichever node.
    pub fn has_seen(&self, name: &str) -> bool {
        let at_a_node = |known: &str| known.strip_prefix(name).is_some_and(|rest| rest.starts_with(" at "));
        self.ids.keys().any(|known| known == name || at_a_node(known))
    }

    /// Remembers a vault.
    pub fn remember(&mut self, name: &str, id: VaultId) -> Result<(), Failure> {
        if self.ids.get(name) == Some(&id) {
            return Ok(());
        }
        let mut named: BTreeMap<&str, String> =
            self.ids.iter().map(|(n, id)| (n.as_str(), id.to_string())).collect();
        named.insert(name, id.to_string());
        super::write_durably(&self.path, &serde_json::to_vec_pretty(&named)?)?;
        // Only now: one that could not be written down is not known.
        self.ids.insert(name.to_owned(), id);
        Ok(())
    }
}
