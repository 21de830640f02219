//! A store in which a vault is not opened yet: what is read from it to judge whether it may be.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::ObjectName;
use crate::store::{Folder, Glance, Listed, Store, StoreError};

/// A store, and the runtime on which it works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unopened<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) io: &'a Handle,
}

impl Unopened<'_> {
    /// What one request shows of the names in it, where requests cost.
    pub(super) fn glance(&self) -> Result<Option<Glance>, StoreError> {
        match self.store.requests_cost() {
            true => self.io.block_on(self.store.glance()),
            false => Ok(None),
        }
    }

    /// The objects of a folder at the top, in the order of their names.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.io.block_on(self.store.list(&Folder::new(&[&folder])))
    }

    /// The same, as a glance has shown them where it has.
    pub(super) fn list_at_first(
        &self,
        folder: &str,
        glance: Option<&mut Glance>,
    ) -> Result<Vec<Listed>, StoreError> {
        match glance.and_then(|glance| glance.take(&Folder::new(&[&folder]))) {
            Some(shown) => Ok(shown),
            None => self.list(folder),
        }
    }

    /// The last of them by name; `None` also where there is no such folder, nor any vault.
    pub(super) fn newest(&self, folder: &str) -> Result<Option<Listed>, VaultError> {
        self.newest_at_first(folder, None)
    }

    /// The same, as a glance has shown them where it has.
    pub(super) fn newest_at_first(
        &self,
        folder: &str,
        glance: Option<&mut Glance>,
    ) -> Result<Option<Listed>, VaultError> {
        match self.list_at_first(folder, glance) {
            Err(error) if error.is_not_found() => Ok(None),
            listed => Ok(listed?.pop()),
        }
    }

    /// A whole object.
    pub(super) fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.io.block_on(self.store.get(name))
    }

    /// Stores an object.
    pub(super) fn put(&self, name: &ObjectName, object: Bytes) -> Result<(), StoreError> {
        self.io.block_on(self.store.put(name, object))
    }

    /// That an object is not what it should be.
    pub(super) fn damaged(&self, name: &ObjectName, cause: Malformed) -> VaultError {
        VaultError::Damaged { object: name.to_string(), place: self.store.place(), cause }
    }
}
