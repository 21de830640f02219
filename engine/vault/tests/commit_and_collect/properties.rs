//! What must hold: in every state, over every step, and when everything has come to rest.

use std::fmt;

use crate::custodian;
use crate::rules::{Breach, World};
use crate::scene::Scene;
use crate::sets::{Id, Point, Run, Session, Set};
use crate::state::{ReaderAt, State};
use crate::step::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A point was acknowledged, retention did not drop it, and it does not count.
    AcknowledgedIsLost,
    /// A point counts, and no runs make it up, or a chunk of them is gone or not indexed.
    CountsButIsLost,
    /// The newest layout names a run of which a chunk is gone or not indexed.
    ListedRunIsLost,
    /// A reader whose pin held could not finish.
    ReaderFailed,
    /// A point that was decided away counts again, or one that was accepted is accepted no more.
    DecisionChanged,
    /// A point of a session that began after a repair counts, and a chunk of it is gone.
    SinceRepairIsLost,
    /// Nothing goes on, more collections were made, and there is still garbage.
    GarbageStays,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AcknowledgedIsLost => "an acknowledged point does not count",
            Self::CountsButIsLost => "a point that counts cannot be restored",
            Self::ListedRunIsLost => "a run that the newest layout names cannot be read",
            Self::ReaderFailed => "a reader whose pin held could not finish",
            Self::DecisionChanged => "a decision was not final",
            Self::SinceRepairIsLost => "a point that was captured after a repair cannot be restored",
            Self::GarbageStays => "garbage stays for ever",
        })
    }
}

/// What is wrong with this state.
pub(crate) fn violated(world: &World, state: &State) -> Option<Violation> {
    let store = &state.store;
    let view = world.view(store);
    let counting = view.counting();
    if !(state.found - counting).within(state.given_up) {
        return Some(Violation::AcknowledgedIsLost);
    }
    for session in state.acknowledged.iter().filter(|session| !world.scene.is_without_point(*session)) {
        let points = &world.scene.sessions[session.number()].points;
        if points.iter().any(|point| !counting.has(*point) && !state.given_up.has(*point)) {
            return Some(Violation::AcknowledgedIsLost);
        }
    }
    // What the disk has taken is nobody's fault.
    let (runs, available) = (view.runs(), store.available() | state.damage.lost);
    let restorable = |point: Point, available| {
        view.tiling(runs, point).is_some_and(|tiling| view.chunks(tiling).within(available))
    };
    if !counting.iter().all(|point| restorable(point, available)) {
        return Some(Violation::CountsButIsLost);
    }
    // But whoever began after a repair knows what is lost, and has it.
    let since = state.damage.since.iter().flat_map(|session| &world.scene.sessions[session.number()].points);
    let mut since = since.filter(|point| counting.has(**point));
    if !since.all(|point| restorable(*point, store.available())) {
        return Some(Violation::SinceRepairIsLost);
    }
    let listed: Set<Run> = store.layouts.iter().fold(Set::EMPTY, |all, layout| all | layout.runs);
    if !view.chunks(listed).within(available) {
        return Some(Violation::ListedRunIsLost);
    }
    (state.reader.at == ReaderAt::Failed).then_some(Violation::ReaderFailed)
}

/// What is wrong with a step. The first layout of a new term may replace one of the former that landed late
/// and that its author did not know: nothing was built on that yet. Within a term a decision is final.
pub(crate) fn revoked(world: &World, before: &State, after: &State) -> Option<Violation> {
    if world.breaks(Breach::DecisionNotFinal) {
        // Shown by what it leads to.
        return None;
    }
    if before.store.layouts == after.store.layouts && before.store.opened_in == after.store.opened_in {
        return None;
    }
    let (old, new) = (world.view(&before.store), world.view(&after.store));
    let changed = |point: Point| {
        let fenced =
            world.scene.points[point.number()].session.is_some_and(|name| before.store.fences.has(name));
        let exists = before.store.points.has(point) || fenced;
        let counts_again = exists && old.refused(point) && !new.refused(point);
        let same_term = old.layout(point).term() == new.layout(point).term();
        // What retention has given up may be brought back.
        let given_up = before.given_up.has(point) || after.given_up.has(point);
        same_term && !given_up && (counts_again || old.accepted(point) && !new.accepted(point))
    };
    (0..world.scene.points.len()).map(Point::nth).any(changed).then_some(Violation::DecisionChanged)
}

/// What is left where nothing more happens, after a few more collections: two to forget fences, one for
/// what landed late.
pub(crate) fn left_over(world: &World, state: &State) -> Option<Violation> {
    let scene = Scene { thinning: Vec::new(), rounds: 3, ..world.scene.clone() };
    let quiet = World::keeping_all_rules(scene);
    let number = usize::from(state.term);
    let mut state = State { undeletes: 0, ..*state };
    state.damage.to_come = 0;
    state.custodians[number].round = 0;
    state.custodians[number].crashes = 0;
    let mut steps = Steps::default();
    loop {
        steps.0.clear();
        custodian::steps(&quiet, &state, number, &mut steps);
        match steps.0.first() {
            Some((_, next)) => state = *next,
            None => break,
        }
    }
    (!is_clean(&quiet, &state)).then_some(Violation::GarbageStays)
}

fn is_clean(world: &World, state: &State) -> bool {
    let store = &state.store;
    let view = world.view(store);
    let writers = world.scene.writers();
    let needed = view.needed(store.points);
    let mut held = Set::EMPTY;
    let packs_are_needed = store.packs.iter().all(|pack| {
        let contents = store.contents[pack.number()];
        let once = !contents.meets(held);
        held |= contents;
        once && contents.within(needed)
    });
    let decided: Set<Session> = store.layouts.iter().fold(Set::EMPTY, |all, layout| all | layout.decided);
    let forgotten = ((store.open | store.ended | store.fences) & writers).is_empty() && decided.is_empty();
    packs_are_needed
        && store.indexed() == store.packs
        && store.session_index.iter().all(|packs| packs.is_empty())
        && store.points.iter().all(|point| view.accepted(point) && !view.dropped(point))
        && (store.open & writers).within(store.fences)
        && (forgotten || !world.scene.is_numbered())
}
