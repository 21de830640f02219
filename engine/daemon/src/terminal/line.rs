//! The line that tells how far something is: drawn over itself on a terminal; elsewhere, so that the log of a cron job stays
//! readable, printed once in a while. What it says is `progress`'s.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backstay_core::units::parse_duration;
use backstay_wire::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::remark;
use crate::progress::{Estimate, line};

/// How often a line is drawn on a terminal.
const TICK: Duration = Duration::from_millis(250);

/// What is over by then draws no line.
const DRAWN_AFTER: Duration = Duration::from_secs(1);

/// How often a line is printed where there is no terminal, and what is over by then prints none.
const PRINTED_EVERY: Duration = Duration::from_secs(30);

/// Another period, as durations are written.
const PERIOD_VARIABLE: &str = "BACKSTAY_PROGRESS_PERIOD";

/// How often work is looked at: what is short is not waited for any longer.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Whether programs read what is printed.
static READ_BY_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Has nothing printed but results where there is no terminal, as `--json` wants it.
pub fn print_results_alone() {
    READ_BY_PROGRAMS.store(true, Ordering::Relaxed);
}

/// Does the work on another thread; a line that begins with `what` tells how far it is.
pub fn watched<T: Send>(what: &str, progress: impl Fn() -> Progress, work: impl FnOnce() -> T + Send) -> T {
    let mut line = ProgressLine::start(what);
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            line.show(&progress());
            std::thread::sleep(LOOK_PERIOD);
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A line that tells how far something is, until it is dropped.
#[derive(Debug)]
pub struct ProgressLine {
    what: String,
    /// Of what is told now: the source, where there are several one after the other.
    about: String,
    begun: Instant,
    estimate: Estimate,
    shown: Shown,
    looked: Option<Instant>,
}

#[derive(Debug)]
enum Shown {
    Drawn { bar: ProgressBar, from: Instant },
    Printed { period: Duration, last: Instant },
    Nowhere,
}

impl ProgressLine {
    /// A line that begins with `what`.
    pub fn start(what: &str) -> Self {
        let now = Instant::now();
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            Shown::Drawn { bar, from: now + DRAWN_AFTER }
        } else if READ_BY_PROGRAMS.load(Ordering::Relaxed) {
            Shown::Nowhere
        } else {
            Shown::Printed { period: period(), last: now }
        };
        let (what, about) = (what.to_owned(), String::new());
        Self { what, about, begun: now, estimate: Estimate::default(), shown, looked: None }
    }

    /// Shows how far it is, as often as it makes sense.
    pub fn show(&mut self, progress: &Progress) {
        let tick = match &self.shown {
            Shown::Drawn { .. } => TICK,
            Shown::Printed { period, .. } => TICK.min(*period),
            Shown::Nowhere => return,
        };
        if self.about != progress.source {
            (self.begun, self.estimate) = (Instant::now(), Estimate::default());
            self.about.clone_from(&progress.source);
        } else if self.looked.is_some_and(|looked| looked.elapsed() < tick) {
            return;
        }
        self.looked = Some(Instant::now());
        let elapsed = self.begun.elapsed();
        let outlook = self.estimate.take(elapsed, progress);
        let what = match self.about.as_str() {
            "" => self.what.clone(),
            about => format!("{} {about}", self.what),
        };
        let text = || format!("{what}: {}", line(progress, &outlook, elapsed));
        match &mut self.shown {
            Shown::Drawn { bar, from } if *from <= Instant::now() => {
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
                bar.set_message(text());
            }
            Shown::Printed { period, last } if last.elapsed() >= *period => {
                *last = Instant::now();
                remark(&text());
            }
            _ => {}
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Shown::Drawn { bar, .. } = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn period() -> Duration {
    let given = std::env::var(PERIOD_VARIABLE).ok().and_then(|text| parse_duration(&text).ok());
    given.unwrap_or(PRINTED_EVERY)
}
