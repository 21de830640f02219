//! Periods of the calendar, in UTC: hours, days, weeks from Monday, months, years.

use std::fmt;

use jiff::tz::TimeZone;

use crate::units::Timestamp;

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;
const HOURS_PER_DAY: i64 = 24;
/// 1970-01-01 was a Thursday: its week began three days before.
const DAYS_FROM_MONDAY_TO_EPOCH: i64 = 3;

/// A division of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// Of 60 minutes.
    Hour,
    /// Of 24 hours.
    Day,
    /// From Monday to Sunday.
    Week,
    /// Of the Gregorian calendar.
    Month,
    /// Of the Gregorian calendar.
    Year,
}

/// One hour, day, week, month or year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    calendar: Calendar,
    /// Rises by one from each period to the next.
    number: i64,
}

impl Calendar {
    /// The period in which an instant lies.
    pub fn period_of(self, time: Timestamp) -> Period {
        let hours = time.as_nanos().div_euclid(NANOS_PER_HOUR);
        let days = hours.div_euclid(HOURS_PER_DAY);
        let number = match self {
            Self::Hour => hours,
            Self::Day => days,
            Self::Week => (days + DAYS_FROM_MONDAY_TO_EPOCH).div_euclid(7),
            Self::Month => {
                let date = date_of(days);
                i64::from(date.year()) * 12 + i64::from(date.month()) - 1
            }
            Self::Year => i64::from(date_of(days).year()),
        };
        Period { calendar: self, number }
    }
}

/// The hour with its zone, the date, the Monday of the week, the month, the year.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.calendar {
            Calendar::Hour => {
                let (days, hour) =
                    (self.number.div_euclid(HOURS_PER_DAY), self.number.rem_euclid(HOURS_PER_DAY));
                write!(f, "hour {}T{hour:02}Z", date_of(days))
            }
            Calendar::Day => write!(f, "day {}", date_of(self.number)),
            Calendar::Week => {
                write!(f, "week of {}", date_of(self.number * 7 - DAYS_FROM_MONDAY_TO_EPOCH))
            }
            Calendar::Month => {
                write!(f, "month {:04}-{:02}", self.number.div_euclid(12), self.number.rem_euclid(12) + 1)
            }
            Calendar::Year => write!(f, "year {}", self.number),
        }
    }
}

fn date_of(days: i64) -> jiff::civil::Date {
    let instant = jiff::Timestamp::from_second(days * HOURS_PER_DAY * 3600)
        .expect("2^63 nanoseconds are 292 years, and jiff covers the years -9999 to 9999");
    instant.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(calendar: Calendar, time: &str) -> String {
        calendar.period_of(Timestamp::parse(time).expect("a time")).to_string()
    }

    #[test]
    fn periods_are_those_of_utc() {
        let all = [Calendar::Hour, Calendar::Day, Calendar::Week, Calendar::Month, Calendar::Year];
        let at = |time| all.map(|calendar| shown(calendar, time));
        assert_eq!(
            at("2028-02-29T23:59:59Z"),
            ["hour 2028-02-29T23Z", "day 2028-02-29", "week of 2028-02-28", "month 2028-02", "year 2028"]
        );
        assert_eq!(
            at("2027-01-01T01:30:00+02:00"),
            ["hour 2026-12-31T23Z", "day 2026-12-31", "week of 2026-12-28", "month 2026-12", "year 2026"]
        );
        assert_eq!(
            at("1969-12-28T00:00:00Z"),
            ["hour 1969-12-28T00Z", "day 1969-12-28", "week of 1969-12-22", "month 1969-12", "year 1969"]
        );
    }

    #[test]
    fn a_week_begins_on_monday_also_across_the_end_of_a_year() {
        assert_eq!(shown(Calendar::Week, "2026-12-28"), shown(Calendar::Week, "2027-01-03T23:59:59Z"));
        assert_ne!(shown(Calendar::Week, "2027-01-03"), shown(Calendar::Week, "2027-01-04"));
    }

    #[test]
    fn the_extremes_have_periods() {
        for time in [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX] {
            for calendar in [Calendar::Hour, Calendar::Day, Calendar::Week, Calendar::Month, Calendar::Year] {
                assert!(!calendar.period_of(time).to_string().is_empty());
            }
        }
    }
}
