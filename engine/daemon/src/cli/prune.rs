//! `vault prune`: retention and collection now, through the daemon where one runs; or what they would do.

use backstay_core::thinning::Obstacle;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{PointFate, SourceFates};
use backstay_wire::control::{Ask, PruneReport, Reply};
use clap::Args;
use serde::Serialize;

use super::{Context, capture, print_json};
use crate::care::{explain, summary};
use crate::clock::SystemClock;
use crate::control::{Conversation, unasked};
use crate::failure::Failure;
use crate::terminal::{ProgressLine, print, watched};
use crate::vaults::Absent;

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// The vault's name in the configuration.
    vault: String,
    /// Change nothing; say of each point whether it is kept or dropped, and why.
    #[arg(long)]
    dry_run: bool,
    /// Say that the clock is right now: points of a time to come get the times of their captures again, so that retention
    /// can judge them.
    #[arg(long)]
    trust_clock: bool,
}

#[derive(Serialize)]
struct ShownFate {
    source: String,
    point: String,
    time: String,
    /// `kept`, `dropped`, `stays` or `new`.
    fate: &'static str,
    why: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &PruneArgs) -> Result<u8, Failure> {
    if arguments.dry_run { dry_run(context, arguments) } else { prune(context, arguments) }
}

fn prune(context: &Context, arguments: &PruneArgs) -> Result<u8, Failure> {
    let (vault, trusts_clock) = (arguments.vault.as_str(), arguments.trust_clock);
    // Before the daemon is asked: it would have to find out the same.
    context.refuse_unknown(vault)?;
    let ask = Ask::Prune { vault: vault.to_owned(), trusts_clock };
    let report = match Conversation::ask(&context.config.node.state, ask)? {
        Some(conversation) => follow(conversation)?,
        None => {
            let (engine, _lock) = capture::engine(context)?;
            let meter = engine.vaults().meter(vault)?;
            watched("pruning", || meter.progress(), || engine.care().prune(vault, trusts_clock))?
        }
    };
    tell(context, &report)
}

pub(super) fn follow(mut conversation: Conversation) -> Result<PruneReport, Failure> {
    let mut line = ProgressLine::start("pruning");
    loop {
        match conversation.next()? {
            Reply::Progress(progress) => line.show(&progress),
            Reply::Pruned(report) => return Ok(report),
            _ => return Err(unasked()),
        }
    }
}

/// Prints what was done; the exit code.
pub(super) fn tell(context: &Context, report: &PruneReport) -> Result<u8, Failure> {
    if context.json {
        print_json(report)?;
    } else {
        print(&summary(report));
        if report.points_redated > 0 {
            print(&format!("points that got the times of their captures again: {}", report.points_redated));
        }
        if report.sources_ahead > 0 {
            print(&format!(
                "sources of which nothing is dropped, since their newest point is of a time to come: {}. If the clock of this host is right now, `backstay vault prune {} --trust-clock` judges such points by their captures",
                report.sources_ahead, report.vault
            ));
        }
    }
    match report.awaited.first().filter(|_| report.is_unfinished) {
        None if report.is_unfinished => Err(Failure::partly(format!(
            "more can be deleted from vault {} than one prune does; the next one goes on from here",
            report.vault
        ))),
        None => Ok(0),
        Some(commit) => Err(Failure::partly(format!(
            "nothing more can be deleted from vault {} before the commit {} of node {} has ended, which began at {}; the next prune goes on from here, and gives it up after {} hours without a sign of life",
            report.vault,
            commit.session,
            commit.node,
            Timestamp::from_nanos(commit.start_nanos),
            commit.given_up_in_seconds.div_ceil(3600)
        ))),
    }
}

fn dry_run(context: &Context, arguments: &PruneArgs) -> Result<u8, Failure> {
    let name = arguments.vault.as_str();
    let vault = context.vaults_to_read(None)?.open(name, Absent::Refuse)?;
    let fates = explain(&context.config, vault, &SystemClock, arguments.trust_clock)?;
    let shown: Vec<ShownFate> = fates.iter().flat_map(shown).collect();
    if context.json {
        print_json(&shown)?;
        return Ok(0);
    }
    for fate in &shown {
        let why = if fate.why.is_empty() { String::new() } else { format!(": {}", fate.why.join(", ")) };
        print(&format!("{} {}  {}  {}{why}", fate.source, fate.time, fate.point, fate.fate));
    }
    let dropped = shown.iter().filter(|fate| fate.fate == "dropped").count();
    print(&format!("vault {name}: {dropped} of {} points would be dropped", shown.len()));
    Ok(0)
}

fn shown(source: &SourceFates) -> impl Iterator<Item = ShownFate> {
    source.points.iter().map(|(link, time, fate)| {
        let (fate, why) = match fate {
            PointFate::Kept(reasons) => ("kept", reasons.iter().map(ToString::to_string).collect()),
            PointFate::Dropped => ("dropped", vec!["no rule of `keep` wants it".to_owned()]),
            PointFate::Stays(Obstacle::Pinned) => ("stays", vec!["it is being read or built on".to_owned()]),
            PointFate::Stays(Obstacle::Fork) => ("stays", vec!["two points build on it".to_owned()]),
            PointFate::New => {
                ("new", vec!["its commit has not ended, for which a prune would wait".to_owned()])
            }
            PointFate::UnknownKind => ("kept", vec!["this version does not know its kind".to_owned()]),
        };
        ShownFate {
            source: source.source_name.clone(),
            point: link.point.to_string(),
            time: time.to_string(),
            fate,
            why,
        }
    })
}
