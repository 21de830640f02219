//! `export`: a point in a form that other tools read.

use std::ffi::OsString;
use std::path::PathBuf;

use backstay_core::units::ByteSize;
use backstay_files::keys::PathKey;
use backstay_files::look::{ArchiveProgress, Archived, archive};
use backstay_wire::progress::Progress;
use clap::Args;
use serde::Serialize;

use super::looking::{Looked, Stay, looked, parse_path, refuse_terminal};
use super::{Context, PointArgs, print_json};
use crate::failure::Failure;
use crate::new_file::{Existing, NewFile};
use crate::progress::all_of;
use crate::terminal::{self, nobody_reads, print, remark, stream};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Paths in it, relative to its root, with all below them; everything where none is given.
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The file to write, which must not exist; standard output where none is given.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    point: PointArgs,
}

#[derive(Serialize)]
struct ShownExport {
    source: String,
    point: String,
    time: String,
    vault: String,
    entries: u64,
    bytes: u64,
    left_out: Vec<String>,
    left_out_total: u64,
}

pub(super) fn run(context: &Context, arguments: &ExportArgs) -> Result<u8, Failure> {
    let paths = arguments.paths.iter().map(|path| parse_path(path)).collect::<Result<Vec<_>, _>>()?;
    let to = arguments.to.as_ref().filter(|to| to.as_os_str() != "-");
    if to.is_none() {
        refuse_terminal("an archive")?;
        if context.json {
            return Err(Failure::usage("--json: the archive goes to standard output; name a file with --to"));
        }
    }
    let looked = looked(context, &arguments.source, &arguments.point, Stay::Long)?;
    let archived = match to {
        Some(to) => {
            let mut file = NewFile::create(to, Existing::Refuse)?;
            let archived = write(&looked, &paths, file.writer())?;
            file.finish()?;
            archived
        }
        None => {
            let mut archived = Archived::default();
            stream(|out| {
                archived = write(&looked, &paths, out)?;
                Ok(())
            })?;
            archived
        }
    };
    archived.left_out.iter().for_each(|line| remark(&format!("warning: left out: {line}")));
    let left_out_total = archived.left_out_total;
    let more = left_out_total - archived.left_out.len() as u64;
    if more > 0 {
        remark(&format!("warning: left out: {more} more"));
    }
    if let Some(to) = to {
        let shown = ShownExport {
            source: looked.source.name.to_string(),
            point: looked.point.link.point.to_string(),
            time: looked.point.common.capture_start.to_string(),
            vault: looked.vault,
            entries: archived.entries,
            bytes: archived.bytes,
            left_out: archived.left_out,
            left_out_total,
        };
        match context.json {
            true => print_json(&shown)?,
            false => print(&format!(
                "{} as of {} written to {}: {} entries, {}; `tar --xattrs --xattrs-include='*' -xpf` unpacks it",
                shown.source,
                shown.time,
                to.display(),
                shown.entries,
                ByteSize(shown.bytes)
            )),
        }
    }
    if to.is_none() && nobody_reads() {
        return Err(Failure::failed(
            "nobody reads the archive any more: it is not whole; see how its reader ended",
        ));
    }
    match left_out_total {
        0 => Ok(0),
        some => Err(Failure::partly(format!("{some} entries are not in the archive; see above"))),
    }
}

fn write(
    looked: &Looked<'_>,
    paths: &[PathKey],
    out: impl std::io::Write + Send,
) -> Result<Archived, Failure> {
    let progress = ArchiveProgress::default();
    // What an archive has beside contents is little.
    let expected = paths.is_empty().then(|| all_of(&looked.point));
    let figures = || Progress {
        entries: progress.entries(),
        read_bytes: progress.bytes(),
        expected,
        ..Progress::default()
    };
    Ok(terminal::watched("exporting", figures, || archive(&looked.reading, paths, out, &progress))?)
}
