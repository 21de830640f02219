//! Thinning: a merged run is written, then a layout that drops the point and knows the merged run. The old
//! runs stay in the layout until a collection has waited for every session that may have taken the dropped
//! point as parent.

use crate::custodian::Keeper;
use crate::mark;
use crate::rules::Breach;
use crate::scene::Thinning;
use crate::sets::{Id, Point, Set};
use crate::state::{Custodian, Duty};
use crate::step::{Steps, What};
use crate::store::{Layout, Store};
use crate::view::View;

/// Retention may want it at any time between collections.
pub(crate) fn begin(keeper: &Keeper<'_>, out: &mut Steps) {
    let Some(thinning) = possible(keeper) else { return };
    if keeper.breaks(Breach::ThinnedBeforeLayout) {
        return mark::mark(&keeper.planning(), out);
    }
    let written = thinning.merged.is_none_or(|(_, record)| keeper.state.store.available().has(record));
    let at = if written { Duty::ThinLayout } else { Duty::ThinPack };
    let next = keeper.remembering(Custodian { at, records: Set::EMPTY, ..keeper.me });
    keeper.push("will drop", What::Points(Set::of(&[thinning.drop])), next, out);
}

/// The first thinning that retention wants and lineage allows, as far as the layout knows: with a merged
/// run the point has one child, else none.
pub(crate) fn possible(keeper: &Keeper<'_>) -> Option<Thinning> {
    let store = keeper.known();
    let view = keeper.world.view(&store);
    let wanted = &keeper.world.scene.thinning;
    wanted.iter().copied().find(|thinning| {
        let children = children(keeper, &view, thinning.drop);
        let lineage_allows = match thinning.merged {
            Some((run, _)) => children == Set::of(&[keeper.world.scene.runs[run.number()].to]),
            None => children.is_empty(),
        };
        view.accepted(thinning.drop) && !view.dropped(thinning.drop) && lineage_allows
    })
}

fn children(keeper: &Keeper<'_>, view: &View<'_>, parent: Point) -> Set<Point> {
    let (scene, store) = (&keeper.world.scene, &keeper.state.store);
    let has_parent = |point: Point| scene.runs[scene.own_run(store, point).number()].from == Some(parent);
    let accepted = store.points.iter().filter(|point| view.accepted(*point));
    accepted.filter(|point| has_parent(*point)).fold(Set::EMPTY, Set::with)
}

pub(crate) fn put_pack(keeper: &Keeper<'_>, out: &mut Steps) {
    match possible(keeper) {
        Some(Thinning { merged: Some((_, record)), .. }) => {
            let me = Custodian { copying: Set::of(&[record]), ..keeper.me };
            Keeper { me, ..*keeper }.put_copy(Duty::ThinIndex, out);
        }
        Some(Thinning { merged: None, .. }) => keeper.straight_on(&keeper.then(Duty::ThinLayout), out),
        None => give_up(keeper, out),
    }
}

pub(crate) fn put_layout(keeper: &Keeper<'_>, out: &mut Steps) {
    if keeper.breaks(Breach::DroppedWhileDeciding) {
        return mark::mark(&keeper.planning(), out);
    }
    let Some((source, layout)) = new_layout(keeper) else { return give_up(keeper, out) };
    let dropped = layout.dropped - keeper.known().layouts[source].dropped;
    let mut next = keeper.remembering(Custodian { at: Duty::Idle, planned: false, ..keeper.me });
    keeper.publish(&mut next, source, layout);
    keeper.push("PUTs the layout that drops", What::Points(dropped), next, out);
}

pub(crate) fn new_layout(keeper: &Keeper<'_>) -> Option<(usize, Layout)> {
    let thinning = possible(keeper)?;
    let mut store = keeper.known();
    apply(&mut store, keeper, thinning);
    let source = source(keeper, thinning.drop);
    if keeper.breaks(Breach::RunsLeaveWithTheirPoint) {
        let view = keeper.world.view(&store);
        let runs = view.tilings(view.counting());
        store.layouts[source].runs = runs;
    }
    Some((source, store.layouts[source]))
}

/// The layout of the source, with the point dropped and the merged run added.
pub(crate) fn apply(store: &mut Store, keeper: &Keeper<'_>, thinning: Thinning) {
    let layout = &mut store.layouts[source(keeper, thinning.drop)];
    layout.dropped = layout.dropped.with(thinning.drop);
    if let Some((run, _)) = thinning.merged {
        layout.runs = layout.runs.with(run);
    }
}

fn source(keeper: &Keeper<'_>, point: Point) -> usize {
    keeper.world.scene.points[point.number()].source
}

fn give_up(keeper: &Keeper<'_>, out: &mut Steps) {
    let next = keeper.remembering(keeper.resting(keeper.me.round));
    keeper.push("finds the thinning no longer possible", What::Nothing, next, out);
}
