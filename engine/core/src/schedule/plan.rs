//! The next job of every flow and the instant by which it must start, whoever else there is. Owns the
//! arithmetic of the due time, the sharing of reads, and the packing of jobs into slots; refuses to start
//! anything.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::SourceName;
use crate::units::Timestamp;

use super::backoff::BACKOFF_MAX;
use super::{Activity, CaptureJob, JobSize, Load, SAFETY_FACTOR, ScheduledFlow};

/// At least this part of its RPO is set aside for a capture: estimates of short captures mean little.
const LEAD_DIVISOR_MIN: u32 = 10;
/// A flow joins a read that starts within this part of its RPO before it is due.
const SHARE_DIVISOR: u32 = 4;
/// However crowded the node is, a capture does not start before this part of its RPO has passed.
const INTERVAL_DIVISOR_MIN: u32 = 2;

/// A job and when it is to start.
#[derive(Debug)]
pub(super) struct PlannedJob {
    pub(super) job: CaptureJob,
    /// The order in which jobs that are due get a slot: when each must start if it were alone.
    pub(super) urgency: Timestamp,
    /// When it must start at the latest; not after `urgency`.
    pub(super) start_by: Timestamp,
    earliest: Timestamp,
}

/// The next job of every flow that is neither paused nor being captured.
pub(super) fn planned_jobs(flows: &[ScheduledFlow], load: Load<'_>, now: Timestamp) -> Vec<PlannedJob> {
    let mut by_source: BTreeMap<_, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in flows.iter().filter_map(|flow| Candidate::new(flow, now)) {
        by_source.entry(&candidate.flow.source).or_default().push(candidate);
    }
    let mut jobs: Vec<_> =
        by_source.into_values().flat_map(|candidates| jobs_of_source(candidates, now)).collect();
    pack(&mut jobs, load);
    jobs
}

/// A flow that can be captured, now or later.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    flow: &'a ScheduledFlow,
    /// When it must start if it were alone.
    due: Timestamp,
    /// The expected duration with its margin.
    duration: Duration,
    /// When a capture must have ended to keep the RPO. A first capture has none.
    deadline: Timestamp,
    has_failed: bool,
}

impl<'a> Candidate<'a> {
    fn new(flow: &'a ScheduledFlow, now: Timestamp) -> Option<Self> {
        let not_before = match flow.activity {
            Activity::Paused | Activity::Capturing => return None,
            Activity::Idle => None,
            // Further away than any backoff lasts, it was computed before the clock went back.
            Activity::BackingOff { until } => Some(until.min(now.saturating_add(BACKOFF_MAX))),
        };
        let duration = with_margin(flow.expected);
        let lead = duration.max(flow.rpo / LEAD_DIVISOR_MIN);
        let (due, deadline) = match flow.durable_scan_start {
            None => (Timestamp::MIN, Timestamp::MAX),
            // The clock went back: what is left of the RPO is not known.
            Some(start) if start > now => (Timestamp::MIN, Timestamp::MIN),
            Some(start) => {
                (start.saturating_add(flow.rpo.saturating_sub(lead)), start.saturating_add(flow.rpo))
            }
        };
        let due = flow.wanted_at.map_or(due, |wanted| due.min(wanted));
        let due = due.max(not_before.unwrap_or(Timestamp::MIN));
        Some(Self { flow, due, duration, deadline, has_failed: not_before.is_some() })
    }

    fn size(&self) -> JobSize {
        let is_predictable = self.flow.durable_scan_start.is_some() && !self.has_failed;
        if is_predictable && self.duration <= self.flow.rpo { JobSize::Short } else { JobSize::Long }
    }

    /// Whether it can take part in a read that may take longer than its own would: one that ends before its
    /// deadline, or, if that has passed, one that is shorter than its RPO.
    fn tolerates(&self, start: Timestamp, duration: Duration) -> bool {
        let ends_in_time = start.saturating_add(duration) <= self.deadline;
        let is_late_anyway = self.deadline < start && duration <= self.flow.rpo;
        duration == self.duration || ends_in_time || is_late_anyway
    }

    /// Before this instant a capture would come too soon after the last one.
    fn earliest(&self) -> Timestamp {
        let pause = self.flow.rpo / INTERVAL_DIVISOR_MIN;
        self.flow.durable_scan_start.map_or(Timestamp::MIN, |start| start.saturating_add(pause))
    }
}

/// A read of a source and those who take part in it.
struct Share<'a> {
    /// The most urgent first.
    members: Vec<Candidate<'a>>,
    /// The longest of theirs.
    duration: Duration,
    /// When it must end if it starts when the most urgent is due.
    end: Timestamp,
}

impl<'a> Share<'a> {
    fn of(leader: Candidate<'a>) -> Self {
        let Candidate { due, duration, .. } = leader;
        Self { members: vec![leader], duration, end: due.saturating_add(duration) }
    }

