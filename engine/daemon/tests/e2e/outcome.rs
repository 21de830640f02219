//! Running a program for a bounded time, and what it left: exit code and both outputs.

use std::fmt;
use std::fs::{self, File};
use std::io::PipeWriter;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No command of a test takes longer, unless it hangs.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(180);

/// What a failed test shows of an output.
const SHOWN_BYTES_MAX: usize = 4000;

const POLL_PERIOD: Duration = Duration::from_millis(5);

/// What a program left.
pub(crate) struct Outcome {
    /// The program and its arguments.
    pub(crate) command: String,
    /// Exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    command: String,
    outputs: tempfile::TempDir,
}

impl Running {
    /// Starts it; its outputs go to files, so that it never waits for a reader.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_into(command, None)
    }

    fn start_into(mut command: Command, stdout: Option<PipeWriter>) -> Self {
        let outputs = tempfile::tempdir().unwrap();
        let file = File::create(outputs.path().join("stdout")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(stdout.map_or_else(|| Stdio::from(file), Stdio::from))
            .stderr(File::create(outputs.path().join("stderr")).unwrap());
        let shown = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self { child, command: shown, outputs }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, whatever it is at.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.wait()
    }

    /// SIGTERM; waits for the end of it.
    pub(crate) fn terminate(self) -> Outcome {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// What Ctrl-C does; waits for the end of it.
    pub(crate) fn interrupt(self) -> Outcome {
        self.signal(rustix::process::Signal::INT);
        self.wait()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > COMMAND_TIME_MAX {
                self.child.kill().unwrap();
                let status = self.child.wait().unwrap();
                let outcome = self.outcome(status);
                panic!("it hung and was killed: {outcome:?}");
            }
            std::thread::sleep(POLL_PERIOD);
        };
        self.outcome(status)
    }

    /// What it has said on standard error so far.
    pub(crate) fn stderr_so_far(&self) -> String {
        let said = fs::read(self.outputs.path().join("stderr")).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// What it has printed so far.
    pub(crate) fn stdout_so_far(&self) -> String {
        let printed = fs::read(self.outputs.path().join("stdout")).unwrap();
        String::from_utf8_lossy(&printed).into_owned()
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        let outcome = Outcome {
            command: self.command.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: fs::read(self.outputs.path().join("stdout")).unwrap(),
            stderr: self.stderr_so_far(),
        };
        assert!(!outcome.stderr.contains("panicked"), "a panic: {outcome:?}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails leaves nothing running behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: Command) -> Outcome {
    Running::start(command).wait()
}

/// Runs a program on a terminal of its own, after a line for the shell there; what the terminal was sent. Takes script(1).
pub(crate) fn run_on_terminal(before: &str, command: &Command) -> Outcome {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("{before} {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    run(script)
}

/// Runs a program to its end whose standard output is a pipe that nobody reads any more.
pub(crate) fn run_unread(command: Command) -> Outcome {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Running::start_into(command, Some(writer)).wait()
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, signal, stderr, .. } = self;
        let mut said = self.text();
        said.truncate(said.floor_char_boundary(SHOWN_BYTES_MAX));
        write!(
            f,
            "{command}\nexit code {code:?}, signal {signal:?}\n--- stdout\n{said}\n--- stderr\n{stderr}"
        )
    }
}

impl Outcome {
    /// It must have ended with 0.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        self.ended_with(0)
    }

    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It must have ended with `code` and an error that has all these fragments: what, why and what to do.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, fragments: &[&str]) -> Self {
        let outcome = self.ended_with(code);
        for fragment in fragments {
            assert!(outcome.stderr.contains(fragment), "{fragment:?} is not in the error of {outcome:?}");
        }
        outcome
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}
