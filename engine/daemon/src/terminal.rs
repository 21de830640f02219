//! What people see: results on standard output, everything else on standard error. The only place that
//! prints.

mod line;

pub use line::{ProgressLine, print_results_alone, watched};

use std::fs::File;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Starts the log on standard error; `BACKSTAY_LOG` chooses what is in it, as in `tracing`'s `EnvFilter`.
pub fn start_log(verbose: bool) {
    let default = if verbose { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("BACKSTAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// Lines of a long result that are printed together, bytes.
const LINES_BYTES: usize = 64 << 10;

/// Whether the reader of standard output went away.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Prints a result. A reader that went away (`| head`) wants no more, and is no error: the command goes on, because what it
/// ends with is a result as well. A result that cannot be written otherwise is an error.
pub fn print(text: &str) {
    if !nobody_reads() {
        judge(writeln!(std::io::stdout().lock(), "{text}"));
    }
}

fn judge(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
        }
        Err(error) => {
            complain(&format!("cannot write the result: {error}; see where standard output goes"));
            std::process::exit(1);
        }
    }
}

/// Prints a result of very many lines as [`print()`] does, several at once.
#[derive(Debug)]
pub struct Lines(BufWriter<StdoutLock<'static>>);

impl Lines {
    /// Standard output belongs to these lines until they end.
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(LINES_BYTES, std::io::stdout().lock()))
    }

    /// Prints a line.
    pub fn print(&mut self, line: &str) {
        if !nobody_reads() {
            judge(writeln!(self.0, "{line}"));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !nobody_reads() {
            judge(self.0.flush());
        }
    }
}

/// Has bytes written to standard output as they are. `Ok` also when the reader goes away meanwhile: [`nobody_reads`] tells.
pub fn stream(write: impl FnOnce(Piped) -> Result<(), Failure>) -> Result<(), Failure> {
    // Past the buffer of lines that standard output has: what comes are bytes.
    let piped = Piped(std::io::stdout().as_fd().try_clone_to_owned()?.into());
    match write(piped) {
        Err(_) if nobody_reads() => Ok(()),
        outcome => outcome,
    }
}

/// Standard output for [`stream`].
#[derive(Debug)]
pub struct Piped(File);

impl Write for Piped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            READER_IS_GONE.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether nothing that is printed is read any more: a command that does nothing but print may end.
pub fn nobody_reads() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: usize,
    /// Characters of a line.
    pub columns: usize,
}

/// The size of the terminal that standard output is; the usual one where it does not tell.
pub fn window() -> WindowSize {
    let told = rustix::termios::tcgetwinsize(std::io::stdout());
    let told = told.ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    told.map_or(WindowSize { rows: 24, columns: 80 }, |size| WindowSize {
        rows: usize::from(size.ws_row),
        columns: usize::from(size.ws_col),
    })
}

/// Says what went wrong.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "backstay: {text}");
}

/// Says something beside the result.
pub fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
