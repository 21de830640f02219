//! Step 4 of a collection: layouts that accept the points seen, decide their sessions and the fenced ones
//! for good, and let runs go that nothing needs any more.

use crate::custodian::Keeper;
use crate::rules::Breach;
use crate::sets::{Id, Point, Session, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::store::{Layout, Store};
use crate::thinning;

pub(crate) fn put_layout(keeper: &Keeper<'_>, source: usize, out: &mut Steps) {
    let next = match source + 1 == keeper.world.scene.sources() {
        true => Custodian { at: Duty::Rescue, seen: Set::EMPTY, fenced: Set::EMPTY, ..keeper.me },
        false => Custodian { at: Duty::DecideSecond, ..keeper.me },
    };
    let mut next = keeper.remembering(next);
    match new_layout(keeper, source) {
        Some(layout) => {
            let new = layout.accepted - keeper.known().layouts[source].accepted;
            keeper.publish(&mut next, source, layout);
            keeper.push("PUTs the layout that accepts", What::Points(new), next, out);
        }
        None => keeper.straight_on(&next, out),
    }
}

/// The next layout of the source; none for a source that the custodian does not know.
pub(crate) fn new_layout(keeper: &Keeper<'_>, source: usize) -> Option<Layout> {
    let scene = &keeper.world.scene;
    let mut store = keeper.known();
    let accepted = to_accept(keeper, source, &store);
    let decided = to_decide(keeper, source, &store);
    // Of commits without a point it is enough that their number is decided.
    let is_named = store.ended.iter().any(|session| scene.is_without_point(session));
    if accepted.is_empty() && decided.is_empty() && !is_named && !store.layouts[source].exists {
        return None;
    }
    let own = accepted.iter().fold(Set::EMPTY, |all, point| all.with(scene.own_run(&store, point)));
    let layout = &mut store.layouts[source];
    layout.exists = true;
    layout.runs |= own;
    layout.accepted |= accepted;
    layout.decided |= decided;
    if scene.is_numbered() {
        forget_decided(keeper, &mut store, source, decided);
    }
    if keeper.breaks(Breach::DroppedWhileDeciding)
        && keeper.me.planned
        && let Some(thinning) = thinning::possible(keeper)
    {
        thinning::apply(&mut store, keeper, thinning);
    }
    let layout = store.layouts[source];
    let accepted = layout.accepted - layout.dropped;
    let needed = keeper.world.view(&store).tilings(accepted | keeper.me.pinned);
    let dropped = layout.dropped & (keeper.me.pinned | store.points);
    Some(Layout { accepted, dropped, runs: layout.runs & needed, ..layout })
}

/// Every point of the source that was seen and is not decided away, of a fenced session, too: it may have
/// been acknowledged.
fn to_accept(keeper: &Keeper<'_>, source: usize, store: &Store) -> Set<Point> {
    let view = keeper.world.view(store);
    let points = &keeper.world.scene.points;
    let welcome = |point: &Point| {
        let fenced = points[point.number()].session.is_some_and(|session| keeper.me.fenced.has(session));
        let unwelcome = fenced && keeper.breaks(Breach::FencedRefused);
        let dropped = view.dropped(*point);
        let refused = view.refused(*point) && !keeper.breaks(Breach::DecisionNotFinal);
        points[point.number()].source == source
            && !view.accepted(*point)
            && !dropped
            && !refused
            && !unwelcome
    };
    keeper.me.seen.iter().filter(welcome).fold(Set::EMPTY, Set::with)
}

/// Sessions whose point of the source was seen, and fenced ones that name the source: it may have no point
/// and no layout yet.
fn to_decide(keeper: &Keeper<'_>, source: usize, store: &Store) -> Set<Session> {
    let scene = &keeper.world.scene;
    let mut decided = Set::EMPTY;
    for point in keeper.me.seen.iter().map(|point| scene.points[point.number()]) {
        if let Some(session) = point.session.filter(|_| point.source == source) {
            decided = decided.with(session);
        }
    }
    let unseen = !store.layouts[source].exists && decided.is_empty();
    let skipped = unseen && keeper.breaks(Breach::UnseenSourcesNotDecided);
    if skipped || keeper.breaks(Breach::FencedNotDecided) {
        return decided;
    }
    let names_source = |session: &Session| {
        let points = &scene.sessions[session.number()].points;
        points.iter().any(|point| scene.points[point.number()].source == source)
    };
    keeper.me.fenced.iter().filter(names_source).fold(decided, Set::with)
}

/// Sessions of earlier collections are all decided by now: the floor says so in one number, and the list
/// starts anew.
fn forget_decided(keeper: &Keeper<'_>, store: &mut Store, source: usize, decided: Set<Session>) {
    let newest = store.newest_collection();
    let collection = if keeper.breaks(Breach::FloorTooHigh) { newest } else { keeper.me.collection };
    let opened_in = store.opened_in;
    let layout = &mut store.layouts[source];
    if keeper.breaks(Breach::DecidedForgotten) {
        layout.decided = decided;
        return;
    }
    layout.decided_below = collection;
    let earlier = |session: &Session| opened_in[session.number()] < collection;
    layout.decided = layout.decided.iter().filter(earlier).fold(layout.decided, Set::without);
}
