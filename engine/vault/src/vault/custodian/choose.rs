//! Which packs go: those of which too little is needed, and small ones that are many. What is chosen here may be in use
//! again a moment later: safety does not depend on the choice.

use std::collections::{HashMap, HashSet};

use backstay_core::id::{ChunkId, PackId};

use super::inspection::Inventory;
use super::needs::{Needs, walk};
use crate::chunk::ChunkClass;
use crate::index::{IndexSnapshot, Location, PackPlace, SegmentError};

/// Of what is needed, so many parts of a hundred may lie in packs beside it that nobody needs: the sparsest packs go until
/// it is not more. A bound on each pack would allow all of them together as much, and move packs that free little.
const WASTE_PERCENT: u64 = 20;

/// A pack below this size is small, bytes.
const fn small_bytes(class: ChunkClass) -> u64 {
    match class {
        ChunkClass::Data => 8 << 20,
        ChunkClass::Meta => 2 << 20,
    }
}

/// So many small packs of a class are left alone.
const SMALL_PACKS_MAX: usize = 32;

/// So many are left for another pass by one that has much to move already.
const SMALL_PACKS_LEFT_MAX: usize = 2048;

/// What one pass moves of small packs of a class, bytes: they become one.
const MERGED_BYTES_MAX: u64 = 32 << 20;

/// Packs that one pass deletes at most: the record that names them must be one that readers take.
const DOOMED_MAX: usize = 1 << 20;

/// How much one pass takes upon itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// What it moves, bytes: it needs as much room before it frees any.
    pub(super) moved_bytes: u64,
    /// Copies that go of chunks of which another stays. That one is read first, and each of them is in memory until then.
    pub(super) doubtful: u64,
}

/// What is known of a vault beside its index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) inventory: &'k Inventory,
    pub(super) needs: &'k Needs,
    /// Chunks that are known to be lost.
    pub(super) lost: &'k HashSet<ChunkId>,
    /// Where records are that are not whole.
    pub(super) bad: &'k HashSet<(PackId, u32)>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Packs to delete, in order.
    pub(super) doomed: Vec<PackId>,
    /// Needed chunks that are to be moved out of them.
    pub(super) moved: Vec<(ChunkId, Location)>,
    /// Needed chunks of which one copy stays, and others go: where it stays, and where one goes. Whether the one that stays
    /// is whole, nobody has looked.
    pub(super) doubtful: Vec<(ChunkId, Location, Location)>,
    /// Packs that no index object names and that stay for now: a commit may be about to name them.
    pub(super) unindexed: Vec<PackId>,
    /// Whether other packs are to go, which were left for the next pass.
    pub(super) is_cut: bool,
    /// Whether any chunk that is known to be lost is needed, and still nowhere.
    pub(super) lacks_lost: bool,
}

/// Why nothing could be chosen.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotChosen {
    /// A needed chunk is in no pack that is there.
    #[error("chunk {0}, which points need, is in no pack that is there")]
    Lost(ChunkId),
    /// The local index could not be read to its end.
    #[error(transparent)]
    Index(#[from] SegmentError),
}

/// What is known of one pack.
#[derive(Debug, Default, Clone, Copy)]
struct Weight {
    is_there: bool,
    records: u64,
    record_bytes: u64,
    needed_bytes: u64,
    /// Of what is needed, that of which no copy in another pack is to stay instead.
    kept_bytes: u64,
    /// Needed records of which the copy in another pack is to stay.
    doubtful: u64,
}

impl Weight {
    fn is_packed(&self) -> bool {
        self.is_there && self.records > 0
    }

    fn waste_bytes(&self) -> u64 {
        self.record_bytes - self.kept_bytes
    }
}

