//! `restore`: brings a source back, or paths of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use backstay_core::config::SourceKind;
use backstay_core::units::ByteSize;
use backstay_files::place::Existing;
use backstay_files::restore::{
    RestoreError, RestoreProgress, RestoreReport, RestoreRequest, Selection, restore,
};
use backstay_vault::vault::{PointObject, Reading, WriterIdentity};
use backstay_vault::write::CpuPool;
use backstay_wire::progress::Progress;
use clap::Args;
use serde::Serialize;

use super::choose::{Held, held, point};
use super::looking::parse_path;
use super::{Context, PointArgs, print_json, restore_stream};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::progress::all_of;
use crate::terminal::{self, print, remark};
use crate::vaults::{Vaults, open_key_file};

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The source.
    #[arg(value_name = "SOURCE", required_unless_present = "all", conflicts_with = "all")]
    source: Option<String>,
    /// Paths in it, relative to its root; everything where none is given.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// Everything that a vault has, on a bare machine without any configuration: the configuration, to --config, and each source to
    /// its own path, or below the directory of --to. --from says where the vault is (s3://BUCKET/PREFIX, or a directory).
    #[arg(long, conflicts_with_all = ["paths", "into", "to_program", "point"], requires_all = ["from", "key_file"])]
    pub(super) all: bool,
    /// With --all: only what this node has captured, which this machine is to be.
    #[arg(long, value_name = "NODE", requires = "all")]
    pub(super) node: Option<String>,
    /// With --all: show what there is, and where it would go; write nothing.
    #[arg(long, requires = "all")]
    pub(super) dry_run: bool,
    /// With --all: the URL of the service that has the bucket; AWS where it is given nowhere.
    #[arg(long, value_name = "URL", requires = "all")]
    pub(super) endpoint: Option<String>,
    /// With --all: the region of the bucket.
    #[arg(long, value_name = "REGION", requires = "all")]
    pub(super) region: Option<String>,
    /// The directory to restore to; it must be empty or not exist. Of a `command` source: the file, or `-` for standard
    /// output.
    #[arg(long, value_name = "DEST", required_unless_present_any = ["to_program", "all"])]
    pub(super) to: Option<PathBuf>,
    /// Restore into a directory that is not empty: what is restored replaces what has its name, the rest stays. Of a
    /// `command` source: replace the file.
    #[arg(long)]
    pub(super) into: bool,
    /// Of a `command` source: give its output to a program; all that follows is the program's. What Backstay itself is to
    /// know stands before it.
    #[arg(long, value_names = ["PROGRAM", "ARG"], num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["to", "into"])]
    pub(super) to_program: Vec<OsString>,
    /// The passphrase of a kit in --key-file is the first line of this file; without it, the terminal is asked.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(super) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) point: PointArgs,
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
    let typed = arguments.source.as_deref().unwrap_or_default();
    let source = context.config.find_source(typed).map_err(Failure::usage)?;
    if let SourceKind::Command(_) = &source.kind {
        return restore_stream::run(context, source, arguments);
    }
    let Some(destination) = &arguments.to else {
        return Err(Failure::usage(
            "--to-program: a directory tree is no stream; restore it to a directory with --to DEST",
        ));
    };
    if destination.as_os_str() == "-" {
        return Err(Failure::usage(
            "--to -: a directory tree cannot be restored to standard output by this version; name a directory (./- for one of this name)",
        ));
    }
    let vaults = vaults_to_read(context, arguments)?.of_short_process();
    let held = held(&vaults, source, arguments.point.from.as_deref())?;
    let (held, point) = point(held, source, &arguments.point)?;
    let paths = arguments.paths.iter().map(|path| parse_path(path)).collect::<Result<_, _>>()?;
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

/// The vaults, to be read with the recovery key or the kit that is given.
pub(super) fn vaults_to_read(context: &Context, arguments: &RestoreArgs) -> Result<Vaults, Failure> {
    let vaults = context.vaults_to_read(None)?;
    Ok(match &arguments.point.key_file {
        Some(file) => vaults.with_key(open_key_file(file, arguments.passphrase_file.as_deref())?.identity),
        None => vaults,
    })
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
    // Of some paths nobody knows before how much they are.
    let expected = selection.is_all().then(|| all_of(point));
    let figures = || Progress {
        entries: progress.entries(),
        read_bytes: progress.bytes() + progress.there_bytes(),
        expected,
        ..Progress::default()
    };
    terminal::watched("restoring", figures, || restore(&request, &pool, &progress))
}
