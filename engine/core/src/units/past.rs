//! Times that have passed, as people type them: those of [`Timestamp`], and beside them a time of today or of yesterday and an
//! age. Owns which words these are; refuses what could mean two instants. Without a zone it is UTC, as everywhere.

use std::time::Duration;

use super::{Quantity, Timestamp, UnitError, UnitFault, bounded, parse_duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads a time that has passed at `now`: one that [`Timestamp::parse`] reads, `13:30` and `today 13:30`, `yesterday 13:30`
/// (UTC), `2h ago`.
///
/// # Errors
/// [`UnitError`] for anything else, for a whole day (`yesterday` alone), and for a time of today that is to come: who types
/// that means another day.
pub fn parse_past(text: &str, now: Timestamp) -> Result<Timestamp, UnitError> {
    let error = |fault| UnitError::new(Quantity::PastTime, text, fault);
    let trimmed = bounded(text).map_err(error)?;
    if let Some(age) = trimmed.strip_suffix("ago").filter(|age| age.ends_with(' ')) {
        // Spaces between number and unit are no other number.
        let age: String = age.split_whitespace().collect();
        let age = parse_duration(&age).map_err(|inner| error(inner.fault))?;
        return Ok(now.saturating_sub(age));
    }
    let (day, time) = match trimmed.split_once(' ') {
        _ if matches!(trimmed, "today" | "yesterday") => return Err(error(UnitFault::WholeDay)),
        Some(("today", time)) => (now, time),
        Some(("yesterday", time)) => (now.saturating_sub(DAY), time),
        // Neither a date nor a zone can stand before or behind it.
        _ if is_time_of_day(trimmed) => (now, trimmed),
        _ => return Timestamp::parse(trimmed).map_err(|inner| error(inner.fault)),
    };
    let time = time.trim();
    if !is_time_of_day(time) {
        return Err(error(UnitFault::NotATime));
    }
    let date = day.to_string();
    let date = date.get(..10).ok_or_else(|| error(UnitFault::NotATime))?;
    let at = Timestamp::parse(&format!("{date} {time}")).map_err(|inner| error(inner.fault))?;
    if at > now { Err(error(UnitFault::ToCome)) } else { Ok(at) }
}

/// Whether it looks like `13:30` or `13:30:15`; whether there is such a time is for the parser of dates.
fn is_time_of_day(text: &str) -> bool {
    let mut parts = text.split(':');
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    (2..=3).contains(&text.split(':').count()) && parts.all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-02T09:30:00Z").expect("a time")
    }

    #[test]
    fn what_people_say_is_read_as_what_they_mean() {
        for (text, meant) in [
            ("2026-11-01 12:00", "2026-11-01T12:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T12:00:00+01:00", "2026-11-01T11:00:00Z"),
            ("08:15", "2026-11-02T08:15:00Z"),
            (" 08:15:30 ", "2026-11-02T08:15:30Z"),
            ("today 00:00", "2026-11-02T00:00:00Z"),
            ("yesterday 18:00", "2026-11-01T18:00:00Z"),
            ("2h ago", "2026-11-02T07:30:00Z"),
            ("1h30m ago", "2026-11-02T08:00:00Z"),
            ("2 d ago", "2026-10-31T09:30:00Z"),
            ("09:30", "2026-11-02T09:30:00Z"),
            // As before: a date is taken as it is.
            ("2030-01-01", "2030-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse_past(text, now()).map(|at| at.to_string()), Ok(meant.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_could_mean_two_instants_or_none_is_refused_with_the_forms_that_are_read() {
        for (text, why) in [
            ("yesterday", "a whole day"),
            ("today", "a whole day"),
            ("09:31", "still to come"),
            ("today 22:00", "still to come"),
            ("25:00", "not the form"),
            ("yesterday 25:00", "not the form"),
            ("yesterday 2026-11-01", "not the form"),
            ("yesterday noon", "not the form"),
            ("9:30", "not the form"),
            ("12", "not the form"),
            ("noon", "not the form"),
            ("2 hours ago", "there is no unit"),
            ("ago", "not the form"),
            (" ago", "not the form"),
            ("2hago", "not the form"),
            ("01.11.2026", "not the form"),
            ("", "it is empty"),
        ] {
            let error = parse_past(text, now()).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("`yesterday 13:30`") && error.contains("UTC"), "{error}");
        }
    }

    #[test]
    fn no_age_leaves_the_range_of_the_type() {
        assert_eq!(parse_past("99999999999d ago", now()), Ok(Timestamp::MIN));
        assert!(parse_past("99999999999999999999d ago", now()).is_err());
        assert!(parse_past("yesterday 12:00", Timestamp::MIN).is_err());
    }
}
