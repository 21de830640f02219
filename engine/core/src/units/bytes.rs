//! Byte counts and byte rates. Owns their text forms; refuses ambiguous units: `M` alone is neither
//! 1000² nor 1024².

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer};

use super::{Quantity, UnitError, UnitFault, bounded, deserialize_text, split_digits};

/// Units with their size in bytes, those that are shown first and largest first.
const UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const BINARY_UNITS: usize = 5;
/// Digits accepted after the point: more than any unit can resolve.
const FRACTION_DIGITS_MAX: usize = 9;

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ByteSize(#[n(0)] pub u64);

impl ByteSize {
    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Reads `1000`, `64MiB`, `1.5TiB`, `10MB`. Units are case-insensitive.
impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        bounded(text)
            .and_then(parse_size)
            .map(Self)
            .map_err(|fault| UnitError::new(Quantity::ByteSize, text, fault))
    }
}

/// In the largest binary unit that fits: whole where that is exact, else cut to one decimal.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((name, size)) = UNITS[..BINARY_UNITS].iter().find(|(_, size)| self.0 >= *size) else {
            return f.pad(&format!("{}B", self.0));
        };
        let whole = self.0 / size;
        // The remainder is below 2^50, so ten times it fits.
        match (self.0 % size, (self.0 % size) * 10 / size) {
            (0, _) => f.pad(&format!("{whole}{name}")),
            (_, tenths) => f.pad(&format!("{whole}.{tenths}{name}")),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

/// A number of bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(pub u64);

impl ByteRate {
    /// The number of bytes per second.
    pub const fn as_bytes_per_second(self) -> u64 {
        self.0
    }
}

/// Reads a size followed by `/s`.
impl FromStr for ByteRate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        bounded(text)
            .and_then(|trimmed| trimmed.strip_suffix("/s").ok_or(UnitFault::NotPerSecond))
            .and_then(|size| parse_size(size.trim_end()))
            .map(Self)
            .map_err(|fault| UnitError::new(Quantity::ByteRate, text, fault))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", ByteSize(self.0)))
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

fn parse_size(text: &str) -> Result<u64, UnitFault> {
    let (whole, rest) = split_digits(text);
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() || (rest.starts_with('.') && fraction.is_empty()) {
        return Err(UnitFault::NoNumber);
    }
    let unit = unit.trim_start();
    let unit_bytes = match unit {
        "" if fraction.is_empty() => 1,
        "" => return Err(UnitFault::NoUnit { number: format!("{whole}.{fraction}") }),
        _ => UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, size)| *size)
            .ok_or_else(|| UnitFault::UnknownUnit { unit: unit.to_owned() })?,
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let scale = 10u128.pow(fraction.len() as u32);
    let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| UnitFault::TooLarge)?;
    let bytes = number.checked_mul(u128::from(unit_bytes)).ok_or(UnitFault::TooLarge)? / scale;
    u64::try_from(bytes).map_err(|_| UnitFault::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap_or_else(|e| panic!("{e}")).0
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(size("1000"), 1000);
        assert_eq!(size("64MiB"), 64 << 20);
        assert_eq!(size("2TiB"), 2 << 40);
        assert_eq!(size("10MB"), 10_000_000);
        assert_eq!(size("10 mb"), 10_000_000);
        assert_eq!(size("1.5KiB"), 1536);
        assert_eq!(size("7B"), 7);
    }

    #[test]
    fn a_unit_that_could_mean_two_things_is_refused() {
        let error = "64M".parse::<ByteSize>().unwrap_err();
        assert_eq!(error.fault, UnitFault::UnknownUnit { unit: "M".into() });
        assert_eq!(
            error.to_string(),
            "\"64M\" is not a size: there is no unit \"M\"; \
             write a number of bytes or one with a unit, such as 1000, 64MiB, 1.5TiB or 10MB"
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for text in ["18446744073709551616", "16384PiB", "99999999999999999999999999999999999999999PiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap_err().fault, UnitFault::TooLarge, "{text}");
        }
        assert_eq!(size("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn half_written_numbers_are_refused() {
        for text in ["MiB", ".5MiB", "5.MiB", "-5MiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap_err().fault, UnitFault::NoNumber, "{text}");
        }
        assert!(matches!("1.5".parse::<ByteSize>().unwrap_err().fault, UnitFault::NoUnit { .. }));
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (64 << 20, "64MiB"),
            (u64::MAX, "16383.9PiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!("20MiB/s".parse::<ByteRate>(), Ok(ByteRate(20 << 20)));
        assert_eq!(ByteRate(20 << 20).to_string(), "20MiB/s");
        assert_eq!("20MiB".parse::<ByteRate>().unwrap_err().fault, UnitFault::NotPerSecond);
        assert_eq!("20MiB/h".parse::<ByteRate>().unwrap_err().fault, UnitFault::NotPerSecond);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<ByteRate>();
        }

        #[test]
        fn a_shown_size_reads_back_within_a_tenth_of_its_unit(bytes in any::<u64>()) {
            let shown = ByteSize(bytes).to_string();
            let back = size(&shown);
            prop_assert!(back <= bytes && bytes - back <= bytes / 10, "{bytes} shown as {shown}, read as {back}");
        }
    }
}
