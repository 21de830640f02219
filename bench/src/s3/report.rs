//! The figures of `s3`: a table with ratios and counts for people, JSON with everything, and which targets are missed.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Figure, Requests, STEPS};
use crate::ingest::Step;
use crate::report::middle;
use crate::tool::Tool;

const MIB: f64 = (1_u64 << 20) as f64;

/// How many times as fast as restic each step has to be.
const FASTER_MIN: f64 = 2.0;

/// The medians of one step.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// Seconds of Backstay and of restic.
    seconds: [f64; 2],
    /// Their requests.
    requests: [f64; 2],
}

impl Pair {
    fn of(figures: &[Figure], step: Step) -> Option<Self> {
        let median = |tool, pick: fn(&Figure) -> f64| {
            let mine = figures.iter().filter(|figure| figure.tool == tool && figure.step == step);
            middle(mine.map(pick).collect())
        };
        let seconds = |tool| median(tool, |figure| figure.cost.wall_seconds);
        let requests = |tool| median(tool, |figure| total(&figure.requests) as f64);
        Some(Self {
            seconds: [seconds(Tool::Backstay)?, seconds(Tool::Restic)?],
            requests: [requests(Tool::Backstay)?, requests(Tool::Restic)?],
        })
    }

    fn times_as_fast(&self) -> f64 {
        self.seconds[1] / self.seconds[0]
    }
}

fn total(requests: &Requests) -> u64 {
    requests.values().sum()
}

/// For each step a line for each tool, with the requests of its last round by what they ask for, and one with the ratios. In the end
/// what a mere copy of the files took, seconds of each round: no restore to this disk takes less.
pub(super) fn table(figures: &[Figure], copies: &[f64], tree_bytes: u64) -> String {
    let mib = tree_bytes as f64 / MIB;
    let mut text = format!(
        "{mib:.0} MiB, medians; MiB/s of the whole tree; what has changed is captured by Backstay's daemon, which is at rest before\n"
    );
    for step in STEPS {
        let Some(pair) = Pair::of(figures, step) else { continue };
        for (n, tool) in [Tool::Backstay, Tool::Restic].into_iter().enumerate() {
            let (seconds, requests) = (pair.seconds[n], pair.requests[n]);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:8} {:8} {seconds:8.2} s {:7.0} MiB/s {requests:6.0} requests: {}",
                step.name(),
                tool.name(),
                mib / seconds,
                by_kind(figures, tool, step),
            );
        }
        let _ = writeln!(
            text,
            "{:8} times as fast {:.2} (at least {FASTER_MIN}), of the requests {:.2} (below 1)",
            step.name(),
            pair.times_as_fast(),
            pair.requests[0] / pair.requests[1],
        );
    }
    if let Some(seconds) = middle(copies.to_vec()) {
        let (step, rate) = (Step::Restore.name(), mib / seconds);
        let _ = writeln!(
            text,
            "{step:8} cp -a    {seconds:8.2} s {rate:7.0} MiB/s: the files alone, out of memory"
        );
    }
    text
}

/// The requests of the last round.
fn by_kind(figures: &[Figure], tool: Tool, step: Step) -> String {
    let last = figures.iter().rfind(|figure| figure.tool == tool && figure.step == step);
    let counts = last.iter().flat_map(|figure| &figure.requests);
    counts.map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

/// The targets that are missed, in words.
pub(super) fn missed(figures: &[Figure]) -> Vec<String> {
    let mut missed = Vec::new();
    for step in STEPS {
        let Some(pair) = Pair::of(figures, step) else { continue };
        if pair.times_as_fast() < FASTER_MIN {
            missed.push(format!("{} is {:.2} times as fast", step.name(), pair.times_as_fast()));
        }
        if pair.requests[0] >= pair.requests[1] {
            missed.push(format!(
                "{} takes {} requests, not below {}",
                step.name(),
                pair.requests[0],
                pair.requests[1]
            ));
        }
    }
    missed
}

/// Every figure.
pub(super) fn json(
    figures: &[Figure],
    copies: &[f64],
    tree_bytes: u64,
    versions: &[String],
    machine: &Value,
) -> Value {
    let rounds: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "round": figure.round,
                "tool": figure.tool.name(),
                "step": figure.step.name(),
                "wall_seconds": figure.cost.wall_seconds,
                "cpu_seconds": figure.cost.cpu_seconds,
                "requests": figure.requests,
            })
        })
        .collect();
    json!({
        "bench": "s3", "bytes": tree_bytes, "versions": versions, "machine": machine, "rounds": rounds,
        "copy_wall_seconds": copies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;

    fn figure(tool: Tool, step: Step, wall_seconds: f64, gets: u64) -> Figure {
        let cost = Cost { wall_seconds, ..Cost::default() };
        Figure { round: 1, tool, step, cost, requests: Requests::from([("GetObject".to_owned(), gets)]) }
    }

    #[test]
    fn what_is_not_twice_as_fast_or_asks_as_often_is_missed() {
        let of = |seconds, gets| {
            let ours = figure(Tool::Backstay, Step::Restore, seconds, gets);
            missed(&[ours, figure(Tool::Restic, Step::Restore, 10.0, 100)])
        };
        assert_eq!(of(5.0, 99), Vec::<String>::new());
        assert_eq!(of(5.1, 99), ["restore is 1.96 times as fast"]);
        assert_eq!(of(5.0, 100), ["restore takes 100 requests, not below 100"]);
    }

    #[test]
    fn the_table_has_ratios_and_requests_by_what_they_ask_for() {
        let figures =
            [figure(Tool::Backstay, Step::First, 2.0, 7), figure(Tool::Restic, Step::First, 5.0, 14)];
        let table = table(&figures, &[4.0], 100 << 20);
        for words in [
            "cp -a        4.00 s      25 MiB/s",
            "50 MiB/s",
            "14 requests: GetObject 14",
            "fast 2.50",
            "requests 0.50",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
    }
}
