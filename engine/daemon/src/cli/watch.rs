//! `status --watch`: how every flow is, again and again, until Ctrl-C. A daemon that is away for a while ends nothing: it is
//! said, with what was known last.

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use backstay_wire::status::NodeStatus;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{Context, status};
use crate::failure::Failure;
use crate::terminal::{Lines, WindowSize, nobody_reads, stream, window};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(1);

/// How often the vaults are read where no daemon answers: each time takes listings.
const VAULTS_PERIOD: Duration = Duration::from_secs(10);

/// Moves to the upper left corner.
const HOME: &str = "\x1b[H";

/// Clears what is right of the end of a line.
const CLEAR_RIGHT: &str = "\x1b[K";

/// Clears all below.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows the status until Ctrl-C. What fails at the first look is a failure: there is nothing to go on with.
pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    context.io.clone().block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut known = Known::default();
        while !nobody_reads() {
            // A vault or a daemon may hang: Ctrl-C ends this all the same.
            let looked = tokio::select! {
                looked = look(context, known.wants_vaults()) => looked,
                _ = interrupt.recv() => break,
            };
            known.take(looked)?;
            show(context, &known)?;
            tokio::select! {
                () = sleep(PERIOD) => {}
                _ = interrupt.recv() => break,
            }
        }
        Ok(0)
    })
}

/// Whether vaults are read where no daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vaults {
    Read,
    NotYet,
}

/// What a look has found.
#[derive(Debug)]
enum Looked {
    /// By the daemon, or from the vaults.
    Status(Box<NodeStatus>),
    /// No daemon answers, and it is too soon to read the vaults again.
    NoDaemon,
}

/// Looks, on a thread of its own: it may take long.
async fn look(context: &Context, vaults: Vaults) -> Result<Looked, Failure> {
    let (tell, told) = oneshot::channel();
    let context = context.clone();
    let work = move || {
        let looked = match (status::from_daemon(&context), vaults) {
            (Ok(Some(status)), _) => Ok(Looked::Status(Box::new(status))),
            (Ok(None), Vaults::Read) => {
                status::from_vaults(&context).map(|status| Looked::Status(Box::new(status)))
            }
            (Ok(None), Vaults::NotYet) => Ok(Looked::NoDaemon),
            (Err(failure), _) => Err(failure),
        };
        // Who is gone was told to end.
        let _ = tell.send(looked);
    };
    thread::Builder::new().name("look".to_owned()).spawn(work)?;
    told.await.unwrap_or_else(|_| Err(Failure::failed("the look panicked, which is an error in Backstay")))
}

/// What was known last.
#[derive(Debug, Default)]
struct Known {
    status: Option<Box<NodeStatus>>,
    /// Why nothing is known since.
    problem: Option<String>,
    /// When vaults were read last, if no daemon has answered since.
    read: Option<Instant>,
}

impl Known {
    fn wants_vaults(&self) -> Vaults {
        match self.read.is_some_and(|read| read.elapsed() < VAULTS_PERIOD) {
            true => Vaults::NotYet,
            false => Vaults::Read,
        }
    }

    fn take(&mut self, looked: Result<Looked, Failure>) -> Result<(), Failure> {
        match looked {
            Ok(Looked::Status(status)) => {
                self.read = (!status.daemon).then(Instant::now);
                (self.status, self.problem) = (Some(status), None);
            }
            Ok(Looked::NoDaemon) => {}
            Err(failure) if self.status.is_none() => return Err(failure),
            Err(failure) => self.problem = Some(failure.message),
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = self.status.as_deref().map(status::lines).unwrap_or_default();
        if let Some(problem) = &self.problem {
            lines.insert(0, format!("not known now, and tried again: {problem}"));
        }
        lines
    }
}

#[derive(Serialize)]
struct ShownProblem<'p> {
    error: &'p str,
}

/// A frame on a terminal; elsewhere all lines and an empty one, or a document on a line of its own.
fn show(context: &Context, known: &Known) -> Result<(), Failure> {
    if context.json {
        let line = match &known.problem {
            Some(error) => serde_json::to_string(&ShownProblem { error })?,
            None => serde_json::to_string(&known.status)?,
        };
        Lines::new().print(&line);
    } else if std::io::stdout().is_terminal() {
        let frame = frame(&known.lines(), window());
        // At once, so that nothing flickers.
        stream(|mut out| Ok(out.write_all(frame.as_bytes())?))?;
    } else {
        let mut lines = Lines::new();
        known.lines().iter().for_each(|line| lines.print(line));
        lines.print("");
    }
    Ok(())
}

/// The lines as they fit into a window, over what was there.
fn frame(lines: &[String], size: WindowSize) -> String {
    // The cursor stands below the last line; a line of all columns would be cleared at its end.
    let (rows, columns) = (size.rows.saturating_sub(1).max(1), size.columns.saturating_sub(1).max(1));
    let left_out = if lines.len() > rows { lines.len() - (rows - 1) } else { 0 };
    let mut frame = HOME.to_owned();
    let shown = lines.iter().take(lines.len() - left_out).map(|line| cut(line, columns));
    let more = (left_out > 0).then(|| cut(&format!("… and {left_out} more lines"), columns));
    for line in shown.chain(more) {
        frame.push_str(&line);
        frame.push_str(CLEAR_RIGHT);
        frame.push('\n');
    }
    frame.push_str(CLEAR_BELOW);
    frame
}

/// A line of at most so many columns; messages may have anything in them.
fn cut(line: &str, columns: usize) -> String {
    let mut shown: String =
        line.chars().take(columns + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((last, _)) = shown.char_indices().nth(columns) {
        shown.truncate(last);
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str], rows: usize, columns: usize) -> String {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        frame(&lines, WindowSize { rows, columns })
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_and_clears_what_was_longer() {
        assert_eq!(text(&["one", "two"], 10, 20), "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J");
    }

    #[test]
    fn long_lines_are_cut_and_long_tables_counted() {
        assert_eq!(cut("grüße an alle", 13), "grüße an alle");
        assert_eq!(cut("grüße an alle", 6), "grüße…");
        assert_eq!(cut("a\x1b[2Jb\n", 20), "a [2Jb ");
        let shown = text(&["a", "b", "c", "d"], 4, 80);
        assert!(shown.contains("a\x1b[K\nb\x1b[K\n… and 2 more lines"), "{shown:?}");
        assert_eq!(text(&["a", "b", "c"], 4, 80).matches('\n').count(), 3);
        // Whatever a terminal says of itself.
        assert!(text(&["a", "b"], 0, 0).contains('…'));
    }

    #[test]
    fn a_look_that_fails_keeps_what_was_known_and_the_first_ends() {
        let mut known = Known::default();
        assert!(known.take(Err(Failure::failed("away"))).is_err());
        let status = NodeStatus {
            fleet: "home".into(),
            node: "box".into(),
            version: "1".into(),
            daemon: true,
            time: "2026-11-01T12:00:00Z".into(),
            flows: Vec::new(),
            severity: "ok".into(),
        };
        known.take(Ok(Looked::Status(Box::new(status.clone())))).expect("known");
        known.take(Err(Failure::failed("away"))).expect("it goes on");
        let lines = known.lines();
        assert_eq!(lines[0], "not known now, and tried again: away");
        assert!(lines[1].contains("2026-11-01T12:00:00Z"), "{lines:?}");
        assert_eq!(known.wants_vaults(), Vaults::Read);
        known.take(Ok(Looked::Status(Box::new(NodeStatus { daemon: false, ..status })))).expect("known");
        assert_eq!((known.lines().len(), known.wants_vaults()), (2, Vaults::NotYet));
    }
}
