//! Between deciding and deleting: what is needed after all is moved out of the packs that go, and every entry of an
//! index object that goes is listed anew under the custodian's name (docs/collection.md, rule 8).

use std::collections::{BTreeMap, HashSet};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId, SessionId};

use super::announce::Announced;
use super::decide::Decided;
use super::inspection::Inventory;
use super::needs::Needs;
use super::{Collected, Custodian};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::Location;
use crate::index_object::{INDEX_ENTRIES_MAX, INDEX_PACKS_MAX, IndexAuthor, IndexObject, IndexedPack};
use crate::keys::random_bytes;
use crate::name::{Named, ObjectName};
use crate::pack::PackEntry;
use crate::read::ChunkReader;
use crate::store::Folder;

/// A custodian's index object with fewer entries is small.
const SMALL_ENTRIES: usize = 1 << 18;

/// So many small ones are left alone.
const SMALL_OBJECTS_MAX: usize = 8;

/// Packs, and their records by offset and chunk.
pub(super) type PacksById = BTreeMap<PackId, (IndexedPack, BTreeMap<(u32, ChunkId), PackEntry>)>;

/// Packs and their records, for one index object.
pub(super) type Packs = Vec<(IndexedPack, Vec<PackEntry>)>;

impl Custodian<'_> {
    /// Rescues, lists anew, and deletes the index objects that were replaced.
    pub(super) fn renew(
        &mut self,
        pass: &Announced,
        decided: &Decided,
        done: &mut Collected,
    ) -> Result<(), VaultError> {
        self.vault.refresh_index(Some(&self.identity.node))?;
        let inventory = self.look.inventory()?;
        let needs = self.needs_of(pass, decided)?;
        let rescued = self.repack(self.endangered(pass, &needs, &inventory)?, done)?;
        let mut packs = PacksById::new();
        let replaced = self.replaced(pass)?;
        for (name, named) in &replaced {
            let content = match self.vault.read_index_object(name, named) {
                // An earlier attempt at this pass has deleted it.
                Err(VaultError::Store(error)) if error.is_not_found() => continue,
                content => content?.0,
            };
            take_over(&content, &mut packs, |pack| {
                inventory.contains_key(pack) && !pass.doomed.contains(pack)
            });
        }
        let taken_over = packs.into_values().map(|(pack, entries)| (pack, entries.into_values().collect()));
        self.put_index(pass.number, rescued.into_iter().chain(taken_over).collect())?;
        self.check_nothing_is_lost(pass, &needs, &replaced)?;
        self.check_office()?;
        for (name, _) in replaced {
            self.remove(&name)?;
            done.objects_deleted += 1;
        }
        Ok(())
    }

    /// What was marked when the pass was announced, and what was accepted since.
    fn needs_of(&self, pass: &Announced, decided: &Decided) -> Result<Needs, VaultError> {
        let reader = ChunkReader::new(self.vault.clone());
        let mut needs = Needs::default();
        let runs = decided.sources.iter().flat_map(|(_, layout)| &layout.runs);
        runs.into_iter().try_for_each(|placed| needs.add_beside(&pass.needs, &reader, &placed.run))?;
        Ok(needs)
    }

    /// Needed chunks that would be gone with the packs that go.
    fn endangered(
        &self,
        pass: &Announced,
        needs: &Needs,
        inventory: &Inventory,
    ) -> Result<Vec<(ChunkId, Location)>, VaultError> {
        let lost = self.vault.lost_chunks()?;
        let index = self.vault.index();
        let mut endangered = Vec::new();
        for chunk in needs.chunks().chain(pass.needs.chunks()) {
            let mut places = index.places(chunk);
            places.retain(|place| inventory.contains_key(&place.pack));
            let is_safe = places.iter().any(|place| !pass.doomed.contains(&place.pack));
            match places.first() {
                _ if is_safe => {}
                Some(place) => endangered.push((*chunk, *place)),
                // Marked before, and not needed any more.
                None if !needs.has(chunk) || lost.contains(chunk) => {}
                None => {
                    let lost = format!("chunk {chunk}, which points need, is in no pack that is there");
                    return Err(self.look.refused(&lost));
                }
            }
        }
        Ok(endangered)
    }

    /// That all that is needed lies in packs that stay, and that index objects which stay name these, as they were just
    /// read back from the store. Nothing was deleted yet: whatever went wrong on the way here costs a pass.
    fn check_nothing_is_lost(
        &self,
        pass: &Announced,
        needs: &Needs,
        replaced: &[(ObjectName, Named)],
    ) -> Result<(), VaultError> {
        let inventory = self.look.inventory()?;
        let goes: HashSet<ObjectHash> = replaced
            .iter()
            .filter_map(|(_, named)| match named {
                Named::Index(_, hash) => Some(*hash),
                _ => None,
            })
            .collect();
        let index = self.vault.index();
        let objects =
            index.objects_with_packs().into_iter().filter(|(object, _)| !goes.contains(&object.hash));
        let staying: HashSet<PackId> = objects
            .flat_map(|(_, packs)| packs)
            .filter(|pack| inventory.contains_key(pack) && !pass.doomed.contains(pack))
            .collect();
        // What was marked before may not be needed any more, and is there all the same.
        let mut all = needs.chunks().chain(pass.needs.chunks());
        let is_lost = |chunk: &&ChunkId| {
            let places = index.places(chunk);
            !places.is_empty() && !places.iter().any(|place| staying.contains(&place.pack))
        };
        match all.find(is_lost) {
            None => Ok(()),
            Some(chunk) => Err(self.look.refused(&format!(
                "chunk {chunk}, which points need, would be gone with the packs that go: what was moved cannot be read"
            ))),
        }
    }

    /// The index objects that go: all that name a pack that goes, or one that is not there; those of commits that are
    /// decided, whoever's; small ones of custodians when they are many.
    fn replaced(&self, pass: &Announced) -> Result<Vec<(ObjectName, Named)>, VaultError> {
        let inventory = self.look.inventory()?;
        let mut goes: HashSet<ObjectHash> = HashSet::new();
        let mut small = Vec::new();
        for (object, packs) in self.vault.index().objects_with_packs() {
            let is_void = |pack: &PackId| pass.doomed.contains(pack) || !inventory.contains_key(pack);
            let is_decided = object.author == IndexAuthor::Session && object.collection < pass.number;
            if is_decided || packs.iter().any(is_void) {
                goes.insert(object.hash);
            } else if object.author != IndexAuthor::Session && object.entries < SMALL_ENTRIES {
                small.push(object.hash);
            }
        }
        if small.len() > SMALL_OBJECTS_MAX {
            goes.extend(small);
        }
        let listed = self.vault.list(&Folder::new(&[&"index"]))?;
        let replaced = listed.into_iter().filter(|listed| match listed.named {
            Named::Index(_, hash) => goes.contains(&hash),
            _ => false,
        });
        Ok(replaced.map(|listed| (listed.name, listed.named)).collect())
    }

    /// Lists packs under the custodian's name.
    pub(super) fn put_index(&self, collection: CollectionNumber, mut packs: Packs) -> Result<(), VaultError> {
        let author = IndexAuthor::Custodian { term: self.term };
        while !packs.is_empty() {
            let mut entries = 0;
            let fitting = packs.iter().take(INDEX_PACKS_MAX).take_while(|(_, records)| {
                entries += records.len();
                entries <= INDEX_ENTRIES_MAX
            });
            let rest = packs.split_off(fitting.count().max(1));
            let object = IndexObject::of_packs(author, collection, &packs);
            let name = SessionId::new(random_bytes());
            self.vault.put_hashed(&self.identity.signer, EnvelopeKind::Index, &object.encode(), |hash| {
                Named::Index(name, hash)
            })?;
            packs = rest;
        }
        self.vault.refresh_index(Some(&self.identity.node))
    }
}

/// Adds the entries of an index object that lie in packs which stay. Of a pack that several objects name, those of all.
pub(super) fn take_over(content: &IndexObject, packs: &mut PacksById, stays: impl Fn(&PackId) -> bool) {
    let stays: Vec<bool> = content.packs.iter().map(|pack| stays(&pack.id)).collect();
    for (place, entry) in content.entries.iter().filter(|(place, _)| stays[*place as usize]) {
        let pack = content.packs[*place as usize];
        let (_, entries) = packs.entry(pack.id).or_insert_with(|| (pack, BTreeMap::new()));
        entries.insert((entry.offset, entry.id), *entry);
    }
}
