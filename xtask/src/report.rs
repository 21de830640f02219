//! The table at the end of `cargo xtask test`.
//!
//! Owns its layout, and the arithmetic of its last line, `N passed, N failed`, which CI reads; groups that were skipped are
//! counted behind that.

use std::fmt::Write;
use std::time::Duration;

use crate::tally::Tally;

/// What became of one group.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) elapsed: Duration,
    pub(crate) tally: Tally,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Passed {
        /// What a reader should know of this success.
        note: Option<&'static str>,
    },
    Failed {
        why: String,
    },
    /// This machine cannot run it.
    Skipped {
        why: String,
    },
}

impl Row {
    /// Failed tests; 1 for a group that failed in another way (formatting, a crash, no test at all).
    pub(crate) fn failures(&self) -> u64 {
        match self.outcome {
            Outcome::Passed { .. } | Outcome::Skipped { .. } => self.tally.failed,
            Outcome::Failed { .. } => self.tally.failed.max(1),
        }
    }
}

/// One line for each group, then `N passed, N failed`.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut text = String::from("\ngroup         outcome     time  passed  failed  ignored\n");
    for row in rows {
        let (outcome, remark) = match &row.outcome {
            Outcome::Passed { note } => ("ok", note.unwrap_or_default()),
            Outcome::Failed { why } => ("FAILED", why.as_str()),
            Outcome::Skipped { why } => ("SKIPPED", why.as_str()),
        };
        let Tally { passed, failed, ignored } = row.tally;
        let seconds = row.elapsed.as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        let line =
            format!("{:13} {outcome:8} {time:>7} {passed:7} {failed:7} {ignored:8}  {remark}", row.name);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let passed: u64 = rows.iter().map(|row| row.tally.passed).sum();
    let failed: u64 = rows.iter().map(Row::failures).sum();
    let skipped = rows.iter().filter(|row| matches!(row.outcome, Outcome::Skipped { .. })).count();
    let _ = match skipped {
        0 => writeln!(text, "{passed} passed, {failed} failed"),
        _ => writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, passed: u64, failed: u64, outcome: Outcome) -> Row {
        let tally = Tally { passed, failed, ignored: 2 };
        Row { name: name.to_owned(), elapsed: Duration::from_secs(83), tally, outcome }
    }

    #[test]
    fn a_group_that_failed_without_a_failed_test_counts_as_one_failure() {
        let rows = [
            row("unit", 40, 0, Outcome::Passed { note: None }),
            row("style", 0, 0, Outcome::Failed { why: "`cargo fmt` failed".to_owned() }),
            row("e2e", 3, 2, Outcome::Failed { why: "`cargo test` failed".to_owned() }),
        ];
        assert_eq!(summary(&rows).lines().last(), Some("43 passed, 3 failed"));
    }

    #[test]
    fn a_group_that_was_skipped_is_seen_in_the_table_and_in_the_last_line() {
        let why = "there is no TUN device".to_owned();
        let rows = [
            row("unit", 40, 0, Outcome::Passed { note: None }),
            row("tailnet", 0, 0, Outcome::Skipped { why }),
        ];
        let text = summary(&rows);
        assert!(text.contains("SKIPPED") && text.contains("there is no TUN device"), "{text}");
        assert_eq!(text.lines().last(), Some("40 passed, 0 failed, 1 skipped"));
    }

    #[test]
    fn the_table_shows_time_outcome_and_note() {
        let text = summary(&[row("deny", 0, 0, Outcome::Passed { note: Some("advisories NOT checked") })]);
        assert_eq!(
            text.lines().nth(2),
            Some("deny          ok          1:23       0       0        2  advisories NOT checked")
        );
    }
}
