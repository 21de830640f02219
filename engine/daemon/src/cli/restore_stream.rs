//! `restore` of what a program has written: to a file, to standard output, or to a program.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use backstay_command::restore::{Group, Receiver, StreamError, StreamProgress, stream};
use backstay_command::row::STDOUT_PATH;
use backstay_core::config::Source;
use backstay_core::units::ByteSize;
use backstay_vault::vault::{PointObject, Reading};
use backstay_wire::progress::{Expected, Progress};
use serde::Serialize;

use super::choose::{Held, held, point};
use super::restore::{RestoreArgs, vaults_to_read};
use super::{Context, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::new_file::{Existing, FileError, NewFile};
use crate::progress::all_of;
use crate::terminal::{self, print, remark};

/// The destination that is standard output.
const STDOUT: &str = "-";

#[derive(Serialize)]
struct ShownStream {
    source: String,
    point: String,
    time: String,
    vault: String,
    to: String,
    bytes: u64,
    seconds: f64,
}

pub(super) fn run(context: &Context, source: &Source, arguments: &RestoreArgs) -> Result<u8, Failure> {
    let start = Instant::now();
    let destination = Destination::of(arguments)?;
    if context.json && matches!(destination, Destination::Stdout) {
        return Err(Failure::usage(
            "--json: with --to - the output itself goes to standard output; leave one of the two out",
        ));
    }
    if let Some(path) = arguments.paths.iter().find(|path| path.as_os_str() != STDOUT_PATH) {
        return Err(Failure::usage(format!(
            "{} is not in {}: the output of a program is one file, {STDOUT_PATH}; leave the path out",
            path.display(),
            source.name
        )));
    }
    let vaults = vaults_to_read(context, arguments)?.of_short_process();
    let held = held(&vaults, source, arguments.point.from.as_deref())?;
    let (held, point) = point(held, source, &arguments.point)?;
    let (vault, catalogue) = (&held.vault, &held.catalogue);
    let reading = Reading::begin(vault, catalogue, point.link, Some(vaults.writer()), &SystemClock)?;
    let streaming = Streaming { reading, point: &point, progress: StreamProgress::default() };
    let bytes = streaming.to(context, &destination)?;
    let shown = ShownStream {
        source: source.name.to_string(),
        point: point.link.point.to_string(),
        time: point.common.capture_start.to_string(),
        vault: held.name,
        to: destination.shown(),
        bytes,
        seconds: start.elapsed().as_secs_f64(),
    };
    if context.json {
        print_json(&shown)?;
        return Ok(0);
    }
    let ShownStream { source, time, vault, to, bytes, seconds, .. } = shown;
    let size = ByteSize(bytes);
    let line = format!("{source} restored to {to} from {vault} as of {time}: {size} in {seconds:.1} s");
    match destination {
        // Standard output has something else.
        Destination::Stdout => remark(&line),
        _ => print(&line),
    }
    Ok(0)
}

/// Restores an output to a file that is not there yet; how many bytes it has.
pub(super) fn to_new_file(held: &Held, point: &PointObject, path: &Path) -> Result<u64, Failure> {
    let reading = Reading::begin(&held.vault, &held.catalogue, point.link, None, &SystemClock)?;
    let streaming = Streaming { reading, point, progress: StreamProgress::default() };
    streaming.to_file(path, Existing::Refuse)
}

/// Where an output goes.
enum Destination<'a> {
    File { path: &'a Path, existing: Existing },
    Stdout,
    Program(&'a [std::ffi::OsString]),
}

impl<'a> Destination<'a> {
    fn of(arguments: &'a RestoreArgs) -> Result<Self, Failure> {
        match &arguments.to {
            None => Ok(Self::Program(&arguments.to_program)),
            Some(path) if path.as_os_str() == STDOUT && arguments.into => {
                Err(Failure::usage("--into replaces a file; with --to - there is none: leave it out"))
            }
            Some(path) if path.as_os_str() == STDOUT => Ok(Self::Stdout),
            Some(path) => {
                let existing = if arguments.into { Existing::Replace } else { Existing::Refuse };
                Ok(Self::File { path, existing })
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Stdout => "standard output".to_owned(),
            Self::Program(argv) => {
                argv.first().map_or(OsStr::new(""), |program| program).display().to_string()
            }
        }
    }
}

/// An output that is read.
struct Streaming<'p> {
    reading: Arc<Reading>,
    point: &'p PointObject,
    progress: StreamProgress,
}

impl Streaming<'_> {
    /// How many bytes it has.
    fn to(&self, context: &Context, destination: &Destination<'_>) -> Result<u64, Failure> {
        match destination {
            Destination::File { path, existing } => self.to_file(path, *existing),
            Destination::Stdout => {
                // Not by way of the standard library's buffer, which looks for ends of lines.
                let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
                self.watched(&mut stdout).map_err(|error| not_written("standard output", error))
            }
            Destination::Program(argv) => {
                // With --json, standard output has one document.
                let stdout = if context.json { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
                // One that may ask for a password there stays in the foreground of the terminal.
                let group = if std::io::stdin().is_terminal() { Group::Ours } else { Group::Own };
                Ok(Receiver::start(argv, stdout, group)?.receive(|stdin| self.watched(stdin))?)
            }
        }
    }

    fn to_file(&self, path: &Path, existing: Existing) -> Result<u64, Failure> {
        let mut file = NewFile::create(path, existing).map_err(refused)?;
        let bytes = self.watched(file.writer());
        let bytes = bytes.map_err(|error| not_written(&path.display().to_string(), error))?;
        file.finish().map_err(refused)?;
        Ok(bytes)
    }

    fn watched(&self, out: &mut (impl Write + Send)) -> Result<u64, StreamError> {
        let expected = Some(Expected { entries: None, ..all_of(self.point) });
        let figures =
            || Progress { entries: 1, read_bytes: self.progress.bytes(), expected, ..Progress::default() };
        terminal::watched("restoring", figures, || stream(&self.reading, self.point, out, &self.progress))
    }
}

fn refused(error: FileError) -> Failure {
    match error {
        FileError::Exists { .. } => Failure::failed(format!("{error}, or --into to replace it")),
        error => error.into(),
    }
}

/// What is there by then is not whole. A file has not got its name.
fn not_written(place: &str, error: StreamError) -> Failure {
    match error {
        StreamError::Write(error) if error.kind() == ErrorKind::BrokenPipe => {
            Failure::failed(format!("{place}: nobody reads it any more; the output is not whole"))
        }
        StreamError::Write(error) => Failure::failed(format!("{place}: {error}; the output is not whole")),
        error => error.into(),
    }
}
