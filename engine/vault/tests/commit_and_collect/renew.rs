//! Between deciding and deleting: what is needed after all is rescued out of the doomed packs, and
//! everything that stays is listed under the custodian's name.

use crate::custodian::Keeper;
use crate::rules::Breach;
use crate::sets::{Chunk, Id, Pack, Session, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::{delete, mark, repair};

/// Whether the next request is the PUT of a pack.
pub(crate) fn must_rescue(keeper: &Keeper<'_>) -> bool {
    let marks_again = keeper.me.at == Duty::Rescue && !keeper.breaks(Breach::NotMarkedAgain);
    marks_again && !endangered(keeper).is_empty()
}

pub(crate) fn rescue(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let may_be_damaged = keeper.world.scene.damages > 0;
    if may_be_damaged && !(needed(keeper) - store.available()).within(store.bad) {
        // It would stop at the same place again; the operator repairs.
        let me =
            Custodian { at: Duty::MendIndex, layouts: keeper.me.layouts, ..keeper.resting(keeper.me.round) };
        let next = keeper.remembering(me);
        return keeper.push(
            "finds that something needed is lost, stops for a repair",
            What::Nothing,
            next,
            out,
        );
    }
    if !must_rescue(keeper) {
        return keeper.straight_on(&keeper.then(Duty::PutIndex), out);
    }
    let me = Custodian { copying: endangered(keeper), ..keeper.me };
    Keeper { me, ..*keeper }.put_copy(Duty::PutIndex, out);
}

/// What is needed, and would be gone with the doomed packs.
fn endangered(keeper: &Keeper<'_>) -> Set<Chunk> {
    let store = &keeper.state.store;
    let doomed = keeper.me.victims;
    let readable = store.indexed() & store.packs;
    (needed(keeper) - store.chunks_in(readable - doomed)) & store.chunks_in(readable & doomed)
}

/// What the accepted points need, and those that a reader holds.
fn needed(keeper: &Keeper<'_>) -> Set<Chunk> {
    let store = mark::intended(keeper);
    let kept = store.layouts.iter().fold(Set::EMPTY, |all, layout| all | (layout.accepted - layout.dropped));
    keeper.world.view(&store).needed(kept | keeper.me.pinned)
}

pub(crate) fn put_index(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let old = store.listed_custodian_index();
    let packs = if keeper.me.listed.is_empty() { new_index(keeper) } else { keeper.me.listed };
    let hasty = keeper.breaks(Breach::IndexDeletedBeforeNew) && keeper.me.listed.is_empty();
    if hasty && !packs.is_empty() {
        let mut next = keeper.remembering(Custodian { listed: packs, ..keeper.me });
        old.iter().for_each(|slot| next.delete_custodian_index(slot));
        return keeper.push("deletes its old index objects", What::Nothing, next, out);
    }
    let at = match () {
        () if keeper.breaks(Breach::PacksDeletedBeforeIndex) => Duty::DeletePacks,
        () if keeper.breaks(Breach::GcDeletedBeforeIndex) => Duty::DeleteGc,
        () if names_lost(keeper) => Duty::AnnounceVoid,
        () => delete::first_duty(keeper),
    };
    let me = Custodian { at, copied: Set::EMPTY, listed: packs, ..keeper.me };
    let same = old.iter().find(|slot| store.custodian_index[slot.number()].packs == packs);
    if packs.is_empty() || same.is_some() {
        let index = same.map_or(Set::EMPTY, |slot| Set::of(&[slot]));
        return keeper.straight_on(&keeper.remembering(Custodian { index, ..me }), out);
    }
    let mut next = keeper.remembering(me);
    let slot = next.store.put_custodian_index(keeper.index_object(packs));
    next.custodians[keeper.number].index = Set::of(&[slot]);
    keeper.push("PUTs the new index object of", What::Packs(packs), next, out);
}

/// Whether an index object that goes names a pack which nobody has doomed and which is not there.
fn names_lost(keeper: &Keeper<'_>) -> bool {
    let store = &keeper.state.store;
    let is_rule = keeper.world.scene.is_numbered() && !keeper.breaks(Breach::VoidIndexCollectedUnannounced);
    is_rule && !(store.indexed() - keeper.me.victims).within(store.packs)
}

/// As a repair does before such objects go. The pass goes on by its own record; the next one goes by this.
pub(crate) fn announce_void(keeper: &Keeper<'_>, out: &mut Steps) {
    let next = repair::announced(keeper, Custodian { at: delete::first_duty(keeper), ..keeper.me });
    keeper.push("PUTs a gc record, before index objects go that name what is lost", What::Nothing, next, out);
}

/// All packs that stay and that its own index objects, or those it will replace, name: needed or not,
/// because a writer that listed an old object may count on any of its entries.
pub(crate) fn new_index(keeper: &Keeper<'_>) -> Set<Pack> {
    let store = &keeper.state.store;
    let mut packs = keeper.me.copied;
    for index in &store.custodian_index {
        packs |= index.packs;
    }
    if !keeper.breaks(Breach::EntriesNotTakenOver) {
        packs =
            replaceable(keeper).iter().fold(packs, |all, owner| all | store.session_index[owner.number()]);
    }
    packs = (packs & present(keeper)) - keeper.me.victims;
    if keeper.breaks(Breach::UnneededEntriesLeftOut) {
        let needed = needed(keeper);
        let unneeded = packs.iter().filter(|name| !store.contents[name.number()].meets(needed));
        packs = unneeded.fold(packs, Set::without);
    }
    packs
}

/// The packs that are there. An index object comes after its packs, so that they are to be listed after it.
pub(crate) fn present(keeper: &Keeper<'_>) -> Set<Pack> {
    match keeper.breaks(Breach::PacksListedBeforeIndex) {
        true => keeper.me.inventory,
        false => keeper.state.store.packs,
    }
}

/// Sessions whose index objects the custodian replaces by its own: decided ones, and any that name a doomed
/// pack.
pub(crate) fn replaceable(keeper: &Keeper<'_>) -> Set<Session> {
    let store = keeper.known();
    let view = keeper.world.view(&store);
    let writers = keeper.world.scene.writers().iter();
    let wanted = writers.filter(|session| {
        let packs = store.session_index[session.number()];
        let is_void = packs.meets(keeper.me.victims) || !packs.within(present(keeper));
        !packs.is_empty() && (is_void || view.decided_everywhere(*session))
    });
    wanted.fold(Set::EMPTY, Set::with)
}
