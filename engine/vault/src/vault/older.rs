//! Taking what an object was before, where the store keeps that, and what is there is not what its name says, or is gone: somebody
//! has put something else over it. Only of objects whose names have the hash of their contents, and of records, which are
//! authenticated one by one: what is taken is what was written, whichever version it comes from.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::id::{ObjectHash, PackId};
use bytes::Bytes;

use super::Vault;
use super::objects::hash_of;
use crate::name::{Named, ObjectName};
use crate::store::{OBJECT_BYTES_MAX, StoreError, Stretch, Version};

/// Packs whose versions are remembered: each has many records.
const PACKS_MAX: usize = 1024;

/// Objects of which it is remembered that an older version was taken.
const NOTED_MAX: usize = 1000;

/// What is known of older versions.
#[derive(Debug, Default)]
pub(super) struct OlderVersions {
    /// Whether the store has said that it tells of none.
    refused: AtomicBool,
    packs: Mutex<HashMap<PackId, Arc<[Version]>>>,
    /// Names of objects of which an older version was taken.
    noted: Mutex<BTreeSet<String>>,
}

impl Vault {
    /// The content with this hash among what an object was before; nothing where there is none.
    ///
    /// # Errors
    /// When the store does not answer now, which says nothing.
    pub(crate) fn older_object(
        &self,
        name: &ObjectName,
        hash: ObjectHash,
    ) -> Result<Option<Bytes>, StoreError> {
        for version in self.versions_of(name)?.iter().filter(|version| version.bytes <= OBJECT_BYTES_MAX) {
            let all = Stretch { offset: 0, length: version.bytes };
            let content = self.get_version(name, version, all)?;
            if let Some(content) = content.filter(|content| hash_of(content) == hash) {
                self.note_older(name);
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// A pack among what is kept of it.
    pub(crate) fn older_pack(&self, pack: PackId) -> Result<Option<Bytes>, StoreError> {
        self.older_object(&Named::Pack(pack).to_name(), ObjectHash::new(*pack.as_bytes()))
    }

    /// A stretch of each version that is kept of a pack, until `is_it` takes one; whether it has.
    pub(crate) fn older_stretch(
        &self,
        pack: PackId,
        stretch: Stretch,
        mut is_it: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, StoreError> {
        let name = Named::Pack(pack).to_name();
        let known = lock(&self.older.packs).get(&pack).cloned();
        let versions = match known {
            Some(known) => known,
            None => {
                let versions: Arc<[Version]> = self.versions_of(&name)?.into();
                self.remember_versions(pack, Arc::clone(&versions));
                versions
            }
        };
        let has_it = |version: &&Version| {
            stretch.offset.checked_add(stretch.length).is_some_and(|end| end <= version.bytes)
        };
        for version in versions.iter().filter(has_it) {
            if self.get_version(&name, version, stretch)?.is_some_and(|content| is_it(&content)) {
                self.note_older(&name);
                // The next record is most likely in the same.
                let others = versions.iter().filter(|other| *other != version);
                let first = std::iter::once(version).chain(others).cloned().collect();
                self.remember_versions(pack, first);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Objects that are not what their names say, or are gone, and of which an older version was taken.
    pub(super) fn read_from_older(&self) -> Vec<String> {
        lock(&self.older.noted).iter().cloned().collect()
    }

    /// Whether an older version of it was taken.
    pub(super) fn was_read_from_older(&self, name: &ObjectName) -> bool {
        lock(&self.older.noted).contains(name.as_str())
    }

    /// What was older is there again.
    pub(super) fn forget_older(&self, name: &ObjectName) {
        lock(&self.older.noted).remove(name.as_str());
    }

    fn remember_versions(&self, pack: PackId, versions: Arc<[Version]>) {
        let mut packs = lock(&self.older.packs);
        if packs.len() >= PACKS_MAX {
            packs.clear();
        }
        packs.insert(pack, versions);
    }

    fn note_older(&self, name: &ObjectName) {
        let mut noted = lock(&self.older.noted);
        if noted.len() < NOTED_MAX && noted.insert(name.to_string()) {
            tracing::warn!(
                object = name.as_str(),
                place = self.place(),
                "it is gone, or something else is there: an older version, which the store keeps, is read in its place. Somebody may have deleted or replaced it; `backstay vault repair` puts it back"
            );
        }
    }

    fn versions_of(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        if self.older.refused.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        match self.io().block_on(self.store().versions(name)) {
            Err(error) if !error.is_transient() => {
                tracing::debug!(%error, "older versions are not told");
                self.older.refused.store(true, Ordering::Relaxed);
                Ok(Vec::new())
            }
            versions => versions,
        }
    }

    /// Nothing where it cannot be had for good.
    fn get_version(
        &self,
        name: &ObjectName,
        version: &Version,
        stretch: Stretch,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.io().block_on(self.store().get_version(name, version, stretch)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                tracing::debug!(%error, version = version.id, "a version cannot be read");
                Ok(None)
            }
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
