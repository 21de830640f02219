//! A store in memory, for tests and for the demo's throw-away runs. Nothing survives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Folder, Listed, Operation, Store, StoreError, StoreErrorKind, Stretch};
use crate::name::ObjectName;

/// Objects in a map.
#[derive(Debug, Default)]
pub struct MemStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds these objects: name and content.
    pub fn with_objects(objects: BTreeMap<String, Bytes>) -> Self {
        Self { objects: Mutex::new(objects) }
    }

    /// A copy of all objects: name and content.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, operation: Operation, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.lock()
            .get(name.as_str())
            .cloned()
            .ok_or_else(|| self.error(operation, name, StoreErrorKind::NotFound, "there is no such object"))
    }

    fn error(
        &self,
        operation: Operation,
        name: &ObjectName,
        kind: StoreErrorKind,
        cause: &str,
    ) -> StoreError {
        StoreError { operation, object: name.to_string(), place: self.place(), kind, cause: cause.into() }
    }
}

#[async_trait]
impl Store for MemStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.lock().insert(name.to_string(), content);
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.find(Operation::Get, name)
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        let content = self.find(Operation::GetRange, name)?;
        match stretch.offset.checked_add(stretch.length) {
            Some(end) if end <= content.len() as u64 => {
                Ok(content.slice(stretch.offset as usize..end as usize))
            }
            _ => {
                Err(self.error(Operation::GetRange, name, StoreErrorKind::Truncated, "the object is shorter"))
            }
        }
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let objects = self.lock();
        let below = objects.range(folder.as_str().to_owned()..);
        Ok(below
            .take_while(|(name, _)| name.starts_with(folder.as_str()))
            .filter_map(|(name, content)| {
                let (name, named) = ObjectName::parse(name)?;
                Some(Listed { name, named, bytes: content.len() as u64 })
            })
            .collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.lock().remove(name.as_str());
        Ok(())
    }

    fn place(&self) -> String {
        "memory".into()
    }
}
