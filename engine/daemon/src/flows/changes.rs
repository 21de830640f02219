//! Changes of a source that were seen, and what they mean for one of its flows.

use std::time::Duration;

use backstay_core::schedule::{DurationEstimate, Pace, Period};
use backstay_core::units::Timestamp;
use backstay_files::touched::Touched;

/// So often a source that is watched is looked at as a whole, however long its objective: not everything is seen.
pub(super) const RESCAN_PERIOD: Duration = Duration::from_secs(3600);

/// Why a capture is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Something was seen to change.
    Changes,
    /// The objective asks for it, or somebody, or one has failed.
    Due,
}

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct SeenChanges {
    /// When a change was seen first that no capture has begun after.
    first: Option<Timestamp>,
    /// Where something has changed since the last capture began.
    touched: Touched,
    /// The same of both, after which the capture under way has begun.
    capturing: Option<(Option<Timestamp>, Touched)>,
    /// Why the last capture was begun.
    why: Why,
    /// Whether it was to look only where something was seen.
    looks_where_seen: bool,
    /// One that was had to look at everything.
    is_unsettled: bool,
    pace: Pace,
    /// How long captures take that are begun because of changes.
    took: DurationEstimate,
    /// Whether changes are seen.
    pub(super) is_watched: bool,
    /// Why not, if there is a reason.
    unwatched: Option<String>,
}

impl Default for SeenChanges {
    /// Nobody has watched so far.
    fn default() -> Self {
        Self {
            first: None,
            touched: Touched::Everywhere,
            capturing: None,
            why: Why::Due,
            looks_where_seen: false,
            is_unsettled: false,
            pace: Pace::default(),
            took: DurationEstimate::default(),
            is_watched: false,
            unwatched: None,
        }
    }
}

impl SeenChanges {
    /// Something has changed.
    pub(super) fn note(&mut self, touched: Touched, now: Timestamp) {
        self.first.get_or_insert(now);
        self.touched.merge(touched);
    }

    /// From now on changes are seen, or for this reason they are not. What has changed before nobody knows.
    pub(super) fn watched(&mut self, problem: Option<&str>) {
        self.is_watched = problem.is_none();
        self.unwatched = problem.map(str::to_owned);
        self.touched = Touched::Everywhere;
    }

    /// What is known of the source is worth nothing: it is to be looked at as a whole.
    pub(super) fn forget(&mut self) {
        self.touched = Touched::Everywhere;
    }

    /// A capture begins, for `why`; where it is to look.
    pub(super) fn begin(&mut self, why: Why, rpo: Duration, now: Timestamp) -> Touched {
        self.pace.take(self.period(rpo), now);
        let touched = std::mem::replace(&mut self.touched, Touched::nowhere());
        self.capturing = Some((self.first.take(), touched.clone()));
        self.why = why;
        self.is_unsettled &= why == Why::Changes;
        let looks = if why == Why::Changes && !self.is_unsettled { touched } else { Touched::Everywhere };
        self.looks_where_seen = looks != Touched::Everywhere;
        looks
    }

    /// The capture has succeeded, and took so long; whether it has looked at everything.
    pub(super) fn succeeded(&mut self, took: Duration, is_whole: bool) {
        self.capturing = None;
        if self.why == Why::Changes {
            self.took.observe(took);
        }
        // What was seen was not enough. It is not tried again before the next scan that is due: each try may read much.
        self.is_unsettled |= self.looks_where_seen && is_whole;
    }

    /// It has failed: what was seen still has to be captured.
    pub(super) fn failed(&mut self) {
        if let Some((first, touched)) = self.capturing.take() {
            self.first = first.or(self.first);
            self.touched.merge(touched);
        }
    }

    /// When a capture is wanted because of them.
    pub(super) fn wanted_at(&self, rpo: Duration, now: Timestamp) -> Option<Timestamp> {
        self.first.map(|first| self.pace.wanted_at(first, self.period(rpo), now))
    }

    fn period(&self, rpo: Duration) -> Period {
        Period::new(rpo, self.took.expected())
    }

    /// What is said where they are not seen.
    pub(super) fn remark(&self) -> Option<String> {
        let problem = self.unwatched.as_ref()?;
        Some(format!("changes are not watched for, and captured when the objective asks for it: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use backstay_files::keys::PathKey;

    use super::*;

    #[test]
    fn a_change_waits_until_a_capture_that_began_after_it_is_durable() {
        let (rpo, at) = (Duration::from_secs(900), Timestamp::from_seconds);
        let mut changes = SeenChanges::default();
        assert_eq!(changes.wanted_at(rpo, at(10)), None);
        changes.note(touched("a"), at(10));
        changes.note(touched("b"), at(12));
        assert_eq!(changes.wanted_at(rpo, at(12)), Some(at(11)), "the first counts");
        changes.begin(Why::Changes, rpo, at(20));
        assert_eq!(changes.wanted_at(rpo, at(20)), None);
        changes.failed();
        assert_eq!(changes.wanted_at(rpo, at(30)), Some(at(11)));
        changes.begin(Why::Changes, rpo, at(40));
        changes.note(touched("a"), at(41));
        assert_eq!(
            changes.wanted_at(rpo, at(50)),
            Some(at(42)),
            "what came during the capture is for the next"
        );
    }

    fn touched(directory: &str) -> Touched {
        let mut touched = Touched::nowhere();
        touched.touch(PathKey::root().child(directory.as_bytes()).unwrap());
        touched
    }

    #[test]
    fn a_capture_is_told_of_what_has_changed_since_the_last_that_became_durable_began() {
        let (rpo, at) = (Duration::from_secs(900), Timestamp::from_seconds);
        let mut changes = SeenChanges::default();
        assert_eq!(changes.begin(Why::Changes, rpo, at(1)), Touched::Everywhere, "nobody has watched");
        changes.watched(None);
        assert_eq!(
            changes.begin(Why::Changes, rpo, at(2)),
            Touched::Everywhere,
            "what came before nobody has seen"
        );
        changes.note(touched("a"), at(3));
        assert_eq!(changes.begin(Why::Changes, rpo, at(4)), touched("a"));
        changes.note(touched("b"), at(5));
        changes.failed();
        let mut both = touched("a");
        both.merge(touched("b"));
        assert_eq!(changes.begin(Why::Changes, rpo, at(6)), both);
        assert_eq!(changes.begin(Why::Changes, rpo, at(7)), Touched::nowhere());
        changes.watched(Some("no more watches"));
        assert_eq!(changes.begin(Why::Changes, rpo, at(8)), Touched::Everywhere);
    }

    #[test]
    fn what_had_to_look_at_everything_is_not_tried_again_before_a_whole_scan() {
        let (rpo, at) = (Duration::from_secs(900), Timestamp::from_seconds);
        let mut changes = SeenChanges::default();
        changes.begin(Why::Due, rpo, at(1));
        changes.succeeded(Duration::from_secs(500), true);
        for (why, second, is_whole, looks) in [
            (Why::Changes, 2, false, touched("a")),
            (Why::Changes, 3, true, touched("a")),
            (Why::Changes, 4, true, Touched::Everywhere),
            (Why::Due, 5, true, Touched::Everywhere),
            (Why::Changes, 6, false, touched("a")),
        ] {
            changes.note(touched("a"), at(second));
            assert_eq!(changes.begin(why, rpo, at(second)), looks, "{second}");
            changes.succeeded(Duration::from_secs(1), is_whole);
        }
        assert_eq!(changes.took.expected(), Duration::from_secs(1), "those that were due do not count");
    }
}
