//! Taking what an object was before, where the store keeps that, and what is there is not what its name says, or is gone: somebody
//! has put something else over it. Only of objects whose names have the hash of their contents, and of records, which are
//! authenticated one by one: what is taken is what was written, whichever version it comes from.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::id::{ObjectHash, PackId};
use bytes::Bytes;

use super::Vault;
use super::objects::hash_of;
use crate::error::VaultError;
use crate::name::{Named, ObjectName};
use crate::store::{OBJECT_BYTES_MAX, StoreError, Stretch, Version};

/// Packs whose versions are remembered: each has many records.
const PACKS_MAX: usize = 128;

/// So many records in succession may be in no version of a pack: then no more are looked for in it for a while. One alone says
/// little, such as one whose key is not at hand.
const VAIN_MAX: u32 = 8;

/// For how long.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Objects of which it is remembered that an older version was taken.
const NOTED_MAX: usize = 1000;

/// How many of these are looked at again at a time: a pack is read whole for that.
const LOOKED_AGAIN_MAX: usize = 64;

/// How long a store is not asked again that has said that it tells of none: its owner may allow it.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// What is known of older versions.
#[derive(Debug, Default)]
pub(super) struct OlderVersions {
    /// When the store has said last that it tells of none.
    refused: Mutex<Option<Instant>>,
    packs: Mutex<HashMap<PackId, Known>>,
    noted: Mutex<Noted>,
}

/// Versions of a pack, that in which a record was found last first.
#[derive(Debug, Clone)]
struct Known {
    versions: Arc<[Version]>,
    /// How many records have been looked for in all of them in vain since one was found.
    vain: u32,
    since: Instant,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < KNOWN_FOR
    }
}

/// Objects of which an older version was taken.
#[derive(Debug, Default)]
struct Noted {
    /// By name, the count of takings at the last one of it.
    last: BTreeMap<ObjectName, u64>,
    takings: u64,
}

impl Noted {
    /// Whether it was not known.
    fn add(&mut self, name: &ObjectName) -> bool {
        self.takings += 1;
        match self.last.get_mut(name) {
            Some(last) => {
                *last = self.takings;
                false
            }
            None => self.last.len() < NOTED_MAX && self.last.insert(name.clone(), self.takings).is_none(),
        }
    }
}

/// A moment, of a vault, after which it is told what was taken from older versions.
#[derive(Debug, Clone, Copy)]
pub struct OlderMark(u64);

impl OlderMark {
    /// The moment in which the vault was opened.
    pub(super) const FIRST: Self = Self(0);
}

/// What is wrong with such an object, for people.
pub const READ_FROM_OLDER: &str =
    "it is gone, or something else is there: an older version that the store keeps is read in its place";

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
        let known = lock(&self.older.packs).get(&pack).filter(|known| known.is_fresh()).cloned();
        let mut known = match known {
            Some(known) => known,
            None => Known { versions: self.versions_of(&name)?.into(), vain: 0, since: Instant::now() },
        };
        if known.vain >= VAIN_MAX {
            return Ok(false);
        }
        let mut found = None;
        for (place, version) in known.versions.iter().enumerate() {
            let has_it = stretch.offset.checked_add(stretch.length).is_some_and(|end| end <= version.bytes);
            if has_it && self.get_version(&name, version, stretch)?.is_some_and(|content| is_it(&content)) {
                found = Some(place);
                break;
            }
        }
        match found {
            Some(place) => {
                self.note_older(&name);
                // The next record is most likely in the same.
                let (before, from) = known.versions.split_at(place);
                known = Known { versions: from.iter().chain(before).cloned().collect(), vain: 0, ..known };
            }
            None => known.vain += 1,
        }
        let mut packs = lock(&self.older.packs);
        if packs.len() >= PACKS_MAX {
            packs.clear();
        }
        packs.insert(pack, known);
        Ok(found.is_some())
    }

    /// Now, for [`Vault::read_from_older_since`].
    pub fn older_mark(&self) -> OlderMark {
        OlderMark(lock(&self.older.noted).takings)
    }

    /// Objects that are not what their names say, or are gone, of which an older version was taken since then, by whomever in this
    /// process, and that have not been put back. At most 1000 are known.
    pub fn read_from_older_since(&self, mark: OlderMark) -> Vec<ObjectName> {
        let noted = lock(&self.older.noted);
        noted.last.iter().filter(|(_, last)| **last > mark.0).map(|(name, _)| name.clone()).collect()
    }

    /// How many such objects are known; at most 1000.
    pub fn read_from_older(&self) -> usize {
        lock(&self.older.noted).last.len()
    }

    /// Whether an older version of it was taken, and nobody has seen since that it was put back.
    pub fn was_read_from_older(&self, name: &ObjectName) -> bool {
        lock(&self.older.noted).last.contains_key(name)
    }

    /// What was older is there again.
    pub(super) fn forget_older(&self, name: &ObjectName) {
        lock(&self.older.noted).last.remove(name);
    }

    /// Looks whether the objects of which an older version was taken are there again, by whomever, or are no longer needed: some at
    /// a time, those first that were looked at or taken longest ago.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn look_again_at_older(&self) -> Result<(), VaultError> {
        let mut noted: Vec<(u64, ObjectName)> =
            lock(&self.older.noted).last.iter().map(|(name, last)| (*last, name.clone())).collect();
        noted.sort_unstable();
        let indexed = if noted.is_empty() { HashMap::new() } else { self.index().packs() };
        for (_, name) in noted.into_iter().take(LOOKED_AGAIN_MAX) {
            let Some((_, named)) = ObjectName::parse(name.as_str()) else { continue };
            let is_right = match self.get(&name) {
                Ok(content) => Some(hash_of(&content)) == hash_in(&named),
                Err(error) if error.is_not_found() => match named {
                    Named::Pack(pack) => !indexed.contains_key(&pack),
                    _ => true,
                },
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(_) => false,
            };
            match is_right {
                true => self.forget_older(&name),
                false => drop(lock(&self.older.noted).add(&name)),
            }
        }
        Ok(())
    }

    fn note_older(&self, name: &ObjectName) {
        if lock(&self.older.noted).add(name) {
            tracing::warn!(
                object = name.as_str(),
                place = self.place(),
                "it is gone, or something else is there: an older version, which the store keeps, is read in its place. Somebody may have deleted or replaced it; `backstay vault repair` puts it back"
            );
        }
    }

    fn versions_of(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        let refused = *lock(&self.older.refused);
        if refused.is_some_and(|refused| refused.elapsed() < REFUSED_FOR) {
            return Ok(Vec::new());
        }
        match self.io().block_on(self.store().versions(name)) {
            Err(error) if !error.is_transient() => {
                tracing::warn!(
                    %error,
                    "something is damaged, and whether an older version of it is kept, the store does not tell"
                );
                *lock(&self.older.refused) = Some(Instant::now());
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

fn hash_in(named: &Named) -> Option<ObjectHash> {
    match named {
        Named::Pack(pack) => Some(ObjectHash::new(*pack.as_bytes())),
        named => named.content_hash(),
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
