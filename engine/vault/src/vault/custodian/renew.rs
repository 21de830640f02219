//! Between deciding and deleting: what is needed after all is moved out of the packs that go, and every entry of an
//! index object that goes is listed anew under the custodian's name (docs/collection.md, rule 8).

use std::collections::{BTreeMap, HashMap, HashSet};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, PackId, SessionId};

use super::announce::Announced;
use super::choose::NotChosen;
use super::decide::Decided;
use super::inspection::Inventory;
use super::needs::{Needs, walk};
use super::{Collected, Custodian};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::{IndexedObject, Location, PackPlace};
use crate::index_object::{INDEX_ENTRIES_MAX, INDEX_PACKS_MAX, IndexAuthor, IndexObject, IndexedPack};
use crate::keys::random_bytes;
use crate::name::{Named, ObjectName};
use crate::pack::PackEntry;
use crate::store::{Folder, Listed};

/// A custodian's index object with fewer entries is small.
const SMALL_ENTRIES: u64 = 1 << 18;

/// Entries that are taken over before they are listed anew: what is in memory is so many and those of one object more.
pub(super) const LISTED_ENTRIES: usize = 1 << 19;

/// So many small ones are left alone.
const SMALL_OBJECTS_MAX: usize = 8;

/// Packs, and their records by offset and chunk.
pub(super) type PacksById = BTreeMap<PackId, (IndexedPack, BTreeMap<(u32, ChunkId), PackEntry>)>;

/// Packs and their records, for one index object.
pub(super) type Packs = Vec<(IndexedPack, Vec<PackEntry>)>;