/// Chooses, within the limits or one pack beyond them. `may_go` says whether a
/// pack that no index object names is nobody's. Goes through the index three times, and holds sums for each pack.
///
/// # Errors
/// A needed chunk that is in no pack, and not among those that are known to be lost.
pub(super) fn choose(
    index: &IndexSnapshot,
    known: Known<'_>,
    limits: Limits,
    may_go: impl Fn(&PackId) -> bool,
) -> Result<Choice, NotChosen> {
    let Known { inventory, needs, lost, bad } = known;
    let packs = index.packs();
    let is_bad = |place: &PackPlace| {
        let Location { pack, offset, .. } = index.location(place);
        !bad.is_empty() && bad.contains(&(pack, offset))
    };
    let kept = |weights: &[Weight], places: &[PackPlace]| kept(weights, index, places, &is_bad);
    let mut weights = weigh(index, inventory, needs)?;
    let mut lacks_lost = false;
    walk(index, [needs], |chunk, places, [is_needed]| {
        if is_needed {
            match kept(&weights, places) {
                Some(place) => {
                    weights[place.pack as usize].kept_bytes += u64::from(place.length);
                    let others = places.iter().filter(|other| other.pack != place.pack);
                    others.for_each(|other| weights[other.pack as usize].doubtful += 1);
                }
                None if lost.contains(chunk) => lacks_lost = true,
                None => return Err(NotChosen::Lost(*chunk)),
            }
        }
        Ok::<(), NotChosen>(())
    })?;
    let sparse = sparse(packs, &weights);
    let (mut moved_bytes, mut doubtful) = (0, 0);
    let fits = sparse.iter().take_while(|place| {
        let is_first = (moved_bytes, doubtful) == (0, 0);
        moved_bytes += weights[**place].kept_bytes;
        doubtful += weights[**place].doubtful;
        is_first || (moved_bytes <= limits.moved_bytes && doubtful <= limits.doubtful)
    });
    let mut doomed: Vec<PackId> = fits.map(|place| packs[*place].0).collect();
    let is_cut = doomed.len() < sparse.len();
    let small_packs_max = match moved_bytes > MERGED_BYTES_MAX {
        true => SMALL_PACKS_LEFT_MAX,
        false => SMALL_PACKS_MAX,
    };
    // Nobody waits for small ones to be merged: a little in every pass.
    let is_sparse: HashSet<usize> = sparse.into_iter().collect();
    let mut small: HashMap<ChunkClass, Vec<(u64, PackId)>> = HashMap::new();
    for (place, ((pack, class, bytes), weight)) in packs.iter().zip(&weights).enumerate() {
        if weight.is_packed() && u64::from(*bytes) < small_bytes(*class) && !is_sparse.contains(&place) {
            small.entry(*class).or_default().push((weight.kept_bytes, *pack));
        }
    }
    for mut small in small.into_values().filter(|small| small.len() > small_packs_max) {
        small.sort_unstable();
        let mut merged_bytes = 0;
        let merged = small.into_iter().take_while(|(needed, _)| {
            merged_bytes += needed;
            merged_bytes <= MERGED_BYTES_MAX
        });
        doomed.extend(merged.map(|(_, pack)| pack));
    }
    let unindexed = inventory.keys().filter(|pack| !index.names(pack));
    let (strays, unindexed): (Vec<PackId>, Vec<PackId>) = unindexed.partition(|pack| may_go(pack));
    let mut choice = Choice {
        moved: Vec::new(),
        doubtful: Vec::new(),
        unindexed,
        is_cut,
        lacks_lost,
        doomed: doomed.into_iter().chain(strays).collect(),
    };
    choice.doomed.sort_unstable();
    choice.is_cut |= choice.doomed.len() > DOOMED_MAX;
    choice.doomed.truncate(DOOMED_MAX);
    choice.unindexed.sort_unstable();
    let goes: Vec<bool> = packs.iter().map(|(pack, ..)| choice.doomed.binary_search(pack).is_ok()).collect();
    if goes.contains(&true) {
        walk(index, [needs], |chunk, places, [is_needed]| {
            let Some(place) = kept(&weights, places).filter(|_| is_needed) else { return Ok(()) };
            if goes[place.pack as usize] {
                choice.moved.push((*chunk, index.location(&place)));
                return Ok(());
            }
            let is_there = |place: &&PackPlace| weights[place.pack as usize].is_there;
            if let Some(gone) = places.iter().filter(is_there).find(|place| goes[place.pack as usize]) {
                choice.doubtful.push((*chunk, index.location(&place), index.location(gone)));
            }
            Ok::<(), NotChosen>(())
        })?;
    }
    Ok(choice)
}

