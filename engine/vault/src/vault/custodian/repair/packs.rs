//! Packs: those that no index object names are listed anew; of those that are damaged, the records that are whole are
//! moved into new packs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use backstay_core::id::PackId;
use bytes::Bytes;

use super::super::Custodian;
use super::super::renew::{LISTED_ENTRIES, PacksById, in_order, take_over};
use super::Repaired;
use super::objects::is_damage;
use super::piecewise::read_pieces;
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::keys::MissingKey;
use crate::malformed::Malformed;
use crate::name::{Named, ObjectName};
use crate::pack::{PackEntry, bad_records, read_contents, read_pack, salvage};
use crate::record::{RecordHeader, RecordOpener};
use crate::store::Folder;
use crate::write::Packer;

/// How often it is looked whether an upload has failed, while it is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Custodian<'_> {
    /// Lists what is whole, salvages what is not, and takes what is gone out of the index. Returns what is to be said of
    /// damaged packs that were left as they are.
    pub(super) fn mend_packs(
        &mut self,
        reads_all: bool,
        done: &mut Repaired,
    ) -> Result<Option<VaultError>, VaultError> {
        let strays = self.strays()?;
        let mut damaged: BTreeSet<PackId> = self.index_packs(strays.iter().copied())?.into_iter().collect();
        for pack in strays.iter().filter(|pack| !damaged.contains(pack)) {
            done.mended(format!("{}: listed in the index again", Named::Pack(*pack).to_name()));
        }
        damaged.extend(self.suspects(reads_all)?);
        self.put_older_packs_back(&mut damaged, done)?;
        self.put_packs_in_place(&mut damaged, done)?;
        let left = self.salvage(&damaged, done)?;
        damaged.retain(|pack| !left.contains_key(pack));
        self.list_without(&damaged, done)?;
        self.check_office()?;
        for pack in &damaged {
            let name = Named::Pack(*pack).to_name();
            self.remove(&name)?;
            done.mended(format!("{name}: removed (it was damaged)"));
        }
        let left = left.into_iter().next();
        Ok(left.map(|(pack, key)| self.vault.damaged(&Named::Pack(pack).to_name(), key.into())))
    }

    /// Puts packs again that are damaged, or gone though the index names them, where the store keeps what they were.
    fn put_older_packs_back(
        &self,
        damaged: &mut BTreeSet<PackId>,
        done: &mut Repaired,
    ) -> Result<(), VaultError> {
        let inventory = self.look.inventory()?;
        let indexed = self.vault.index().packs();
        let gone: Vec<PackId> = indexed.into_keys().filter(|pack| !inventory.contains_key(pack)).collect();
        for pack in damaged.iter().copied().chain(gone).collect::<BTreeSet<_>>() {
            let Some(content) = self.vault.older_pack(pack)? else { continue };
            let name = Named::Pack(pack).to_name();
            self.vault.put(&name, content)?;
            self.vault.forget_older(&name);
            damaged.remove(&pack);
            done.mended(format!("{name}: put again from an older version that the store keeps"));
        }
        Ok(())
    }

    /// Of packs that were swapped, the contents are there under another name. One whose name has the only copy of
    /// another is left alone, since the repair may end before that one is in its place: its records are moved instead.
    fn put_packs_in_place(
        &self,
        damaged: &mut BTreeSet<PackId>,
        done: &mut Repaired,
    ) -> Result<(), VaultError> {
        let mut found = Vec::new();
        let (inventory, known) = (self.look.inventory()?, self.vault.index().packs());
        for pack in damaged.iter() {
            let Some(content) = self.content(*pack)? else { continue };
            let id = PackId::new(*blake3::hash(&content).as_bytes());
            // One that nobody knows is what the damage has made.
            let is_missing = known.contains_key(&id) && !inventory.contains_key(&id);
            if is_missing || damaged.contains(&id) {
                found.push((id, *pack));
            }
        }
        // All of them: one that was left out would be overwritten by what has its name.
        let only_copies: HashSet<PackId> = found.iter().map(|(_, under)| *under).collect();
        for (id, under) in found.into_iter().filter(|(id, _)| !only_copies.contains(id)) {
            // Read once more, so that one of them is in memory at a time.
            let content = self.content(under)?;
            let is_it = |content: &Bytes| *blake3::hash(content).as_bytes() == *id.as_bytes();
            let Some(content) = content.filter(is_it) else { continue };
            let name = Named::Pack(id).to_name();
            self.vault.put(&name, content)?;
            damaged.remove(&id);
            done.mended(format!("{name}: put again (its contents were under another name)"));
        }
        self.index_packs(self.strays()?)?;
        Ok(())
    }

    /// Packs that do not have the length that the index says; or all that are not what they should be.
    fn suspects(&self, reads_all: bool) -> Result<Vec<PackId>, VaultError> {
        let inventory = self.look.inventory()?;
        let indexed: HashMap<PackId, (ChunkClass, u32)> = self.vault.index().packs();
        let mut suspects = Vec::new();
        for (pack, bytes) in &inventory {
            let has_length = indexed.get(pack).is_none_or(|(_, known)| u64::from(*known) == *bytes);
            if !has_length || (reads_all && self.is_damaged(*pack)?) {
                suspects.push(*pack);
            }
        }
        Ok(suspects)
    }

    fn is_damaged(&self, pack: PackId) -> Result<bool, VaultError> {
        let Some(content) = self.content(pack)? else { return Ok(true) };
        match read_pack(self.vault.ring(), pack, content) {
            Ok(pack) => Ok(!bad_records(self.vault.ring(), &mut RecordOpener::new(), &pack).is_empty()),
            Err(cause) if is_damage(&cause) => Ok(true),
            Err(cause) => Err(self.vault.damaged(&Named::Pack(pack).to_name(), cause)),
        }
    }

    /// What can be read of it; `None` when that is nothing.
    fn content(&self, pack: PackId) -> Result<Option<Bytes>, VaultError> {
        read_pieces(&self.vault, pack)
    }

    /// Moves the records that are whole into new packs, and lists these. A custodian without the keys of contents cannot
    /// tell which records of data are: their packs are left for whoever has the keys, and returned.
    fn salvage(
        &self,
        damaged: &BTreeSet<PackId>,
        done: &mut Repaired,
    ) -> Result<BTreeMap<PackId, MissingKey>, VaultError> {
        let mut left = BTreeMap::new();
        let packer = Packer::new(self.vault.clone());
        let mut opener = RecordOpener::new();
        for pack in damaged {
            let Some(content) = self.content(*pack)? else { continue };
            let mut missing_key = None;
            let mut whole = 0;
            for entry in entries(self.vault.ring(), &content) {
                let end = entry.offset as usize + entry.length as usize;
                let Some(record) = content.get(entry.offset as usize..end) else { continue };
                match opener.open(self.vault.ring(), &entry.id, record) {
                    Ok(_) => {}
                    Err(Malformed::Key(key)) => {
                        missing_key = Some(key);
                        continue;
                    }
                    Err(_) => continue,
                }
                let Ok(header) = RecordHeader::decode(record) else { continue };
                while !packer.has_failed() && !packer.has_room(LOOK_AGAIN) {}
                packer.add(&header, record);
                whole += 1;
            }
            // A key that was rotated away is no damage of the records.
            if let (0, Some(key)) = (whole, missing_key) {
                if !self.vault.ring().reads_contents() {
                    tracing::warn!(%pack, "damaged, and left: it takes the keys of contents to mend it");
                    left.insert(*pack, key);
                    continue;
                }
                return Err(self.vault.damaged(&Named::Pack(*pack).to_name(), key.into()));
            }
            done.records_salvaged += whole;
        }
        let packs = packer.flush()?;
        self.put_index(self.vault.newest_collection()?, packs)?;
        Ok(left)
    }

    /// Takes damaged packs, and those that are not there, out of the index: what stays of an object that names such a
    /// pack is listed anew, and the object goes.
    fn list_without(&mut self, damaged: &BTreeSet<PackId>, done: &mut Repaired) -> Result<(), VaultError> {
        // In this order: packs come before the objects that name them.
        let objects = self.vault.index().objects_with_packs();
        let inventory = self.look.inventory()?;
        let stays = |pack: &PackId| inventory.contains_key(pack) && !damaged.contains(pack);
        let goes: HashSet<_> = objects
            .iter()
            .filter(|(_, packs)| !packs.iter().all(stays))
            .map(|(object, _)| object.origin.hash)
            .collect();
        for (_, packs) in objects.iter().filter(|(object, _)| goes.contains(&object.origin.hash)) {
            for missing in packs.iter().filter(|pack| !inventory.contains_key(pack)) {
                done.mended(format!("{}: missing, taken out of the index", Named::Pack(*missing).to_name()));
            }
        }
        let (mut packs, mut entries) = (PacksById::new(), 0);
        let newest = self.vault.newest_collection()?;
        let mut replaced: Vec<ObjectName> = Vec::new();
        for listed in self.vault.list(&Folder::new(&[&"index"]))? {
            let Named::Index(_, hash) = listed.named else { continue };
            if goes.contains(&hash) {
                let (content, _) = self.vault.read_index_object(&listed)?;
                entries += take_over(&content, &mut packs, stays);
                replaced.push(listed.name);
            }
            if entries >= LISTED_ENTRIES {
                self.put_index(newest, in_order(std::mem::take(&mut packs)))?;
                entries = 0;
            }
        }
        self.put_index(newest, in_order(packs))?;
        if !replaced.is_empty() {
            // One that lands later and names what is not there counts for nobody then: it is of an older collection.
            self.put_next_record(Vec::new())?;
        }
        self.check_office()?;
        replaced.iter().try_for_each(|name| self.remove(name))?;
        self.vault.refresh_index(Some(&self.identity.node))
    }
}

/// What its table of contents says is in a pack, or what is found without it.
fn entries(ring: &crate::keys::KeyRing, content: &[u8]) -> Vec<PackEntry> {
    match read_contents(ring, content) {
        Ok((_, entries)) => entries,
        Err(_) => salvage(content),
    }
}
