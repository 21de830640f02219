//! `status`: how every flow is, from the daemon, or from the vaults when none runs.

use std::time::Duration;

use backstay_core::config::SourceName;
use backstay_core::rpo::Condition;
use backstay_core::units::format_duration;
use backstay_wire::control::{Ask, Reply};
use backstay_wire::status::{FlowReport, NodeStatus};
use clap::Args;

use super::{Context, print_json, watch};
use crate::clock::SystemClock;
use crate::control::{Conversation, unasked};
use crate::failure::Failure;
use crate::flows::Flows;
use crate::terminal::print;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// End with 0 when all is well, 1 on a warning, 2 when critical, 3 when unknown.
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// Show it anew every second, until Ctrl-C; with --json, a document on each line.
    #[arg(short, long)]
    watch: bool,
}

impl StatusArgs {
    pub(super) fn is_check(&self) -> bool {
        self.check
    }
}

pub(super) fn run(context: &Context, arguments: &StatusArgs) -> Result<u8, Failure> {
    if arguments.watch {
        return watch::run(context);
    }
    let status = match from_daemon(context)? {
        Some(status) => status,
        None => from_vaults(context)?,
    };
    if context.json {
        print_json(&status)?;
    } else {
        lines(&status).iter().for_each(|line| print(line));
    }
    Ok(if arguments.check { exit_code(&status) } else { 0 })
}

/// What the daemon says; `None` where none answers.
pub(super) fn from_daemon(context: &Context) -> Result<Option<NodeStatus>, Failure> {
    let conversation = Conversation::ask(&context.config.node.state, Ask::Status)?;
    conversation.map_or(Ok(None), |mut conversation| match conversation.next()? {
        Reply::Status(status) => Ok(Some(*status)),
        _ => Err(unasked()),
    })
}

/// What the vaults know.
pub(super) fn from_vaults(context: &Context) -> Result<NodeStatus, Failure> {
    let vaults = context.vaults_to_read(None)?;
    Ok(Flows::load(&context.config, &vaults).status(false, &SystemClock))
}

fn exit_code(status: &NodeStatus) -> u8 {
    match status.severity.as_str() {
        "ok" => 0,
        "warning" => 1,
        "critical" => 2,
        _ => 3,
    }
}

/// For people.
pub(super) fn lines(status: &NodeStatus) -> Vec<String> {
    let daemon = if status.daemon { "" } else { ", no daemon runs" };
    let mut lines = vec![format!("{} at {}: {}{daemon}", status.node, status.time, status.severity)];
    let mut table = vec![
        ["SOURCE", "TARGET", "STATE", "EXPOSURE", "OBJECTIVE", "LAST POINT", "LAST PROOF"].map(str::to_owned),
    ];
    for flow in status.flows.iter().filter(|flow| is_shown(flow)) {
        let state = if flow.capturing { format!("{}, capturing", flow.state) } else { flow.state.clone() };
        table.push([
            flow.source.clone(),
            flow.target.clone(),
            state,
            flow.exposure_seconds.map_or_else(|| "unknown".to_owned(), whole_seconds),
            whole_seconds(flow.objective_seconds),
            flow.last_point.clone().unwrap_or_else(|| "none".to_owned()),
            flow.last_proof.clone().unwrap_or_else(|| "none".to_owned()),
        ]);
    }
    lines.extend(in_columns(&table));
    for flow in &status.flows {
        if let Some(problem) = &flow.problem {
            lines.push(format!("{} to {}: {problem}", flow.source, flow.target));
        }
        for remark in &flow.remarks {
            lines.push(format!("{} to {}: note: {remark}", flow.source, flow.target));
        }
    }
    lines
}

/// Of what the node keeps of the fleet's configuration people see what is wrong.
fn is_shown(flow: &FlowReport) -> bool {
    flow.service != SourceName::FLEET || flow.state != Condition::Ok.label() || flow.problem.is_some()
}

fn whole_seconds(seconds: f64) -> String {
    format_duration(Duration::from_secs(seconds.max(0.0) as u64))
}

/// Prints rows in columns.
pub(super) fn show_table<const N: usize>(rows: &[[String; N]]) {
    in_columns(rows).iter().for_each(|line| print(line));
}

fn in_columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