    /// Takes the candidate in when it is due soon after `start` and nobody suffers; else gives it back.
    fn offer(&mut self, candidate: Candidate<'a>, start: Timestamp) -> Option<Candidate<'a>> {
        let leader = &self.members[0];
        let is_sound = !candidate.has_failed && !leader.has_failed && candidate.size() == leader.size();
        let is_alike = is_sound && candidate.flow.cursor == leader.flow.cursor;
        let is_due_soon = candidate.due <= start.saturating_add(candidate.flow.rpo / SHARE_DIVISOR);
        let duration = self.duration.max(candidate.duration);
        let nobody_suffers =
            self.members.iter().chain([&candidate]).all(|member| member.tolerates(start, duration));
        if !(is_alike && is_due_soon && nobody_suffers) {
            return Some(candidate);
        }
        self.duration = duration;
        self.end = self.end.min(candidate.due.saturating_add(candidate.duration));
        self.members.push(candidate);
        None
    }

    fn into_job(self) -> PlannedJob {
        let leader = &self.members[0];
        let urgency = self.end.saturating_sub(self.duration);
        PlannedJob {
            urgency,
            start_by: urgency,
            earliest: leader.earliest().min(urgency),
            job: CaptureJob {
                source: leader.flow.source.clone(),
                targets: self.members.iter().map(|member| member.flow.target.clone()).collect(),
                size: leader.size(),
                duration: self.duration,
            },
        }
    }
}

/// Forms jobs: the most urgent flow leads, and those that share its read go along.
fn jobs_of_source(mut candidates: Vec<Candidate<'_>>, now: Timestamp) -> Vec<PlannedJob> {
    candidates.sort_by(|a, b| (b.due, &b.flow.target).cmp(&(a.due, &a.flow.target)));
    let mut jobs = Vec::new();
    while let Some(leader) = candidates.pop() {
        let start = leader.due.max(now);
        let mut share = Share::of(leader);
        let offered = candidates.into_iter().rev();
        candidates = offered.filter_map(|candidate| share.offer(candidate, start)).collect();
        candidates.reverse();
        jobs.push(share.into_job());
    }
    jobs
}

/// Moves jobs that would crowd each other forward in time. From the last to the first, each job is laid
/// into the slot that leaves it the latest start, and before the other jobs of its source; what begins then is
/// the latest schedule in which all end in time. Long captures are left out: others do not make room for them.
fn pack(jobs: &mut [PlannedJob], load: Load<'_>) {
    let running: BTreeMap<_, _> = load.running.iter().map(|capture| (&capture.source, capture)).collect();
    let is_short = |job: &PlannedJob| job.job.size == JobSize::Short;
    let may_start_soon =
        |job: &&PlannedJob| running.get(&job.job.source).is_none_or(|capture| capture.size == JobSize::Short);
    let long_count = jobs.iter().filter(|job| !is_short(job)).filter(may_start_soon).count();
    let mut packed: Vec<_> = jobs.iter_mut().filter(|job| is_short(job)).collect();
    packed.sort_by_key(|job| std::cmp::Reverse(job.urgency.saturating_add(job.job.duration)));
    let mut slots = Slot::for_short_jobs(packed.len(), long_count, load);
    let mut sources_free_until: BTreeMap<SourceName, Timestamp> = BTreeMap::new();
    for planned in packed {
        let PlannedJob { job, urgency, earliest, start_by } = planned;
        let source_free_until = sources_free_until.get(&job.source).copied().unwrap_or(Timestamp::MAX);
        let source_busy_until = running.get(&job.source).map_or(Timestamp::MIN, |capture| capture.ends_by);
        let end = urgency.saturating_add(job.duration).min(source_free_until);
        let start = |slot: &Slot| slot.free_until.min(end).saturating_sub(job.duration);
        let is_free = |slot: &Slot| start(slot) >= slot.busy_until.max(source_busy_until);
        // Where it fits behind no running capture, it will be late; the latest start is as good as any. Of
        // slots that are alike to it, it takes the one that is free for the shortest time.
        let suits = |slot: &Slot| (is_free(slot), start(slot), std::cmp::Reverse(slot.free_until));
        let Some(slot) = slots.iter_mut().max_by_key(|slot| suits(slot)) else { return };
        slot.free_until = start(slot);
        *start_by = slot.free_until.clamp(*earliest, *urgency);
        sources_free_until.insert(job.source.clone(), slot.free_until);
    }
}

/// A slot, free from the end of what runs in it to the start of what was laid into it.
struct Slot {
    busy_until: Timestamp,
    free_until: Timestamp,
}

impl Slot {
    /// The slots that `short` jobs can count on, at least one and no more than matter: those where a short
    /// capture is running, and the idle ones less those that `long` jobs may take at any moment.
    fn for_short_jobs(short: usize, long: usize, load: Load<'_>) -> Vec<Self> {
        let mut slots: Vec<_> = load
            .running
            .iter()
            .filter(|capture| capture.size == JobSize::Short)
            .map(|capture| Self { busy_until: capture.ends_by, free_until: Timestamp::MAX })
            .collect();
        let running_long = load.running.len() - slots.len();
        let long = long.min(load.long_slots().saturating_sub(running_long));
        let idle = load.captures_max.get().saturating_sub(load.running.len() + long);
        let idle = idle.min(short).max(usize::from(slots.is_empty()));
        slots.extend((0..idle).map(|_| Self { busy_until: Timestamp::MIN, free_until: Timestamp::MAX }));
        slots
    }
}

fn with_margin(expected: Duration) -> Duration {
    Duration::try_from_secs_f64(expected.as_secs_f64() * SAFETY_FACTOR).unwrap_or(Duration::MAX)
}
