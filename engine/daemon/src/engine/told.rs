//! Captures that would tell a vault nothing new: what a node keeps of the fleet's configuration seldom changes, and a vault that has it is
//! not written to each time.

use std::collections::BTreeMap;

use backstay_core::config::Source;
use backstay_core::id::PointId;
use backstay_core::rpo::Durable;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};

use super::Engine;
use super::opening::OpenTarget;
use crate::fleet_source;

impl Engine {
    /// Of what a node keeps of the fleet's configuration: vaults that have all of it, and were told so lately, are not written to.
    pub(super) fn leave_out_told(
        &self,
        source: &Source,
        groups: &mut BTreeMap<Option<PointId>, Vec<OpenTarget>>,
        report: &mut CaptureReport,
    ) {
        let now = self.clock.now();
        for group in groups.values_mut() {
            group.retain(|open| {
                let (Some(parent), Durable::Since(since)) = (&open.parent, open.durable) else { return true };
                if !fleet_source::is_told(source, since, now) {
                    return true;
                }
                report.entries = parent.common.entries;
                let outcome = TargetOutcome::Unchanged { point: Some(parent.link.point.to_string()) };
                report.targets.extend(open.names.iter().map(|name| TargetReport {
                    scan_start_nanos: Some(since.as_nanos()),
                    ..TargetReport::without_work(name.clone(), outcome.clone())
                }));
                false
            });
        }
        groups.retain(|_, group| !group.is_empty());
    }
}
