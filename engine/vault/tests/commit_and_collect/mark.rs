//! Step 1 of a collection: what is needed, and which packs are to go.

use crate::custodian::Keeper;
use crate::rules::Breach;
use crate::sets::{Chunk, Id, Pack, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::store::Store;
use crate::view::View;
use crate::{reader, repair, thinning};

/// Every pack is a victim that holds anything but the one copy chosen of a needed chunk; those that a
/// writer is just filling, too. What this dooms may be in use again a moment later: safety must not depend
/// on the choice.
pub(crate) fn mark(keeper: &Keeper<'_>, out: &mut Steps) {
    let mut store = intended(keeper);
    let lost = repair::lost(keeper, &store);
    if !lost.within(store.bad) {
        // What cannot be read may be needed: not before a repair.
        return;
    }
    // The list goes when nothing is lost any more that is needed.
    store.bad = store.bad & lost;
    let view = keeper.world.view(&store);
    let (victims, live) = victims(keeper, &store, &view);
    let scene = &keeper.world.scene;
    if victims.is_empty() && !scene.is_numbered() && is_tidy(keeper, &store, &view) {
        let next = keeper.remembering(keeper.resting(keeper.me.round + 1));
        return keeper.push("marks; nothing to do", What::Nothing, next, out);
    }
    let copying = if scene.copying_first { live } else { Set::EMPTY };
    let at = match () {
        () if !copying.is_empty() => Duty::CopyPack,
        () if keeper.breaks(Breach::SessionsListedBeforeGc) => Duty::ListSessions,
        () => Duty::PutGc,
    };
    let batch = keeper.state.store.listed_gcs();
    let me = Custodian { at, copying, batch, finished: false, ..keeper.me };
    let mut choices = vec![victims];
    if scene.picky_custodian && victims.iter().count() > 1 {
        choices.extend(victims.iter().map(|name| Set::of(&[name])));
    }
    if scene.patient_custodian && !victims.is_empty() {
        choices.push(Set::EMPTY);
    }
    for victims in choices {
        let mut next = keeper.remembering(Custodian { victims, ..me });
        next.store.bad = store.bad;
        keeper.push("marks; victims:", What::Packs(victims), next, out);
    }
}

/// The packs to go, and the chunks in them that are needed and chosen there.
fn victims(keeper: &Keeper<'_>, store: &Store, view: &View<'_>) -> (Set<Pack>, Set<Chunk>) {
    let pins = match keeper.breaks(Breach::PinsIgnored) {
        true => Set::EMPTY,
        false => reader::pin(keeper.world, store.open - store.fences),
    };
    let needed = view.needed(view.counting() | pins);
    let (mut victims, mut live, mut held) = (Set::EMPTY, Set::EMPTY, Set::EMPTY);
    for name in store.packs.iter() {
        let contents = store.contents[name.number()];
        let chosen = if store.indexed().has(name) { contents & (needed - held) } else { Set::EMPTY };
        held |= chosen;
        if chosen != contents {
            victims = victims.with(name);
            live |= chosen;
        }
    }
    (victims, live)
}

/// The store as it goes into the mark: with a thinning that is only planned, where that rule is broken.
pub(crate) fn intended(keeper: &Keeper<'_>) -> Store {
    let mut store = keeper.known();
    if keeper.me.planned
        && let Some(thinning) = thinning::possible(keeper)
    {
        thinning::apply(&mut store, keeper, thinning);
    }
    store
}

/// Nothing but packs could want a collection.
fn is_tidy(keeper: &Keeper<'_>, store: &Store, view: &View<'_>) -> bool {
    let writers = keeper.world.scene.writers();
    store.points.iter().all(|point| view.accepted(point) && !view.dropped(point))
        && store.session_index.iter().all(|packs| packs.is_empty())
        && store.indexed().within(store.packs)
        && (store.open & writers).within(store.fences)
}
