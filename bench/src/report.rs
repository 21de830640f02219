//! The figures for people and for programs: a table with ratios, and JSON with everything.
//!
//! Owns the medians. Refuses to leave a round out: the JSON has every figure that was taken.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::ingest::{Figure, Step};
use crate::measure::Cost;
use crate::tool::Tool;

const MIB: f64 = (1_u64 << 20) as f64;

/// The medians of one tool in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Median {
    cost: Cost,
    repository_bytes: u64,
}

/// One line for each step and tool, with the ratio Backstay / restic where both took part: below 1 is less.
pub(crate) fn table(figures: &[Figure], tree_bytes: u64) -> String {
    let mut text = String::from(
        "step       tool       wall s    MiB/s    cpu s  peak RSS MiB  anonymous MiB  repository MiB\n",
    );
    for step in Step::ALL {
        let medians = [Tool::Backstay, Tool::Restic].map(|tool| (tool, median(figures, tool, step)));
        for (tool, median) in medians {
            if let Some(median) = median {
                push_row(&mut text, step, tool, &median, tree_bytes);
            }
        }
        if let [(_, Some(ours)), (_, Some(theirs))] = medians {
            push_ratio(&mut text, step, &ours, &theirs);
        }
    }
    text
}

/// Every figure and the medians.
pub(crate) fn json(figures: &[Figure]) -> Value {
    let rounds: Vec<_> = figures.iter().map(figure_json).collect();
    let mut medians = Vec::new();
    for step in Step::ALL {
        for tool in [Tool::Backstay, Tool::Restic] {
            if let Some(Median { cost, repository_bytes }) = median(figures, tool, step) {
                let mut value = cost_json(&cost, repository_bytes);
                value["step"] = step.name().into();
                value["tool"] = tool.name().into();
                medians.push(value);
            }
        }
    }
    json!({ "rounds": rounds, "medians": medians })
}

fn figure_json(figure: &Figure) -> Value {
    let mut value = cost_json(&figure.cost, figure.repository_bytes);
    value["round"] = figure.round.into();
    value["step"] = figure.step.name().into();
    value["tool"] = figure.tool.name().into();
    value
}

fn cost_json(cost: &Cost, repository_bytes: u64) -> Value {
    json!({
        "wall_seconds": cost.wall_seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_rss_bytes": cost.peak_rss_bytes,
        "peak_anon_bytes": cost.peak_anon_bytes,
        "repository_bytes": repository_bytes,
    })
}

fn push_row(text: &mut String, step: Step, tool: Tool, median: &Median, tree_bytes: u64) {
    let Median { cost, repository_bytes } = median;
    let rate = match step.moves_everything() {
        true => format!("{:.0}", tree_bytes as f64 / MIB / cost.wall_seconds),
        false => String::from("-"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:10} {:8} {:8.2} {rate:>8} {:8.2} {:13.0} {:14.0} {:15.0}",
        step.name(),
        tool.name(),
        cost.wall_seconds,
        cost.cpu_seconds,
        cost.peak_rss_bytes as f64 / MIB,
        cost.peak_anon_bytes as f64 / MIB,
        *repository_bytes as f64 / MIB,
    );
}

fn push_ratio(text: &mut String, step: Step, ours: &Median, theirs: &Median) {
    let ratio = |pick: fn(&Median) -> f64| pick(ours) / pick(theirs);
    let _ = writeln!(
        text,
        "{:10} ratio    {:8.2} {:>8} {:8.2} {:13.2} {:14.2} {:15.2}",
        step.name(),
        ratio(|median| median.cost.wall_seconds),
        "",
        ratio(|median| median.cost.cpu_seconds),
        ratio(|median| median.cost.peak_rss_bytes as f64),
        ratio(|median| median.cost.peak_anon_bytes as f64),
        ratio(|median| median.repository_bytes as f64),
    );
}

/// The median of each quantity by itself; none when the tool did not take part.
fn median(figures: &[Figure], tool: Tool, step: Step) -> Option<Median> {
    let of_step: Vec<_> = figures.iter().filter(|f| f.tool == tool && f.step == step).collect();
    let middle = |pick: fn(&Figure) -> f64| middle(of_step.iter().map(|figure| pick(figure)).collect());
    Some(Median {
        cost: Cost {
            wall_seconds: middle(|figure| figure.cost.wall_seconds)?,
            cpu_seconds: middle(|figure| figure.cost.cpu_seconds)?,
            peak_rss_bytes: middle(|figure| figure.cost.peak_rss_bytes as f64)? as u64,
            peak_anon_bytes: middle(|figure| figure.cost.peak_anon_bytes as f64)? as u64,
        },
        repository_bytes: middle(|figure| figure.repository_bytes as f64)? as u64,
    })
}

/// The middle value; of an even number of values, the mean of the middle two.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(round: u32, tool: Tool, step: Step, wall_seconds: f64) -> Figure {
        let cost =
            Cost { wall_seconds, cpu_seconds: 2.0, peak_rss_bytes: 200 << 20, peak_anon_bytes: 100 << 20 };
        Figure { round, tool, step, cost, repository_bytes: 50 << 20 }
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert_eq!(middle(vec![100.0, 2.0, 1.0]), Some(2.0));
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(middle(vec![]), None);
    }

    #[test]
    fn the_table_divides_backstay_by_restic() {
        let figures =
            [figure(1, Tool::Backstay, Step::First, 5.0), figure(1, Tool::Restic, Step::First, 10.0)];
        let table = table(&figures, 100 << 20);
        let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["first", "backstay", "5.00", "20", "2.00", "200", "100", "50"]);
        assert_eq!(lines[3], ["first", "ratio", "0.50", "1.00", "1.00", "1.00", "1.00"]);
    }

    #[test]
    fn a_tool_alone_has_no_ratio() {
        let table = table(&[figure(1, Tool::Restic, Step::Unchanged, 1.0)], 1 << 20);
        assert_eq!(table.lines().count(), 2);
        assert!(!table.contains("ratio"));
    }

    #[test]
    fn json_has_every_round_beside_the_medians() {
        let figures = [1.0, 3.0, 2.0].map(|wall| figure(1, Tool::Restic, Step::Restore, wall));
        let value = json(&figures);
        assert_eq!(value["rounds"].as_array().map(Vec::len), Some(3));
        assert_eq!(value["medians"][0]["wall_seconds"], 2.0);
        assert_eq!(value["medians"][0]["tool"], "restic");
    }
}
