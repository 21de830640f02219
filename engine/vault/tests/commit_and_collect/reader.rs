//! A reader that restores one point: pins it by a session, reads the layout, then fetches one chunk after
//! the other; when one is gone it reads the newest layout and goes on with what it has not read yet.

use crate::rules::{Breach, World};
use crate::sets::{Point, Session, Set};
use crate::state::{Reader, ReaderAt, State};
use crate::step::{Actor, Steps, What};

pub(crate) fn steps(world: &World, state: &State, out: &mut Steps) {
    let Some((session, point)) = world.scene.reader else { return };
    let mut push = |does, what, next| out.push(Actor::Reader, does, what, next);
    match state.reader.at {
        ReaderAt::Open if world.breaks(Breach::ReaderDoesNotPin) => {
            push("opens no session", What::Nothing, at(state, ReaderAt::ReadLayout));
        }
        ReaderAt::Open if !state.store.points.has(point) => {
            push("does not find its point", What::Nothing, at(state, ReaderAt::Done));
        }
        ReaderAt::Open => {
            let mut next = at(state, ReaderAt::ReadLayout);
            next.store.open = next.store.open.with(session);
            push("PUTs a session that pins", What::Points(Set::of(&[point])), next);
        }
        ReaderAt::ReadLayout => {
            let (does, next) = read_layout(world, state, session, point);
            push(does, What::Nothing, next);
        }
        ReaderAt::Reading => read(state, &mut push),
        ReaderAt::Reload => {
            push("reads the layout again", What::Nothing, reload(world, state, session, point))
        }
        ReaderAt::End => {
            let mut next = at(state, ReaderAt::Done);
            if state.store.open.has(session) {
                next.store.open = next.store.open.without(session);
                next.store.ended = next.store.ended.with(session);
            }
            push("marks its session as ended", What::Nothing, next);
        }
        ReaderAt::Failed | ReaderAt::Done => {}
    }
}

/// The point that a session of the reader protects.
pub(crate) fn pin(world: &World, sessions: Set<Session>) -> Set<Point> {
    match world.scene.reader {
        Some((session, point)) if sessions.has(session) => Set::of(&[point]),
        _ => Set::EMPTY,
    }
}

fn at(state: &State, place: ReaderAt) -> State {
    let mut next = *state;
    next.reader = Reader { at: place, ..Reader::default() };
    next
}

fn read_layout(world: &World, state: &State, session: Session, point: Point) -> (&'static str, State) {
    let view = world.view(&state.store);
    let sure =
        if world.breaks(Breach::UnsettledPointPinned) { view.counts(point) } else { view.settled(point) };
    match view.tiling(view.runs(), point) {
        Some(runs) if sure => {
            let mut next = at(state, ReaderAt::Reading);
            next.reader.todo = view.chunks(runs);
            ("reads the layout: its pin holds", next)
        }
        _ if !sure => ("reads the layout: its point is gone, or not settled yet", at(state, ReaderAt::End)),
        _ if was_given_up(world, state, session) => ("finds that it was given up", at(state, ReaderAt::Done)),
        _ => ("finds no runs that make up its point", at(state, ReaderAt::Failed)),
    }
}

fn read(state: &State, push: &mut impl FnMut(&'static str, What, State)) {
    let Some(chunk) = state.reader.todo.first() else {
        push("has read everything", What::Nothing, at(state, ReaderAt::End));
        return;
    };
    let mut next = *state;
    if state.store.available().has(chunk) {
        next.reader.todo = next.reader.todo.without(chunk);
        next.reader.read = next.reader.read.with(chunk);
        push("reads", What::Chunks(Set::of(&[chunk])), next);
    } else {
        next.reader.at = ReaderAt::Reload;
        push("misses", What::Chunks(Set::of(&[chunk])), next);
    }
}

fn reload(world: &World, state: &State, session: Session, point: Point) -> State {
    let view = world.view(&state.store);
    let runs = view.tiling(view.runs(), point);
    let todo = runs.map(|runs| view.chunks(runs) - state.reader.read);
    match todo.filter(|todo| todo.within(state.store.available())) {
        Some(todo) => {
            let mut next = *state;
            next.reader = Reader { at: ReaderAt::Reading, todo, ..state.reader };
            next
        }
        None if was_given_up(world, state, session) => at(state, ReaderAt::Done),
        None => at(state, ReaderAt::Failed),
    }
}

/// After a day of silence a reader's pin is void: it finds its fence, or later nothing of its session, and
/// may fail.
fn was_given_up(world: &World, state: &State, session: Session) -> bool {
    let fenced = state.store.fences.has(session) || !state.store.open.has(session);
    fenced && !world.breaks(Breach::ReaderDoesNotPin)
}
