//! What people see: results on standard output, everything else on standard error. The only place that
//! prints.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay_core::units::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

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

/// Whether the reader of standard output went away.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Prints a result. A reader that went away (`| head`) wants no more, and is no error: the command goes on, because what it
/// ends with is a result as well. A result that cannot be written otherwise is an error.
pub fn print(text: &str) {
    if nobody_reads() {
        return;
    }
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
        }
        Err(error) => {
            complain(&format!("cannot write the result: {error}; see where standard output goes"));
            std::process::exit(1);
        }
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
