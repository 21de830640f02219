//! RPO arithmetic: how much a flow would lose now, what state it is in, and how bad all of it is together.
//!
//! Owns the rule that unknown is not zero (an exposure is a number only where it can be computed from what is
//! durable) and the limits between good, late and critical. Reads no clock: `now` is an argument.

use std::fmt;
use std::time::Duration;

use crate::units::{Timestamp, format_duration};

/// A flow is critical when its exposure exceeds its objective by this factor.
pub const CRITICAL_FACTOR: u32 = 2;
/// So many failures in a row are worth a warning, even while the objective is kept.
pub const FAILURES_WARNED: u32 = 3;

/// What is durable on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Everything that the source contained at this instant: the start of the last capture that is durable
    /// there. A capture that found nothing changed counts once its head is durable.
    Since(Timestamp),
    /// Nothing: no capture has completed yet.
    Nothing,
    /// It is not known: the target has not been reached since this node lost or never had a record of it.
    Unknown,
}

/// How much would be lost if the source's host died now, in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// The changes of this long.
    Known(Duration),
    /// It cannot be said.
    Unknown(UnknownCause),
}

/// Why an exposure cannot be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnknownCause {
    /// Everything would be lost: nothing has been captured yet.
    NothingDurable,
    /// Nobody knows what the target has.
    TargetNotSeen,
    /// The last capture lies in the future: the clock went back, and the difference means nothing.
    ClockWentBack,
}

impl Exposure {
    /// The exposure at `now`. Whether the target can be reached now does not matter: what is durable there
    /// stays so, and the exposure grows on.
    pub fn at(durable: Durable, now: Timestamp) -> Self {
        match durable {
            Durable::Since(start) if start > now => Self::Unknown(UnknownCause::ClockWentBack),
            Durable::Since(start) => Self::Known(now.duration_since(start)),
            Durable::Nothing => Self::Unknown(UnknownCause::NothingDurable),
            Durable::Unknown => Self::Unknown(UnknownCause::TargetNotSeen),
        }
    }

    /// In seconds for metrics: NaN when unknown.
    pub fn as_seconds_f64(self) -> f64 {
        match self {
            Self::Known(duration) => duration.as_secs_f64(),
            Self::Unknown(_) => f64::NAN,
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(duration) => f.pad(&format_duration(*duration)),
            Self::Unknown(_) => f.pad("unknown"),
        }
    }
}

/// What was last seen of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowFacts {
    /// What its target has.
    pub durable: Durable,
    /// How many attempts in a row have failed since the last that became durable, whatever the cause: an
    /// unreachable target, an unreadable source.
    pub failures: u32,
    /// Whether the operator lets it run.
    pub permission: Permission,
}

/// Whether the operator lets a flow run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It runs.
    Running,
    /// It was paused.
    Paused,
}

/// The state of a flow, by which it is shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The objective is kept.
    Ok,
    /// The first capture is not complete.
    Seeding,
    /// The objective is kept still, but attempts fail.
    Failing,
    /// The objective is not kept.
    Late,
    /// The exposure exceeds the objective [`CRITICAL_FACTOR`] times; or nothing is durable and attempts fail.
    Critical,
    /// The exposure is not known.
    Unknown,
    /// The operator paused it.
    Paused,
}

impl Condition {
    /// All conditions, for metrics with one series each.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Seeding, Self::Failing, Self::Late, Self::Critical, Self::Unknown, Self::Paused];

    /// The word for it, on the wire and on the screen.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Seeding => "seeding",
            Self::Failing => "failing",
            Self::Late => "late",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
            Self::Paused => "paused",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Ok => Severity::Ok,
            Self::Seeding | Self::Failing | Self::Late | Self::Paused => Severity::Warning,
            Self::Critical => Severity::Critical,
            Self::Unknown => Severity::Unknown,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// How bad something is; ordered so that the greatest counts for a whole: what is known to be critical
/// outweighs what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// Something to look at.
    Warning,
    /// It cannot be said whether there is something to do.
    Unknown,
    /// Something to do now.
    Critical,
}

impl Severity {
    /// The exit code of `status --check`, as monitoring systems expect it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The severity of the whole; of nothing it is [`Self::Ok`].
    pub fn overall(of: impl IntoIterator<Item = Self>) -> Self {
        of.into_iter().max().unwrap_or(Self::Ok)
    }
}

/// A flow, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowStatus {
    /// What would be lost now.
    pub exposure: Exposure,
    /// What may be lost.
    pub objective: Duration,
    /// What follows from both.
    pub condition: Condition,
}

