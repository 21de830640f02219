//! What each flow has done since the process began, in figures that only grow.

use std::collections::BTreeMap;

use backstay_wire::control::{CaptureReport, TargetOutcome};

/// Classes of errors that every flow counts from the start, so that the first failure of each is seen as a rise.
/// The others of the error types appear when they happen.
const CLASSES_FROM_START: [&str; 6] = ["denied", "no_space", "other", "source", "state", "store"];

/// Counters by flow.
#[derive(Debug, Default, Clone)]
pub struct FlowCounters {
    /// By (source, target).
    by_flow: BTreeMap<(String, String), FlowCounter>,
}

/// Counters of one flow.
#[derive(Debug, Clone)]
pub struct FlowCounter {
    /// Bytes of contents read.
    pub captured_bytes: u64,
    /// Bytes of new records.
    pub sent_bytes: u64,
    /// Bytes of contents that were read and not sent, because the target has them.
    pub saved_bytes: u64,
    /// Failed captures by the class of their error.
    pub errors: BTreeMap<String, u64>,
}

impl Default for FlowCounter {
    fn default() -> Self {
        let errors = CLASSES_FROM_START.map(|class| (class.to_owned(), 0)).into();
        Self { captured_bytes: 0, sent_bytes: 0, saved_bytes: 0, errors }
    }
}

impl FlowCounters {
    /// Counts a capture.
    pub fn count(&mut self, report: &CaptureReport) {
        for target in &report.targets {
            let counter = self.by_flow.entry((report.source.clone(), target.target.clone())).or_default();
            counter.captured_bytes += target.read_bytes;
            counter.sent_bytes += target.stored_bytes;
            counter.saved_bytes += target.saved_bytes;
            if let TargetOutcome::Failed { class, .. } = &target.outcome {
                *counter.errors.entry(class.clone()).or_default() += 1;
            }
        }
    }

    /// The counters of a flow.
    pub fn of(&self, source: &str, target: &str) -> FlowCounter {
        self.by_flow.get(&(source.to_owned(), target.to_owned())).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use backstay_wire::control::TargetReport;

    use super::*;

    #[test]
    fn work_and_failures_are_counted_by_target() {
        let mut report = CaptureReport::of_nothing("data.files");
        let failed = |class: &str| TargetOutcome::Failed { message: String::new(), class: class.to_owned() };
        report.targets = vec![
            TargetReport {
                stored_bytes: 5,
                ..TargetReport::without_work("local".into(), TargetOutcome::Unchanged { point: None })
            },
            TargetReport::without_work("usb".into(), failed("read_only")),
        ];
        let mut counters = FlowCounters::default();
        counters.count(&report);
        counters.count(&report);
        let errors = |target| counters.of("data.files", target).errors;
        assert_eq!(errors("usb").get("read_only"), Some(&2));
        assert_eq!(errors("usb").get("store"), Some(&0));
        assert_eq!(errors("local").values().sum::<u64>(), 0);
        let sent = |target| counters.of("data.files", target).sent_bytes;
        assert_eq!((sent("local"), sent("usb")), (10, 0));
    }
}
