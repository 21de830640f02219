//! The rules of the schedule one by one, and what must hold for any state.

mod simulation;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u32) -> Timestamp {
    Timestamp::from_seconds(1_000_000).saturating_add(MINUTE * minutes)
}

/// A flow with an RPO of 15 minutes, captured last at `at(0)` in no time.
fn flow(source: &str, target: &str) -> ScheduledFlow {
    ScheduledFlow {
        source: source.parse().unwrap(),
        target: Target::Vault(target.parse().unwrap()),
        rpo: 15 * MINUTE,
        cursor: Some(PointId::new([1; 16])),
        durable_scan_start: Some(at(0)),
        expected: Duration::ZERO,
        wanted_at: None,
        activity: Activity::Idle,
    }
}

fn idle(captures_max: usize) -> Load<'static> {
    busy(captures_max, &[])
}

fn busy(captures_max: usize, running: &[RunningCapture]) -> Load<'_> {
    Load { captures_max: NonZeroUsize::new(captures_max).unwrap(), running }
}

/// A capture of a source that no other flow here has.
fn running(size: JobSize, ends_by: Timestamp) -> RunningCapture {
    running_of("busy.files", size, ends_by)
}

fn running_of(source: &str, size: JobSize, ends_by: Timestamp) -> RunningCapture {
    RunningCapture { source: source.parse().unwrap(), size, ends_by }
}

/// The jobs as `source: target target`.
fn started(decision: &Decision) -> Vec<String> {
    let job = |job: &CaptureJob| {
        let targets: Vec<_> = job.targets.iter().map(Target::as_str).collect();
        format!("{}: {}", job.source, targets.join(" "))
    };
    decision.start.iter().map(job).collect()
}

/// A job of flows that are captured in no time.
fn joined(source: &str, targets: &[&str]) -> CaptureJob {
    CaptureJob {
        source: source.parse().unwrap(),
        targets: targets.iter().map(|target| Target::Vault(target.parse().unwrap())).collect(),
        size: JobSize::Short,
        duration: Duration::ZERO,
    }
}

fn decide_idle(flows: &[ScheduledFlow], minutes: u32) -> Vec<String> {
    started(&decide(flows, idle(4), at(minutes)))
}

#[test]
fn a_capture_starts_so_early_that_it_ends_within_the_rpo() {
    let flows = [ScheduledFlow { expected: 4 * MINUTE, ..flow("a.files", "local") }];
    let early = decide(&flows, idle(1), at(8));
    assert_eq!((started(&early), early.wake_at), (vec![], Some(at(9))));
    assert_eq!(started(&decide(&flows, idle(1), at(9))), ["a.files: local"]);
}

#[test]
fn a_tenth_of_the_rpo_is_set_aside_however_short_captures_are() {
    let decision = decide(&[flow("a.files", "local")], idle(1), at(0));
    assert_eq!(decision.wake_at, Some(at(0).saturating_add(Duration::from_secs(15 * 60 - 90))));
}

#[test]
fn what_was_never_captured_is_captured_at_once() {
    let flows = [ScheduledFlow { cursor: None, durable_scan_start: None, ..flow("a.files", "local") }];
    let decision = decide(&flows, idle(1), at(0));
    assert_eq!(decision.start[0].size, JobSize::Long);
}

#[test]
fn paused_and_running_flows_are_left_alone() {
    let mut flows = [flow("a.files", "local"), flow("b.files", "local")];
    flows[0].activity = Activity::Paused;
    flows[1].activity = Activity::Capturing;
    let decision = decide(&flows, idle(4), at(10_000));
    assert_eq!((decision.start, decision.wake_at), (vec![], None));
}

#[test]
fn the_most_urgent_goes_first_when_slots_are_few() {
    let late = ScheduledFlow { durable_scan_start: Some(at(3)), ..flow("a.files", "local") };
    let flows = [late, flow("b.files", "local")];
    assert_eq!(started(&decide(&flows, idle(1), at(60))), ["b.files: local"]);
    assert_eq!(started(&decide(&flows, idle(2), at(60))), ["b.files: local", "a.files: local"]);
    let two = ["y.files", "z.files"].map(|source| running_of(source, JobSize::Short, at(61)));
    let decision = decide(&flows, busy(2, &two), at(60));
    assert_eq!((decision.start, decision.wake_at), (vec![], None));
}

