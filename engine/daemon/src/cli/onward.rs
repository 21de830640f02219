//! Waiting, after a capture, until the hub of a vault has copied on what was captured for it.

use std::time::{Duration, Instant};

use backstay_core::units::Timestamp;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};
use backstay_wire::peer::Standing;
use backstay_wire::progress::Progress;

use super::Context;
use crate::terminal::watched;
use crate::vaults::Vaults;

/// How often a hub is asked.
const ASK_PERIOD: Duration = Duration::from_millis(500);

/// What keeps a hub from copying for so long, or from answering, is told, and not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Has each target that a hub writes to count as captured only when it says that it is there. As long as nothing is said to keep it
/// from coming there, it is waited for: a first copy may take hours.
pub(super) fn follow(context: &Context, reports: &mut [CaptureReport]) {
    let via = &context.config.via;
    let is_via = |target: &str| via.keys().any(|name| name.as_str() == target);
    if !reports.iter().flat_map(|report| &report.targets).any(|target| is_via(&target.target)) {
        return;
    }
    // Without them it cannot be asked.
    let vaults = context.vaults_to_read(None).map_err(|failure| failure.message);
    for report in reports {
        let source = report.source.clone();
        for target in report.targets.iter_mut().filter(|target| is_via(&target.target)) {
            let Some(wanted) = wanted(target) else { continue };
            let hub = via.get(target.target.as_str()).map_or_else(String::new, |via| via.hub.to_string());
            let what = format!("waiting until {hub} has copied {source} on to {}", target.target);
            let name = target.target.clone();
            let waited = vaults.as_ref().map_err(Clone::clone);
            let waited = waited.and_then(|vaults| {
                watched(&what, Progress::default, || wait(vaults, &name, &source, wanted))
            });
            if let Err(why) = waited {
                let message = format!(
                    "it was captured to {hub}, and is not in {name} yet: {why}. {hub} goes on trying; `backstay status` tells when it is there"
                );
                target.outcome = TargetOutcome::Failed { message, class: "via".to_owned() };
            }
        }
    }
}

/// Up to when the target must be complete; none where nothing was captured.
fn wanted(target: &TargetReport) -> Option<Timestamp> {
    let is_captured = !matches!(target.outcome, TargetOutcome::Failed { .. });
    let start = target.scan_start_nanos.filter(|_| is_captured)?;
    // As the point says it.
    let nanos = target.whole_until_nanos.map_or(start, |until| until.min(start));
    Some(Timestamp::from_nanos(nanos))
}

fn wait(vaults: &Vaults, name: &str, source: &str, wanted: Timestamp) -> Result<(), String> {
    let mut kept_since: Option<Instant> = None;
    loop {
        let why = match vaults.standing(name, source) {
            Ok(Standing { until_nanos: Some(until), .. }) if until >= wanted.as_nanos() => return Ok(()),
            Ok(standing) => standing.problem,
            Err(failure) => Some(failure.message),
        };
        match why {
            None => kept_since = None,
            Some(why) if kept_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE => {
                return Err(why);
            }
            Some(_) => {}
        }
        std::thread::sleep(ASK_PERIOD);
    }
}
