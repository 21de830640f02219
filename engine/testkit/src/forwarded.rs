//! A store that lets everything through to another, but for what a test does otherwise.

use std::fmt;

use async_trait::async_trait;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Glance, Listed, Store, StoreError, Stretch, Trashed, Version};
use bytes::Bytes;

/// What is done otherwise. By itself each method does what the store below does.
#[async_trait]
pub trait Overrides: Send + Sync + fmt::Debug {
    /// The store below.
    fn below(&self) -> &dyn Store;

    /// [`Store::put`].
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.below().put(name, content).await
    }

    /// [`Store::get`].
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.below().get(name).await
    }

    /// [`Store::get_range`].
    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.below().get_range(name, stretch).await
    }

    /// [`Store::list`].
    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.below().list(folder).await
    }

    /// [`Store::glance`]; nothing where listings are done otherwise.
    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        Ok(None)
    }

    /// [`Store::delete_all`], and [`Store::delete`] of one.
    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.below().delete_all(names).await
    }

    /// [`Store::append`].
    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        self.below().append(name, offset, content).await
    }

    /// [`Store::trash`].
    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.below().trash().await
    }

    /// [`Store::bring_back`].
    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.below().bring_back(trashed).await
    }
}

/// The store that does so.
#[derive(Debug, Default)]
pub struct Forwarded<O>(pub O);

#[async_trait]
impl<O: Overrides> Store for Forwarded<O> {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.0.put(name, content).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.0.get_range(name, stretch).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder).await
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        self.0.glance().await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.delete_all(std::slice::from_ref(name)).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        self.0.delete_all(names).await
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        self.0.append(name, offset, content).await
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.0.trash().await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        self.0.bring_back(trashed).await
    }

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        self.0.below().versions(name).await
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        self.0.below().get_version(name, version, stretch).await
    }

    fn requests_cost(&self) -> bool {
        self.0.below().requests_cost()
    }

    fn place(&self) -> String {
        self.0.below().place()
    }
}