impl Custodian<'_> {
    /// Rescues, lists anew, and deletes the index objects that were replaced; the packs that are there.
    pub(super) fn renew(
        &mut self,
        pass: &Announced,
        decided: &Decided,
        done: &mut Collected,
    ) -> Result<Inventory, VaultError> {
        self.vault.refresh_index(Some(&self.identity.node))?;
        // In this order: packs come before the objects that name them. One of a commit that ends just now would be taken
        // for void, and would go with its entries.
        let objects = self.vault.index().objects_with_packs();
        let inventory = self.look.inventory()?;
        let needs = self.needs_of(pass, decided)?;
        let endangered = self.endangered(pass, &needs, &inventory)?;
        tracing::debug!(chunks = endangered.len(), "marked again");
        let rescued = self.repack(endangered, done)?;
        let is_lost = |pack: &PackId| !pass.doomed.contains(pack) && !inventory.contains_key(pack);
        let name_lost = objects.iter().any(|(_, packs)| packs.iter().any(is_lost));
        let replaced = self.replaced(pass, objects, &inventory)?;
        let stays = |pack: &PackId| inventory.contains_key(pack) && !pass.doomed.contains(pack);
        self.list_anew(pass, rescued, &replaced, stays)?;
        let inventory = self.check_nothing_is_lost(pass, &needs, &replaced)?;
        tracing::debug!(objects = replaced.len(), "index objects are replaced");
        if name_lost {
            // One that lands later and names the same counts for nobody then, as after a repair: no repair would find a
            // trace of it. This pass goes on by its own record, which stays, and the next one by both.
            self.put_next_record(Vec::new())?;
        }
        let names: Vec<ObjectName> = replaced.into_iter().map(|listed| listed.name).collect();
        self.remove_all(&names)?;
        done.objects_deleted += names.len() as u64;
        Ok(inventory)
    }

    /// Lists under the custodian's name what was rescued, and every entry of the objects that go which lies in a pack
    /// that stays, some objects at a time. What a pack has in objects that are far apart is listed in several new ones,
    /// which is no less right.
    fn list_anew(
        &self,
        pass: &Announced,
        rescued: Packs,
        replaced: &[Listed],
        stays: impl Fn(&PackId) -> bool,
    ) -> Result<(), VaultError> {
        let by_place = |records: Vec<PackEntry>| records.into_iter().map(|e| ((e.offset, e.id), e)).collect();
        let rescued = rescued.into_iter().map(|(pack, records)| (pack.id, (pack, by_place(records))));
        let (mut packs, mut entries): (PacksById, usize) = (rescued.collect(), 0);
        self.vault.get_each(replaced, |listed, object| {
            let content = match object {
                // An earlier attempt at this pass has deleted it.
                Err(error) if error.is_not_found() => return Ok(()),
                object => self.vault.index_object_in(&listed.name, &listed.named, &object?)?.0,
            };
            entries += take_over(&content, &mut packs, &stays);
            if entries >= LISTED_ENTRIES {
                self.put_index(pass.number, in_order(std::mem::take(&mut packs)))?;
                entries = 0;
            }
            Ok(())
        })?;
        self.put_index(pass.number, in_order(packs))
    }

    /// What was marked when the pass was announced, and what was accepted since.
    fn needs_of(&self, pass: &Announced, decided: &Decided) -> Result<Needs, VaultError> {
        let mut needs = Needs::over(self.vault.index().entries());
        let mut runs = decided.sources.iter().flat_map(|(_, layout)| layout.needed_runs());
        runs.try_for_each(|run| needs.add_beside(&pass.needs, &self.reader, run))?;
        Ok(needs)
    }

    /// Needed chunks that would be gone with the packs that go.
    fn endangered(
        &mut self,
        pass: &Announced,
        needs: &Needs,
        inventory: &Inventory,
    ) -> Result<Vec<(ChunkId, Location)>, VaultError> {
        let lost = self.vault.lost_chunks()?;
        let index = self.vault.index().snapshot();
        let packs = index.packs();
        let is_there: Vec<bool> = packs.iter().map(|(pack, ..)| inventory.contains_key(pack)).collect();
        let is_doomed: Vec<bool> = packs.iter().map(|(pack, ..)| pass.doomed.contains(pack)).collect();
        let is_looked_at: Vec<bool> = packs.iter().map(|(pack, ..)| pass.looked_at.contains(pack)).collect();
        let (mut endangered, mut doubtful) = (Vec::new(), Vec::new());
        walk(&index, [needs, &pass.needs], |chunk, places, [is_needed, was_needed]| {
            if !is_needed && !was_needed {
                return Ok(());
            }
            // Of those that stay and of those that go the best: one that no compromised key has sealed.
            let best = |goes: bool| {
                let there = places.iter().filter(|place| is_there[place.pack as usize]);
                let fit = there.filter(|place| is_doomed[place.pack as usize] == goes);
                fit.min_by_key(|place| index.is_compromised(place.pack))
            };
            let is_better = |one: &PackPlace, than: &PackPlace| {
                !index.is_compromised(one.pack) && index.is_compromised(than.pack)
            };
            match (best(false), best(true)) {
                (Some(stays), gone) if gone.is_none_or(|gone| !is_better(gone, stays)) => {
                    // What was marked before was looked at when the pass was announced, for the packs that were doomed then.
                    let goes = |pack: usize| is_there[pack] && is_doomed[pack];
                    let mut gone_packs =
                        places.iter().map(|place| place.pack as usize).filter(|pack| goes(*pack));
                    let is_sure = was_needed && gone_packs.all(|pack| is_looked_at[pack]);
                    if let Some(gone) = gone.filter(|_| !is_sure) {
                        doubtful.push((*chunk, index.location(stays), index.location(gone)));
                    }
                }
                (_, Some(gone)) => endangered.push((*chunk, index.location(gone))),
                // Marked before, and not needed any more.
                _ if !is_needed || lost.contains(chunk) => {}
                _ => return Err(self.look.refused(&NotChosen::Lost(*chunk).to_string())),
            }
            Ok(())
        })?;
        endangered.extend(self.not_whole(doubtful)?);
        Ok(endangered)
    }

    /// That all that is needed lies in packs that stay, and that index objects which stay name these, as they were just
    /// read back from the store. Nothing was deleted yet: whatever went wrong on the way here costs a pass.
    fn check_nothing_is_lost(
        &self,
        pass: &Announced,
        needs: &Needs,
        replaced: &[Listed],
    ) -> Result<Inventory, VaultError> {
        let inventory = self.look.inventory()?;
        let goes: HashSet<ObjectHash> = replaced
            .iter()
            .filter_map(|listed| match listed.named {
                Named::Index(_, hash) => Some(hash),
                _ => None,
            })
            .collect();
        let (index, objects) = {
            let index = self.vault.index();
            (index.snapshot(), index.objects_with_packs())
        };
        let staying: HashSet<PackId> = objects
            .into_iter()
            .filter(|(object, _)| !goes.contains(&object.origin.hash))
            .flat_map(|(_, packs)| packs)
            .filter(|pack| inventory.contains_key(pack) && !pass.doomed.contains(pack))
            .collect();
        let stays: Vec<bool> = index.packs().iter().map(|(pack, ..)| staying.contains(pack)).collect();
        walk(&index, [needs, &pass.needs], |chunk, places, is_needed| {
            // What was marked before may not be needed any more, and is there all the same.
            let is_kept = places.is_empty() || places.iter().any(|place| stays[place.pack as usize]);
            match is_kept || is_needed == [false, false] {
                true => Ok(()),
                false => Err(self.look.refused(&format!(
                    "chunk {chunk}, which points need, would be gone with the packs that go: what was moved cannot be read"
                ))),
            }
        })?;
        Ok(inventory)
    }

    /// The index objects that go: all that name a pack that goes, or one that is not there; those of commits that are
    /// decided, whoever's; small ones of custodians when they are many.
    fn replaced(
        &self,
        pass: &Announced,
        objects: Vec<(IndexedObject, Vec<PackId>)>,
        inventory: &Inventory,
    ) -> Result<Vec<Listed>, VaultError> {
        let mut goes: HashSet<ObjectHash> = HashSet::new();
        let mut small = Vec::new();
        let mut least = HashMap::new();
        for (object, packs) in objects {
            let hash = object.origin.hash;
            least.insert(hash, packs.iter().min().copied());
            let is_void = |pack: &PackId| pass.doomed.contains(pack) || !inventory.contains_key(pack);
            let is_decided = object.author == IndexAuthor::Session && object.collection < pass.number;
            if is_decided || packs.iter().any(is_void) {
                goes.insert(hash);
            } else if object.author != IndexAuthor::Session && object.entries < SMALL_ENTRIES {
                small.push(hash);
            }
        }
        if small.len() > SMALL_OBJECTS_MAX {
            goes.extend(small);
        }
        let listed = self.vault.list(&Folder::new(&[&"index"]))?;
        let mut replaced: Vec<_> = listed
            .into_iter()
            .filter_map(|listed| match listed.named {
                Named::Index(_, hash) if goes.contains(&hash) => Some((least.get(&hash), listed)),
                _ => None,
            })
            .collect();
        // Those that name the same packs, as after a crash, come one after the other and are listed anew together.
        replaced.sort_by(|(one, a), (other, b)| {
            one.cmp(other).then_with(|| a.name.as_str().cmp(b.name.as_str()))
        });
        Ok(replaced.into_iter().map(|(_, listed)| listed).collect())
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

/// Adds the entries of an index object that lie in packs which stay, and says how many it had of them. Of a pack that
/// several objects name, those of all.
pub(super) fn take_over(
    content: &IndexObject,
    packs: &mut PacksById,
    stays: impl Fn(&PackId) -> bool,
) -> usize {
    let stays: Vec<bool> = content.packs.iter().map(|pack| stays(&pack.id)).collect();
    let mut taken = 0;
    for (place, entry) in content.entries.iter().filter(|(place, _)| stays[*place as usize]) {
        let pack = content.packs[*place as usize];
        let (_, entries) = packs.entry(pack.id).or_insert_with(|| (pack, BTreeMap::new()));
        entries.insert((entry.offset, entry.id), *entry);
        taken += 1;
    }
    taken
}

/// As one index object takes them.
pub(super) fn in_order(packs: PacksById) -> Packs {
    packs.into_values().map(|(pack, entries)| (pack, entries.into_values().collect())).collect()
}
