//! The commands `zfs` and `zpool`, for what libzfs_core lacks. Owns how they are run and how much of what they say is read.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use super::child::{Process, Stuck, wait_for};
use crate::error::ZfsError;

/// Most bytes of what a command prints: a line of a snapshot has some 200.
const OUTPUT_BYTES_MAX: usize = 1 << 30;

/// Most bytes that are kept of what it says on standard error.
const SAID_BYTES_MAX: usize = 4096;

/// A command that is to be run.
pub(super) struct Asked<'a> {
    pub(super) program: &'a str,
    pub(super) arguments: &'a [&'a str],
    /// On which it works.
    pub(super) pool: &'a str,
    /// What it is for, with the name of its object.
    pub(super) doing: &'a str,
}

/// Runs it to its end; what it has printed.
pub(super) fn run(asked: &Asked<'_>, patience: Duration, stuck: &Arc<Stuck>) -> Result<String, ZfsError> {
    let Asked { program, arguments, pool, doing } = *asked;
    stuck.admit(pool, doing)?;
    let mut command = Command::new(program);
    // Messages are read, so they have to be in one language; and where these are is no matter of whoever started us.
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|error| ZfsError::NoZfs { why: format!("the command `{program}`: {error}") })?;
    let mut process = Process::new(child, pool, stuck);
    let worker = |why: String| ZfsError::Worker { doing: doing.to_owned(), why };
    let child = process.child().ok_or_else(|| worker("it is gone".to_owned()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (Some(mut stdout), Some(mut stderr)) = (stdout, stderr) else {
        return Err(worker("it has no output".to_owned()));
    };
    // It says little there, which the pipe takes.
    let output = read_all(&mut stdout, patience, doing)?;
    let status = process.wait(patience).map_err(|error| worker(error.to_string()))?;
    let Some(status) = status else {
        return Err(ZfsError::Stalled { doing: doing.to_owned(), after: patience });
    };
    if !status.success() {
        let said = String::from_utf8_lossy(&heard(&mut stderr)).trim().replace('\n', "; ");
        return Err(ZfsError::Command { doing: doing.to_owned(), said });
    }
    String::from_utf8(output).map_err(|_| ZfsError::Answer {
        doing: doing.to_owned(),
        what: format!("`{program}` has printed what is no UTF-8"),
    })
}

/// What one that has ended has said, which is in the pipe. Its end is not waited for: somebody else may have it open still.
fn heard(stderr: &mut ChildStderr) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; SAID_BYTES_MAX]);
    while said.len() < SAID_BYTES_MAX
        && wait_for(stderr.as_fd(), PollFlags::IN, Duration::ZERO).unwrap_or(false)
        && let Ok(read @ 1..) = stderr.read(&mut buffer)
    {
        said.extend_from_slice(&buffer[..read]);
    }
    said
}

fn read_all(from: &mut (impl Read + AsFd), patience: Duration, doing: &str) -> Result<Vec<u8>, ZfsError> {
    let failed = |cause: std::io::Error| ZfsError::Stream { doing: doing.to_owned(), cause };
    let (mut output, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if !wait_for(from.as_fd(), PollFlags::IN, patience).map_err(|error| failed(error.into()))? {
            return Err(ZfsError::Stalled { doing: doing.to_owned(), after: patience });
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(output),
            Ok(read) => output.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
        if output.len() > OUTPUT_BYTES_MAX {
            let what = format!("more than {OUTPUT_BYTES_MAX} bytes");
            return Err(ZfsError::Answer { doing: doing.to_owned(), what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: Duration) -> Result<String, ZfsError> {
        let asked = Asked { program: "sh", arguments: &["-c", script], pool: "tank", doing: "try" };
        run(&asked, patience, &Arc::default())
    }

    #[test]
    fn what_a_command_prints_is_had_and_what_it_says_when_it_fails() {
        let patience = Duration::from_secs(60);
        assert_eq!(sh("echo one; echo two >&2", patience).expect("it is done"), "one\n");
        let failed = sh("echo one >&2; echo two >&2; exit 1", patience).expect_err("it fails");
        assert_eq!(failed.to_string(), "cannot try: one; two");
    }

    #[test]
    fn one_that_leaves_its_error_output_to_another_is_not_waited_for() {
        // Longer than any test may take.
        let script = "sleep 3600 >/dev/null & echo $! >&2; exit 1";
        let said = sh(script, Duration::from_secs(60)).expect_err("it fails").to_string();
        let other = said.strip_prefix("cannot try: ").and_then(|other| other.parse().ok());
        let other = rustix::process::Pid::from_raw(other.expect("a number")).expect("not zero");
        rustix::process::kill_process(other, rustix::process::Signal::KILL).expect("it is still there");
    }

    #[test]
    fn one_that_stands_still_is_ended_and_told() {
        let stalled = sh("exec sleep 1000", Duration::from_millis(50)).expect_err("it stands still");
        assert!(matches!(stalled, ZfsError::Stalled { .. }), "{stalled}");
    }
}
