//! Instants in UTC. Owns their arithmetic, text form and stored form; refuses to know the current time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer};

use super::{Quantity, UnitError, UnitFault, bounded, deserialize_text};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// An instant: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Covers 1677-09-21 to
/// 2262-04-11. Stored as one CBOR integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant: "never" for a wake-up time.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch; out of range becomes [`Self::MIN`] or [`Self::MAX`].
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, for metrics. Exact to a microsecond or so in this century.
    pub fn as_seconds_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// This instant plus `duration`, or [`Self::MAX`].
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = i128::from(self.0) + clamped_nanos(duration);
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// This instant minus `duration`, or [`Self::MIN`].
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let nanos = i128::from(self.0) - clamped_nanos(duration);
        Self(i64::try_from(nanos).unwrap_or(i64::MIN))
    }

    /// The time from `earlier` to this instant; 0 when `earlier` is later. Where that would hide a clock
    /// that went backwards, compare the two first.
    pub fn duration_since(self, earlier: Self) -> Duration {
        if self <= earlier { Duration::ZERO } else { Duration::from_nanos(self.0.abs_diff(earlier.0)) }
    }

    /// Reads `2026-05-01T13:30:00.25Z`, the same with an offset such as `+02:00`, and forms without a
    /// zone: `2026-05-01T13:30:00`, `2026-05-01 13:30`, `2026-05-01`. Without a zone it is UTC, always,
    /// whatever the machine's own zone is: a restore typed on another host must mean the same instant.
    /// A date alone is its first instant.
    ///
    /// # Errors
    /// [`UnitError`] when it is none of these, or outside the range of the type.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let error = |fault| UnitError::new(Quantity::Timestamp, text, fault);
        let trimmed = bounded(text).map_err(error)?;
        parse_instant(trimmed).map(Self).ok_or_else(|| error(UnitFault::NotATime))
    }
}

/// A `Duration` holds up to 2^64 seconds; beyond the whole range of the type all lengths are alike.
fn clamped_nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::from(u64::MAX)).min(i128::from(u64::MAX))
}

fn parse_instant(text: &str) -> Option<i64> {
    if text.contains('[') {
        return None; // the name of a zone: the parsers below would leave it out of account
    }
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })?;
    i64::try_from(instant.as_nanosecond()).ok()
}

/// RFC 3339 in UTC, whole seconds (rounded down).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(NANOS_PER_SECOND);
        let instant = jiff::Timestamp::from_second(seconds)
            .expect("2^63 nanoseconds are 292 years, and jiff covers the years -9999 to 9999");
        f.pad(&instant.to_string())
    }
}

impl FromStr for Timestamp {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_in_utc_to_the_second() {
        assert_eq!(Timestamp::EPOCH.to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_nanos(1_777_642_200_999_999_999).to_string(), "2026-05-01T13:30:00Z");
        assert_eq!(Timestamp::from_nanos(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn the_extremes_can_be_shown() {
        assert_eq!(Timestamp::MIN.to_string(), "1677-09-21T00:12:43Z");
        assert_eq!(Timestamp::MAX.to_string(), "2262-04-11T23:47:16Z");
    }

    #[test]
    fn a_text_with_offset_means_that_offset_and_one_without_means_utc() {
        let half_past_one = Timestamp::from_seconds(1_777_642_200);
        for text in [
            "2026-05-01T13:30:00Z",
            "2026-05-01T15:30:00+02:00",
            "2026-05-01 13:30:00Z",
            "2026-05-01T13:30:00",
            "2026-05-01 13:30:00",
            "2026-05-01 13:30",
        ] {
            assert_eq!(Timestamp::parse(text), Ok(half_past_one), "{text}");
        }
        assert_eq!(Timestamp::parse("2026-05-01").unwrap().to_string(), "2026-05-01T00:00:00Z");
    }

    #[test]
    fn fractions_are_kept() {
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00.25Z").unwrap().as_nanos(), 250_000_000);
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "yesterday",
            "13:30",
            "2026-13-01",
            "9999-01-01T00:00:00Z",
            // Zones that would need a database, or make no sense, are not silently taken as UTC.
            "2026-05-01T13:30:00[Europe/Berlin]",
            "2026-05-01T13:30:00+02:00[Europe/Berlin]",
            "2026-05-01T13:30:00+99:00",
            "2026-05-01 13:30 CET",
        ] {
            let error = Timestamp::parse(text).expect_err(text).to_string();
            assert!(error.contains("2026-05-01T13:30:00Z"), "{error}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_seconds(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.duration_since(Timestamp::MIN), Duration::from_nanos(u64::MAX));
        assert_eq!(Timestamp::EPOCH.duration_since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn is_stored_as_one_integer() {
        let bytes = minicbor::to_vec(Timestamp::from_nanos(-2)).unwrap();
        assert_eq!(bytes, [0x21]);
        assert_eq!(minicbor::decode::<Timestamp>(&bytes).unwrap(), Timestamp::from_nanos(-2));
    }
}
