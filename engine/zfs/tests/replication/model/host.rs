//! What stands on the pools of a host, and how it changes.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;
use backstay_zfs::error::Refusal;
use backstay_zfs::guid::{DatasetGuid, SnapshotGuid, Txg};
use backstay_zfs::name::{BookmarkName, HoldTag, SnapshotName};
use backstay_zfs::state::{Bookmark, Dataset, DatasetKind, Encryption, Key, PROPERTY_PREFIX, Snapshot};
use backstay_zfs::zfs::{Form, Resume};

use super::token;

/// A block: what is in it (nothing where it was freed), and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) value: Option<u64>,
    pub(crate) born: Txg,
}

pub(crate) type Blocks = BTreeMap<u64, Block>;

#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) guid: DatasetGuid,
    pub(crate) is_encrypted: bool,
    pub(crate) origin: Option<SnapshotName>,
    pub(crate) blocks: Blocks,
    pub(crate) is_modified: bool,
    pub(crate) is_mounted: bool,
    pub(crate) native: BTreeMap<String, String>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) snapshots: Vec<Shot>,
    pub(crate) bookmarks: Vec<Bookmark>,
    pub(crate) partial: Option<Partial>,
}

#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) mark: String,
    pub(crate) guid: SnapshotGuid,
    pub(crate) txg: Txg,
    pub(crate) at: Timestamp,
    pub(crate) blocks: Blocks,
    pub(crate) holds: BTreeSet<HoldTag>,
}

/// What a receive that was cut off has left.
#[derive(Debug, Clone)]
pub(crate) struct Partial {
    pub(crate) to: SnapshotGuid,
    pub(crate) from: Option<SnapshotGuid>,
    pub(crate) form: Form,
    pub(crate) resume: Resume,
    pub(crate) blocks: Blocks,
}

#[derive(Debug)]
pub(crate) struct Host {
    sets: BTreeMap<DatasetName, Set>,
    txg: Txg,
    random: u64,
    /// Bytes of streams that it takes still.
    pub(crate) room_bytes: u64,
    /// Whether nothing can be created or renamed.
    pub(crate) is_full_of_names: bool,
}

impl Host {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            sets: BTreeMap::new(),
            txg: Txg(10),
            random: seed,
            room_bytes: u64::MAX,
            is_full_of_names: false,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn next_txg(&mut self) -> Txg {
        self.txg = Txg(self.txg.0 + 1);
        self.txg
    }

    pub(crate) fn get(&self, name: &DatasetName) -> Result<&Set, Refusal> {
        self.sets.get(name).ok_or(Refusal::NOT_FOUND)
    }

    pub(crate) fn get_mut(&mut self, name: &DatasetName) -> Result<&mut Set, Refusal> {
        self.sets.get_mut(name).ok_or(Refusal::NOT_FOUND)
    }

    pub(crate) fn shot(&self, name: &SnapshotName) -> Result<&Shot, Refusal> {
        let shots = &self.get(name.dataset())?.snapshots;
        shots.iter().find(|shot| shot.mark == name.mark()).ok_or(Refusal::NOT_FOUND)
    }

    fn shot_mut(&mut self, name: &SnapshotName) -> Result<&mut Shot, Refusal> {
        let shots = &mut self.get_mut(name.dataset())?.snapshots;
        shots.iter_mut().find(|shot| shot.mark == name.mark()).ok_or(Refusal::NOT_FOUND)
    }

    pub(crate) fn list(&self, root: &DatasetName) -> Vec<Dataset> {
        let below = self.sets.iter().filter(|(name, _)| name.below(root).is_some());
        let mut listed: Vec<_> = below.map(|(name, set)| set.shown(name)).collect();
        listed.sort_by(|a, b| a.name.as_str().split('/').cmp(b.name.as_str().split('/')));
        listed
    }

    pub(crate) fn create(&mut self, name: &DatasetName) -> Result<(), Refusal> {
        if self.sets.contains_key(name) {
            return Err(Refusal::EXISTS);
        }
        if name.parent().is_some_and(|parent| !self.sets.contains_key(&parent)) {
            return Err(Refusal::NOT_FOUND);
        }
        let guid = DatasetGuid(self.draw());
        self.sets.insert(name.clone(), Set::new(guid));
        Ok(())
    }

    pub(crate) fn insert(&mut self, name: &DatasetName, set: Set) {
        self.sets.insert(name.clone(), set);
    }

