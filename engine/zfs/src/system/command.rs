//! The commands `zfs` and `zpool`, for what libzfs_core lacks. Owns how they are run and how much of what they say is read.

use std::io::Read;
use std::process::{Command, Stdio};
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
    let mut said = Vec::new();
    if wait_for(std::os::fd::AsFd::as_fd(&stderr), PollFlags::IN, patience)
        .map_err(|error| worker(error.to_string()))?
    {
        let _ = stderr.by_ref().take(SAID_BYTES_MAX as u64).read_to_end(&mut said);
    }
    let status = process.wait(patience).map_err(|error| worker(error.to_string()))?;
    let Some(status) = status else {
        return Err(ZfsError::Stalled { doing: doing.to_owned(), after: patience });
    };
    if !status.success() {
        let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
        return Err(ZfsError::Command { doing: doing.to_owned(), said });
    }
    String::from_utf8(output).map_err(|_| ZfsError::Answer {
        doing: doing.to_owned(),
        what: format!("`{program}` has printed what is no UTF-8"),
    })
}

fn read_all(
    from: &mut (impl Read + std::os::fd::AsFd),
    patience: Duration,
    doing: &str,
) -> Result<Vec<u8>, ZfsError> {
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
