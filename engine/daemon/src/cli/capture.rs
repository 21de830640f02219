//! `now`: capture and wait until it is durable, through the daemon where one runs.

use std::sync::Arc;

use backstay_core::config::{Source, SourceName, Target, VaultKind};
use backstay_core::units::ByteSize;
use backstay_files::capture::CaptureProgress;
use backstay_files::touched::Touched;
use backstay_wire::control::{Ask, CaptureReport, Reply, TargetOutcome, TargetReport};
use clap::Args;

use super::{Context, onward, print_json};
use crate::clock::SystemClock;
use crate::control::{Conversation, unasked};
use crate::engine::{CaptureOrder, Engine, progress_of};
use crate::failure::Failure;
use crate::node::StateLock;
use crate::terminal::{self, ProgressLine, print, remark};
use crate::vaults::Vaults;

/// Longest name of a hold, bytes.
const HOLD_BYTES_MAX: usize = 200;

/// Said until a recovery key exists.
pub(super) const NO_RECOVERY: &str = "warning: no recovery key exists: if this node is lost, its vaults cannot be read. Make one: `backstay vault init VAULT --recovery FILE`, and keep FILE elsewhere";

#[derive(Debug, Args)]
pub(super) struct NowArgs {
    /// Sources; all that are at home on this node where none is given.
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// Keep the point for ever, under this name; there is one also when nothing has changed.
    #[arg(long, value_name = "NAME", value_parser = hold_name)]
    hold: Option<String>,
}

/// Of names for holds: a line that people read.
pub(super) fn hold_name(text: &str) -> Result<String, String> {
    let good = (1..=HOLD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    match good {
        true => Ok(text.to_owned()),
        false => Err(format!("use 1 to {HOLD_BYTES_MAX} bytes, without line breaks and the like")),
    }
}

pub(super) fn now(context: &Context, arguments: &NowArgs) -> Result<u8, Failure> {
    let sources = named(context, &arguments.sources)?;
    let names = sources.iter().map(|source| source.name.to_string()).collect();
    let hold = arguments.hold.clone();
    let reports = match Conversation::ask(&context.config.node.state, Ask::Now { sources: names, hold })? {
        Some(conversation) => follow(conversation)?,
        None => alone(context, &sources, arguments.hold.as_deref())?,
    };
    end(context, reports)
}

/// Waits until what was captured is where it is meant to be, and prints what became of it; the exit code.
pub(super) fn end(context: &Context, mut reports: Vec<CaptureReport>) -> Result<u8, Failure> {
    onward::follow(context, &mut reports);
    tell(context, &reports)
}

/// The sources that were named, wherever they are at home; when none was, all of this node, and those that it holds for others.
pub(super) fn named_anywhere<'c>(context: &'c Context, typed: &[String]) -> Result<Vec<&'c Source>, Failure> {
    let config = &context.config;
    if typed.is_empty() {
        let is_held = |source: &&Source| {
            let mut vaults = source.flows.iter().filter_map(|flow| flow.target.vault());
            let is_held = |name: &str| {
                config.vaults.get(name).is_some_and(|vault| matches!(vault.kind, VaultKind::Held(_)))
            };
            vaults.any(is_held) || config.relays.iter().any(|relay| relay.sources.contains(&source.name))
        };
        return Ok(config
            .sources_at_home_on(&config.node.name)
            .chain(config.sources.iter().filter(is_held))
            .collect());
    }
    typed.iter().map(|typed| config.find_source(typed).map_err(Failure::usage)).collect()
}

/// The sources that were named, which must be at home on this node; all of this node when none was.
pub(super) fn named<'c>(context: &'c Context, typed: &[String]) -> Result<Vec<&'c Source>, Failure> {
    let config = &context.config;
    if typed.is_empty() {
        return Ok(config.captured_here().collect());
    }
    let node = &config.node.name;
    let named = |typed: &String| {
        let source = config.find_source(typed).map_err(Failure::usage)?;
        match config.home_of(source) {
            Some(home) if home != node => Err(Failure::usage(format!(
                "{} is not at home on this node ({node}) but on {home}; capture it there",
                source.name
            ))),
            _ => Ok(source),
        }
    };
    typed.iter().map(named).collect()
}

/// An engine of this process's own; takes the lock.
pub(super) fn engine(context: &Context) -> Result<(Engine, StateLock), Failure> {
    engine_on(context, |vaults| vaults)
}

fn engine_on(context: &Context, of: impl FnOnce(Vaults) -> Vaults) -> Result<(Engine, StateLock), Failure> {
    let lock = StateLock::take(&context.config.node.state)?;
    let (vaults, _) = context.vaults_to_keep()?;
    let engine = Engine::new(Arc::clone(&context.config), Arc::new(of(vaults)), Arc::new(SystemClock))?;
    Ok((engine, lock))
}

