//! Steps 2 and 3 of a collection, up to the first listing: the gc record, what it dooms and vouches for,
//! and when one goes.

use crate::custodian::Keeper;
use crate::late;
use crate::rules::Breach;
use crate::sets::{GcSlot, Id, IndexSlot, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::store::{Gc, Store};

pub(crate) fn gc_record(keeper: &Keeper<'_>) -> Gc {
    let store = &keeper.state.store;
    let (collection, index) = match keeper.world.scene.is_numbered() {
        true => (store.newest_collection() + 1, vouched_index(keeper)),
        false => (0, Set::EMPTY),
    };
    let names_lost = !store.bad.is_empty() && !keeper.breaks(Breach::LostNotSaidAgain);
    Gc { exists: true, collection, doomed: keeper.me.victims, index, names_lost, damaged: false }
}

/// The index objects that writers may count on: those that name only packs that are there. One that landed
/// late may not.
fn vouched_index(keeper: &Keeper<'_>) -> Set<IndexSlot> {
    let store = &keeper.state.store;
    let sound = |slot: &IndexSlot| store.custodian_index[slot.number()].packs.within(store.packs);
    let unseen = keeper.breaks(Breach::IndexVouchedUnseen);
    store.listed_custodian_index().iter().filter(|slot| unseen || sound(slot)).fold(Set::EMPTY, Set::with)
}

/// Before it works off a record that may have been there before a thinning, or that has landed late, another one that dooms
/// the same.
pub(crate) fn begin_anew(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let (batch, victims) = (store.listed_gcs(), store.doomed());
    let me = Custodian { at: Duty::PutGc, batch, finished: false, victims, ..keeper.me };
    let does = "finds a gc record that not everybody has seen in time, will put the next";
    keeper.push(does, What::Packs(victims), keeper.remembering(me), out);
}

/// `batch` holds the superseded record until that is deleted, and then the new one.
pub(crate) fn put_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let gc = gc_record(keeper);
    let mut next = *keeper.state;
    late::put_gc(keeper.world, &mut next.store, gc);
    let (at, batch) = match keeper.me.batch.is_empty() {
        true => (waiting_duty(keeper), own_gc(&next.store, next.store.listed_gcs(), gc.collection)),
        false => (Duty::DeleteOldGc, keeper.me.batch),
    };
    // What an older record dooms goes with this pass, too: it may be there again.
    let victims = match keeper.breaks(Breach::UndeletedNotMoved) {
        true => keeper.me.victims,
        false => next.store.doomed(),
    };
    next.custodians[keeper.number] =
        Custodian { at, batch, collection: gc.collection, victims, announced: true, ..keeper.me };
    keeper.push("PUTs a gc record that dooms", What::Packs(gc.doomed), next, out);
}

pub(crate) fn delete_old_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let batch = own_gc(store, store.listed_gcs() - keeper.me.batch, keeper.me.collection);
    let mut next = keeper.remembering(Custodian { at: waiting_duty(keeper), batch, ..keeper.me });
    keeper.me.batch.iter().for_each(|slot| next.delete_gc(slot));
    keeper.push("deletes the superseded gc record", What::Nothing, next, out);
}

fn waiting_duty(keeper: &Keeper<'_>) -> Duty {
    if keeper.breaks(Breach::SessionsListedBeforeGc) { Duty::Wait } else { Duty::ListSessions }
}

/// One of the records of a collection.
pub(crate) fn own_gc(store: &Store, among: Set<GcSlot>, collection: u8) -> Set<GcSlot> {
    let own = among.iter().find(|slot| store.gcs[slot.number()].collection == collection);
    own.map_or(Set::EMPTY, |slot| Set::of(&[slot]))
}
