//! `vault undelete` and `vault release`: what retention has dropped, brought back; and what is held, let go.

use backstay_wire::upkeep::{UndeletedPoint, Upkeep, UpkeepReport};
use clap::Args;

use super::capture::hold_name;
use super::choose::PREFIX_DIGITS_LEAST;
use super::{Context, print_json, upkeep};
use crate::control::unasked;
use crate::failure::Failure;
use crate::terminal::{print, remark};

#[derive(Debug, Args)]
pub(super) struct UndeleteArgs {
    /// The vault's name in the configuration.
    vault: String,
    /// Points, by their ids or how these begin; all that can be had where none is given.
    #[arg(value_name = "POINT")]
    points: Vec<String>,
    /// Of this source only.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Keep them for ever under this name, until `vault release`.
    #[arg(long, value_name = "NAME", value_parser = hold_name, default_value = "undeleted")]
    hold: String,
    /// Do not hold them: the next prune drops what `keep` does not want.
    #[arg(long, conflicts_with = "hold")]
    no_hold: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The vault's name in the configuration.
    vault: String,
    /// Points, by their ids or how these begin.
    #[arg(value_name = "POINT", required = true)]
    points: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &UndeleteArgs) -> Result<u8, Failure> {
    let job = Upkeep::Undelete {
        vault: arguments.vault.clone(),
        points: long_enough(&arguments.points)?,
        source: arguments.source.as_deref().map(|typed| context.full_name(typed)),
        hold: (!arguments.no_hold).then(|| arguments.hold.clone()),
    };
    let UpkeepReport::Undeleted(report) = upkeep::done(context, "bringing back", &job)? else {
        return Err(unasked());
    };
    if context.json {
        print_json(&report.points)?;
    } else {
        report.points.iter().for_each(tell);
    }
    if report.more > 0 {
        remark(&format!("note: {} more points are not shown; `backstay points` lists all", report.more));
    }
    let shown_failures = report.points.iter().filter(|point| point.failure.is_some()).count() as u64;
    match (report.points.len() as u64 + report.more, shown_failures + report.more_failures) {
        (0, _) => Err(Failure::failed(format!(
            "no point of that kind is in the trash of vault {}; it has what was deleted within `undelete`",
            arguments.vault
        ))),
        (_, 0) => {
            if !context.json && arguments.no_hold {
                remark("note: the next prune drops what `keep` does not want of them");
            }
            Ok(0)
        }
        (all, failed) if failed == all => Err(Failure::failed("nothing could be brought back; see above")),
        _ => Err(Failure::partly("some points could not be brought back; see above")),
    }
}

fn tell(point: &UndeletedPoint) {
    let UndeletedPoint { source, point, time, failure } = point;
    match failure {
        None => print(&format!("{source} {time}  {point}  brought back")),
        Some(why) => print(&format!("{source} {time}  {point}  not brought back: {why}")),
    }
}

pub(super) fn release(context: &Context, arguments: &ReleaseArgs) -> Result<u8, Failure> {
    let job = Upkeep::Release { vault: arguments.vault.clone(), points: long_enough(&arguments.points)? };
    let UpkeepReport::Released(report) = upkeep::done(context, "releasing", &job)? else {
        return Err(unasked());
    };
    if context.json {
        print_json(&report.points)?;
    } else {
        report.points.iter().for_each(|point| print(&format!("{point} is not held any more")));
    }
    if report.more > 0 {
        remark(&format!("note: {} more points are not held any more", report.more));
    }
    match report.points.is_empty() && report.more == 0 {
        false => Ok(0),
        true => Err(Failure::failed(
            "no such point is held and accepted; `backstay points` lists what is held, and a point that was captured since the last `vault prune` is accepted by the next",
        )),
    }
}

/// Ids of points, or how they begin, as they were typed.
fn long_enough(typed: &[String]) -> Result<Vec<String>, Failure> {
    match typed.iter().find(|id| id.len() < PREFIX_DIGITS_LEAST) {
        None => Ok(typed.to_vec()),
        Some(short) => Err(Failure::usage(format!(
            "{short:?}: give at least {PREFIX_DIGITS_LEAST} digits of the point's id"
        ))),
    }
}
