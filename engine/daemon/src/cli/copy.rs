//! `vault copy`: points of one vault into another of the same domain.

use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::units::ByteSize;
use backstay_vault::vault::{Copied, Copying};
use clap::Args;
use serde::Serialize;

use super::capture::engine;
use super::{Context, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::terminal::{self, print};
use crate::vaults::Absent;

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

#[derive(Serialize)]
struct ShownCopy {
    from: String,
    to: String,
    points: u64,
    already: u64,
    records: u64,
    bytes: u64,
    failures: Vec<ShownFailure>,
    more_failures: u64,
}

#[derive(Serialize)]
struct ShownFailure {
    source: String,
    point: String,
    why: String,
}

pub(super) fn run(context: &Context, arguments: &CopyArgs) -> Result<u8, Failure> {
    if arguments.from == arguments.to {
        return Err(Failure::usage(format!("{} is both: give two vaults", arguments.from)));
    }
    let (engine, _lock) = engine(context)?;
    let vaults = engine.vaults();
    let from = vaults.open(&arguments.from, Absent::Refuse)?;
    let to = vaults.open(&arguments.to, Absent::Make)?;
    // Also of sources that are not configured any more: their full names are enough.
    let id = |typed: &String| {
        let known = context.config.find_source(typed);
        from.ring().source_id(known.map_or(typed, |source| source.name.as_str()))
    };
    let sources: Vec<_> = arguments.source.iter().map(id).collect();
    let (points, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let figures = || (points.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    let tell = |copied: &Copied| {
        points.store(copied.points, Ordering::Relaxed);
        bytes.store(copied.bytes, Ordering::Relaxed);
    };
    let copying: Copying<'_> = engine.care().copying(from.clone(), to, &SystemClock);
    let wanted = |source| sources.is_empty() || sources.contains(&source);
    let copied = terminal::watched("copying", figures, || copying.run(&wanted, &tell))?;
    show(context, arguments, copied)
}

fn show(context: &Context, arguments: &CopyArgs, copied: Copied) -> Result<u8, Failure> {
    let failure = |(source, point, why): (String, backstay_core::id::PointId, String)| ShownFailure {
        source,
        point: point.to_string(),
        why,
    };
    let shown = ShownCopy {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        points: copied.points,
        already: copied.already,
        records: copied.records,
        bytes: copied.bytes,
        failures: copied.failures.into_iter().map(failure).collect(),
        more_failures: copied.more_failures,
    };
    if context.json {
        print_json(&shown)?;
    } else {
        for ShownFailure { source, point, why } in &shown.failures {
            print(&format!("{source} {point}: not copied: {why}"));
        }
        print(&format!(
            "{} to {}: {} points copied, {} were there; {} sent",
            shown.from,
            shown.to,
            shown.points,
            shown.already,
            ByteSize(shown.bytes)
        ));
    }
    match shown.failures.len() as u64 + shown.more_failures {
        0 => Ok(0),
        failed => Err(Failure::partly(format!("{failed} points were not copied; see above"))),
    }
}