impl FlowStatus {
    /// Judges a flow at `now`. An exposure of just the objective keeps it.
    pub fn assess(facts: &FlowFacts, objective: Duration, now: Timestamp) -> Self {
        let exposure = Exposure::at(facts.durable, now);
        let condition = match (facts.permission, exposure) {
            (Permission::Paused, _) => Condition::Paused,
            (_, Exposure::Unknown(UnknownCause::NothingDurable)) if facts.failures >= FAILURES_WARNED => {
                Condition::Critical
            }
            (_, Exposure::Unknown(UnknownCause::NothingDurable)) => Condition::Seeding,
            (_, Exposure::Unknown(_)) => Condition::Unknown,
            (_, Exposure::Known(lost)) if lost > objective.saturating_mul(CRITICAL_FACTOR) => {
                Condition::Critical
            }
            (_, Exposure::Known(lost)) if lost > objective => Condition::Late,
            (_, Exposure::Known(_)) if facts.failures >= FAILURES_WARNED => Condition::Failing,
            (_, Exposure::Known(_)) => Condition::Ok,
        };
        Self { exposure, objective, condition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OBJECTIVE: Duration = Duration::from_secs(900);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn condition(durable: Durable, failures: u32, now_seconds: i64) -> Condition {
        let facts = FlowFacts { durable, failures, permission: Permission::Running };
        FlowStatus::assess(&facts, OBJECTIVE, at(now_seconds)).condition
    }

    #[test]
    fn exposure_counts_from_the_start_of_the_last_durable_scan() {
        assert_eq!(Exposure::at(Durable::Since(at(100)), at(160)), Exposure::Known(Duration::from_secs(60)));
    }

    #[test]
    fn unknown_is_not_zero() {
        for (durable, cause) in [
            (Durable::Nothing, UnknownCause::NothingDurable),
            (Durable::Unknown, UnknownCause::TargetNotSeen),
            (Durable::Since(at(101)), UnknownCause::ClockWentBack),
        ] {
            let exposure = Exposure::at(durable, at(100));
            assert_eq!(exposure, Exposure::Unknown(cause));
            assert!(exposure.as_seconds_f64().is_nan());
            assert_eq!(exposure.to_string(), "unknown");
        }
    }

    #[test]
    fn a_flow_is_late_beyond_its_objective_and_critical_beyond_twice() {
        let since = Durable::Since(at(0));
        assert_eq!(condition(since, 0, 900), Condition::Ok);
        assert_eq!(condition(since, 0, 901), Condition::Late);
        assert_eq!(condition(since, 0, 1800), Condition::Late);
        assert_eq!(condition(since, 0, 1801), Condition::Critical);
    }

    #[test]
    fn failures_warn_before_the_objective_is_missed() {
        let since = Durable::Since(at(0));
        assert_eq!(condition(since, FAILURES_WARNED - 1, 10), Condition::Ok);
        assert_eq!(condition(since, FAILURES_WARNED, 10), Condition::Failing);
        assert_eq!(condition(since, FAILURES_WARNED, 901), Condition::Late);
    }

    #[test]
    fn a_first_capture_that_keeps_failing_is_critical() {
        assert_eq!(condition(Durable::Nothing, 0, 10), Condition::Seeding);
        assert_eq!(condition(Durable::Nothing, FAILURES_WARNED, 10), Condition::Critical);
    }

    #[test]
    fn a_clock_that_went_back_is_unknown_and_not_fresh() {
        assert_eq!(condition(Durable::Since(at(100)), 0, 99), Condition::Unknown);
    }

    #[test]
    fn a_paused_flow_warns_and_still_shows_its_exposure() {
        let facts = FlowFacts { durable: Durable::Since(at(0)), failures: 0, permission: Permission::Paused };
        let status = FlowStatus::assess(&facts, OBJECTIVE, at(5000));
        assert_eq!(status.condition, Condition::Paused);
        assert_eq!(status.exposure, Exposure::Known(Duration::from_secs(5000)));
        assert_eq!(status.condition.severity(), Severity::Warning);
    }

    #[test]
    fn the_whole_is_as_bad_as_its_worst_part() {
        use Severity::{Critical, Ok, Unknown, Warning};
        assert_eq!(Severity::overall([]).exit_code(), 0);
        assert_eq!(Severity::overall([Ok, Ok]).exit_code(), 0);
        assert_eq!(Severity::overall([Ok, Warning]).exit_code(), 1);
        assert_eq!(Severity::overall([Unknown, Critical, Ok]).exit_code(), 2);
        assert_eq!(Severity::overall([Warning, Unknown]).exit_code(), 3);
    }

    proptest! {
        #[test]
        fn an_exposure_never_shrinks_while_time_goes_on(start in any::<i64>(), a in any::<i64>(), b in any::<i64>()) {
            let durable = Durable::Since(Timestamp::from_nanos(start));
            let [early, late] = [a.min(b), a.max(b)].map(|t| Exposure::at(durable, Timestamp::from_nanos(t)));
            match (early, late) {
                (Exposure::Known(early), Exposure::Known(late)) => prop_assert!(early <= late),
                (Exposure::Known(_), Exposure::Unknown(_)) => prop_assert!(false, "known became unknown"),
                (Exposure::Unknown(cause), _) => prop_assert_eq!(cause, UnknownCause::ClockWentBack),
            }
        }
    }
}
