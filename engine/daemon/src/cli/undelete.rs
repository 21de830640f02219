//! `vault undelete` and `vault release`: what retention has dropped, brought back; and what is held, let go.

use backstay_core::id::{PointId, SourceId};
use backstay_vault::vault::Undeleted;
use clap::Args;
use serde::Serialize;

use super::capture::{engine, hold_name};
use super::choose::PREFIX_DIGITS_LEAST;
use super::{Context, print_json};
use crate::failure::Failure;
use crate::terminal::{print, remark};
use crate::vaults::Absent;

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

#[derive(Serialize)]
struct ShownUndeleted {
    source: String,
    point: String,
    time: String,
    /// Why it could not be brought back, if so.
    failure: Option<String>,
}

impl From<&Undeleted> for ShownUndeleted {
    fn from(point: &Undeleted) -> Self {
        Self {
            source: point.source_name.clone(),
            point: point.link.point.to_string(),
            time: point.time.to_string(),
            failure: point.failure.clone(),
        }
    }
}

pub(super) fn run(context: &Context, arguments: &UndeleteArgs) -> Result<u8, Failure> {
    let typed = Typed::new(&arguments.points)?;
    let (engine, _lock) = engine(context)?;
    let ring = engine.vaults().open(&arguments.vault, Absent::Refuse)?.ring().clone();
    // Also one that is not configured any more: its full name is enough.
    let source = arguments.source.as_ref().map(|typed| {
        let known = context.config.find_source(typed);
        ring.source_id(known.map_or(typed, |source| source.name.as_str()))
    });
    let wanted = |of: SourceId, point: PointId| source.is_none_or(|source| source == of) && typed.has(point);
    let hold = (!arguments.no_hold).then_some(arguments.hold.as_str());
    let back =
        engine.care().with_custodian(&arguments.vault, |custodian| Ok(custodian.undelete(&wanted, hold)?))?;
    let shown: Vec<ShownUndeleted> = back.iter().map(ShownUndeleted::from).collect();
    if context.json {
        print_json(&shown)?;
    } else {
        shown.iter().for_each(tell);
    }
    let failed = shown.iter().filter(|point| point.failure.is_some()).count();
    match (shown.len(), failed) {
        (0, _) => Err(Failure::failed(format!(
            "no point of that kind is in the trash of vault {}; it has what was deleted within `undelete`",
            arguments.vault
        ))),
        (_, 0) => {
            if !context.json && hold.is_none() {
                remark("note: the next prune drops what `keep` does not want of them");
            }
            Ok(0)
        }
        (all, failed) if failed == all => Err(Failure::failed("nothing could be brought back; see above")),
        _ => Err(Failure::partly("some points could not be brought back; see above")),
    }
}

fn tell(point: &ShownUndeleted) {
    let ShownUndeleted { source, point, time, failure } = point;
    match failure {
        None => print(&format!("{source} {time}  {point}  brought back")),
        Some(why) => print(&format!("{source} {time}  {point}  not brought back: {why}")),
    }
}

pub(super) fn release(context: &Context, arguments: &ReleaseArgs) -> Result<u8, Failure> {
    let typed = Typed::new(&arguments.points)?;
    let (engine, _lock) = engine(context)?;
    let wanted = |_: SourceId, point: PointId| typed.has(point);
    let released =
        engine.care().with_custodian(&arguments.vault, |custodian| Ok(custodian.release(&wanted)?))?;
    let shown: Vec<String> = released.iter().map(|link| link.point.to_string()).collect();
    if context.json {
        print_json(&shown)?;
    } else {
        shown.iter().for_each(|point| print(&format!("{point} is not held any more")));
    }
    match shown.is_empty() {
        false => Ok(0),
        true => Err(Failure::failed(
            "no such point is held and accepted; `backstay points` lists what is held, and a point that was captured since the last `vault prune` is accepted by the next",
        )),
    }
}

/// Ids of points, or how they begin, as they were typed. None stand for all.
struct Typed(Vec<String>);

impl Typed {
    fn new(typed: &[String]) -> Result<Self, Failure> {
        match typed.iter().find(|id| id.len() < PREFIX_DIGITS_LEAST) {
            None => Ok(Self(typed.to_vec())),
            Some(short) => Err(Failure::usage(format!(
                "{short:?}: give at least {PREFIX_DIGITS_LEAST} digits of the point's id"
            ))),
        }
    }

    fn has(&self, point: PointId) -> bool {
        let point = point.to_string();
        self.0.is_empty() || self.0.iter().any(|typed| point.starts_with(typed.as_str()))
    }
}
