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
//!    A change that was seen brings a flow forward.
//! 2. Earliest due first. A flow that failed is due again when its backoff ends, so it goes behind those that
//!    wait already, and nobody starves.
//! 3. Flows of one source share a read when they stand at the same cursor, none has failed, and both are due
//!    soon. All others read for themselves, one after the other: captures of one source use the same local
//!    state. So a slow target can keep the other targets of its source waiting, but no other source.
//! 4. Long captures (first ones, those after a failure, and those expected to take longer than their RPO)
//!    leave one slot free where there are several. The most urgent of them is not passed over because a short
//!    capture of its source happens to run: others leave it a slot until that should have ended.

mod backoff;
mod estimate;
mod pace;
mod plan;
mod slots;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::{SourceName, Target};
use crate::id::PointId;
use crate::units::Timestamp;

use plan::PlannedJob;
use slots::Slots;

pub use backoff::{BACKOFF_MAX, BACKOFF_MIN, Jitter, backoff};
pub use estimate::DurationEstimate;
pub use pace::{Pace, Period, SETTLE};

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
    /// When a change that was seen is to be captured, if any was; see [`Pace`].
    pub wanted_at: Option<Timestamp>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCapture {
    /// The source that it reads; no other capture of it starts meanwhile.
    pub source: SourceName,
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
    /// are due and wait for a slot, and those of a source that is being captured, are not counted: the end of
    /// a capture is an event anyway.
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
    /// Takes in a job that is done after it in the same capture.
    fn join(&mut self, later: Self) {
        self.targets.extend(later.targets);
        self.duration = self.duration.saturating_add(later.duration);
        if later.size == JobSize::Long {
            self.size = JobSize::Long;
        }
    }

    /// What to put into [`Load::running`] from its start to its end.
    pub fn started_at(&self, start: Timestamp) -> RunningCapture {
        RunningCapture {
            source: self.source.clone(),
            size: self.size,
            ends_by: start.saturating_add(self.duration),
        }
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

/// Decides what to start at `now`: no more than the free slots hold, and one capture of each source.
pub fn decide(flows: &[ScheduledFlow], load: Load<'_>, now: Timestamp) -> Decision {
    let mut jobs = plan::planned_jobs(flows, load, now);
    jobs.sort_by_key(|job| job.urgency);
    let mut slots = Slots::of(load);
    let mut decision = Decision { start: Vec::new(), wake_at: None };
    let mut wake = |at: Timestamp| decision.wake_at = Some(decision.wake_at.map_or(at, |wake| wake.min(at)));
    for PlannedJob { job, start_by, .. } in jobs {
        // Neither a slot nor a wake-up is for a job that cannot start before another of its source ends.
        if slots.is_busy(&job.source) {
            if start_by <= now && job.size == JobSize::Long {
                slots.keep_a_long_one_for(&job.source, now).into_iter().for_each(&mut wake);
            }
        } else if start_by > now {
            wake(start_by);
        } else if slots.have_room_for(job.size) {
            slots.take(job.started_at(now));
            decision.start.push(job);
        }
    }
    decision
}

/// What is due at `now`, were there as many slots as sources: one job for each source that has something due,
/// in order of their names.
pub fn due(flows: &[ScheduledFlow], now: Timestamp) -> Vec<CaptureJob> {
    let load = Load { captures_max: NonZeroUsize::MAX, running: &[] };
    let mut jobs = plan::planned_jobs(flows, load, now);
    jobs.retain(|planned| planned.start_by <= now);
    jobs.sort_by(|a, b| (&a.job.source, a.urgency).cmp(&(&b.job.source, b.urgency)));
    jobs.into_iter().fold(Vec::new(), |mut due: Vec<CaptureJob>, planned| {
        match due.last_mut().filter(|last| last.source == planned.job.source) {
            Some(last) => last.join(planned.job),
            None => due.push(planned.job),
        }
        due
    })
}
