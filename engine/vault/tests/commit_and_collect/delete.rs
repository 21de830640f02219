//! Step 5 of a collection: what goes, in which order, and what the custodian reads before. One object a
//! step.

use crate::announce::own_gc;
use crate::custodian::Keeper;
use crate::renew;
use crate::rules::Breach;
use crate::scene::Takeover;
use crate::sets::{GcSlot, Id, Pack, Point, Session, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What, pack, session};

/// Where deleting begins.
pub(crate) fn first_duty(keeper: &Keeper<'_>) -> Duty {
    if reads_trust(keeper) { Duty::TrustBeforeIndex } else { Duty::DeleteIndex }
}

/// `trust/` is read where a second custodian may be; in other scenes that would only be one more step.
fn reads_trust(keeper: &Keeper<'_>) -> bool {
    keeper.world.scene.takeover != Takeover::Never && !keeper.breaks(Breach::TrustNotReread)
}

pub(crate) fn read_trust(keeper: &Keeper<'_>, batch: Duty, out: &mut Steps) {
    if usize::from(keeper.state.term) == keeper.number {
        keeper.push("reads trust/: still custodian", What::Nothing, keeper.then(batch), out);
    } else {
        let next = keeper.remembering(Custodian::default());
        keeper.push("reads trust/: no longer custodian, stops", What::Nothing, next, out);
    }
}

/// Index objects whose every entry is void, or stands in the new one; the writers' own, too.
pub(crate) fn index(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let careless =
        keeper.breaks(Breach::UnneededEntriesLeftOut) || keeper.breaks(Breach::EntriesNotTakenOver);
    let replaced = |packs: Set<Pack>| {
        let staying = (packs & renew::present(keeper)) - keeper.me.victims;
        careless || staying.within(keeper.me.listed)
    };
    let mut old = (store.listed_custodian_index() - keeper.me.index).iter();
    if let Some(slot) = old.find(|slot| replaced(store.custodian_index[slot.number()].packs)) {
        let mut next = *keeper.state;
        next.delete_custodian_index(slot);
        let packs = store.custodian_index[slot.number()].packs;
        return keeper.push("deletes its old index object of", What::Packs(packs), next, out);
    }
    let theirs =
        renew::replaceable(keeper).iter().find(|owner| replaced(store.session_index[owner.number()]));
    if let Some(owner) = theirs.filter(|_| !keeper.breaks(Breach::WritersIndexKept)) {
        let mut next = *keeper.state;
        next.store.session_index[owner.number()] = Set::EMPTY;
        return keeper.push("deletes the index object of", session(owner), next, out);
    }
    let at = match () {
        () if keeper.breaks(Breach::PacksDeletedBeforeIndex) => Duty::DeletePoints,
        () if reads_trust(keeper) => Duty::TrustBeforePacks,
        () => Duty::DeletePacks,
    };
    keeper.straight_on(
        &keeper.remembering(Custodian { at, index: Set::EMPTY, listed: Set::EMPTY, ..keeper.me }),
        out,
    );
}

pub(crate) fn packs(keeper: &Keeper<'_>, out: &mut Steps) {
    if let Some(name) = (keeper.me.victims & keeper.state.store.packs).first() {
        let mut next = *keeper.state;
        next.store.packs = next.store.packs.without(name);
        next.store.trash.packs = next.store.trash.packs.with(name);
        return keeper.push("deletes pack", pack(name), next, out);
    }
    let reversed = keeper.breaks(Breach::PacksDeletedBeforeIndex);
    let at = if reversed { Duty::DeleteIndex } else { Duty::DeletePoints };
    keeper.straight_on(&keeper.then(at), out);
}

/// Points that were decided away or dropped, and that no reader holds.
pub(crate) fn points(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = keeper.known();
    let view = keeper.world.view(&store);
    let forsaken =
        |point: &Point| (view.refused(*point) || view.dropped(*point)) && !keeper.me.pinned.has(*point);
    if let Some(point) = store.points.iter().find(forsaken) {
        let mut next = *keeper.state;
        next.store.points = next.store.points.without(point);
        next.store.trash.points = next.store.trash.points.with(point);
        return keeper.push("deletes point", What::Points(Set::of(&[point])), next, out);
    }
    let at = if keeper.world.scene.is_numbered() { Duty::DeleteSessions } else { Duty::DeleteGc };
    keeper.straight_on(&keeper.remembering(Custodian { at, pinned: Set::EMPTY, ..keeper.me }), out);
}

/// Sessions that are over and decided; their fences two collections later, when no sleeper can take them
/// for absent.
pub(crate) fn sessions(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = keeper.known();
    let view = keeper.world.view(&store);
    let over = (store.open & store.fences) | store.ended;
    let session_goes = |name: &Session| over.has(*name) && view.decided_everywhere(*name);
    let fence_goes = |name: &Session| {
        let aged = keeper.me.collection >= store.opened_in[name.number()] + 2;
        let may_go = aged || keeper.breaks(Breach::FenceDeletedAtOnce);
        may_go && !store.open.has(*name) && view.decided_everywhere(*name)
    };
    let mut next = *keeper.state;
    if let Some(name) = over.iter().find(session_goes) {
        next.store.open = next.store.open.without(name);
        next.store.ended = next.store.ended.without(name);
        keeper.push("deletes the session object", session(name), next, out);
    } else if let Some(name) = store.fences.iter().find(fence_goes) {
        next.store.fences = next.store.fences.without(name);
        keeper.push("deletes the fence of", session(name), next, out);
    } else {
        keeper.straight_on(&keeper.then(Duty::DeleteGc), out);
    }
}

/// The records worked off; of numbered ones its own stays until the next is there, and what has landed meanwhile goes, too.
pub(crate) fn gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let Custodian { batch, collection, round, planned, .. } = keeper.me;
    let store = &keeper.state.store;
    if keeper.breaks(Breach::GcDeletedBeforeIndex) && !batch.is_empty() {
        let mut next = keeper.then(Duty::DeleteIndex);
        batch.iter().for_each(|slot| next.delete_gc(slot));
        return keeper.push("deletes its gc record", What::Nothing, next, out);
    }
    let numbered = keeper.world.scene.is_numbered();
    let older = |slot: &GcSlot| store.gcs[slot.number()].collection <= collection;
    let gone = match numbered {
        true => {
            store.listed_gcs().iter().filter(older).fold(Set::EMPTY, Set::with)
                - own_gc(store, batch, collection)
        }
        false => batch,
    };
    let thins_now = planned && keeper.breaks(Breach::ThinnedBeforeLayout);
    let at = if thins_now { Duty::ThinPack } else { Duty::Idle };
    let mut next = keeper.remembering(Custodian { at, finished: true, ..keeper.resting(round + 1) });
    gone.iter().for_each(|slot| next.delete_gc(slot));
    keeper.push("is done with this collection", What::Nothing, next, out);
}
