//! Which packs go: those of which too little is needed, and small ones that are many. What is chosen here may be in use
//! again a moment later: safety does not depend on the choice.

use std::collections::{HashMap, HashSet};

use backstay_core::id::{ChunkId, PackId};

use super::inspection::Inventory;
use super::needs::Needs;
use crate::chunk::ChunkClass;
use crate::index::{ChunkIndex, Location};

/// A pack goes when less than this share of it is needed: two thirds, so that all packs together hold at most half as
/// much again as what is needed.
const NEEDED_PARTS: (u64, u64) = (2, 3);

/// A pack below this size is small, bytes.
const fn small_bytes(class: ChunkClass) -> u64 {
    match class {
        ChunkClass::Data => 8 << 20,
        ChunkClass::Meta => 2 << 20,
    }
}

/// So many small packs of a class are left alone.
const SMALL_PACKS_MAX: usize = 32;

/// Packs that one pass deletes at most: the record that names them must be one that readers take.
const DOOMED_MAX: usize = 1 << 20;

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Packs to delete, in order.
    pub(super) doomed: Vec<PackId>,
    /// Needed chunks that are to be moved out of them.
    pub(super) moved: Vec<(ChunkId, Location)>,
    /// Packs that no index object names and that stay for now: a commit may be about to name them.
    pub(super) unindexed: Vec<PackId>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Weight {
    record_bytes: u64,
    needed_bytes: u64,
}

/// Chooses. `may_go` says whether a pack that no index object names is nobody's.
///
/// # Errors
/// A needed chunk that is in no pack.
pub(super) fn choose(
    index: &ChunkIndex,
    inventory: &Inventory,
    needs: &Needs,
    may_go: impl Fn(&PackId) -> bool,
) -> Result<Choice, ChunkId> {
    let packs = index.packs();
    let mut weights: HashMap<PackId, Weight> = HashMap::with_capacity(packs.len());
    index.for_each(|chunk, place| {
        if inventory.contains_key(&place.pack) {
            let weight = weights.entry(place.pack).or_default();
            weight.record_bytes += u64::from(place.length);
            weight.needed_bytes += if needs.has(chunk) { u64::from(place.length) } else { 0 };
        }
    });
    // Of several copies the one in the pack that is needed most stays.
    let mut kept: HashMap<PackId, Vec<(ChunkId, Location)>> = HashMap::new();
    for chunk in needs.chunks() {
        let places = index.places(chunk).into_iter().filter(|place| inventory.contains_key(&place.pack));
        let best = places.max_by_key(|place| (weights[&place.pack].needed_bytes, place.pack));
        let place = best.ok_or(*chunk)?;
        kept.entry(place.pack).or_default().push((*chunk, place));
    }
    let mut doomed: HashSet<PackId> = HashSet::new();
    let mut small: HashMap<ChunkClass, Vec<PackId>> = HashMap::new();
    for (pack, weight) in &weights {
        let needed: u64 =
            kept.get(pack).into_iter().flatten().map(|(_, place)| u64::from(place.length)).sum();
        if needed * NEEDED_PARTS.1 < weight.record_bytes * NEEDED_PARTS.0 {
            doomed.insert(*pack);
        } else if let Some((class, bytes)) = packs.get(pack)
            && u64::from(*bytes) < small_bytes(*class)
        {
            small.entry(*class).or_default().push(*pack);
        }
    }
    doomed.extend(small.into_values().filter(|small| small.len() > SMALL_PACKS_MAX).flatten());
    let unindexed = inventory.keys().filter(|pack| !packs.contains_key(pack));
    let (strays, unindexed): (Vec<PackId>, Vec<PackId>) = unindexed.partition(|pack| may_go(pack));
    let mut choice =
        Choice { moved: Vec::new(), unindexed, doomed: doomed.into_iter().chain(strays).collect() };
    choice.doomed.sort_unstable();
    choice.doomed.truncate(DOOMED_MAX);
    choice.moved.extend(choice.doomed.iter().filter_map(|pack| kept.remove(pack)).flatten());
    choice.unindexed.sort_unstable();
    Ok(choice)
}
