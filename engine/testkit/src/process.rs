//! Programs of a rig: those that run until it ends, and those that are waited for. Owns their bounds in time and their end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything is waited for that should come by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(3);

/// How often it is looked whether something came.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// How much of a log is shown when a test fails, in bytes.
const LOG_TAIL_BYTES: usize = 4096;

/// A program that runs until it is dropped. Where this process dies before, the kernel ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, whose words begin with the program, in a network namespace.
    pub fn start(namespace: &str, command: &mut Command, log: PathBuf) -> Self {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", namespace, "setpriv", "--pdeathsig", "KILL"]);
        Self::start_inside(inside, command, log)
    }

    /// Starts `command`, whose words begin with the program, where this process is.
    pub fn start_here(command: &mut Command, log: PathBuf) -> Self {
        let mut inside = Command::new("setpriv");
        inside.args(["--pdeathsig", "KILL"]);
        Self::start_inside(inside, command, log)
    }

    fn start_inside(mut inside: Command, command: &Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a log");
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.expect("variables are only set"));
        }
        inside.stdin(Stdio::null()).stderr(file.try_clone().expect("a log")).stdout(file);
        Self { child: inside.spawn().expect("it can be started"), log }
    }

    /// What it has said so far, on both of its outputs.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has ended by itself, for [`PATIENCE`] at most, and without an error.
    pub fn wait(&mut self) {
        let status = wait_for("the end of a program", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Ends it as a service manager would, or, when that does not help, at once.
    pub fn end(&mut self) {
        // `ip netns exec` and setpriv become the program: its pid is that of the child.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
            eprintln!("--- the end of {}\n{}", self.log.display(), String::from_utf8_lossy(tail));
        }
    }
}

/// Runs a program to its end, for [`PATIENCE`] at most. What it printed, where it succeeded; what it said of its failure.
pub fn run(command: &[&str]) -> Result<String, String> {
    run_within(PATIENCE, command)
}

/// The same with another patience.
pub fn run_within(patience: Duration, command: &[&str]) -> Result<String, String> {
    let limit = patience.as_secs().to_string();
    let mut bounded = Command::new("timeout");
    let output = bounded.args(["--kill-after=1", &limit]).args(command).stdin(Stdio::null()).output();
    let output = output.expect("`timeout` can be started");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}`: {}: {}", command.join(" "), output.status, said.trim()))
}

/// The path as a word of a command.
pub fn word(path: &Path) -> &str {
    path.to_str().expect("folders of tests have plain names")
}

/// Looks until there is something, for [`PATIENCE`] at most.
pub fn wait_for<T, E: std::fmt::Display>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    wait_within(PATIENCE, what, look)
}

/// The same with another patience.
pub fn wait_within<T, E: std::fmt::Display>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(error) if start.elapsed() > patience => {
                panic!("{what} did not come within {} s: {error}", patience.as_secs())
            }
            Err(_) => std::thread::sleep(LOOK_PERIOD),
        }
    }
}
