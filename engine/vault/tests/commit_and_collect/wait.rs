//! Steps 3 and 4 of a collection, up to deciding: who is waited for, who is given up, and what is listed in
//! which order.

use crate::custodian::Keeper;
use crate::reader;
use crate::rules::Breach;
use crate::sets::{Id, Session, Set};
use crate::state::{Custodian, Duty, State};
use crate::step::{Steps, What, session};

pub(crate) fn list_sessions(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let open = store.open - store.fences;
    let unhurried = !keeper.breaks(Breach::SessionsNotWaitedFor);
    let waiting = if unhurried { began_before(keeper, open) } else { Set::EMPTY };
    let pinned =
        if keeper.breaks(Breach::PinsIgnored) { Set::EMPTY } else { reader::pin(keeper.world, open) };
    let gc_is_to_come =
        keeper.breaks(Breach::SessionsListedBeforeGc) && !keeper.me.victims.within(store.doomed());
    let at = if gc_is_to_come { Duty::PutGc } else { Duty::Wait };
    let next = keeper.remembering(Custodian { at, waiting, pinned, ..keeper.me });
    keeper.push("lists sessions, and waits for", What::Sessions(waiting), next, out);
}

/// Writers' sessions. Of numbered collections those that began before the record of this one was put: all others have seen what
/// it dooms.
fn began_before(keeper: &Keeper<'_>, open: Set<Session>) -> Set<Session> {
    let store = &keeper.state.store;
    let numbered = keeper.world.scene.is_numbered();
    let began = |name: &Session| !numbered || store.opened_in[name.number()] < keeper.me.collection;
    (open & keeper.world.scene.writers()).iter().filter(began).fold(Set::EMPTY, Set::with)
}

/// A session that does not end may be given up at any moment: its process may sleep through its day of
/// grace. Readers are not waited for.
pub(crate) fn wait(keeper: &Keeper<'_>, out: &mut Steps) {
    let store = &keeper.state.store;
    let pending = (keeper.me.waiting & store.open) - store.fences;
    for name in pending.iter() {
        keeper.push("gives up, and PUTs a fence for", session(name), fencing(keeper, name), out);
    }
    if let Some((name, _)) = keeper.world.scene.reader
        && !keeper.me.pinned.is_empty()
        && (store.open - store.fences).has(name)
    {
        keeper.push("gives up the reader, and PUTs a fence for", session(name), fencing(keeper, name), out);
    }
    if pending.is_empty() {
        let late_fences = keeper.breaks(Breach::FencesListedAfterPoints);
        let at = if late_fences { Duty::ListPoints } else { Duty::ListFences };
        keeper.straight_on(&keeper.remembering(Custodian { at, waiting: Set::EMPTY, ..keeper.me }), out);
    }
}

fn fencing(keeper: &Keeper<'_>, name: Session) -> State {
    let mut next = *keeper.state;
    next.store.fences = next.store.fences.with(name);
    next
}

pub(crate) fn list_fences(keeper: &Keeper<'_>, out: &mut Steps) {
    let fences = keeper.state.store.fences;
    let late_fences = keeper.breaks(Breach::FencesListedAfterPoints);
    let at = if late_fences { Duty::DecideFirst } else { Duty::ListPoints };
    let fenced = fences & keeper.world.scene.writers();
    let pinned = keeper.me.pinned - reader::pin(keeper.world, fences);
    let next = keeper.remembering(Custodian { at, fenced, pinned, ..keeper.me });
    keeper.push("lists fences:", What::Sessions(fenced), next, out);
}

pub(crate) fn list_points(keeper: &Keeper<'_>, out: &mut Steps) {
    let late_fences = keeper.breaks(Breach::FencesListedAfterPoints);
    let at = if late_fences { Duty::ListFences } else { Duty::DecideFirst };
    let seen = keeper.state.store.points;
    let early = keeper.breaks(Breach::PacksListedBeforeIndex);
    let inventory = if early { keeper.state.store.packs } else { Set::EMPTY };
    let next = keeper.remembering(Custodian { at, seen, inventory, ..keeper.me });
    keeper.push("lists points:", What::Points(seen), next, out);
}
