//! Captures that commit together (the vault's group commit): which are begun a little early because others to the same vault are
//! under way, and when nobody else is to be waited for. Pure decisions; starting and closing is the captures'.

use std::collections::BTreeSet;

use backstay_core::config::Target;
use backstay_core::schedule::{CaptureJob, JobSize};

use super::running::Running;

/// The vaults among targets where commits wait for others.
pub(super) type GroupingVaults<'c> = dyn Fn(&[Target]) -> BTreeSet<String> + 'c;

/// Vaults to which something is being captured that others may go with.
pub(super) fn gathering<'r>(
    running: impl Iterator<Item = &'r Running>,
    vaults: &GroupingVaults<'_>,
) -> BTreeSet<String> {
    running.filter(|running| may_gather(running)).flat_map(|running| vaults(&running.targets)).collect()
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
        !other.waits() && !other.stands_still && may_gather(other) && is_there_too(&other.targets)
    }) || soon.iter().any(|job| job.size == JobSize::Short && is_there_too(&job.targets))
}

/// What somebody wants now commits at once.
fn may_gather(running: &Running) -> bool {
    !running.is_wanted && running.load.size == JobSize::Short
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
