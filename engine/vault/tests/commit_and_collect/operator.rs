//! The operator, who makes a second custodian that of the next term: after taking the credentials of the
//! first away, or without.

use crate::custodian::{self, Keeper};
use crate::rules::World;
use crate::scene::Takeover;
use crate::state::{Custodian, Duty, State};
use crate::step::{Actor, Steps, What};

pub(crate) fn steps(world: &World, state: &State, out: &mut Steps) {
    if world.scene.takeover == Takeover::Never || state.term == 1 {
        return;
    }
    let mut next = *state;
    next.term = 1;
    next.custodians[1] = Custodian { at: Duty::Idle, ..Custodian::default() };
    if world.scene.takeover == Takeover::WithoutRevocation {
        return out.push(Actor::Operator, "signs the next term for custodian 2", What::Nothing, next);
    }
    next.custodians[0] = Custodian::default();
    out.push(Actor::Operator, "revokes custodian 1, then signs the next term", What::Nothing, next);
    let first = Keeper::new(world, state, 0);
    if let Some(late) = custodian::under_way(&first).or_else(|| custodian::layout_under_way(&first))
        && next.leave_behind(late)
    {
        out.push(
            Actor::Operator,
            "revokes custodian 1 with a PUT under way, then signs",
            What::Nothing,
            next,
        );
    }
}
