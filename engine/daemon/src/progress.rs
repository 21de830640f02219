//! When something will be done, and the line that tells how far it is. Pure: the time is an argument. Who draws the line, and
//! where, is `terminal`'s.

use std::time::Duration;

use backstay_core::units::{ByteRate, ByteSize};
use backstay_vault::vault::PointObject;
use backstay_wire::progress::{Certainty, Counted, Expected, Progress};

/// What making or finding an entry costs, in bytes of contents that take as long: trees of many small files would look done
/// when their few large ones are.
const ENTRY_BYTES: u64 = 16 << 10;

/// Over how long speeds are averaged: what was longer ago counts less and less.
const MEMORY: Duration = Duration::from_secs(15);

/// Figures are compared with those of so long ago at least: shorter stretches say nothing of a speed.
const STEP_LEAST: Duration = Duration::from_millis(200);

/// From when on a time is told: what the first moments promise is wrong as a rule.
const FIRST_TOLD: Duration = Duration::from_secs(2);

/// Above this nobody can tell.
const LEFT_MAX: Duration = Duration::from_secs(1000 * 3600);

/// More is not said to be done of what is not.
const PERCENT_MAX: u64 = 99;

/// A speed, averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Speed {
    /// Per second, times `weight`.
    sum: f64,
    /// How much of the memory is filled, from 0 to 1.
    weight: f64,
}

impl Speed {
    fn take(&mut self, amount: f64, step: Duration) {
        let share = 1.0 - (-step.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.sum += share * (amount / step.as_secs_f64() - self.sum);
        self.weight += share * (1.0 - self.weight);
    }

    /// Per second; `None` while nothing is known.
    fn per_second(self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.sum / self.weight).max(0.0))
    }
}

/// What is known of the speed of something.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    last: Seen,
    work: Speed,
    bytes: Speed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Seen {
    at: Duration,
    work: u64,
    bytes: u64,
}

/// How it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Bytes per second, of late.
    pub rate: ByteRate,
    /// How much is done; `None` when nobody can tell.
    pub percent: Option<u64>,
    /// How long the rest will take; `None` when nobody can tell.
    pub left: Option<Duration>,
}

impl Estimate {
    /// Takes figures of so long after the beginning, and says how it looks.
    pub fn take(&mut self, elapsed: Duration, progress: &Progress) -> Outlook {
        let now = Seen { at: elapsed, work: work(progress), bytes: progress.read_bytes };
        let last = self.last;
        if now.work < last.work || now.bytes < last.bytes || now.at < last.at {
            // Something else is measured now, or it has begun anew.
            *self = Self { last: now, ..Self::default() };
        } else if now.at - last.at >= STEP_LEAST {
            let step = now.at - last.at;
            self.work.take((now.work - last.work) as f64, step);
            self.bytes.take((now.bytes - last.bytes) as f64, step);
            self.last = now;
        }
        let all = progress.expected.and_then(measure_of).filter(|all| *all > 0);
        Outlook {
            rate: ByteRate(self.bytes.per_second().unwrap_or(0.0) as u64),
            percent: all.map(|all| percent(now.work, all)),
            left: all.filter(|_| elapsed >= FIRST_TOLD).and_then(|all| self.left(now.work, all)),
        }
    }

    fn left(&self, work: u64, all: u64) -> Option<Duration> {
        // More than there was to be: what was expected is wrong.
        let rest = all.checked_sub(work).filter(|rest| *rest > 0)?;
        let speed = self.work.per_second().filter(|speed| *speed > 0.0)?;
        let left = Duration::try_from_secs_f64(rest as f64 / speed).ok()?;
        (left <= LEFT_MAX).then_some(left)
    }
}

/// How much is done, in bytes or what takes as long. Only what is expected counts: the rest says nothing of what is left.
fn work(progress: &Progress) -> u64 {
    match progress.expected {
        Some(Expected { entries: None, bytes: Some(_), .. }) => progress.read_bytes,
        Some(Expected { entries: Some(_), bytes: None, .. }) => of_entries(progress.entries),
        _ => progress.read_bytes.saturating_add(of_entries(progress.entries)),
    }
}

