//! Quantities with their unit in the type: instants, byte counts, byte rates, durations.
//!
//! Owns how they are written by people (configuration, command line) and shown to them, and how an
//! instant is stored. Refuses what it does not fully understand: a number without a unit where the unit
//! matters, fractions of a duration, values that overflow. It never reads a clock or a time zone database.

mod bytes;
mod past;
mod span;
mod timestamp;

pub use bytes::{ByteRate, ByteSize};
pub use past::parse_past;
pub use span::{Span, format_duration, parse_duration};
pub use timestamp::Timestamp;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The longest text that any of the parsers here looks at, in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// A text that is not the quantity it should be. The message says what, why, and which forms are accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {quantity}: {fault}; {}", quantity.accepted())]
pub struct UnitError {
    /// What was expected.
    pub quantity: Quantity,
    /// What was written, cut to [`TEXT_BYTES_MAX`].
    pub text: String,
    /// Why it was refused.
    pub fault: UnitFault,
}

/// The quantities that can be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantity {
    /// [`Timestamp`].
    Timestamp,
    /// What [`parse_past`] reads.
    PastTime,
    /// [`ByteSize`].
    ByteSize,
    /// [`ByteRate`].
    ByteRate,
    /// [`Span`] and plain durations.
    Duration,
}

impl Quantity {
    /// The forms to use instead, as the end of a sentence.
    pub fn accepted(self) -> &'static str {
        match self {
            Self::Timestamp => {
                "write 2026-05-01T13:30:00Z, 2026-05-01T13:30:00+02:00, or 2026-05-01 13:30 (taken as UTC)"
            }
            Self::PastTime => {
                "write 2026-05-01T13:30:00Z, 2026-05-01T13:30:00+02:00, or in UTC `2026-05-01 13:30`, `13:30` (today), `yesterday 13:30`, `2h ago`"
            }
            Self::ByteSize => {
                "write a number of bytes or one with a unit, such as 1000, 64MiB, 1.5TiB or 10MB"
            }
            Self::ByteRate => "write a size per second, such as 20MiB/s",
            Self::Duration => {
                "write numbers with w, d, h, m, s or ms, largest first, such as 15m, 1h30m or 7d"
            }
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timestamp | Self::PastTime => "time",
            Self::ByteSize => "size",
            Self::ByteRate => "rate",
            Self::Duration => "duration",
        })
    }
}

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitFault {
    /// Nothing was written.
    #[error("it is empty")]
    Empty,
    /// More than [`TEXT_BYTES_MAX`] bytes.
    #[error("it is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// A number was expected at the start or after a unit.
    #[error("a number is missing")]
    NoNumber,
    /// A number stands without its unit.
    #[error("a unit is missing after {number}")]
    NoUnit {
        /// The digits without a unit.
        number: String,
    },
    /// A unit that does not exist here.
    #[error("there is no unit {unit:?}")]
    UnknownUnit {
        /// The unknown unit.
        unit: String,
    },
    /// A unit is repeated or follows a smaller one.
    #[error("the unit {unit:?} is out of order")]
    UnitOrder {
        /// The misplaced unit.
        unit: &'static str,
    },
    /// A rate without `/s`.
    #[error("\"/s\" is missing at its end")]
    NotPerSecond,
    /// The value does not fit.
    #[error("it is too large")]
    TooLarge,
    /// Not a date and time, or one outside 1677 to 2262.
    #[error("it has not the form of a date and time, or lies outside the years 1678 to 2261")]
    NotATime,
    /// A day and no time in it.
    #[error("it is a whole day")]
    WholeDay,
    /// A time of today that has not passed.
    #[error("that time of today is still to come")]
    ToCome,
}

impl UnitError {
    fn new(quantity: Quantity, text: &str, fault: UnitFault) -> Self {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self { quantity, text: text[..end].to_owned(), fault }
    }
}

/// Trims the text and applies the checks that all parsers share.
fn bounded(text: &str) -> Result<&str, UnitFault> {
    let text = text.trim();
    match text.len() {
        0 => Err(UnitFault::Empty),
        length if length > TEXT_BYTES_MAX => Err(UnitFault::TooLong),
        _ => Ok(text),
    }
}

/// Splits leading ASCII digits off the text.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Deserialises a quantity from a string by its `FromStr`.
fn deserialize_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err = UnitError>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
