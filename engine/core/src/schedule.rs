//! What to capture next: a pure decision over the state of all flows.
//!
//! Owns when a capture must start so that it ends within its RPO, which flows share one read of their source,
//! and who goes first when there are more captures than slots. Starts nothing, reads no clock and draws no
//! random numbers: the shell around it does, and calls again when a capture ends, a flow changes, or the
//! wake-up time comes.
//!
//! Rules, in the order in which they apply:
//! 1. A flow is due early enough for [`SAFETY_FACTOR`] times its expected duration, and at least a tenth of
//!    its RPO. When many flows of one node come due together they start still earlier, so that all fit
//!    through the slots, but never before half of their RPO.
//! 2. Earliest due first. A flow that failed is due again when its backoff ends, so it goes behind those that
//!    wait already, and nobody starves.
//! 3. Flows of one source share a read when they stand at the same cursor, none has failed, and both are due
//!    soon. All others read for themselves: nobody waits for an unreachable or slow target.
//! 4. Long captures (first ones, those after a failure, and those expected to take longer than their RPO)
//!    leave one slot free where there are several.

mod backoff;
mod estimate;
mod plan;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::{SourceName, Target};
use crate::id::PointId;
use crate::units::Timestamp;

pub use backoff::{BACKOFF_MAX, BACKOFF_MIN, Jitter, backoff};
pub use estimate::DurationEstimate;

/// How much longer than expected a capture may take and still end within its RPO.
pub const SAFETY_FACTOR: f64 = 1.5;

/// A flow, as far as the schedule depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledFlow {
    /// Its source.
    pub source: SourceName,
    /// Its target.
    pub target: Target,
    /// Its recovery point objective.
    pub rpo: Duration,
    /// The point from which its next capture goes on; none before the first.
    pub cursor: Option<PointId>,
    /// When the last capture started that is durable on the target; none before the first.
    pub durable_scan_start: Option<Timestamp>,
    /// How long its next capture is expected to take; see [`DurationEstimate`].
    pub expected: Duration,
    /// What it does now.
    pub activity: Activity,
}

/// What a flow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It waits to be due.
    Idle,
    /// Its last attempt failed; it is not tried again before this instant. See [`backoff()`].
    BackingOff {
        /// The instant.
        until: Timestamp,
    },
    /// A capture for it is in progress.
    Capturing,
    /// The operator paused it.
    Paused,
}

/// How busy the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load<'a> {
    /// How many captures may be in progress at once.
    pub captures_max: NonZeroUsize,
    /// Those that are; see [`CaptureJob::started_at`].
    pub running: &'a [RunningCapture],
}

impl Load<'_> {
    /// How many long captures may be in progress at once.
    fn long_slots(&self) -> usize {
        (self.captures_max.get() - 1).max(1)
    }
}

/// A capture in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningCapture {
    /// The size of its job.
    pub size: JobSize,
    /// When it ends, if it takes no longer than expected and the margin.
    pub ends_by: Timestamp,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The captures to start now, the most urgent first.
    pub start: Vec<CaptureJob>,
    /// When to decide again at the latest, if nothing happens before; always later than `now`. Jobs that
    /// are due and wait for a slot are not counted: the end of a capture is an event anyway.
    pub wake_at: Option<Timestamp>,
}

/// One read of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureJob {
    /// The source.
    pub source: SourceName,
    /// The targets that it feeds, the most urgent first; at least one.
    pub targets: Vec<Target>,
    /// Whether it may keep others waiting for long.
    pub size: JobSize,
    /// How long it is expected to take, with the margin.
    pub duration: Duration,
}

impl CaptureJob {
    /// What to put into [`Load::running`] from its start to its end.
    pub fn started_at(&self, start: Timestamp) -> RunningCapture {
        RunningCapture { size: self.size, ends_by: start.saturating_add(self.duration) }
    }
}

/// Whether a capture may keep others waiting for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSize {
    /// It is expected to fit into its RPO.
    Short,
    /// It is expected not to fit, or nobody knows: a first capture, or one after a failure.
    Long,
}

/// Decides what to start at `now`.
pub fn decide(flows: &[ScheduledFlow], load: Load<'_>, now: Timestamp) -> Decision {
    let mut jobs = plan::planned_jobs(flows, load, now);
    jobs.sort_by_key(|job| job.urgency);
    let slots = load.captures_max.get();
    let mut running = load.running.len();
    let mut running_long = load.running.iter().filter(|capture| capture.size == JobSize::Long).count();
    let mut decision = Decision { start: Vec::new(), wake_at: None };
    for planned in jobs {
        if planned.start_by > now {
            let wake_at = decision.wake_at.map_or(planned.start_by, |at: Timestamp| at.min(planned.start_by));
            decision.wake_at = Some(wake_at);
            continue;
        }
        let is_long = planned.job.size == JobSize::Long;
        if running < slots && !(is_long && running_long >= load.long_slots()) {
            running += 1;
            running_long += usize::from(is_long);
            decision.start.push(planned.job);
        }
    }
    decision
}
