//! Repair, after the disk has taken something: a gc record that cannot be read is replaced by one that dooms nothing; index
//! objects that name packs which are not there go, and what else they name is listed anew; what is needed and nowhere is
//! put on a list in `bad/`, and a gc record says that there is one. May end anywhere, and is done again then.

use crate::announce;
use crate::custodian::Keeper;
use crate::late;
use crate::rules::Breach;
use crate::sets::{Chunk, Id, IndexSlot, Pack, Session, Set};
use crate::state::{Custodian, Duty, State};
use crate::step::{Steps, What, session};
use crate::store::{Gc, Store};

/// The operator wants it while something is damaged, at any time between two requests of collections.
pub(crate) fn begin(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let was_damaged = keeper.state.damage.to_come < keeper.world.scene.damages;
    let (custodians, writers) = void(keeper);
    let is_void = !custodians.is_empty() || !writers.is_empty();
    let wanted = || is_void || store.has_damaged_gc() || !lost(keeper, &keeper.known()).within(store.bad);
    if !was_damaged || (keeper.state.damage.mended && !wanted()) {
        return;
    }
    let at = match store.has_damaged_gc() {
        true if keeper.breaks(Breach::DamagedGcDeletedFirst) => Duty::DeleteDamagedGc,
        true => Duty::MendGc,
        false => Duty::MendIndex,
    };
    keeper.push("begins a repair", What::Nothing, keeper.then(at), out);
}

/// Behind the newest, dooming nothing.
pub(crate) fn new_gc(keeper: &Keeper<'_>) -> Gc {
    let me = Custodian { victims: Set::EMPTY, ..keeper.me };
    announce::gc_record(&Keeper { me, ..*keeper }, keeper.state.store.listed_gcs())
}

/// Puts it, and notes what it is behind. What was finished is not the newest any more.
pub(crate) fn announced(keeper: &Keeper<'_>, me: Custodian) -> State {
    let mut next = *keeper.state;
    let before = next.store.listed_gcs();
    let records = before.with(late::put_gc(keeper.world, &mut next.store, new_gc(keeper)));
    next.custodians[keeper.number] = Custodian { finished: false, records, ..me };
    next
}

pub(crate) fn put_new_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let deleted_first = keeper.breaks(Breach::DamagedGcDeletedFirst);
    let at = if deleted_first { Duty::MendIndex } else { Duty::DeleteDamagedGc };
    let next = announced(keeper, Custodian { at, ..keeper.me });
    keeper.push("PUTs a gc record in place of the damaged", What::Nothing, next, out);
}

pub(crate) fn delete_damaged_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let deleted_first = keeper.breaks(Breach::DamagedGcDeletedFirst);
    let mut next = keeper.then(if deleted_first { Duty::MendGc } else { Duty::MendIndex });
    for slot in keeper.state.store.listed_gcs().iter() {
        if keeper.state.store.gcs[slot.number()].damaged {
            next.delete_gc(slot);
        }
    }
    keeper.push("deletes the damaged gc record", What::Nothing, next, out);
}

/// Which index objects name packs that are not there.
fn void(keeper: &Keeper<'_>) -> (Set<IndexSlot>, Set<Session>) {
    let store = &keeper.state.store;
    let is_void = |packs: Set<Pack>| !packs.within(store.packs);
    let custodians = store.listed_custodian_index().iter();
    let custodians = custodians.filter(|slot| is_void(store.custodian_index[slot.number()].packs));
    let writers = keeper.world.scene.writers().iter();
    let writers = writers.filter(|owner| is_void(store.session_index[owner.number()]));
    match () {
        () if keeper.breaks(Breach::VoidIndexKept) => Default::default(),
        () if keeper.breaks(Breach::VoidWritersIndexKept) => {
            (custodians.fold(Set::EMPTY, Set::with), Set::EMPTY)
        }
        () => (custodians.fold(Set::EMPTY, Set::with), writers.fold(Set::EMPTY, Set::with)),
    }
}

/// What else they name.
pub(crate) fn new_index(keeper: &Keeper<'_>) -> Set<Pack> {
    let store = &keeper.state.store;
    let (custodians, writers) = void(keeper);
    let named = custodians.iter().map(|slot| store.custodian_index[slot.number()].packs);
    let named = named.chain(writers.iter().map(|owner| store.session_index[owner.number()]));
    named.fold(Set::EMPTY, |all, packs| all | packs) & store.packs
}