#[test]
fn flows_at_one_cursor_that_are_due_soon_share_a_read() {
    let soon = ScheduledFlow { rpo: 18 * MINUTE, ..flow("a.files", "twin") };
    assert_eq!(decide_idle(&[flow("a.files", "local"), soon.clone()], 14), ["a.files: local twin"]);

    let not_soon = ScheduledFlow { rpo: 60 * MINUTE, ..soon.clone() };
    assert_eq!(decide_idle(&[flow("a.files", "local"), not_soon], 14), ["a.files: local"]);

    let elsewhere = ScheduledFlow { cursor: Some(PointId::new([2; 16])), ..soon };
    let flows = [flow("a.files", "local"), elsewhere];
    assert_eq!(decide_idle(&flows, 17), ["a.files: local"]);
    assert_eq!(due(&flows, at(17)), [joined("a.files", &["local", "twin"])]);
}

#[test]
fn flows_that_are_late_together_share_a_read_unless_one_takes_too_long() {
    let slower =
        |minutes| ScheduledFlow { expected: minutes * MINUTE, rpo: 60 * MINUTE, ..flow("a.files", "twin") };
    assert_eq!(decide_idle(&[flow("a.files", "local"), slower(5)], 600), ["a.files: local twin"]);
    assert_eq!(decide_idle(&[flow("a.files", "local"), slower(30)], 600), ["a.files: local"]);
}

#[test]
fn a_target_that_failed_reads_for_itself() {
    let failed =
        ScheduledFlow { activity: Activity::BackingOff { until: at(14) }, ..flow("a.files", "twin") };
    assert_eq!(decide_idle(&[flow("a.files", "local"), failed], 14), ["a.files: local"]);
}

#[test]
fn a_slow_target_does_not_join_a_quick_one() {
    let slow = ScheduledFlow { rpo: 60 * MINUTE, expected: 35 * MINUTE, ..flow("a.files", "offsite") };
    assert_eq!(decide_idle(&[flow("a.files", "local"), slow], 14), ["a.files: offsite"]);
}

#[test]
fn a_failed_flow_waits_for_its_backoff_behind_those_that_wait_already() {
    let failed =
        ScheduledFlow { activity: Activity::BackingOff { until: at(20) }, ..flow("a.files", "local") };
    let flows = [failed, ScheduledFlow { durable_scan_start: Some(at(1)), ..flow("b.files", "local") }];
    let decision = decide(&flows, idle(1), at(19));
    assert_eq!((started(&decision), decision.wake_at), (vec!["b.files: local".into()], Some(at(20))));
    assert_eq!(started(&decide(&flows, idle(1), at(20))), ["b.files: local"]);
    assert_eq!(started(&decide(&flows, idle(2), at(20))), ["b.files: local", "a.files: local"]);
}

#[test]
fn long_captures_leave_one_slot_free() {
    let seed = |source| ScheduledFlow { cursor: None, durable_scan_start: None, ..flow(source, "local") };
    let slow = ScheduledFlow { expected: 20 * MINUTE, ..flow("c.files", "local") };
    let flows = [seed("a.files"), seed("b.files"), slow, flow("d.files", "local")];
    assert_eq!(
        started(&decide(&flows, idle(3), at(30))),
        ["a.files: local", "b.files: local", "d.files: local"]
    );
    let one = [running(JobSize::Long, at(90))];
    assert_eq!(started(&decide(&flows, busy(2, &one), at(30))), ["d.files: local"]);
    assert_eq!(started(&decide(&flows, idle(1), at(30))), ["a.files: local"]);
}

#[test]
fn a_crowd_starts_early_enough_to_fit_through_the_slots() {
    let names = ["a.files", "b.files", "c.files"];
    let flows = names.map(|name| ScheduledFlow { expected: 2 * MINUTE, ..flow(name, "local") });
    // Each takes 3 minutes with its margin: one after the other they end at 15 when the first starts at 6,
    // but none starts before half of its RPO.
    let decision = decide(&flows, idle(1), at(0));
    assert_eq!((decision.start, decision.wake_at), (vec![], Some(at(0).saturating_add(15 * MINUTE / 2))));
    assert_eq!(decide(&flows, idle(2), at(0)).wake_at, Some(at(9)));
    assert_eq!(decide(&flows, idle(3), at(0)).wake_at, Some(at(12)));
    // A slot counts from the end of the capture that is running in it, a long one's not at all.
    let until_14 = [running(JobSize::Short, at(14))];
    assert_eq!(decide(&flows, busy(3, &until_14), at(0)).wake_at, Some(at(9)));
    let until_12 = [running(JobSize::Short, at(12))];
    assert_eq!(decide(&flows, busy(3, &until_12), at(0)).wake_at, Some(at(12)));
    let long = [running(JobSize::Long, at(12))];
    assert_eq!(decide(&flows, busy(3, &long), at(0)).wake_at, Some(at(9)));
}

