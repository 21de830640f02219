//! An exhaustive model of the vault's commit and collection: every order in which a few writers, copiers, a reader,
//! custodians (who collect, thin, bring back and repair), crashes, late PUTs and a disk that loses something can meet over a store that knows put, get, list and delete only. No
//! state may lose a point; see `properties`.
//!
//! What a step is: one request to the store, or one listing. Between any two steps everybody else may take
//! any number of theirs, so a process that takes no step for a while is asleep, and its day of grace may
//! end at any moment.
//!
//! What is left out, and why that is sound:
//! - Chunks of data and records of runs are one kind of thing, as they are to packs, index objects and
//!   collection.
//! - An index object lists its packs completely; entries go and stay by pack.
//! - A listing happens at one instant. A paged one does not, but each rule orders what happens to one object
//!   against the beginning or the end of a listing, never one object of a listing against another.
//! - A custodian goes straight on where there is nothing to do in a step, and deletes objects of a kind in one
//!   order: having deleted others of them would leave a state between two that are walked.
//! - Heads, journals and proofs: nothing here is decided by them.
//!
//! `holds` walks scenes with all rules kept; `breaks` breaks one rule at a time and expects the loss that
//! the rule prevents, so the model is known to see it. A counterexample prints as the shortest list of
//! steps.

mod announce;
mod breaks;
mod custodian;
mod damage;
mod decide;
mod delete;
mod fingerprint;
mod holds;
mod late;
mod mark;
mod operator;
mod properties;
mod reader;
mod renew;
mod repair;
mod restart;
mod rules;
mod scene;
mod scenes;
mod search;
mod sets;
mod state;
mod step;
mod store;
mod thinning;
mod undelete;
mod view;
mod wait;
mod writer;

use rules::World;
use state::{CUSTODIANS, NODES, State};
use step::Steps;

impl World {
    /// Every step that anybody can take next.
    fn steps(&self, state: &State, out: &mut Steps) {
        for number in 0..NODES {
            writer::steps(self, state, number, out);
        }
        reader::steps(self, state, out);
        for number in 0..CUSTODIANS {
            custodian::steps(self, state, number, out);
        }
        operator::steps(self, state, out);
        damage::steps(state, out);
        late::steps(self, state, out);
    }
}
