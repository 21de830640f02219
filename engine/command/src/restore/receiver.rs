//! A program that is given an output on its standard input. Owns how it ends: one that was given a part only must not
//! take that for the whole.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::StreamError;

/// Why a program was not given all of an output, or did not take it well.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// It cannot be started.
    #[error("{program} cannot be started: {cause}; nothing was restored")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// It has ended before it had everything.
    #[error("{program} {}, before it had read everything: it does not have the whole output", ended(*.status))]
    EndedEarly {
        /// The program.
        program: String,
        /// How it has ended.
        status: ExitStatus,
    },
    /// It was given everything.
    #[error("{program} was given the whole output, and {}; what it says is above", ended(*.status))]
    Failed {
        /// The program.
        program: String,
        /// How it has ended.
        status: ExitStatus,
    },
    /// It cannot be waited for.
    #[error("it is not known how {program} has ended: {cause}")]
    Lost {
        /// The program.
        program: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// The output cannot be had. The program was ended.
    #[error("{cause}. {program} was ended: it has a part of the output only")]
    Stream {
        /// The program.
        program: String,
        /// Why not.
        cause: StreamError,
    },
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("has ended with exit code {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Receiver {
    program: String,
    child: Child,
    stdin: Option<ChildStdin>,
    group: Group,
}

/// To which group of processes the program belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// One of its own: all of it is ended when the output cannot be had.
    Own,
    /// That of this process: it may ask something on the terminal, and is interrupted from there.
    Ours,
}

impl Receiver {
    /// Starts it. What it writes goes where `stdout` says.
    pub fn start(argv: &[OsString], stdout: Stdio, group: Group) -> Result<Self, ReceiverError> {
        let program = argv.first().map(|program| program.display().to_string()).unwrap_or_default();
        let mut command = Command::new(argv.first().map(OsString::as_os_str).unwrap_or_default());
        command.args(argv.iter().skip(1)).stdin(Stdio::piped()).stdout(stdout);
        if group == Group::Own {
            command.process_group(0);
        }
        let started = command.spawn();
        let mut child =
            started.map_err(|cause| ReceiverError::NotStarted { program: program.clone(), cause })?;
        let stdin = child.stdin.take();
        Ok(Self { program, child, stdin, group })
    }

    /// Gives it what `stream` writes, and waits for its end.
    pub fn receive(
        mut self,
        stream: impl FnOnce(&mut ChildStdin) -> Result<u64, StreamError>,
    ) -> Result<u64, ReceiverError> {
        let given = match self.stdin.take() {
            Some(mut stdin) => {
                let given = stream(&mut stdin);
                if let Err(error) = &given
                    && !is_refused(error)
                {
                    // Before the end of its input: it would take that for the end of the output.
                    self.kill();
                }
                given
            }
            None => Err(StreamError::Write(ErrorKind::BrokenPipe.into())),
        };
        let program = self.program.clone();
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(cause) => return Err(ReceiverError::Lost { program, cause }),
        };
        match given {
            Ok(bytes) if status.success() => Ok(bytes),
            Ok(_) => Err(ReceiverError::Failed { program, status }),
            Err(error) if is_refused(&error) => Err(ReceiverError::EndedEarly { program, status }),
            Err(cause) => Err(ReceiverError::Stream { program, cause }),
        }
    }

    fn kill(&mut self) {
        if self.group == Group::Own {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
    }
}

/// Whether it is the program that takes no more.
fn is_refused(error: &StreamError) -> bool {
    matches!(error, StreamError::Write(cause) if cause.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shell(script: &str) -> Receiver {
        let argv = ["sh", "-c", script].map(OsString::from);
        Receiver::start(&argv, Stdio::null(), Group::Own).expect("a shell")
    }

    fn gives(bytes: usize) -> impl FnOnce(&mut ChildStdin) -> Result<u64, StreamError> {
        move |stdin| {
            stdin.write_all(&vec![7; bytes]).map_err(StreamError::Write)?;
            Ok(bytes as u64)
        }
    }

    #[test]
    fn it_is_told_how_the_program_took_it() {
        assert_eq!(shell("cat").receive(gives(3 << 20)).expect("taken"), 3 << 20);
        let error = shell("cat; exit 7").receive(gives(10)).expect_err("failed").to_string();
        assert!(error.contains("was given the whole output, and has ended with exit code 7"), "{error}");
        let error = shell("head -c 1").receive(gives(3 << 20)).expect_err("early").to_string();
        assert!(error.contains("has ended with exit code 0, before it had read everything"), "{error}");
        let error = shell("kill -9 $$").receive(gives(3 << 20)).expect_err("early").to_string();
        assert!(error.contains("signal 9"), "{error}");
        let argv = [OsString::from("/no/such/program")];
        let error = Receiver::start(&argv, Stdio::null(), Group::Own).expect_err("none").to_string();
        assert!(error.contains("/no/such/program cannot be started"), "{error}");
    }

    #[test]
    fn one_that_was_given_a_part_does_not_take_it_for_the_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let done = folder.path().join("done");
        // The shell waits for a program of its own, which is to go as well.
        let receiver = shell(&format!("sh -c 'cat; touch {}'; true", done.display()));
        let error = receiver.receive(|stdin| {
            stdin.write_all(b"a part").map_err(StreamError::Write)?;
            Err(StreamError::Vault(backstay_vault::error::VaultError::GivenUp))
        });
        let error = error.expect_err("a part").to_string();
        assert!(error.contains("sh was ended: it has a part of the output only"), "{error}");
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!done.exists());
    }
}