#[test]
fn a_source_that_is_being_captured_takes_no_slot_from_others() {
    let first = |target| ScheduledFlow { cursor: None, durable_scan_start: None, ..flow("a.files", target) };
    let slow = ScheduledFlow { activity: Activity::Capturing, ..first("slow") };
    let flows = [slow, flow("a.files", "local"), first("usb"), flow("b.files", "local")];
    let one = [running_of("a.files", JobSize::Long, at(0))];
    let decision = decide(&flows, busy(2, &one), at(600));
    assert_eq!((started(&decision), decision.wake_at), (vec!["b.files: local".into()], None));
    // Nor do its due flows wake the node again and again.
    let decision = decide(&flows[..3], busy(2, &one), at(0));
    assert_eq!((decision.start, decision.wake_at), (vec![], None));
}

#[test]
fn a_long_capture_is_not_passed_while_a_short_one_of_its_source_runs() {
    let first = |source| ScheduledFlow { cursor: None, durable_scan_start: None, ..flow(source, "usb") };
    let flows = [first("a.files"), first("b.files")];
    let until_5 = [running_of("a.files", JobSize::Short, at(5))];
    let decision = decide(&flows, busy(2, &until_5), at(4));
    assert_eq!((decision.start, decision.wake_at), (vec![], Some(at(5))));
    assert_eq!(started(&decide(&flows, busy(2, &until_5), at(5))), ["b.files: usb"], "it is over its time");
    assert_eq!(
        started(&decide(&flows, busy(3, &until_5), at(4))),
        ["b.files: usb"],
        "there is room for both"
    );
}

#[test]
fn jobs_of_one_source_are_planned_one_after_the_other() {
    let at_cursor = |n, target| ScheduledFlow {
        cursor: Some(PointId::new([n; 16])),
        expected: 2 * MINUTE,
        ..flow("a.files", target)
    };
    let flows = [at_cursor(1, "local"), at_cursor(2, "twin")];
    // 3 minutes each with the margin, before 15, however many slots there are.
    assert_eq!(decide(&flows, idle(3), at(0)).wake_at, Some(at(9)));
}

#[test]
fn what_is_due_is_one_job_for_each_source() {
    let other = ScheduledFlow { cursor: Some(PointId::new([2; 16])), ..flow("a.files", "twin") };
    let late = ScheduledFlow { durable_scan_start: Some(at(13)), ..flow("a.files", "usb") };
    let flows = [flow("b.files", "local"), other, late, flow("a.files", "local")];
    assert_eq!(due(&flows, at(13)), []);
    let both = [joined("a.files", &["local", "twin"]), joined("b.files", &["local"])];
    assert_eq!(due(&flows, at(14)), both);
}

#[test]
fn after_the_clock_went_back_everything_is_captured_again() {
    let mut backing_off = flow("b.files", "local");
    backing_off.activity = Activity::BackingOff { until: at(5000) };
    let flows =
        [ScheduledFlow { durable_scan_start: Some(at(5000)), ..flow("a.files", "local") }, backing_off];
    let decision = decide(&flows, idle(4), at(100));
    assert_eq!(started(&decision), ["a.files: local"]);
    assert_eq!(decision.wake_at, Some(at(100).saturating_add(BACKOFF_MAX)));
}

fn any_flow() -> impl Strategy<Value = ScheduledFlow> {
    let activity = prop_oneof![
        4 => Just(Activity::Idle),
        1 => Just(Activity::Paused),
        1 => Just(Activity::Capturing),
        1 => (0u32..200).prop_map(|minutes| Activity::BackingOff { until: at(minutes) }),
    ];
    let last = proptest::option::weighted(0.9, 0u32..200);
    let wanted = proptest::option::weighted(0.2, 0u32..200);
    ((0u8..4, 0u8..3), 0u8..3, 1u32..120, last, 0u32..60, wanted, activity).prop_map(
        |((source, target), cursor, rpo, last, expected, wanted, activity)| ScheduledFlow {
            source: format!("s{source}.files").parse().unwrap(),
            target: Target::Vault(format!("v{target}").parse().unwrap()),
            rpo: rpo * MINUTE,
            cursor: last.map(|_| PointId::new([cursor; 16])),
            durable_scan_start: last.map(at),
            expected: expected * MINUTE,
            wanted_at: wanted.map(at),
            activity,
        },
    )
}

