//! `vault copy`: points of one vault into another of the same domain.

use backstay_core::units::ByteSize;
use backstay_wire::upkeep::{CopyFailure, CopyReport, Upkeep, UpkeepReport};
use clap::Args;

use super::{Context, print_json, upkeep};
use crate::control::unasked;
use crate::failure::Failure;
use crate::terminal::print;

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// The vault to copy from.
    from: String,
    /// The vault to copy to.
    to: String,
    /// Copy this source only; may be given several times.
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &CopyArgs) -> Result<u8, Failure> {
    if arguments.from == arguments.to {
        return Err(Failure::usage(format!("{} is both: give two vaults", arguments.from)));
    }
    let job = Upkeep::Copy {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        sources: arguments.source.iter().map(|typed| context.full_name(typed)).collect(),
    };
    match upkeep::done(context, "copying", &job)? {
        UpkeepReport::Copied(report) => tell(context, &report),
        _ => Err(unasked()),
    }
}

fn tell(context: &Context, report: &CopyReport) -> Result<u8, Failure> {
    if context.json {
        print_json(report)?;
    } else {
        for CopyFailure { source, point, why } in &report.failures {
            print(&format!("{source} {point}: not copied: {why}"));
        }
        print(&format!(
            "{} to {}: {} points copied, {} were there; {} sent",
            report.from,
            report.to,
            report.points,
            report.already,
            ByteSize(report.bytes)
        ));
    }
    match report.failures.len() as u64 + report.more_failures {
        0 => Ok(0),
        failed => Err(Failure::partly(format!("{failed} points were not copied; see above"))),
    }
}