    /// With all below it. As `zfs destroy -r`, which refuses where something is held, or cloned elsewhere.
    pub(crate) fn destroy(&mut self, name: &DatasetName) -> Result<(), Refusal> {
        let doomed: Vec<_> = self.sets.keys().filter(|other| other.below(name).is_some()).cloned().collect();
        let is_held = |set: &Set| set.snapshots.iter().any(|shot| !shot.holds.is_empty());
        if doomed.iter().any(|name| self.sets.get(name).is_some_and(is_held)) {
            return Err(Refusal::BUSY);
        }
        let origins = self.sets.iter().filter(|(other, _)| other.below(name).is_none());
        if origins.filter_map(|(_, set)| set.origin.as_ref()).any(|origin| doomed.contains(origin.dataset()))
        {
            return Err(Refusal::EXISTS);
        }
        doomed.iter().for_each(|name| drop(self.sets.remove(name)));
        Ok(())
    }

    /// Releases everything below, as an operator does who is told that it is busy.
    pub(crate) fn release_all(&mut self, name: &DatasetName) {
        let below = self.sets.iter_mut().filter(|(other, _)| other.below(name).is_some());
        below.flat_map(|(_, set)| &mut set.snapshots).for_each(|shot| shot.holds.clear());
    }

    pub(crate) fn write(
        &mut self,
        name: &DatasetName,
        block: u64,
        value: Option<u64>,
    ) -> Result<(), Refusal> {
        let born = self.next_txg();
        let set = self.get_mut(name)?;
        set.blocks.insert(block, Block { value, born });
        set.is_modified = true;
        Ok(())
    }

    pub(crate) fn snapshot(&mut self, names: &[SnapshotName]) -> Result<(), Refusal> {
        let txg = self.next_txg();
        for name in names {
            let set = self.get(name.dataset())?;
            if set.snapshots.iter().any(|shot| shot.mark == name.mark()) {
                return Err(Refusal::EXISTS);
            }
        }
        for name in names {
            let guid = SnapshotGuid(self.draw());
            let set = self.get_mut(name.dataset())?;
            let blocks = set.blocks.clone();
            let (mark, at) = (name.mark().to_owned(), Timestamp::from_seconds(txg.0 as i64));
            set.snapshots.push(Shot { mark, guid, txg, at, blocks, holds: BTreeSet::new() });
            set.is_modified = false;
        }
        Ok(())
    }

    pub(crate) fn destroy_snapshot(&mut self, name: &SnapshotName) -> Result<(), Refusal> {
        if !self.shot(name)?.holds.is_empty() {
            return Err(Refusal::BUSY);
        }
        if self.sets.values().any(|set| set.origin.as_ref() == Some(name)) {
            return Err(Refusal::EXISTS);
        }
        let set = self.get_mut(name.dataset())?;
        // What a partial receive builds on cannot go either.
        if set.partial.is_some() && set.snapshots.last().is_some_and(|last| last.mark == name.mark()) {
            return Err(Refusal::BUSY);
        }
        set.snapshots.retain(|shot| shot.mark != name.mark());
        Ok(())
    }

    pub(crate) fn bookmark(&mut self, of: &SnapshotName, name: &BookmarkName) -> Result<(), Refusal> {
        let Shot { guid, txg, at, .. } = self.shot(of)?.clone();
        let set = self.get_mut(name.dataset())?;
        let mark = name.mark().to_owned();
        if set.bookmarks.iter().any(|bookmark| bookmark.mark == mark) {
            return Ok(());
        }
        set.bookmarks.push(Bookmark { mark, guid, txg, at });
        Ok(())
    }

    pub(crate) fn destroy_bookmark(&mut self, name: &BookmarkName) {
        if let Ok(set) = self.get_mut(name.dataset()) {
            set.bookmarks.retain(|bookmark| bookmark.mark != name.mark());
        }
    }

    pub(crate) fn hold(&mut self, name: &SnapshotName, tag: &HoldTag) -> Result<(), Refusal> {
        self.shot_mut(name)?.holds.insert(tag.clone());
        Ok(())
    }

    pub(crate) fn release(&mut self, name: &SnapshotName, tag: &HoldTag) {
        if let Ok(shot) = self.shot_mut(name) {
            shot.holds.remove(tag);
        }
    }

    pub(crate) fn holds(&self, name: &SnapshotName) -> Result<Vec<HoldTag>, Refusal> {
        Ok(self.shot(name)?.holds.iter().cloned().collect())
    }

    pub(crate) fn written_since(&self, name: &SnapshotName) -> Result<u64, Refusal> {
        let txg = self.shot(name)?.txg;
        let blocks = self.get(name.dataset())?.blocks.values();
        Ok(4096 * blocks.filter(|block| block.born > txg).count() as u64)
    }

    pub(crate) fn abort(&mut self, name: &DatasetName) {
        let Ok(set) = self.get_mut(name) else { return };
        set.partial = None;
        if set.snapshots.is_empty() {
            self.sets.remove(name);
        }
    }

