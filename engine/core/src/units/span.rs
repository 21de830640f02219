//! Durations as people write and read them. Owns both text forms; refuses fractions, bare numbers and
//! units out of order, because each of them has been a misread RPO somewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{Quantity, UnitError, UnitFault, bounded, deserialize_text, split_digits};

/// Units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Weeks are read but not shown: `14d` says more than `2w`.
const SHOWN_UNITS: std::ops::Range<usize> = 1..6;

/// A duration as it stands in the configuration: whole milliseconds, shown so that it reads back equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// From a duration; what is below a millisecond is cut off.
    pub const fn new(duration: Duration) -> Self {
        Self(Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000))
    }

    /// The duration.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// See [`parse_duration`].
impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_duration(text).map(Self)
    }
}

/// All units that are not zero, `0s` for nothing.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(self.0, usize::MAX))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

/// Reads `15m`, `1h30m`, `7d`, `10s`, `500ms`, `2w`: whole numbers, each with its unit, largest unit first,
/// no unit twice. A day is 24 hours.
///
/// # Errors
/// [`UnitError`] for anything else, and for what exceeds 2^64 milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    bounded(text)
        .and_then(parse_millis)
        .map(Duration::from_millis)
        .map_err(|fault| UnitError::new(Quantity::Duration, text, fault))
}

/// For people: the two largest units that matter, cut and not rounded (`3d4h`, `14m59s`, `1s500ms`, `0s`).
/// What is more than nothing is never shown as nothing: below a millisecond it is `<1ms`.
pub fn format_duration(duration: Duration) -> String {
    if !duration.is_zero() && duration < Duration::from_millis(1) {
        "<1ms".into()
    } else {
        shown(duration, 2)
    }
}

fn parse_millis(text: &str) -> Result<u64, UnitFault> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0; // every round consumes a unit, so there are at most as many rounds as units
    while !rest.is_empty() {
        let (digits, tail) = split_digits(rest);
        if digits.is_empty() {
            return Err(UnitFault::NoNumber);
        }
        let unit_end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if unit.is_empty() {
            return Err(UnitFault::NoUnit { number: digits.to_owned() });
        }
        let Some(index) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(UnitFault::UnknownUnit { unit: unit.to_owned() });
        };
        let (name, millis) = UNITS[index];
        if index < next_unit {
            return Err(UnitFault::UnitOrder { unit: name });
        }
        next_unit = index + 1;
        let number: u64 = digits.parse().map_err(|_| UnitFault::TooLarge)?;
        total =
            number.checked_mul(millis).and_then(|part| total.checked_add(part)).ok_or(UnitFault::TooLarge)?;
        rest = tail;
    }
    Ok(total)
}

/// The units from the first that is not zero, at most `units_max` of them in a row, zeroes left out.
fn shown(duration: Duration, units_max: usize) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    let mut units = 0;
    for (name, millis) in &UNITS[SHOWN_UNITS] {
        let count = rest / u128::from(*millis);
        rest %= u128::from(*millis);
        if units == 0 && count == 0 {
            continue;
        }
        units += 1;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
        if units == units_max {
            break;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> UnitFault {
        parse_duration(text).expect_err(text).fault
    }

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in [("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("1s500ms"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        assert_eq!(fault("15"), UnitFault::NoUnit { number: "15".into() });
        assert_eq!(fault("1.5h"), UnitFault::NoUnit { number: "1".into() });
        assert_eq!(fault("15 m"), UnitFault::NoUnit { number: "15".into() });
        assert_eq!(fault("-15m"), UnitFault::NoNumber);
        assert_eq!(fault("15M"), UnitFault::UnknownUnit { unit: "M".into() });
        assert_eq!(fault("15min"), UnitFault::UnknownUnit { unit: "min".into() });
        assert_eq!(fault("30m1h"), UnitFault::UnitOrder { unit: "h" });
        assert_eq!(fault("1m1m"), UnitFault::UnitOrder { unit: "m" });
        assert_eq!(fault(""), UnitFault::Empty);
        assert_eq!(fault("99999999999999999999d"), UnitFault::TooLarge);
        assert_eq!(fault(&"1".repeat(65)), UnitFault::TooLong);
    }

    #[test]
    fn a_refusal_says_what_why_and_what_to_write() {
        assert_eq!(
            parse_duration("15min").unwrap_err().to_string(),
            "\"15min\" is not a duration: there is no unit \"min\"; \
             write numbers with w, d, h, m, s or ms, largest first, such as 15m, 1h30m or 7d"
        );
    }

    #[test]
    fn people_are_shown_two_units() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_500, "1s500ms"),
            (899_999, "14m59s"),
            (3_600_000, "1h"),
            (3_600_999, "1h"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_moment_is_not_shown_as_nothing() {
        assert_eq!(format_duration(Duration::from_nanos(1)), "<1ms");
    }

    proptest! {
        #[test]
        fn a_shown_span_reads_back_equal(millis in any::<u64>()) {
            let span = Span::new(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,80}") {
            let _ = parse_duration(&text);
        }
    }
}
