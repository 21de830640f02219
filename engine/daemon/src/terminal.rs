//! What people see: results on standard output, everything else on standard error. The only place that
//! prints.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay_core::units::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// How often a progress line is drawn on a terminal.
const TICK: Duration = Duration::from_millis(250);

/// How often work is looked at: what is short is not waited for any longer.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

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

/// Says what went wrong.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "backstay: {text}");
}

/// Says something beside the result.
pub fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Does the work on another thread; a line that begins with `what` tells how far it is: entries and bytes.
pub fn watched<T: Send>(what: &str, figures: impl Fn() -> (u64, u64), work: impl FnOnce() -> T + Send) -> T {
    let line = ProgressLine::start(what);
    let outcome = std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            let (entries, bytes) = figures();
            if entries > 0 {
                line.show(entries, bytes);
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    line.end();
    outcome
}

/// A line that tells how far something is: drawn on a terminal, silent elsewhere.
#[derive(Debug)]
pub struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// A line that begins with `what`.
    pub fn start(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// Shows entries and bytes.
    pub fn show(&self, entries: u64, bytes: u64) {
        let per_second = bytes as f64 / self.0.elapsed().as_secs_f64().max(0.001);
        let rate = ByteSize(per_second as u64);
        self.0.set_message(format!("{entries} entries, {}, {rate}/s", ByteSize(bytes)));
    }

    /// Takes the line away.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}