/// Captures without a daemon.
fn alone(context: &Context, sources: &[&Source], hold: Option<&str>) -> Result<Vec<CaptureReport>, Failure> {
    let (engine, lock) = engine_on(context, Vaults::of_short_process)?;
    let reports = sources.iter().map(|source| capture(&engine, source, &targets(source), hold)).collect();
    if engine.vaults().lacks_recovery() {
        remark(NO_RECOVERY);
    }
    drop(lock);
    Ok(reports)
}

/// Captures one source for these targets, with a progress line.
pub(super) fn capture(
    engine: &Engine,
    source: &Source,
    targets: &[Target],
    hold: Option<&str>,
) -> CaptureReport {
    let progress = CaptureProgress::default();
    let figures = || progress_of(source.name.as_str(), &progress);
    terminal::watched("capturing", figures, || {
        let order = CaptureOrder { hold, progress: &progress, watch: &(), others: None };
        engine.capture(source, targets, &Touched::Everywhere, &order)
    })
}

/// All targets of a source.
pub(super) fn targets(source: &Source) -> Vec<Target> {
    source.flows.iter().map(|flow| flow.target.clone()).collect()
}

/// Shows progress until the daemon has captured; what became of it.
pub(super) fn follow(mut conversation: Conversation) -> Result<Vec<CaptureReport>, Failure> {
    let mut line = ProgressLine::start("capturing");
    loop {
        match conversation.next()? {
            Reply::Progress(progress) => line.show(&progress),
            Reply::Captured(reports) => return Ok(reports),
            _ => return Err(unasked()),
        }
    }
}

/// Prints what became of the captures; the exit code.
fn tell(context: &Context, reports: &[CaptureReport]) -> Result<u8, Failure> {
    if context.json {
        print_json(&reports)?;
    } else {
        // That the configuration is as it was is no news.
        let is_news = |report: &&CaptureReport| {
            let is_unchanged =
                |target: &TargetReport| matches!(target.outcome, TargetOutcome::Unchanged { .. });
            reports.len() == 1 || !is_of_fleet(report) || !report.targets.iter().all(is_unchanged)
        };
        reports.iter().filter(is_news).for_each(tell_one);
    }
    let is_good = |target: &TargetReport| !matches!(target.outcome, TargetOutcome::Failed { .. });
    let outcomes = |reports: &mut dyn Iterator<Item = &CaptureReport>| -> Vec<bool> {
        reports.flat_map(|report| &report.targets).map(is_good).collect()
    };
    let all = outcomes(&mut reports.iter());
    // Where no data was captured, that the configuration was helps nobody.
    let mut of_data = outcomes(&mut reports.iter().filter(|report| !is_of_fleet(report)));
    if of_data.is_empty() {
        of_data.clone_from(&all);
    }
    let defects: u64 = reports.iter().map(|report| report.defects).sum();
    match (of_data.iter().any(|good| *good), all.iter().all(|good| *good)) {
        (false, false) => Err(Failure::failed("nothing was captured; see above")),
        (true, false) => Err(Failure::partly("some targets failed; see above")),
        _ if defects > 0 => Err(Failure::partly(format!(
            "{defects} things could not be captured as they should be; see above"
        ))),
        _ => Ok(0),
    }
}

/// Whether it is of what the node keeps of the fleet's configuration.
fn is_of_fleet(report: &CaptureReport) -> bool {
    report.source.parse().is_ok_and(|name: SourceName| name.as_fleet_of().is_some())
}

fn tell_one(report: &CaptureReport) {
    for warning in &report.warnings {
        remark(&format!("warning: {warning}"));
    }
    for line in &report.remarks {
        remark(&format!("note: {line}"));
    }
    for target in &report.targets {
        let name = format!("{} to {}", report.source, target.target);
        match &target.outcome {
            TargetOutcome::Point { point } => {
                let seconds = report.took_millis as f64 / 1000.0;
                print(&format!(
                    "{name}: point {point}, {} entries, {}; read {}, stored {} in {seconds:.1} s",
                    report.entries,
                    ByteSize(report.bytes),
                    ByteSize(target.read_bytes),
                    ByteSize(target.stored_bytes)
                ));
            }
            TargetOutcome::Unchanged { point } => {
                let point = point.as_deref().unwrap_or("none");
                print(&format!("{name}: unchanged since point {point}, {} entries", report.entries));
            }
            TargetOutcome::Failed { message, .. } => remark(&format!("{name}: failed: {message}")),
        }
    }
}
