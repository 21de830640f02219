//! PUTs that outlive their sender: a request that a gateway or the network holds, and that takes effect at
//! any later time.

use crate::rules::{Breach, World};
use crate::sets::{GcSlot, Id};
use crate::state::{Late, State};
use crate::step::{Actor, Steps, What, session};
use crate::store::{Gc, Store};

pub(crate) fn steps(world: &World, state: &State, out: &mut Steps) {
    for number in 0..state.late.len() {
        let mut next = *state;
        let put = std::mem::take(&mut next.late[number]);
        if put != Late::Nothing {
            let (does, what) = land(world, &mut next.store, put);
            out.push(Actor::Network, does, what, next);
        }
    }
}

fn land(world: &World, store: &mut Store, put: Late) -> (&'static str, What) {
    match put {
        Late::Nothing => ("nothing lands", What::Nothing),
        Late::Open(name) => {
            // The heartbeat's counter rises, so a session that has ended stays so.
            store.open = store.open.with(name) - store.ended;
            ("a late PUT lands: session", session(name))
        }
        Late::Ended(name) => {
            store.mark_ended(name);
            ("a late PUT lands: end of session", session(name))
        }
        Late::Pack(packs) => {
            store.packs |= packs;
            store.trash.packs -= packs;
            ("a late PUT lands: pack", What::Packs(packs))
        }
        Late::SessionIndex(name, packs) => {
            store.session_index[name.number()] |= packs;
            ("a late PUT lands: a writer's index object of", What::Packs(packs))
        }
        Late::Points(points) => {
            store.points |= points;
            store.trash.points -= points;
            ("a late PUT lands: point", What::Points(points))
        }
        Late::Fence(name) => {
            store.fences = store.fences.with(name);
            ("a late PUT lands: fence of", session(name))
        }
        Late::Gc(gc) => {
            put_gc(world, store, gc);
            ("a late PUT lands: gc record of", What::Packs(gc.doomed))
        }
        Late::CustodianIndex(index) => {
            store.put_custodian_index(index);
            ("a late PUT lands: a custodian's index object of", What::Packs(index.packs))
        }
        Late::Layout(source, layout) => {
            let newest = &mut store.layouts[usize::from(source)];
            if layout.generation >= newest.generation {
                *newest = layout;
            }
            ("a late PUT lands: layout that has accepted", What::Points(layout.accepted))
        }
    }
}

/// The names of gc records end in a hash, so one replaces no other of its number.
pub(crate) fn put_gc(world: &World, store: &mut Store, gc: Gc) -> GcSlot {
    let overwrites = world.breaks(Breach::GcOverwritten);
    let same = store.gcs.iter().position(|old| overwrites && old.exists && old.collection == gc.collection);
    let slot = same.map_or_else(|| store.free_gc(), GcSlot::nth);
    store.gcs[slot.number()] = gc;
    slot
}