/// How much there is in all, in the same measure.
fn measure_of(expected: Expected) -> Option<u64> {
    match (expected.entries, expected.bytes) {
        (None, None) => None,
        (entries, bytes) => Some(bytes.unwrap_or(0).saturating_add(of_entries(entries.unwrap_or(0)))),
    }
}

fn of_entries(entries: u64) -> u64 {
    entries.saturating_mul(ENTRY_BYTES)
}

fn percent(work: u64, all: u64) -> u64 {
    let percent = u128::from(work) * 100 / u128::from(all.max(1));
    percent.min(u128::from(PERCENT_MAX)) as u64
}

/// What a point holds, for work that passes over all of it.
pub fn all_of(point: &PointObject) -> Expected {
    let (entries, bytes) = (Some(point.common.entries), Some(point.common.bytes));
    Expected { entries, bytes, certainty: Certainty::Known }
}

/// The line, without what it is about. What people look for comes first: a narrow terminal cuts the rest.
pub fn line(progress: &Progress, outlook: &Outlook, elapsed: Duration) -> String {
    // A capture asks its vaults first what they have: of one at a node that is away that may take a while.
    if !progress.source.is_empty() && progress.entries == 0 && progress.read_bytes == 0 {
        return format!("waiting for its vaults, {} elapsed", clock(elapsed));
    }
    let expected = progress.expected;
    let about = if expected.is_some_and(|e| e.certainty == Certainty::Guessed) { "about " } else { "" };
    let of = |amount: Option<String>| amount.map(|all| format!(" of {all}")).unwrap_or_default();
    let entries = of(expected.and_then(|expected| expected.entries).map(|entries| entries.to_string()));
    let bytes = of(expected.and_then(|expected| expected.bytes).map(|bytes| ByteSize(bytes).to_string()));
    let mut parts = Vec::new();
    if let Some(percent) = outlook.percent {
        parts.push(format!("{about}{percent}%"));
        parts.push(format!("{} left", outlook.left.map_or_else(|| "--:--".to_owned(), clock)));
    }
    parts.push(format!("{}{bytes}", ByteSize(progress.read_bytes)));
    parts.push(outlook.rate.to_string());
    parts.push(format!("{}{entries} {}", progress.entries, word(progress.counted)));
    parts.push(format!("{} elapsed", clock(elapsed)));
    parts.join(", ")
}

fn word(counted: Counted) -> &'static str {
    match counted {
        Counted::Entries => "entries",
        Counted::Points => "points",
        Counted::Packs => "packs",
        Counted::Requests => "requests",
        Counted::Unknown => "things",
    }
}

