//! Changes of a source that were seen, and what they mean for one of its flows.

use std::time::Duration;

use backstay_core::schedule::Pace;
use backstay_core::units::Timestamp;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenChanges {
    /// When a change was seen first that no capture has begun after.
    first: Option<Timestamp>,
    /// The same, after which the capture under way has begun.
    capturing: Option<Timestamp>,
    pace: Pace,
    /// Why changes are not seen, if they are not.
    pub(super) unwatched: Option<String>,
}

impl SeenChanges {
    /// Something has changed.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.first.get_or_insert(now);
    }

    /// A capture begins.
    pub(super) fn begin(&mut self, rpo: Duration, now: Timestamp) {
        self.capturing = self.first.take();
        self.pace.take(rpo, now);
    }

    /// It has failed: what was seen still has to be captured.
    pub(super) fn failed(&mut self) {
        self.first = self.capturing.take().or(self.first);
    }

    /// When a capture is wanted because of them.
    pub(super) fn wanted_at(&self, rpo: Duration, now: Timestamp) -> Option<Timestamp> {
        self.first.map(|first| self.pace.wanted_at(first, rpo, now))
    }

    /// What is said where they are not seen.
    pub(super) fn remark(&self) -> Option<String> {
        let problem = self.unwatched.as_ref()?;
        Some(format!("changes are not watched for, and captured when the objective asks for it: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_until_a_capture_that_began_after_it_is_durable() {
        let (rpo, at) = (Duration::from_secs(900), Timestamp::from_seconds);
        let mut changes = SeenChanges::default();
        assert_eq!(changes.wanted_at(rpo, at(10)), None);
        changes.note(at(10));
        changes.note(at(12));
        assert_eq!(changes.wanted_at(rpo, at(12)), Some(at(11)), "the first counts");
        changes.begin(rpo, at(20));
        assert_eq!(changes.wanted_at(rpo, at(20)), None);
        changes.failed();
        assert_eq!(changes.wanted_at(rpo, at(30)), Some(at(11)));
        changes.begin(rpo, at(40));
        changes.note(at(41));
        assert_eq!(
            changes.wanted_at(rpo, at(50)),
            Some(at(42)),
            "what came during the capture is for the next"
        );
    }
}