    pub(crate) fn set(
        &mut self,
        name: &DatasetName,
        property: &str,
        value: Option<&str>,
    ) -> Result<(), Refusal> {
        let set = self.get_mut(name)?;
        let (properties, property) = match property.strip_prefix(PROPERTY_PREFIX) {
            Some(own) => (&mut set.properties, own),
            None => (&mut set.native, property),
        };
        match value {
            Some(value) => drop(properties.insert(property.to_owned(), value.to_owned())),
            None => drop(properties.remove(property)),
        }
        Ok(())
    }

    pub(crate) fn mount(&mut self, name: &DatasetName, is_mounted: bool) -> Result<(), Refusal> {
        self.get_mut(name)?.is_mounted = is_mounted;
        Ok(())
    }

    /// As `zfs promote`: the clone takes the snapshots up to its origin, and what was its origin becomes its clone.
    pub(crate) fn promote(&mut self, name: &DatasetName) -> Result<(), Refusal> {
        let origin = self.get(name)?.origin.clone().ok_or(Refusal::INVALID)?;
        let txg = self.shot(&origin)?.txg;
        let parent = self.get_mut(origin.dataset())?;
        let (taken, left) =
            std::mem::take(&mut parent.snapshots).into_iter().partition(|shot| shot.txg <= txg);
        parent.snapshots = left;
        let before = std::mem::replace(&mut parent.origin, SnapshotName::new(name, origin.mark()).ok());
        let clone = self.get_mut(name)?;
        let own = std::mem::replace(&mut clone.snapshots, taken);
        clone.snapshots.extend(own);
        clone.origin = before;
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &DatasetName, to: &DatasetName) -> Result<(), Refusal> {
        self.get(from)?;
        if self.is_full_of_names {
            return Err(Refusal::NO_SPACE);
        }
        if self.sets.contains_key(to) {
            return Err(Refusal::EXISTS);
        }
        if to.parent().is_none_or(|parent| !self.sets.contains_key(&parent)) || to.below(from).is_some() {
            return Err(Refusal::NOT_FOUND);
        }
        let moved = |name: &DatasetName| match name.below(from)? {
            "" => Some(to.clone()),
            below => to.join(below),
        };
        let sets = std::mem::take(&mut self.sets);
        for (name, mut set) in sets {
            if let Some(origin) = &set.origin
                && let Some(dataset) = moved(origin.dataset())
            {
                set.origin = SnapshotName::new(&dataset, origin.mark()).ok();
            }
            self.sets.insert(moved(&name).unwrap_or(name), set);
        }
        Ok(())
    }

    pub(crate) fn clone_of(&mut self, of: &SnapshotName, name: &DatasetName) -> Result<(), Refusal> {
        let blocks = self.shot(of)?.blocks.clone();
        let is_encrypted = self.get(of.dataset())?.is_encrypted;
        self.create(name)?;
        let set = self.get_mut(name)?;
        (set.blocks, set.origin, set.is_encrypted) = (blocks, Some(of.clone()), is_encrypted);
        Ok(())
    }
}

impl Set {
    pub(crate) fn new(guid: DatasetGuid) -> Self {
        Self {
            guid,
            is_encrypted: false,
            origin: None,
            blocks: BTreeMap::new(),
            is_modified: false,
            is_mounted: false,
            native: BTreeMap::new(),
            properties: BTreeMap::new(),
            snapshots: Vec::new(),
            bookmarks: Vec::new(),
            partial: None,
        }
    }

    fn shown(&self, name: &DatasetName) -> Dataset {
        let before = std::iter::once(Txg(0)).chain(self.snapshots.iter().map(|shot| shot.txg));
        let shots = self.snapshots.iter().zip(before).map(|(shot, before)| Snapshot {
            mark: shot.mark.clone(),
            guid: shot.guid,
            txg: shot.txg,
            at: shot.at,
            written_bytes: 4096 * shot.blocks.values().filter(|block| block.born > before).count() as u64,
            holds: shot.holds.len() as u64,
        });
        let encryption = Encryption { root: name.clone(), key: Key::Loaded };
        Dataset {
            name: name.clone(),
            guid: self.guid,
            kind: DatasetKind::Filesystem,
            encryption: self.is_encrypted.then_some(encryption),
            origin: self.origin.clone(),
            written_bytes: if self.is_modified { 4096 } else { 0 },
            used_bytes: 0,
            referenced_bytes: 0,
            is_mounted: self.is_mounted,
            mountpoint: self.native.get("mountpoint").cloned(),
            resume_token: self.partial.as_ref().map(token::text),
            properties: self.properties.clone(),
            snapshots: shots.collect(),
            bookmarks: self.bookmarks.clone(),
        }
    }
}
