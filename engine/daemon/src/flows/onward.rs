//! A flow to a vault that its hub writes to: captured to this node's vault there, and durable when the hub has copied it on.

use std::collections::VecDeque;

use backstay_core::clock::{Moment, SteadyTime};
use backstay_core::rpo::Durable;
use backstay_core::units::Timestamp;
use backstay_wire::peer::Standing;

use super::FlowRecord;
use crate::flow_proofs::FlowProofs;

/// How far it has come behind the vault to which it is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Onward {
    /// What the vault has for which it is meant.
    pub(super) durable: Durable,
    /// By the clock that nobody sets, when the scan has begun that this tells of.
    steady: Option<SteadyTime>,
    /// When the last scans have begun that were captured: which of them is there, the hub says by the wall clock.
    scans: VecDeque<Moment>,
    /// What keeps it from going on.
    pub(super) problem: Option<String>,
}

/// Scans that are remembered.
const SCANS_MAX: usize = 64;

impl Onward {
    /// Of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self { durable: Durable::Unknown, steady: None, scans: VecDeque::new(), problem: None }
    }

    /// What a scan has found that began then was captured.
    pub(super) fn captured(&mut self, began: Moment) {
        if self.scans.len() == SCANS_MAX {
            self.scans.pop_front();
        }
        self.scans.push_back(began);
    }

    /// What is durable, as the clock shows the time now.
    pub(super) fn as_seen_from(&self, now: Moment) -> Durable {
        match self.durable {
            Durable::Since(start) => {
                Durable::Since(Moment { wall: start, steady: self.steady }.as_seen_from(now))
            }
            other => other,
        }
    }
}

impl FlowRecord {
    /// Whether something was captured that is not where it is meant to be, as far as is known.
    pub(super) fn is_outstanding(&self) -> bool {
        let Some(onward) = &self.onward else { return false };
        match (self.durable, onward.durable) {
            (Durable::Since(captured), Durable::Since(there)) => there < captured,
            (Durable::Since(_), _) => true,
            _ => false,
        }
    }

    /// Notes what the hub says, or why it says nothing: what was there is there still.
    pub(super) fn stands(&mut self, standing: Result<Standing, String>) {
        let Some(onward) = &mut self.onward else { return };
        let standing = match standing {
            Ok(standing) => standing,
            Err(why) => {
                onward.problem = Some(format!("it is not known how far its hub has copied it on: {why}"));
                return;
            }
        };
        let durable = match standing.until_nanos {
            Some(nanos) => Durable::Since(Timestamp::from_nanos(nanos)),
            None => Durable::Nothing,
        };
        if durable != onward.durable {
            let scan = onward.scans.iter().rev().find(|scan| Durable::Since(scan.wall) == durable);
            onward.steady = scan.and_then(|scan| scan.steady);
        }
        onward.durable = durable;
        onward.problem = standing.problem;
        self.last_point = standing.newest.map(|newest| Timestamp::from_nanos(newest.time_nanos));
        self.proofs = FlowProofs::of_told(&standing.proofs);
    }
}
