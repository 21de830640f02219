//! `restore`: brings a source back, or paths of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use backstay_core::units::ByteSize;
use backstay_files::place::Existing;
use backstay_files::restore::{
    RestoreError, RestoreProgress, RestoreReport, RestoreRequest, Selection, restore,
};
use backstay_vault::vault::{PointObject, Reading, WriterIdentity};
use backstay_vault::write::CpuPool;
use clap::Args;
use serde::Serialize;

use super::choose::{Held, held, point};
use super::looking::parse_path;
use super::{Context, PointArgs, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::terminal::{self, print, remark};

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Paths in it, relative to its root; everything where none is given.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The directory to restore to; it must be empty or not exist.
    #[arg(long, value_name = "DEST")]
    to: PathBuf,
    /// Restore into a directory that is not empty: what is restored replaces what has its name, the rest stays.
    #[arg(long)]
    into: bool,
    #[command(flatten)]
    point: PointArgs,
}

#[derive(Serialize)]
struct ShownRestore {
    source: String,
    point: String,
    time: String,
    vault: String,
    entries: u64,
    bytes: u64,
    already_done: u64,
    problems: Vec<String>,
    problems_total: u64,
    seconds: f64,
}

pub(super) fn run(context: &Context, arguments: &RestoreArgs) -> Result<u8, Failure> {
    let start = Instant::now();
    if arguments.to.as_os_str() == "-" {
        return Err(Failure::usage(
            "--to -: a directory tree cannot be restored to standard output by this version; name a directory (./- for one of this name)",
        ));
    }
    let vaults = context.vaults_to_read(arguments.point.key_file.as_deref())?;
    let source = context.config.find_source(&arguments.source).map_err(Failure::usage)?;
    let held = held(&vaults, source, arguments.point.from.as_deref())?;
    let (held, point) = point(held, source, &arguments.point)?;
    let paths = arguments.paths.iter().map(|path| parse_path(path)).collect::<Result<_, _>>()?;
    let destination = &arguments.to;
    let existing = if arguments.into { Existing::Replace } else { Existing::Refuse };
    let selection = Selection::paths(paths);
    let report = watched(&held, &point, Some(vaults.writer()), &selection, destination, existing)?;
    let shown = ShownRestore {
        source: source.name.to_string(),
        point: point.link.point.to_string(),
        time: point.common.capture_start.to_string(),
        vault: held.name,
        entries: report.entries,
        bytes: report.bytes,
        already_done: report.already_done,
        problems: report.problems,
        problems_total: report.problems_total,
        seconds: start.elapsed().as_secs_f64(),
    };
    if context.json {
        print_json(&shown)?;
    } else {
        shown.problems.iter().for_each(|problem| remark(&format!("warning: {problem}")));
        print(&format!(
            "{} restored to {} from {} as of {}: {} entries, {} written in {:.1} s",
            shown.source,
            destination.display(),
            shown.vault,
            shown.time,
            shown.entries,
            ByteSize(shown.bytes),
            shown.seconds
        ));
    }
    match shown.problems_total {
        0 => Ok(0),
        problems => Err(Failure::partly(format!("{problems} things are not as they were; see above"))),
    }
}

/// Restores from what a vault holds, with a progress line. `reader` keeps the point in the vault meanwhile.
pub(super) fn watched(
    held: &Held,
    point: &PointObject,
    reader: Option<&Arc<WriterIdentity>>,
    selection: &Selection,
    destination: &Path,
    existing: Existing,
) -> Result<RestoreReport, RestoreError> {
    let reading = Reading::begin(&held.vault, &held.catalogue, point.link, reader, &SystemClock)?;
    let request = RestoreRequest { reading: &reading, point, selection, destination, existing };
    let progress = Arc::new(RestoreProgress::default());
    let pool = Arc::new(CpuPool::new().map_err(RestoreError::Thread)?);
    let figures = || (progress.entries(), progress.bytes());
    terminal::watched("restoring", figures, || restore(&request, &pool, &progress))
}
