//! Steps 2 and 3 of a collection, up to the first listing: the gc record, what it dooms and vouches for,
//! and when one goes.

use crate::custodian::Keeper;
use crate::late;
use crate::rules::Breach;
use crate::sets::{GcSlot, Id, IndexSlot, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::store::{Gc, Store};

/// The next after those that were listed before.
pub(crate) fn gc_record(keeper: &Keeper<'_>, before: Set<GcSlot>) -> Gc {
    let store = &keeper.state.store;
    let (collection, index) = match keeper.world.scene.is_numbered() {
        true => (store.newest_of(before) + 1, vouched_index(keeper)),
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

/// Whether everybody for whom it will not wait has seen all records that are listed.
pub(crate) fn may_resume(keeper: &Keeper<'_>) -> bool {
    let store = &keeper.state.store;
    let is_own = !keeper.me.records.is_empty() && store.newest_gcs() == 1;
    match () {
        () if !keeper.world.scene.is_numbered() || keeper.breaks(Breach::AnyRecordWorkedOff) => true,
        () if keeper.breaks(Breach::LateRecordWorkedOff) => is_own,
        () => store.listed_gcs().within(keeper.me.records),
    }
}

/// Before it works off a record that may have been there before a thinning, or beside one that has landed late, another one
/// that dooms the same.
pub(crate) fn begin_anew(keeper: &Keeper<'_>, out: &mut Steps) {
    let me = anew(&keeper.state.store, keeper.me);
    let does = "finds a gc record that not everybody has seen in time, will put the next";
    keeper.push(does, What::Packs(me.victims), keeper.remembering(me), out);
}

fn anew(store: &Store, me: Custodian) -> Custodian {
    let (batch, victims) = (store.listed_gcs(), store.doomed());
    Custodian { at: Duty::PutGc, batch, finished: false, victims, ..me }
}

/// `batch` holds the superseded records until they are deleted, and then the new one. One that has landed since they were
/// listed may have the same number: then another one follows at once.
pub(crate) fn put_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let before = keeper.me.batch;
    let gc = gc_record(keeper, before);
    let mut next = *keeper.state;
    let records = before.with(late::put_gc(keeper.world, &mut next.store, gc));
    let (at, batch) = match before.is_empty() {
        true => (waiting_duty(keeper), records),
        false => (Duty::DeleteOldGc, before),
    };
    // What an older record dooms goes with this pass, too: it may be there again.
    let victims = match keeper.breaks(Breach::UndeletedNotMoved) {
        true => keeper.me.victims,
        false => next.store.doomed_by(records),
    };
    let me = Custodian { at, batch, collection: gc.collection, victims, records, ..keeper.me };
    let is_only = !keeper.world.scene.is_numbered() || next.store.newest_gcs() == 1;
    next.custodians[keeper.number] = if is_only { me } else { anew(&next.store, me) };
    keeper.push("PUTs a gc record that dooms", What::Packs(gc.doomed), next, out);
}

pub(crate) fn delete_old_gc(keeper: &Keeper<'_>, out: &mut Steps) {
    let batch = keeper.me.records - keeper.me.batch;
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