fn any_flows() -> impl Strategy<Value = Vec<ScheduledFlow>> {
    proptest::collection::vec(any_flow(), 0..12).prop_map(|mut flows| {
        let mut seen = BTreeSet::new();
        flows.retain(|flow| seen.insert((flow.source.clone(), flow.target.clone())));
        flows
    })
}

proptest! {
    #[test]
    fn only_flows_that_may_run_are_started_once_and_within_the_slots(
        flows in any_flows(), captures_max in 1usize..5, running_count in 0usize..5, now in 0u32..200
    ) {
        // Some of sources that have flows here, some not.
        let running: Vec<_> = (0..running_count)
            .map(|n| running_of(&format!("s{}.files", n + 2), JobSize::Short, at(now + 1)))
            .collect();
        let decision = decide(&flows, busy(captures_max, &running), at(now));
        let mut sources: BTreeSet<_> = running.iter().map(|capture| &capture.source).collect();
        prop_assert!(decision.start.iter().all(|job| sources.insert(&job.source)), "two captures of a source");
        prop_assert!(decision.start.len() <= captures_max.saturating_sub(running_count));
        let mut seen = BTreeSet::new();
        for (job, target) in decision.start.iter().flat_map(|job| job.targets.iter().map(move |t| (job, t))) {
            prop_assert!(seen.insert((&job.source, target)), "{target} of {} is started twice", job.source);
            let started = flows.iter().find(|flow| flow.source == job.source && flow.target == *target);
            let may_run = match started.expect("a flow that was given").activity {
                Activity::Idle => true,
                Activity::BackingOff { until } => until <= at(now),
                Activity::Paused | Activity::Capturing => false,
            };
            prop_assert!(may_run, "{target} of {} was started", job.source);
        }
        prop_assert!(decision.start.iter().all(|job| !job.targets.is_empty()));
    }

    #[test]
    fn a_flow_is_started_or_the_wake_up_comes_in_time_for_it(flows in any_flows(), now in 0u32..200) {
        let decision = decide(&flows, idle(100), at(now));
        prop_assert!(decision.wake_at.is_none_or(|wake_at| wake_at > at(now)));
        for flow in flows.iter().filter(|flow| flow.activity == Activity::Idle) {
            let is_started =
                decision.start.iter().any(|job| job.source == flow.source && job.targets.contains(&flow.target));
            let wakes_in_time = flow.durable_scan_start.is_some_and(|last| {
                let latest_start = last.saturating_add(flow.rpo.saturating_sub(flow.expected));
                decision.wake_at.is_some_and(|wake_at| wake_at <= latest_start)
            });
            let waits_for_its_source = decision.start.iter().any(|job| job.source == flow.source);
            prop_assert!(is_started || waits_for_its_source || wakes_in_time, "{flow:?} waits, wake-up {:?}", decision.wake_at);
        }
    }

    #[test]
    fn with_few_slots_the_wake_up_is_still_after_now(flows in any_flows(), now in 0u32..200) {
        let wake_at = decide(&flows, idle(1), at(now)).wake_at;
        prop_assert!(wake_at.is_none_or(|wake_at| wake_at > at(now)));
    }
}

#[test]
fn a_change_that_was_seen_brings_a_capture_forward_but_never_before_a_backoff_ends() {
    let now = at(1);
    let quiet = flow("a.files", "local");
    let load = Load { captures_max: NonZeroUsize::MIN, running: &[] };
    assert!(decide(std::slice::from_ref(&quiet), load, now).start.is_empty());
    let changed = ScheduledFlow { wanted_at: Some(at(2)), ..quiet.clone() };
    let decision = decide(std::slice::from_ref(&changed), load, now);
    assert_eq!((decision.start.len(), decision.wake_at), (0, Some(at(2))));
    assert_eq!(decide(std::slice::from_ref(&changed), load, at(2)).start.len(), 1);
    let failed = ScheduledFlow { activity: Activity::BackingOff { until: at(4) }, ..changed };
    assert!(decide(std::slice::from_ref(&failed), load, at(3)).start.is_empty());
    let late = ScheduledFlow { wanted_at: Some(at(20)), ..quiet };
    assert_eq!(decide(&[late], load, at(14)).start.len(), 1, "a later wish delays nothing");
}
