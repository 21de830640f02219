//! How the processes of a node open its vaults: in some worlds they keep objects in a folder for each other.

use std::path::PathBuf;
use std::sync::Arc;

use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::Store;
use backstay_vault::vault::{ObjectFolder, Vault};

/// What one process after the other goes by.
pub(crate) struct Opening<'a> {
    pub(crate) node: &'a VaultFixture,
    /// Where objects are kept, in worlds where they are.
    pub(crate) objects: Option<PathBuf>,
    /// What this node's processes do there, one or the other.
    pub(crate) usages: &'static [ObjectFolder],
}

/// Of a process that is the only one to fill its folder.
pub(crate) const FILLING: &[ObjectFolder] =
    &[ObjectFolder::FillAndTake, ObjectFolder::FillAndTake, ObjectFolder::Fill];

/// Of one beside such a one.
pub(crate) const TAKING: &[ObjectFolder] = &[ObjectFolder::Take];

impl Opening<'_> {
    /// What a process does with the folder until it ends. Without one nothing is asked of the seed.
    pub(crate) fn usage(&self, random: &mut Random) -> ObjectFolder {
        match self.objects {
            Some(_) => random.choose(self.usages),
            None => self.usages[0],
        }
    }

    pub(crate) fn open(&self, store: Arc<dyn Store>, usage: ObjectFolder) -> Result<Arc<Vault>, VaultError> {
        match &self.objects {
            Some(folder) => self.node.open_with_objects_in(store, folder, usage),
            None => self.node.open(store),
        }
    }
}