/// Hours, minutes and seconds, as a clock shows them.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn progress(entries: u64, read_bytes: u64, expected: Option<(Option<u64>, Option<u64>)>) -> Progress {
        let expected =
            expected.map(|(entries, bytes)| Expected { entries, bytes, certainty: Certainty::Known });
        Progress { entries, read_bytes, expected, ..Progress::default() }
    }

    /// What is said after each second of a steady 10 MB/s, of 1 GB.
    fn steady(seconds: u32) -> Outlook {
        let mut estimate = Estimate::default();
        let at = |n: u32| progress(0, u64::from(n) * 10_000_000, Some((None, Some(1_000_000_000))));
        (0..=seconds).map(|n| estimate.take(SECOND * n, &at(n))).last().expect("one")
    }

    #[test]
    fn a_steady_speed_tells_what_is_left() {
        for seconds in [2, 10, 50, 90] {
            let outlook = steady(seconds);
            assert_eq!(outlook.percent, Some(u64::from(seconds)));
            let left = outlook.left.expect("known").as_secs_f64();
            assert!((left - f64::from(100 - seconds)).abs() < 0.5, "after {seconds} s: {left}");
            assert!(outlook.rate.0.abs_diff(10_000_000) < 10_000, "{outlook:?}");
        }
    }

    #[test]
    fn nothing_is_promised_in_the_first_moments_and_when_nothing_moves() {
        assert_eq!(steady(1).left, None);
        let mut estimate = Estimate::default();
        let stuck = progress(0, 0, Some((None, Some(1000))));
        for n in 0..100 {
            let outlook = estimate.take(SECOND * n, &stuck);
            assert_eq!((outlook.percent, outlook.left), (Some(0), None), "after {n} s");
        }
    }

    #[test]
    fn a_speed_that_changes_is_followed_without_leaps() {
        let mut estimate = Estimate::default();
        let (mut bytes, mut before) = (0, None::<f64>);
        for n in 0..120u32 {
            bytes += if n < 30 { 100_000 } else { 10_000 };
            let outlook = estimate.take(SECOND * n, &progress(0, bytes, Some((None, Some(10_000_000)))));
            let Some(left) = outlook.left.map(|left| left.as_secs_f64()) else { continue };
            if let Some(before) = before {
                assert!(left < before * 1.2 + 1.0, "after {n} s: from {before} to {left}");
            }
            before = Some(left);
        }
        let left = before.expect("known");
        let right = (10_000_000 - bytes) as f64 / 10_000.0;
        assert!((left / right - 1.0).abs() < 0.1, "{left} and not {right}");
    }

    #[test]
    fn what_was_expected_and_is_exceeded_is_not_believed_any_more() {
        let mut estimate = Estimate::default();
        for n in 0..10 {
            let outlook =
                estimate.take(SECOND * n, &progress(u64::from(n) * 100, 0, Some((Some(500), None))));
            assert!(outlook.percent.is_some_and(|percent| percent <= PERCENT_MAX), "{outlook:?}");
            if n >= 5 {
                assert_eq!((outlook.percent, outlook.left), (Some(99), None), "after {n} s");
            }
        }
        let nothing = estimate.take(SECOND * 20, &progress(0, 0, Some((Some(0), Some(0)))));
        assert_eq!((nothing.percent, nothing.left), (None, None));
    }

    #[test]
    fn figures_that_fall_and_clocks_that_stand_are_taken_for_a_beginning() {
        let mut estimate = Estimate::default();
        let all = Some((None, Some(u64::MAX)));
        for (seconds, bytes) in [(5, u64::MAX), (5, u64::MAX), (6, 0), (3, 10), (4, 20), (4, u64::MAX)] {
            let outlook = estimate.take(SECOND * seconds, &progress(u64::MAX, bytes, all));
            assert!(outlook.left.is_none_or(|left| left <= LEFT_MAX), "{outlook:?}");
        }
    }

    #[test]
    fn many_small_files_are_not_done_with_the_large_one() {
        let mut estimate = Estimate::default();
        let done = progress(1, 1 << 30, Some((Some(1_000_000), Some(2 << 30))));
        assert!(estimate.take(SECOND * 3, &done).percent.is_some_and(|percent| percent < 10));
    }

    #[test]
    fn the_line_says_what_is_known_and_no_more() {
        let rate = ByteRate(1 << 20);
        let unknown = Outlook { rate, percent: None, left: None };
        let waits = Progress { source: "web.files".to_owned(), ..progress(0, 0, None) };
        assert_eq!(line(&waits, &unknown, SECOND * 30), "waiting for its vaults, 0:30 elapsed");
        let shown = line(&progress(3, 1 << 20, None), &unknown, SECOND * 75);
        assert_eq!(shown, "1MiB, 1MiB/s, 3 entries, 1:15 elapsed");
        let mut guessed = progress(3, 1 << 20, Some((Some(30), None)));
        if let Some(expected) = &mut guessed.expected {
            expected.certainty = Certainty::Guessed;
        }
        let outlook = Outlook { rate, percent: Some(10), left: None };
        let shown = line(&guessed, &outlook, SECOND * 3);
        assert_eq!(shown, "about 10%, --:-- left, 1MiB, 1MiB/s, 3 of 30 entries, 0:03 elapsed");
        let outlook = Outlook { left: Some(SECOND * 3723), ..outlook };
        let known =
            Progress { counted: Counted::Packs, ..progress(3, 1 << 20, Some((None, Some(10 << 20)))) };
        let shown = line(&known, &outlook, SECOND * 3);
        assert_eq!(shown, "10%, 1:02:03 left, 1MiB of 10MiB, 1MiB/s, 3 packs, 0:03 elapsed");
    }
}
