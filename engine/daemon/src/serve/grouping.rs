//! Captures that commit together (the vault's group commit): for how long they wait for each other, which are begun a little early
//! because others to the same vault are under way, and when nobody else is to be waited for. Pure decisions; starting and closing is
//! the captures'.

use std::collections::BTreeSet;
use std::time::Duration;

use backstay_core::config::Target;
use backstay_core::schedule::{Activity, CaptureJob, JobSize, ScheduledFlow};

use super::running::Running;

/// Others are waited for so long at most.
const GROUP_TIME_MAX: Duration = Duration::from_secs(5);

/// And no longer than this part of an objective: what is asked for is not to be late because of it.
const GROUP_DIVISOR: u32 = 20;

/// The vaults among targets where commits wait for others.
pub(super) type GroupingVaults<'c> = dyn Fn(&[Target]) -> BTreeSet<String> + 'c;

/// How long a commit waits for others, and how much earlier a capture is begun to go with others.
pub(super) fn group_time(rpo: Duration) -> Duration {
    GROUP_TIME_MAX.min(rpo / GROUP_DIVISOR)
}

/// The flows as they are if that much is due earlier. Only what their objectives ask for: what somebody changes is captured when it
/// has settled, and what has failed when it may be tried again.
pub(super) fn brought_forward(flows: &[ScheduledFlow]) -> Vec<ScheduledFlow> {
    let earlier = |flow: &ScheduledFlow| ScheduledFlow {
        durable_scan_start: flow.durable_scan_start.map(|start| start.saturating_sub(group_time(flow.rpo))),
        wanted_at: None,
        ..flow.clone()
    };
    flows.iter().filter(|flow| flow.activity == Activity::Idle).map(earlier).collect()
}

/// Vaults to which something is being captured that others may go with.
pub(super) fn gathering<'r>(
    running: impl Iterator<Item = &'r Running>,
    vaults: &GroupingVaults<'_>,
) -> BTreeSet<String> {
    let gathering = running.filter(|running| may_gather(running) && running.may_be_joined());
    gathering.flat_map(|running| vaults(&running.targets)).collect()
}

/// Whether somebody else is about to commit to one of the vaults of a capture that waits: another one under way that comes further,
/// or one that is due soon. Long ones are not waited for.
pub(super) fn is_more_to_come<'r>(
    waiting: &Running,
    mut running: impl Iterator<Item = &'r Running>,
    soon: &[CaptureJob],
    vaults: &GroupingVaults<'_>,
) -> bool {
    let own = vaults(&waiting.targets);
    let is_there_too = |targets: &[Target]| !vaults(targets).is_disjoint(&own);
    running.any(|other| {
        other.waiting.is_none() && !other.stands_still && may_gather(other) && is_there_too(&other.targets)
    }) || soon.iter().any(|job| job.size == JobSize::Short && is_there_too(&job.targets))
}

/// What somebody wants now commits at once.
fn may_gather(running: &Running) -> bool {
    !running.is_wanted && running.load.size == JobSize::Short
}

#[cfg(test)]
mod tests {
    use backstay_core::units::Timestamp;

    use super::*;
    use crate::serve::running::tests::running;

    fn to(targets: &[&str]) -> Vec<Target> {
        targets.iter().map(|name| Target::Vault(name.parse().expect("a name"))).collect()
    }

    fn to_buckets(targets: &[Target]) -> BTreeSet<String> {
        targets.iter().map(Target::to_string).filter(|name| name.starts_with("bucket")).collect()
    }

    fn capture(targets: &[&str]) -> Running {
        Running { targets: to(targets), ..running("one.files", std::time::Instant::now()) }
    }

    fn job(targets: &[&str], size: JobSize) -> CaptureJob {
        let source = "two.files".parse().expect("a name");
        CaptureJob { source, targets: to(targets), size, duration: Duration::ZERO }
    }

    #[test]
    fn only_what_objectives_ask_for_is_brought_forward_and_by_a_small_part_of_them() {
        let seconds = Duration::from_secs;
        let flow = |rpo, activity| ScheduledFlow {
            source: "one.files".parse().expect("a name"),
            target: to(&["bucket1"]).remove(0),
            rpo: seconds(rpo),
            cursor: None,
            durable_scan_start: Some(Timestamp::from_seconds(1000)),
            expected: Duration::ZERO,
            wanted_at: Some(Timestamp::from_seconds(1001)),
            activity,
        };
        let failed = Activity::BackingOff { until: Timestamp::from_seconds(1002) };
        let flows = [flow(900, Activity::Idle), flow(20, Activity::Idle), flow(900, failed)];
        let forward = brought_forward(&flows);
        let starts: Vec<_> = forward.iter().map(|flow| flow.durable_scan_start).collect();
        assert_eq!(starts, [995, 999].map(|start| Some(Timestamp::from_seconds(start))));
        assert!(forward.iter().all(|flow| flow.wanted_at.is_none()));
    }

    #[test]
    fn only_short_captures_to_buckets_that_are_due_gather_others() {
        let short = capture(&["local", "bucket1"]);
        assert_eq!(gathering([&short].into_iter(), &to_buckets), ["bucket1".to_owned()].into());
        let wanted = Running { is_wanted: true, ..capture(&["bucket1"]) };
        let mut long = capture(&["bucket1"]);
        long.load.size = JobSize::Long;
        let local = capture(&["local"]);
        assert!(gathering([&wanted, &long, &local].into_iter(), &to_buckets).is_empty());
    }

    #[test]
    fn what_waits_is_kept_waiting_by_those_that_come_to_the_same_bucket_only() {
        let waiting = capture(&["local", "bucket1"]);
        let waits = |others: &[Running], soon: &[CaptureJob]| {
            is_more_to_come(&waiting, others.iter(), soon, &to_buckets)
        };
        assert!(!waits(&[], &[]));
        assert!(waits(&[capture(&["bucket1"])], &[]));
        assert!(waits(&[], &[job(&["bucket1"], JobSize::Short)]));
        assert!(!waits(&[capture(&["local", "bucket2"])], &[job(&["bucket2"], JobSize::Short)]));
        assert!(!waits(&[], &[job(&["bucket1"], JobSize::Long)]), "nobody waits for a first capture");
        let hangs = Running { stands_still: true, ..capture(&["bucket1"]) };
        assert!(!waits(&[hangs], &[]));
    }
}
