//! A flow as its captures come and go: when the next is due, where it is to look, and what it means that it has ended.

use std::time::Duration;

use backstay_core::clock::Moment;
use backstay_core::rpo::Durable;
use backstay_core::schedule::{Activity, Jitter, ScheduledFlow, backoff, due};
use backstay_core::units::Timestamp;
use backstay_files::touched::Touched;
use backstay_wire::control::{CaptureReport, TargetOutcome};

use super::FlowRecord;
use super::changes::{RESCAN_PERIOD, Why};

/// This part of its RPO before it is due, a flow is due soon.
const SOON_DIVISOR: u32 = 4;

/// A scan of a source that has become durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    /// When it began.
    pub(super) start: Moment,
    /// Of one that has looked only at what was touched: up to when what it made durable is complete.
    pub(super) whole_until: Option<Timestamp>,
    pub(super) took: Duration,
}

impl FlowRecord {
    /// What became of a capture.
    pub(super) fn note(&mut self, outcome: &TargetOutcome, scan: Scan, now: Timestamp, jitter: Jitter) {
        match outcome {
            TargetOutcome::Point { point } | TargetOutcome::Unchanged { point: Some(point) } => {
                if matches!(outcome, TargetOutcome::Point { .. }) && self.onward.is_none() {
                    self.last_point = Some(scan.start.wall);
                }
                self.cursor = point.parse().ok().or(self.cursor);
                self.succeed(scan);
            }
            TargetOutcome::Unchanged { point: None } => self.succeed(scan),
            TargetOutcome::Failed { message, .. } => {
                self.changes.failed();
                self.failures = self.failures.saturating_add(1);
                self.problem = Some(message.clone());
                self.retry_at = Some(now.saturating_add(backoff(self.failures, jitter)));
            }
        }
    }

    fn succeed(&mut self, scan: Scan) {
        if let (None, Some(onward)) = (scan.whole_until, &mut self.onward) {
            onward.captured(scan.start);
        }
        let is_first = self.has_lost || !matches!(self.durable, Durable::Since(_));
        self.changes.succeeded(scan.took, scan.whole_until.is_none());
        match scan.whole_until {
            None => {
                (self.durable, self.durable_steady) = (Durable::Since(scan.start.wall), scan.start.steady);
                if !is_first {
                    self.estimate.observe(scan.took);
                }
                self.problem = None;
            }
            Some(until) => {
                if self.durable != Durable::Since(until) {
                    (self.durable, self.durable_steady) = (Durable::Since(until), None);
                }
                if self.failures > 0 {
                    self.problem = None;
                }
            }
        }
        self.captures += 1;
        self.has_lost = false;
        self.failures = 0;
        self.retry_at = None;
    }

    /// A capture begins; where it is to look. Everywhere, unless it is begun only because of changes that were seen, and what
    /// the objective asks for is not due soon: it would have to wait until this one has ended.
    pub(super) fn begin(&mut self, is_asked: bool, now: Moment) -> Touched {
        let scheduled = self.scheduled(now);
        let is_wanted = scheduled.wanted_at.is_some_and(|wanted| wanted <= now.wall);
        let unseen = ScheduledFlow { wanted_at: None, ..scheduled };
        let soon = now.wall.saturating_add(unseen.rpo / SOON_DIVISOR);
        let is_due = !due(std::slice::from_ref(&unseen), soon).is_empty();
        self.capturing = true;
        let is_by_changes = is_wanted && !is_due && !is_asked && self.failures == 0;
        let why = if is_by_changes { Why::Changes } else { Why::Due };
        self.changes.begin(why, self.rpo, now.wall)
    }

    /// What was captured with defects is captured, and still to be looked at.
    pub(super) fn note_defects(&mut self, report: &CaptureReport) {
        if self.problem.is_none() && report.defects > 0 {
            let first = report.warnings.first().map_or("", String::as_str);
            self.problem = Some(format!("{} entries are not as they should be; {first}", report.defects));
        }
    }

    /// For the schedule.
    pub(super) fn scheduled(&self, now: Moment) -> ScheduledFlow {
        let activity = match (self.capturing, self.retry_at) {
            (true, _) => Activity::Capturing,
            (false, Some(until)) => Activity::BackingOff { until },
            (false, None) => Activity::Idle,
        };
        // Whatever becomes of it behind the vault that it is captured to.
        let durable = match self.durable {
            Durable::Since(start) => Some(self.as_seen_from(now, start)),
            Durable::Nothing | Durable::Unknown => None,
        };
        ScheduledFlow {
            source: self.source.clone(),
            target: self.target.clone(),
            rpo: if self.is_looked_after() { self.rpo.min(RESCAN_PERIOD) } else { self.rpo },
            cursor: self.cursor,
            // After a loss as before the first capture: due at once, and nobody knows how long it takes.
            durable_scan_start: durable.filter(|_| !self.has_lost),
            expected: self.estimate.expected(),
            wanted_at: self.changes.wanted_at(self.rpo, now.wall),
            activity,
        }
    }

    /// Whether it is the one of its source by which what no watcher sees is captured within [`RESCAN_PERIOD`].
    fn is_looked_after(&self) -> bool {
        self.changes.is_watched && self.is_fastest
    }
}
