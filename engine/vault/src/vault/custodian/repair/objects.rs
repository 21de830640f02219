//! Envelopes that cannot be read: they go, and what they were for is made anew where that is known.

use std::collections::{HashMap, HashSet};

use backstay_core::id::{ObjectHash, PackId};
use bytes::Bytes;

use super::super::super::objects::hash_of;
use super::super::Custodian;
use super::Repaired;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed, StoreErrorKind};

impl Custodian<'_> {
    /// A damaged record in `gc/` stops every writer. A new one that dooms nothing takes its place: what the old one has
    /// doomed is doomed again by the next pass.
    pub(super) fn mend_records(&mut self, done: &mut Repaired) -> Result<(), VaultError> {
        let mut damaged = Vec::new();
        for listed in self.vault.list(&Folder::new(&[&"ledger", &"gc"]))? {
            match damage(self.vault.gc_record(&listed))? {
                Some(wrong) => damaged.push((listed.name, wrong)),
                None => self.put_older_back(&listed, done)?,
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        // Only now: what is listed is not to be counted on before.
        self.vault.refresh_index(Some(&self.identity.node))?;
        self.put_next_record(Vec::new())?;
        self.remove_each(damaged, "a new record took its place", done)
    }

    /// A damaged fence ends its session all the same: it is put again under its name.
    pub(super) fn mend_fences(&self, done: &mut Repaired) -> Result<(), VaultError> {
        for listed in self.vault.list(&Folder::new(&[&"fences"]))? {
            let Named::Fence(session) = listed.named else { continue };
            if let Some(wrong) = damage(self.vault.fence_object(&listed))? {
                let (newest, now) = (self.vault.newest_collection()?, self.look.now());
                self.vault.fence_damaged(&self.identity, session, newest, now)?;
                done.mended(format!("{}: put again ({wrong})", listed.name));
            }
        }
        Ok(())
    }

    /// Layouts from the copies that this node keeps of those that it has written last: one that was damaged, and one
    /// that has vanished.
    pub(super) fn mend_layouts(&mut self, done: &mut Repaired) -> Result<(), VaultError> {
        for source in self.vault.list_sources()?.sources() {
            let Some(own) = self.store.layout(source)? else { continue };
            let Some((name, Named::Layout(_, generation, _))) = ObjectName::parse(&own.name) else {
                continue;
            };
            let mut is_newest = true;
            self.vault.each_layout(source, &mut |known| {
                is_newest &= (known.term, known.generation) < (self.term, generation);
            })?;
            if is_newest {
                self.vault.put(&name, own.content.into())?;
                done.mended(format!("{name}: put again from the copy of this node"));
            }
        }
        Ok(())
    }

    /// Index objects, heads, layouts and points that are damaged. What each of them alone said is found missing later.
    pub(super) fn remove_damaged(&self, done: &mut Repaired) -> Result<(), VaultError> {
        for folder in ["index", "heads", "layout", "points", "bad", "proofs"] {
            let mut damaged = Vec::new();
            for listed in self.vault.list(&Folder::new(&[&folder]))? {
                if let Some(wrong) = damage(self.read_any(&listed))? {
                    damaged.push((listed, wrong));
                } else {
                    self.put_older_back(&listed, done)?;
                }
            }
            self.put_in_place(&damaged, done)?;
            damaged.retain(|(listed, _)| !matches!(damage(self.read_any(listed)), Ok(None)));
            let damaged = damaged.into_iter().map(|(listed, wrong)| (listed.name, wrong));
            self.remove_each(damaged.collect(), "removed", done)?;
        }
        Ok(())
    }

    /// An object that could be read only because the store keeps what it was before is put again.
    fn put_older_back(&self, listed: &Listed, done: &mut Repaired) -> Result<(), VaultError> {
        let Some(hash) = listed.named.content_hash() else { return Ok(()) };
        if !self.vault.was_read_from_older(&listed.name) {
            return Ok(());
        }
        if let Some(content) = self.vault.older_object(&listed.name, hash)? {
            self.vault.put(&listed.name, content)?;
            done.mended(format!("{}: put again from an older version that the store keeps", listed.name));
        }
        self.vault.forget_older(&listed.name);
        Ok(())
    }

    /// Of objects that were swapped, the contents are there under another name. Where that name gets its own back, they
    /// are kept beside first: the repair may end in between, and there is no other copy.
    fn put_in_place(&self, damaged: &[(Listed, String)], done: &mut Repaired) -> Result<(), VaultError> {
        let wanted: HashMap<ObjectHash, &ObjectName> = damaged
            .iter()
            .filter_map(|(listed, _)| Some((listed.named.content_hash()?, &listed.name)))
            .collect();
        let mut found: HashMap<ObjectHash, Found<'_>> = HashMap::new();
        for (listed, _) in damaged {
            if let Ok(content) = self.vault.get(&listed.name)
                && wanted.contains_key(&hash_of(&content))
            {
                found.insert(hash_of(&content), Found { content, under: Some(&listed.name) });
            }
        }
        for hash in wanted.keys() {
            if !found.contains_key(hash)
                && let Ok(content) = self.vault.get(&beside(hash))
                && hash_of(&content) == *hash
            {
                found.insert(*hash, Found { content, under: None });
            }
        }
        let overwritten: HashSet<&ObjectName> = found.keys().map(|hash| wanted[hash]).collect();
        for (hash, Found { content, .. }) in
            found.iter().filter(|(_, found)| found.under.is_some_and(|name| overwritten.contains(name)))
        {
            self.vault.put(&beside(hash), content.clone())?;
        }
        for (hash, Found { content, .. }) in &found {
            let name = wanted[hash];
            self.vault.put(name, content.clone())?;
            done.mended(format!("{name}: put again (its contents were under another name)"));
        }
        let kept =
            found.iter().filter(|(_, found)| found.under.is_none_or(|name| overwritten.contains(name)));
        let kept: Vec<ObjectName> = kept.map(|(hash, _)| beside(hash)).collect();
        self.remove_all(&kept)
    }

    pub(in crate::vault::custodian) fn read_any(&self, listed: &Listed) -> Result<(), VaultError> {
        let vault = &self.vault;
        match listed.named {
            Named::Index(..) => vault.read_index_object(listed).map(drop),
            Named::Head(source, sequence, _) => vault.read_head(source, sequence, listed).map(drop),
            Named::Layout(_, generation, _) => vault.read_layout(listed, generation).map(drop),
            Named::Point(source, point, hash) => vault.read_point(source, point, hash, listed).map(drop),
            Named::Bad(..) => vault.read_bad_list(listed).map(drop),
            Named::Proof(source, ..) => vault.read_proof(source, listed).map(drop),
            _ => Ok(()),
        }
    }

    fn remove_each(
        &self,
        damaged: Vec<(ObjectName, String)>,
        what: &str,
        done: &mut Repaired,
    ) -> Result<(), VaultError> {
        self.check_office()?;
        for (name, wrong) in damaged {
            self.remove(&name)?;
            done.mended(format!("{name}: {what} ({wrong})"));
        }
        Ok(())
    }
}

/// The contents of an object, and the name under which they are if it is not the one beside.
struct Found<'n> {
    content: Bytes,
    under: Option<&'n ObjectName>,
}