/// Places of the packs that are to go for what is wasted in them. Those first that free the most for what is moved: where
/// the disk is full, that makes room for the others.
fn sparse(packs: &[(PackId, ChunkClass, u32)], weights: &[Weight]) -> Vec<usize> {
    let mut wasteful: Vec<usize> = (0..weights.len())
        .filter(|place| weights[*place].is_packed() && weights[*place].waste_bytes() > 0)
        .collect();
    // By shares that are needed, without fractions.
    wasteful.sort_unstable_by(|a, b| {
        let (one, other) = (&weights[*a], &weights[*b]);
        let share = |of: &Weight, than: &Weight| u128::from(of.kept_bytes) * u128::from(than.record_bytes);
        share(one, other).cmp(&share(other, one)).then_with(|| packs[*a].0.cmp(&packs[*b].0))
    });
    let packed = || weights.iter().filter(|weight| weight.is_packed());
    let needed_bytes: u64 = packed().map(|weight| weight.kept_bytes).sum();
    let mut waste_bytes: u64 = packed().map(Weight::waste_bytes).sum();
    let goes = |place: &usize| {
        let is_too_much = waste_bytes.saturating_mul(100) > needed_bytes.saturating_mul(WASTE_PERCENT);
        waste_bytes -= weights[*place].waste_bytes();
        is_too_much || weights[*place].kept_bytes == 0
    };
    wasteful.into_iter().take_while(goes).collect()
}

/// Sums the records of each pack, and those that are needed.
fn weigh(index: &IndexSnapshot, inventory: &Inventory, needs: &Needs) -> Result<Vec<Weight>, NotChosen> {
    let is_there = |pack: &PackId| inventory.contains_key(pack);
    let weight =
        |(pack, ..): &(PackId, ChunkClass, u32)| Weight { is_there: is_there(pack), ..Weight::default() };
    let mut weights: Vec<Weight> = index.packs().iter().map(weight).collect();
    walk(index, [needs], |_, places, [is_needed]| {
        for place in places {
            let weight = &mut weights[place.pack as usize];
            weight.records += 1;
            weight.record_bytes += u64::from(place.length);
            weight.needed_bytes += if is_needed { u64::from(place.length) } else { 0 };
        }
        Ok::<(), NotChosen>(())
    })?;
    Ok(weights)
}

