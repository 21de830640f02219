//! Why a program has given no output that counts.

use std::time::Duration;

use backstay_core::units::format_duration;

use super::KEPT_OPEN_TIME;

/// A run of a program that makes no point.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It never ran.
    #[error("{program} cannot be started: {why}")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not, and what to do.
        why: String,
    },
    /// It has ended otherwise than with 0.
    #[error(
        "{program} {}, so that what it wrote does not count; {}. Run it as {user} to see more, mend it, and capture again with `backstay now`",
        ended(*.how), said_clause(.said)
    )]
    Ended {
        /// The program.
        program: String,
        /// As whom it ran.
        user: String,
        /// How it has ended.
        how: Ended,
        /// The end of what it said.
        said: String,
    },
    /// It took too long.
    #[error(
        "{program} had not ended after {}, and was ended; {}. What it wrote does not count. Make `timeout` of the source longer, or find out what it waits for",
        format_duration(*.timeout), said_clause(.said)
    )]
    TimedOut {
        /// The program.
        program: String,
        /// How long it might run.
        timeout: Duration,
        /// The end of what it said.
        said: String,
    },
    /// It has ended well, and something that it has left behind can still write.
    #[error(
        "{program} has ended, but something that it started keeps its output open, or writes on, {} s after that: whether the output is whole nobody can tell. Let it wait for what it starts, or send that one's output elsewhere",
        KEPT_OPEN_TIME.as_secs()
    )]
    KeptOpen {
        /// The program.
        program: String,
    },
    /// Its output cannot be read.
    #[error("what {program} writes cannot be read: {cause}; capture again")]
    Output {
        /// The program.
        program: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// It was asked to stop, and has ended the program.
    #[error("stopped; the program was ended, and nothing that it wrote counts")]
    Stopped,
}

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By a signal of this number.
    Signal(i32),
}

fn ended(how: Ended) -> String {
    match how {
        Ended::Code(code) => format!("has ended with exit code {code}"),
        Ended::Signal(signal) => match signal_name(signal) {
            Some(name) => format!("was ended by signal {signal} ({name})"),
            None => format!("was ended by signal {signal}"),
        },
    }
}

/// Those by which programs end in practice.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        6 => "SIGABRT",
        9 => "SIGKILL: for want of memory, as a rule",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

fn said_clause(said: &str) -> String {
    match said {
        "" => "it said nothing on standard error".to_owned(),
        said => format!("it said: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_how_it_ended_and_what_it_said() {
        let of = |how, said: &str| {
            let (program, user) = ("pg_dump".to_owned(), "postgres".to_owned());
            ProgramError::Ended { program, user, how, said: said.to_owned() }.to_string()
        };
        assert!(
            of(Ended::Code(3), "no such database")
                .starts_with("pg_dump has ended with exit code 3, so that what it wrote does not count; it said: no such database. Run it as postgres")
        );
        assert!(of(Ended::Signal(9), "").contains("signal 9 (SIGKILL: for want of memory, as a rule)"));
        assert!(of(Ended::Signal(64), "").contains("signal 64, "));
        assert!(of(Ended::Code(1), "").contains("it said nothing on standard error"));
    }
}
