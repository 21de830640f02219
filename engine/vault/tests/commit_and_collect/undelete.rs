//! Bringing back of points that retention gave up, while the trash has what they are made of: first their objects, then
//! packs, then an index object that lists these, then each point is proved, then a layout accepts those that are whole.

use crate::custodian::Keeper;
use crate::rules::Breach;
use crate::sets::{Id, Pack, Point, Run, Set};
use crate::state::{Custodian, Duty, Late};
use crate::step::{Steps, What, pack};
use crate::store::Layout;

/// The operator may want it at any time between collections. The points' objects come back with this step.
pub(crate) fn begin(keeper: &Keeper<'_>, out: &mut Steps) {
    let wanted = wanted(keeper);
    if keeper.state.undeletes == 0 || wanted.is_empty() {
        return;
    }
    let mut next = keeper.then(Duty::BringPacks);
    next.undeletes -= 1;
    next.store.points |= next.store.trash.points;
    next.store.trash.points = Set::EMPTY;
    keeper.push("is to undelete, brings back the objects of", What::Points(wanted), next, out);
}

/// Points that a layout has dropped or decided against, and whose objects are in place or in the trash.
fn wanted(keeper: &Keeper<'_>) -> Set<Point> {
    let store = keeper.known();
    let view = keeper.world.view(&store);
    let objects = (store.points | store.trash.points).iter();
    objects.filter(|point| view.dropped(*point) || view.refused(*point)).fold(Set::EMPTY, Set::with)
}

/// One pack after the other; the time of any may be over.
pub(crate) fn bring_packs(keeper: &Keeper<'_>, out: &mut Steps) {
    let Some(name) = keeper.state.store.trash.packs.first() else {
        return keeper.straight_on(&keeper.then(Duty::BringIndex), out);
    };
    let mut gone = *keeper.state;
    gone.store.trash.packs = gone.store.trash.packs.without(name);
    let mut back = gone;
    back.store.packs = back.store.packs.with(name);
    keeper.push("brings back", pack(name), back, out);
    keeper.push("does not find in the trash", pack(name), gone, out);
}

pub(crate) fn pack_under_way(keeper: &Keeper<'_>) -> Option<Late> {
    keeper.state.store.trash.packs.first().map(|name| Late::Pack(Set::of(&[name])))
}

pub(crate) fn put_index(keeper: &Keeper<'_>, out: &mut Steps) {
    let strays = strays(keeper);
    let mut next = keeper.then(Duty::Prove);
    if strays.is_empty() || keeper.breaks(Breach::UndeletedNotListed) {
        return keeper.straight_on(&next, out);
    }
    next.store.put_custodian_index(keeper.index_object(strays));
    keeper.push("PUTs an index object of", What::Packs(strays), next, out);
}

/// Packs that no index object names; also those of a commit that is under way.
pub(crate) fn strays(keeper: &Keeper<'_>) -> Set<Pack> {
    keeper.state.store.packs - keeper.state.store.indexed()
}

/// Which of them are whole. Only the custodian deletes, so that it stays so until it goes on.
pub(crate) fn prove(keeper: &Keeper<'_>, out: &mut Steps) {
    let whole = wanted(keeper).iter().filter(|point| is_whole(keeper, *point)).fold(Set::EMPTY, Set::with);
    let next = match whole.is_empty() {
        true => keeper.remembering(keeper.resting(keeper.me.round)),
        false => keeper.remembering(Custodian { at: Duty::AcceptAgain, seen: whole, ..keeper.me }),
    };
    keeper.push("looks what has come back whole:", What::Points(whole), next, out);
}

fn is_whole(keeper: &Keeper<'_>, point: Point) -> bool {
    let store = &keeper.state.store;
    let chunks = match runs_of(keeper, point) {
        Some(runs) if store.points.has(point) => keeper.world.view(store).chunks(runs),
        _ => return false,
    };
    let places = match () {
        () if keeper.breaks(Breach::UndeletedUnproved) => return true,
        () if keeper.breaks(Breach::UndeletedProvedByIndex) => store.indexed(),
        () if keeper.breaks(Breach::UndeletedNotListed) => store.packs,
        () => store.indexed() & store.packs,
    };
    chunks.within(store.chunks_in(places))
}

/// The runs that made it up in a layout that had accepted it. There is none for a point that was decided against.
fn runs_of(keeper: &Keeper<'_>, point: Point) -> Option<Set<Run>> {
    let store = keeper.known();
    let mut runs = store.trash.runs;
    if keeper.breaks(Breach::RefusedBroughtBack) {
        runs = runs.with(keeper.world.scene.own_run(&store, point));
    }
    keeper.world.view(&store).tiling(runs, point)
}

pub(crate) fn put_layout(keeper: &Keeper<'_>, out: &mut Steps) {
    let back = keeper.me.seen;
    let mut next = *keeper.state;
    if let Some((source, layout)) = new_layout(keeper) {
        keeper.publish(&mut next, source, layout);
    }
    next.custodians[keeper.number] = keeper.resting(keeper.me.round);
    keeper.push("PUTs the layout that accepts again", What::Points(back), next, out);
}

/// Scenes with this have one source.
pub(crate) fn new_layout(keeper: &Keeper<'_>) -> Option<(usize, Layout)> {
    let back = keeper.me.seen;
    let source = keeper.world.scene.points[back.first()?.number()].source;
    let mut layout = keeper.known().layouts[source];
    layout.accepted |= back;
    layout.dropped -= back;
    layout.runs |=
        back.iter().filter_map(|point| runs_of(keeper, point)).fold(Set::EMPTY, |all, runs| all | runs);
    Some((source, layout))
}
