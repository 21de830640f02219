//! One step of the world: a single request to the store, or a crash, and the state after it.

use std::fmt;

use crate::sets::{Chunk, Pack, Point, Session, Set};
use crate::state::State;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) actor: Actor,
    pub(crate) does: &'static str,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Actor {
    Node(usize),
    Reader,
    Custodian(usize),
    Operator,
    Network,
    Disk,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Nothing,
    Chunks(Set<Chunk>),
    Packs(Set<Pack>),
    Sessions(Set<Session>),
    Points(Set<Point>),
}

/// The steps that are possible in one state.
#[derive(Default)]
pub(crate) struct Steps(pub(crate) Vec<(Step, State)>);

impl Steps {
    pub(crate) fn push(&mut self, actor: Actor, does: &'static str, what: What, mut after: State) {
        after.keep_account();
        self.0.push((Step { actor, does, what }, after));
    }
}

pub(crate) fn session(session: Session) -> What {
    What::Sessions(Set::of(&[session]))
}

pub(crate) fn pack(pack: Pack) -> What {
    What::Packs(Set::of(&[pack]))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.actor {
            Actor::Node(number) => write!(f, "node {number}: ")?,
            Actor::Reader => f.write_str("reader: ")?,
            Actor::Custodian(number) => write!(f, "custodian {}: ", number + 1)?,
            Actor::Operator => f.write_str("operator: ")?,
            Actor::Disk => f.write_str("disk: ")?,
            Actor::Network => f.write_str("network: ")?,
        }
        f.write_str(self.does)?;
        match self.what {
            What::Nothing => Ok(()),
            What::Chunks(set) => write!(f, " {set}"),
            What::Packs(set) => write!(f, " {set}"),
            What::Sessions(set) => write!(f, " {set}"),
            What::Points(set) => write!(f, " {set}"),
        }
    }
}
