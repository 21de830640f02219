//! Limits of transfer rates, and the hours in which they hold. Owns when a limit applies; refuses to read a
//! clock: the minute of the day is an argument.

use std::fmt;

use crate::units::ByteRate;

use super::problem::{FromText, ProblemKind, Refusal, excerpt};
use super::table::Table;
use super::value::Value;

/// The least rate: objects have a time in which they have to come.
const RATE_LEAST: ByteRate = ByteRate(64 << 10);

/// Minutes in a day.
pub const MINUTES_PER_DAY: u16 = 24 * 60;

/// How fast a vault may be used. At least one rate is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Towards the vault.
    pub up: Option<ByteRate>,
    /// From the vault.
    pub down: Option<ByteRate>,
    /// When it holds; always, when absent.
    pub window: Option<DailyWindow>,
}

impl RateLimit {
    /// Whether it holds at a minute of the day (0 to 1439) in the node's local time.
    pub fn holds_at(&self, minute_of_day: u16) -> bool {
        self.window.is_none_or(|window| window.contains(minute_of_day))
    }
}

/// A part of every day, local time, from the start minute up to but without the end minute; it may pass
/// midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyWindow {
    start_minute: u16,
    end_minute: u16,
}

impl DailyWindow {
    /// Whether the minute of the day (0 to 1439) lies inside.
    pub fn contains(self, minute_of_day: u16) -> bool {
        if self.start_minute < self.end_minute {
            (self.start_minute..self.end_minute).contains(&minute_of_day)
        } else {
            minute_of_day >= self.start_minute || minute_of_day < self.end_minute
        }
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start_minute, self.end_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

impl FromText for DailyWindow {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let window = text.split_once('-').and_then(|(start, end)| {
            Some(Self {
                start_minute: minute_of_day(start)?,
                end_minute: minute_of_day(end)? % MINUTES_PER_DAY,
            })
        });
        window.filter(|w| w.start_minute < MINUTES_PER_DAY && w.start_minute != w.end_minute).ok_or_else(
            || {
                Refusal::new(
                    format!("{:?} is not a part of a day", excerpt(text)),
                    "write HH:MM-HH:MM, such as 08:00-22:00; for the whole day leave it out",
                )
            },
        )
    }
}

pub(super) fn read_limit(value: &Value<'_>) -> Option<RateLimit> {
    Table::read(value, |table| {
        let [up, down] = ["up", "down"].map(|key| table.get(key).and_then(|value| read_rate(&value)));
        let window = table.get("window").and_then(|value| value.parse());
        if !table.has("up") && !table.has("down") {
            table.problem(ProblemKind::MissingKey, || {
                Refusal::new("it limits nothing", "add up = \"20MiB/s\" or down = \"20MiB/s\"")
            });
        }
        RateLimit { up, down, window }
    })
}

fn read_rate(value: &Value<'_>) -> Option<ByteRate> {
    let rate = value.parse::<ByteRate>()?;
    if rate < RATE_LEAST {
        value.problem(ProblemKind::BadValue, || {
            let what = format!("at {rate} no transfer would come to its end in time");
            Refusal::new(what, format!("write {RATE_LEAST} or more, or leave the key out"))
        });
    }
    Some(rate)
}

/// `HH:MM` up to and with 24:00.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |digits: &str| match digits.as_bytes() {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(u16::from(a - b'0') * 10 + u16::from(b - b'0')),
        _ => None,
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= MINUTES_PER_DAY).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> DailyWindow {
        DailyWindow::from_text(text).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    #[test]
    fn a_window_has_its_start_and_not_its_end() {
        let day = window("08:00-22:00");
        assert_eq!(day.to_string(), "08:00-22:00");
        assert_eq!([479, 480, 1319, 1320].map(|minute| day.contains(minute)), [false, true, true, false]);
    }

    #[test]
    fn a_window_may_pass_midnight_or_end_there() {
        let night = window("22:00-06:30");
        assert_eq!([1319, 1320, 0, 389, 390].map(|m| night.contains(m)), [false, true, true, true, false]);
        let evening = window("18:00-24:00");
        assert_eq!([1079, 1080, 1439, 0].map(|m| evening.contains(m)), [false, true, true, false]);
    }

    #[test]
    fn what_is_no_part_of_a_day_is_refused() {
        for text in [
            "",
            "08:00",
            "8:00-22:00",
            "08:00-08:00",
            "00:00-24:00",
            "25:00-26:00",
            "24:00-06:00",
            "08:60-09:00",
        ] {
            assert!(DailyWindow::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
