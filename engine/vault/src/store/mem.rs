//! A store in memory, for tests and for the demo's throw-away runs. Nothing survives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Folder, GLANCE_MAX, Glance, Listed, Operation, Store, StoreError, StoreErrorKind, Stretch, Trashed,
    VERSIONS_MAX, Version, is_kept,
};
use crate::name::ObjectName;

/// Objects in a map.
#[derive(Debug, Default)]
pub struct MemStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// What was deleted, in a store that keeps it.
    trash: Option<Mutex<BTreeMap<String, Bytes>>>,
    /// What was replaced or deleted, oldest first, in a store that keeps versions.
    versions: Option<Mutex<BTreeMap<String, Vec<Bytes>>>>,
    requests_cost: bool,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds these objects: name and content.
    pub fn with_objects(objects: BTreeMap<String, Bytes>) -> Self {
        Self { objects: Mutex::new(objects), ..Self::default() }
    }

    /// A store that holds these objects, keeps what is deleted, and has this in its trash.
    pub fn with_objects_and_trash(objects: BTreeMap<String, Bytes>, trash: BTreeMap<String, Bytes>) -> Self {
        Self { objects: Mutex::new(objects), trash: Some(Mutex::new(trash)), ..Self::default() }
    }

    /// A store that keeps what is deleted.
    pub fn with_trash() -> Self {
        Self { trash: Some(Mutex::default()), ..Self::default() }
    }

    /// The same, which keeps what is replaced or deleted from now on as buckets with versions do.
    #[must_use]
    pub fn with_versions(self) -> Self {
        Self { versions: Some(Mutex::default()), ..self }
    }

    /// The same, whose requests are paid for as those to a bucket are.
    #[must_use]
    pub fn with_costly_requests(self) -> Self {
        Self { requests_cost: true, ..self }
    }

    /// Ends the time of a deleted object.
    pub fn empty_trash_of(&self, name: &ObjectName) {
        if let Some(trash) = &self.trash {
            trash.lock().unwrap_or_else(PoisonError::into_inner).remove(name.as_str());
        }
    }

    /// A copy of all objects: name and content.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().clone()
    }

    /// A copy of what is in the trash.
    pub fn trashed(&self) -> BTreeMap<String, Bytes> {
        let trash = self.trash.as_ref().map(|trash| trash.lock().unwrap_or_else(PoisonError::into_inner));
        trash.map(|trash| trash.clone()).unwrap_or_default()
    }

    fn keep_version(&self, name: &str, content: Option<Bytes>) {
        if let (Some(versions), Some(content)) = (&self.versions, content) {
            let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
            versions.entry(name.to_owned()).or_default().push(content);
        }
    }

    /// What is kept of an object, with its place among all versions of it, newest first.
    fn kept_versions(&self, name: &ObjectName) -> Vec<(usize, Bytes)> {
        let Some(versions) = &self.versions else { return Vec::new() };
        let versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = versions.get(name.as_str()).cloned().unwrap_or_default();
        of_it.into_iter().enumerate().rev().collect()
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
        let replaced = self.lock().insert(name.to_string(), content);
        self.keep_version(name.as_str(), replaced);
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

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        let objects = self.lock();
        let last = match objects.len() > GLANCE_MAX {
            true => objects.keys().nth(GLANCE_MAX - 1).cloned(),
            false => None,
        };
        let listed = objects.iter().take(GLANCE_MAX).filter_map(|(name, content)| {
            let (name, named) = ObjectName::parse(name)?;
            Some(Listed { name, named, bytes: content.len() as u64 })
        });
        Ok(self.requests_cost.then(|| Glance::new(listed.collect(), last)))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let deleted = self.lock().remove_entry(name.as_str());
        self.keep_version(name.as_str(), deleted.as_ref().map(|(_, content)| content.clone()));
        if let (Some(trash), Some((name, content))) = (&self.trash, deleted)
            && ObjectName::parse(&name).is_some_and(|(_, named)| is_kept(&named))
        {
            trash.lock().unwrap_or_else(PoisonError::into_inner).insert(name, content);
        }
        Ok(())
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        let Some(trash) = &self.trash else { return Ok(Vec::new()) };
        let trash = trash.lock().unwrap_or_else(PoisonError::into_inner);
        let trashed = trash.iter().filter_map(|(name, content)| {
            let (name, named) = ObjectName::parse(name)?;
            Some(Trashed { object: Listed { name, named, bytes: content.len() as u64 }, batch: 0 })
        });
        Ok(trashed.collect())
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        let name = &trashed.object.name;
        let trash = self.trash.iter().next();
        let content = trash
            .and_then(|trash| trash.lock().unwrap_or_else(PoisonError::into_inner).remove(name.as_str()));
        match content {
            Some(content) => {
                self.lock().entry(name.to_string()).or_insert(content);
                Ok(())
            }
            None => Err(super::trash::keeps_none(self.place(), trashed)),
        }
    }

    async fn versions(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        let kept = self.kept_versions(name).into_iter().take(VERSIONS_MAX);
        Ok(kept
            .map(|(place, content)| Version { id: place.to_string(), bytes: content.len() as u64 })
            .collect())
    }

    async fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Bytes, StoreError> {
        let mut kept = self.kept_versions(name).into_iter();
        let content = kept.find(|(place, _)| place.to_string() == version.id).map(|(_, content)| content);
        let content = content.ok_or_else(|| super::versions::keeps_none(self.place(), name, version))?;
        let end = stretch.offset.checked_add(stretch.length).filter(|end| *end <= content.len() as u64);
        match end {
            Some(end) => Ok(content.slice(stretch.offset as usize..end as usize)),
            None => Err(self.error(
                Operation::GetRange,
                name,
                StoreErrorKind::Truncated,
                "the version is shorter",
            )),
        }
    }

    fn requests_cost(&self) -> bool {
        self.requests_cost
    }

    fn place(&self) -> String {
        "memory".into()
    }
}