pub(crate) fn put_index(keeper: &Keeper<'_>, out: &mut Steps) {
    let packs = if keeper.me.listed.is_empty() { new_index(keeper) } else { keeper.me.listed };
    let (index, fenced) = void(keeper);
    let first = keeper.breaks(Breach::VoidIndexDeletedFirst) && keeper.me.listed.is_empty();
    let is_silent = keeper.breaks(Breach::VoidIndexGoesUnannounced) || first;
    let goes = !index.is_empty() || !fenced.is_empty();
    let at = if goes && !is_silent { Duty::AnnounceMended } else { Duty::DeleteMended };
    let me = Custodian { at, index, fenced, listed: Set::EMPTY, ..keeper.me };
    if first && !packs.is_empty() {
        return delete_index(&Keeper { me: Custodian { listed: packs, ..me }, ..*keeper }, out);
    }
    let mut next = keeper.remembering(me);
    if packs.is_empty() || keeper.breaks(Breach::VoidIndexNotTakenOver) {
        return keeper.straight_on(&next, out);
    }
    next.store.put_custodian_index(keeper.index_object(packs));
    keeper.push("PUTs an index object of what is there:", What::Packs(packs), next, out);
}

/// So that none counts that lands later and names what is not there: of an older collection, it needs somebody to vouch
/// for it.
pub(crate) fn announce_mended(keeper: &Keeper<'_>, out: &mut Steps) {
    let next = announced(keeper, Custodian { at: Duty::DeleteMended, ..keeper.me });
    keeper.push("PUTs a gc record, before index objects go", What::Nothing, next, out);
}

pub(crate) fn delete_index(keeper: &Keeper<'_>, out: &mut Steps) {
    let mut next = keeper.remembering(keeper.me);
    if let Some(slot) = keeper.me.index.first() {
        let packs = keeper.state.store.custodian_index[slot.number()].packs;
        next.delete_custodian_index(slot);
        keeper.push("deletes its index object of", What::Packs(packs), next, out);
    } else if let Some(owner) = keeper.me.fenced.first() {
        next.store.session_index[owner.number()] = Set::EMPTY;
        next.custodians[keeper.number].fenced = keeper.me.fenced.without(owner);
        keeper.push("deletes the index object of", session(owner), next, out);
    } else {
        let at = if keeper.me.listed.is_empty() { Duty::LookForLost } else { Duty::MendIndex };
        keeper.straight_on(&keeper.then(at), out);
    }
}

/// What points that count and layouts need, and that is nowhere.
pub(crate) fn lost(keeper: &Keeper<'_>, store: &Store) -> Set<Chunk> {
    if keeper.world.scene.damages == 0 {
        return Set::EMPTY;
    }
    let view = keeper.world.view(store);
    let listed = store.layouts.iter().fold(Set::EMPTY, |all, layout| all | layout.runs);
    (view.needed(view.counting()) | view.chunks(listed)) - store.available()
}

pub(crate) fn look_for_lost(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = keeper.known();
    let lost = lost(keeper, &store);
    let is_announced = store.names_lost()
        || keeper.breaks(Breach::LostNotAnnounced)
        || keeper.breaks(Breach::LostListTakenForAnnounced);
    let at = match () {
        () if lost != store.bad => Duty::PutLost,
        () if lost.is_empty() || is_announced => return end(keeper, out),
        () => Duty::AnnounceLost,
    };
    let next = keeper.remembering(Custodian { at, copying: lost, ..keeper.me });
    keeper.push("looks what is lost:", What::Chunks(lost), next, out);
}

pub(crate) fn put_lost(keeper: &Keeper<'_>, out: &mut Steps) {
    let unannounced = keeper.breaks(Breach::LostNotAnnounced);
    let at = if unannounced { Duty::LookForLost } else { Duty::AnnounceLost };
    let mut next = keeper.remembering(Custodian { at, copying: Set::EMPTY, ..keeper.me });
    next.store.bad = keeper.me.copying;
    keeper.push("PUTs the list of what is lost:", What::Chunks(keeper.me.copying), next, out);
}

pub(crate) fn announce_lost(keeper: &Keeper<'_>, out: &mut Steps) {
    let mut next = announced(keeper, keeper.resting(keeper.me.round));
    next.damage.mended = true;
    keeper.push("PUTs a gc record that says so", What::Nothing, next, out);
}

fn end(keeper: &Keeper<'_>, out: &mut Steps) {
    let mut next = keeper.remembering(keeper.resting(keeper.me.round));
    next.damage.mended = true;
    keeper.push("ends the repair", What::Nothing, next, out);
}
