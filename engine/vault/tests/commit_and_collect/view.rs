//! What the objects in the store mean: which points count, which runs make up a point, which chunks that
//! needs. Only what any process could work out from listing; nobody's memory.

use crate::rules::World;
use crate::sets::{Chunk, Id, Point, Run, Session, Set};
use crate::store::{Layout, Store};

/// One view of the store in one scene.
#[derive(Clone, Copy)]
pub(crate) struct View<'w> {
    world: &'w World,
    store: &'w Store,
}

impl World {
    pub(crate) fn view<'w>(&'w self, store: &'w Store) -> View<'w> {
        View { world: self, store }
    }
}

impl View<'_> {
    pub(crate) fn layout(&self, point: Point) -> &Layout {
        &self.store.layouts[self.world.scene.points[point.number()].source]
    }

    pub(crate) fn accepted(&self, point: Point) -> bool {
        self.layout(point).accepted.has(point)
    }

    pub(crate) fn dropped(&self, point: Point) -> bool {
        self.layout(point).dropped.has(point)
    }

    pub(crate) fn decided(&self, session: Session, layout: &Layout) -> bool {
        layout.decided.has(session) || self.store.opened_in[session.number()] < layout.decided_below
    }

    /// For each source that the session names.
    pub(crate) fn decided_everywhere(&self, session: Session) -> bool {
        let points = &self.world.scene.sessions[session.number()].points;
        points.iter().all(|point| self.decided(session, self.layout(*point)))
    }

    /// A layout has decided the point's session without accepting the point: it never counts.
    pub(crate) fn refused(&self, point: Point) -> bool {
        match self.world.scene.points[point.number()].session {
            Some(session) => !self.accepted(point) && self.decided(session, self.layout(point)),
            None => !self.accepted(point),
        }
    }

    /// Restorable, as a reader of the store sees it.
    pub(crate) fn counts(&self, point: Point) -> bool {
        self.store.points.has(point) && !self.dropped(point) && !self.refused(point)
    }

    pub(crate) fn counting(&self) -> Set<Point> {
        self.store.points.iter().filter(|point| self.counts(*point)).fold(Set::EMPTY, Set::with)
    }

    /// Whether the point will count until retention drops it: accepted, or of a session that says it has
    /// ended. A point of an open or fenced session may yet be decided away.
    pub(crate) fn settled(&self, point: Point) -> bool {
        if self.accepted(point) {
            return !self.dropped(point);
        }
        let ended = match self.world.scene.points[point.number()].session {
            Some(session) => self.store.ended.has(session),
            None => true,
        };
        self.counts(point) && ended
    }

    /// Runs that exist: those of the layouts, and the own runs of points that count and that no layout
    /// knows.
    pub(crate) fn runs(&self) -> Set<Run> {
        let listed = self.store.layouts.iter().fold(Set::EMPTY, |all, layout| all | layout.runs);
        let own = self.counting().iter().filter(|point| !self.accepted(*point));
        own.fold(listed, |all, point| all.with(self.world.scene.own_run(self.store, point)))
    }

    /// The runs that make up (∅, point], the longest first.
    pub(crate) fn tiling(&self, existing: Set<Run>, point: Point) -> Option<Set<Run>> {
        let facts = &self.world.scene.runs;
        let mut ending: Vec<Run> = existing.iter().filter(|run| facts[run.number()].to == point).collect();
        ending.sort_by_key(|run| facts[run.number()].from.map(Id::number));
        ending.into_iter().find_map(|run| match facts[run.number()].from {
            None => Some(Set::EMPTY.with(run)),
            Some(parent) => self.tiling(existing, parent).map(|rest| rest.with(run)),
        })
    }

    pub(crate) fn tilings(&self, points: Set<Point>) -> Set<Run> {
        let existing = self.runs();
        points
            .iter()
            .filter_map(|point| self.tiling(existing, point))
            .fold(Set::EMPTY, |all, runs| all | runs)
    }

    pub(crate) fn chunks(&self, runs: Set<Run>) -> Set<Chunk> {
        runs.iter().fold(Set::EMPTY, |all, run| all | self.world.scene.runs[run.number()].chunks)
    }

    /// Chunks that the given points need, and nothing else.
    pub(crate) fn needed(&self, points: Set<Point>) -> Set<Chunk> {
        self.chunks(self.tilings(points))
    }
}