/// Where contents are kept for a while: as a pack that no index object names, which misleads nobody and goes with the
/// next repair or collection.
fn beside(hash: &ObjectHash) -> ObjectName {
    Named::Pack(PackId::new(*hash.as_bytes())).to_name()
}

/// What is wrong with an object, in words, if it is damaged. What nobody may have written is left alone, and so is what
/// has gone meanwhile.
///
/// # Errors
/// Whatever is no damage.
pub(in crate::vault::custodian) fn damage<T>(
    read: Result<T, VaultError>,
) -> Result<Option<String>, VaultError> {
    match read {
        Ok(_) | Err(VaultError::Untrusted { .. }) => Ok(None),
        Err(VaultError::Store(error)) if error.is_not_found() => Ok(None),
        // Permission is the operator's to give.
        Err(VaultError::Store(error)) if error.is_unreadable() && error.kind != StoreErrorKind::Denied => {
            Ok(Some(error.cause))
        }
        Err(VaultError::Damaged { cause, .. }) if is_damage(&cause) => Ok(Some(cause.to_string())),
        Err(error) => Err(error),
    }
}

/// Not one that another key, or another version, would read.
pub(in crate::vault::custodian) fn is_damage(cause: &Malformed) -> bool {
    !matches!(cause, Malformed::Newer { .. } | Malformed::Key(_))
}