/// Of several copies the one in the pack that is needed most stays, but for one that is known to be bad, and one that a
/// compromised key may have sealed: to writers that is not there, and they would store the chunk again.
fn kept(
    weights: &[Weight],
    index: &IndexSnapshot,
    places: &[PackPlace],
    is_bad: &impl Fn(&PackPlace) -> bool,
) -> Option<PackPlace> {
    let there = places.iter().filter(|place| weights[place.pack as usize].is_there);
    let rank = |place: &&PackPlace| {
        let pack = place.pack as usize;
        let is_trusted = !index.is_compromised(place.pack);
        (!is_bad(place), is_trusted, weights[pack].needed_bytes, index.packs()[pack].0)
    };
    there.max_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use backstay_core::collection::CollectionNumber;
    use backstay_core::id::{KeyId, ObjectHash, SessionId, SignerKey};

    use super::*;
    use crate::index::{Belief, ChunkIndex, IndexOrigin};
    use crate::index_object::{IndexAuthor, IndexObject, IndexedPack};
    use crate::pack::PackEntry;
    use crate::pack_keys::PackKeys;

    const RECORD_BYTES: u32 = 1 << 20;

    const UNLIMITED: Limits = Limits { moved_bytes: u64::MAX, doubtful: u64::MAX };

    fn pack(n: u8) -> PackId {
        PackId::new([n; 32])
    }

    fn chunk(n: u8) -> ChunkId {
        ChunkId::new([n; 32])
    }

    /// Each pack has a key of its own.
    fn keys_of(n: u8) -> PackKeys {
        PackKeys::of([KeyId::new([n; 16])]).expect("one")
    }

    /// Packs of ten records each: pack `n` has chunks from `10 n` on.
    fn index(packs: u8) -> IndexSnapshot {
        let id = |n| IndexedPack { id: pack(n), class: ChunkClass::Data, bytes: 32 << 20, keys: keys_of(n) };
        let entry = |n: u8, at: u8| PackEntry {
            id: chunk(10 * n + at),
            offset: u32::from(at) * RECORD_BYTES,
            length: RECORD_BYTES,
            plain_length: RECORD_BYTES,
        };
        let content: Vec<_> = (0..packs).map(|n| (id(n), (0..10).map(|at| entry(n, at)).collect())).collect();
        index_of(&content)
    }

    fn index_of(content: &[(IndexedPack, Vec<PackEntry>)]) -> IndexSnapshot {
        index_with(content, HashSet::new())
    }

    fn index_with(content: &[(IndexedPack, Vec<PackEntry>)], compromised: HashSet<KeyId>) -> IndexSnapshot {
        let object = IndexObject::of_packs(IndexAuthor::Session, CollectionNumber::NONE, content);
        let mut index = ChunkIndex::with_compromised(compromised);
        let (hash, session, signer) =
            (ObjectHash::new([1; 32]), SessionId::new([1; 16]), SignerKey::new([1; 32]));
        index.add(IndexOrigin { hash, session, signer }, &object, Belief::Writers);
        index.snapshot()
    }

    fn needs(chunks: impl IntoIterator<Item = u8>) -> Needs {
        Needs::of(chunks.into_iter().map(chunk))
    }

    fn none() -> HashSet<ChunkId> {
        HashSet::new()
    }

    fn chosen(
        index: &IndexSnapshot,
        inventory: &Inventory,
        needs: &Needs,
        lost: &HashSet<ChunkId>,
        moved_bytes_max: u64,
        may_go: impl Fn(&PackId) -> bool,
    ) -> Result<Choice, NotChosen> {
        let limits = Limits { moved_bytes: moved_bytes_max, doubtful: u64::MAX };
        choose(index, Known { inventory, needs, lost, bad: &HashSet::new() }, limits, may_go)
    }

    fn inventory(packs: impl IntoIterator<Item = u8>) -> Inventory {
        packs.into_iter().map(|n| (pack(n), 32 << 20)).collect()
    }

    #[test]
    fn the_sparsest_packs_go_until_little_is_wasted_beside_what_is_needed() {
        // Of pack 0 all, of 1 nine tenths, of 2 five tenths, of 3 nothing.
        let needs = needs((0..19).chain(20..25));
        let choice =
            chosen(&index(4), &inventory(0..4), &needs, &none(), u64::MAX, |_| true).expect("all is there");
        assert_eq!(choice.doomed, [pack(2), pack(3)], "one part in twenty-four is wasted then");
        assert_eq!(choice.moved.len(), 5);
        assert!(!choice.is_cut);
    }

    #[test]
    fn a_pack_of_which_nothing_is_needed_goes_whatever_is_wasted() {
        let mut needs: Vec<u8> = (0..100).collect();
        needs.retain(|chunk| !(50..60).contains(chunk));
        let choice = chosen(&index(10), &inventory(0..10), &self::needs(needs), &none(), u64::MAX, |_| true);
        let choice = choice.expect("all is there");
        assert_eq!((choice.doomed, choice.moved.len()), (vec![pack(5)], 0));
    }

    #[test]
    fn what_frees_the_most_goes_first_and_the_rest_in_the_next_pass() {
        let needs = needs([0, 1, 2, 10, 11, 12, 13]);
        let most = 3 * u64::from(RECORD_BYTES);
        let choice =
            chosen(&index(3), &inventory(0..3), &needs, &none(), most, |_| true).expect("all is there");
        assert_eq!((choice.doomed, choice.is_cut), (vec![pack(0), pack(2)], true));
        let choice = chosen(&index(2), &inventory(0..2), &needs, &none(), 1, |_| true).expect("all is there");
        assert_eq!(choice.doomed, [pack(0)], "one at least, or nothing would ever go");
    }

    #[test]
    fn small_packs_are_merged_when_there_is_little_else_to_move() {
        let small: Vec<u8> = (200..240).collect();
        let of = |n: u8, bytes, chunks: Vec<u8>| {
            let entry = |(at, id): (usize, u8)| PackEntry {
                id: chunk(id),
                offset: at as u32 * RECORD_BYTES,
                length: RECORD_BYTES,
                plain_length: RECORD_BYTES,
            };
            let pack = IndexedPack { id: pack(n), class: ChunkClass::Data, bytes, keys: keys_of(0) };
            (pack, chunks.into_iter().enumerate().map(entry).collect::<Vec<_>>())
        };
        let large = |n: u8| of(n, 32 << 20, (10 * n..10 * n + 10).collect());
        let mut content: Vec<_> = (0..12).map(large).collect();
        content.extend(small.iter().map(|n| of(*n, 1 << 20, vec![*n])));
        let (index, inventory) = (index_of(&content), inventory((0..12).chain(200..240)));
        let merged = |needed_of_ten: u8| {
            let needed = (0..120).filter(|id| id % 10 < needed_of_ten).chain(200..240);
            let choice = chosen(&index, &inventory, &needs(needed), &none(), u64::MAX, |_| true);
            choice.expect("all is there").doomed.iter().filter(|doomed| doomed.as_bytes()[0] >= 200).count()
        };
        assert_eq!(merged(10), 32, "nothing else goes");
        assert_eq!(merged(6), 0, "much is moved already");
    }

    #[test]
    fn a_needed_chunk_that_is_nowhere_is_named_and_strays_go_when_they_may() {
        let needs = needs([0, 10]);
        let lost = chosen(&index(2), &inventory([1]), &needs, &none(), 0, |_| true);
        assert!(matches!(lost, Err(NotChosen::Lost(lost)) if lost == chunk(0)));
        let lost = HashSet::from([chunk(0)]);
        assert!(chosen(&index(2), &inventory([1]), &needs, &lost, 0, |_| true).is_ok(), "it is known");
        let strays = |may_go| {
            let choice =
                chosen(&index(1), &inventory([0, 7]), &self::needs(0..10), &none(), u64::MAX, |_| may_go);
            let choice = choice.expect("all is there");
            (choice.doomed, choice.unindexed)
        };
        assert_eq!(strays(true), (vec![pack(7)], vec![]));
        assert_eq!(strays(false), (vec![], vec![pack(7)]));
    }

    #[test]
    fn a_copy_that_is_known_to_be_bad_is_not_the_one_that_stays() {
        let index = index_of(&copies());
        let (inventory, needs, lost) = (inventory(0..2), needs(0..4), none());
        let chosen = |bad: &HashSet<(PackId, u32)>| {
            let known = Known { inventory: &inventory, needs: &needs, lost: &lost, bad };
            choose(&index, known, UNLIMITED, |_| true).expect("all is there")
        };
        assert_eq!(chosen(&HashSet::new()).doomed, [pack(0)], "all of it is in the other one as well");
        let bad = HashSet::from([(pack(1), 0)]);
        let choice = chosen(&bad);
        assert!(
            !choice.doomed.contains(&pack(0)) || choice.moved.iter().any(|(moved, _)| *moved == chunk(0))
        );
    }

    #[test]
    fn no_more_copies_go_than_can_be_compared_with_those_that_stay() {
        // Packs 0 to 2 hold what pack 3 holds as well.
        let mut content: Vec<_> = (0..3).map(|_| copies()[0].clone()).collect();
        content.iter_mut().zip(0..).for_each(|((indexed, _), n)| indexed.id = pack(n));
        content.push(copies()[1].clone());
        content[3].0.id = pack(3);
        let (index, inventory, needs, lost, bad) =
            (index_of(&content), inventory(0..4), needs(0..4), none(), HashSet::new());
        let chosen = |doubtful| {
            let known = Known { inventory: &inventory, needs: &needs, lost: &lost, bad: &bad };
            let choice = choose(&index, known, Limits { doubtful, ..UNLIMITED }, |_| true);
            let choice = choice.expect("all is there");
            (choice.doomed.len(), choice.doubtful.len(), choice.is_cut)
        };
        assert_eq!(chosen(12), (3, 4, false));
        assert_eq!(chosen(8), (2, 4, true));
        assert_eq!(chosen(1), (1, 4, true), "one at least, or nothing would ever go");
    }

    #[test]
    fn a_copy_that_a_compromised_key_has_sealed_goes_and_not_the_other() {
        for n in [0, 1] {
            let index = index_with(&copies(), keys_of(n).ids().iter().copied().collect());
            // Of the other pack less is needed; it is the one that stays all the same.
            let mut more = copies();
            let ninth = PackEntry { id: chunk(9), offset: 9 * RECORD_BYTES, ..more[0].1[0] };
            more[usize::from(n)].1.push(ninth);
            let more = index_with(&more, keys_of(n).ids().iter().copied().collect());
            let all = |index, needs: &Needs| {
                chosen(index, &inventory(0..2), needs, &none(), u64::MAX, |_| true).expect("all is there")
            };
            assert_eq!(all(&index, &needs(0..4)).doomed, [pack(n)]);
            let choice = all(&more, &needs((0..4).chain([9])));
            assert_eq!((choice.doomed, choice.moved.len()), (vec![pack(n)], 1));
        }
    }

    /// The same four chunks in two packs.
    fn copies() -> Vec<(IndexedPack, Vec<PackEntry>)> {
        (0..2)
            .map(|n| {
                let entry = |at: u8| PackEntry {
                    id: chunk(at),
                    offset: u32::from(at) * RECORD_BYTES,
                    length: RECORD_BYTES,
                    plain_length: RECORD_BYTES,
                };
                let indexed =
                    IndexedPack { id: pack(n), class: ChunkClass::Data, bytes: 32 << 20, keys: keys_of(n) };
                (indexed, (0..4).map(entry).collect::<Vec<_>>())
            })
            .collect()
    }
}
