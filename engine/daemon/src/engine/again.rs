//! A capture once more, where what was remembered of a vault may not be so any more: others have put points there, or a
//! collection has taken away what was counted on.

use std::collections::HashSet;

use backstay_core::config::Target;
use backstay_files::touched::Touched;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};

use super::{Asked, Engine, Reading};

/// Classes of errors that may come of what was remembered.
const OF_MEMORY: [&str; 7] =
    ["collection", "cursor_moved", "unsettled", "damaged", "fenced", "no_vault", "store"];

impl Engine {
    /// Once more to targets that may have failed for that reason, and to those that have failed with them, with all read anew.
    pub(super) fn capture_again(&self, asked: &Asked<'_>, targets: &[Target], report: &mut CaptureReport) {
        let is_remembered = |told: &&TargetReport| self.vaults.is_costly(self.vaults.entry(&told.target));
        let mut doubtful = report.targets.iter().filter(|told| is_of_memory(told));
        if asked.order.progress.is_stopped() || !doubtful.any(|told| is_remembered(&told)) {
            return;
        }
        let (before, kept) = std::mem::take(&mut report.targets).into_iter().partition(is_of_memory);
        report.targets = kept;
        let before: Vec<TargetReport> = before;
        let is_again = |target: &&Target| before.iter().any(|told| told.target == target.as_str());
        let again: Vec<Target> = targets.iter().filter(is_again).cloned().collect();
        tracing::info!(source = %asked.source.name, ?again, "captured again, with all read anew there");
        let asked = Asked { touched: &Touched::Everywhere, reading: Reading::Anew, ..*asked };
        // What the tree was like then is said of those that have it so.
        if report.targets.is_empty() {
            (report.defects, report.warnings, report.remarks) = (0, Vec::new(), Vec::new());
        }
        let (groups, failed) = self.groups(&asked, &again);
        report.targets.extend(failed);
        for (cursor, group) in groups {
            self.capture_group(&asked, cursor, group, report);
        }
        let mut told = HashSet::new();
        report.warnings.retain(|line| told.insert(line.clone()));
        for told in &mut report.targets {
            if let Some(before) = before.iter().find(|before| before.target == told.target) {
                told.add_bytes(before);
            }
        }
    }
}

fn is_of_memory(told: &TargetReport) -> bool {
    matches!(&told.outcome, TargetOutcome::Failed { class, .. } if OF_MEMORY.contains(&class.as_str()))
}
