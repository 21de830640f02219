//! Counts of tests, read from the lines that the test harness prints.
//!
//! Owns the understanding of `test result:`. Refuses to guess: a line that does not parse counts nothing,
//! and a group that counted nothing does not pass (see `test`).

/// Tests that passed, failed, and were left out by `#[ignore]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Adds what `line` says, if it is the closing line of a test binary.
    pub(crate) fn read_line(&mut self, line: &str) {
        let Some(counts) = line.trim().strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Tests that ran, whatever their outcome.
    pub(crate) fn ran(&self) -> u64 {
        self.passed + self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read_line(line));
        tally
    }

    #[test]
    fn the_closing_lines_of_several_binaries_add_up() {
        let lines = [
            "running 12 tests",
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 1.20s",
        ];
        assert_eq!(tally(&lines), Tally { passed: 17, failed: 2, ignored: 3 });
    }

    #[test]
    fn a_test_that_prints_about_results_is_not_counted() {
        let lines = ["the test result: ok. 9 passed", "test result: nonsense", "12 passed; 0 failed"];
        assert_eq!(tally(&lines), Tally::default());
    }
}
