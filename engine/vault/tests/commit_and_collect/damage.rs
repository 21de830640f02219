//! The disk, which takes away a pack, or makes a gc record unreadable.

use crate::sets::{Id, Set};
use crate::state::State;
use crate::step::{Actor, Steps, What, pack};

pub(crate) fn steps(state: &State, out: &mut Steps) {
    if state.damage.to_come == 0 {
        return;
    }
    let mut after = *state;
    after.damage.to_come -= 1;
    // One that nobody names yet is part of a commit that is under way.
    for name in (state.store.packs & state.store.indexed()).iter() {
        let mut next = after;
        next.store.packs = next.store.packs.without(name);
        next.damage.lost |= state.store.contents[name.number()];
        out.push(Actor::Disk, "loses", pack(name), next);
    }
    for slot in state.store.listed_gcs().iter() {
        let mut next = after;
        let gc = &mut next.store.gcs[slot.number()];
        let doomed = std::mem::take(&mut gc.doomed);
        (gc.index, gc.names_lost, gc.damaged) = (Set::EMPTY, false, true);
        out.push(Actor::Disk, "damages the gc record of", What::Packs(doomed), next);
    }
}
