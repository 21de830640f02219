//! The thread beside a program: starts it, hears what it says on standard error, and sees to it that it ends, by itself or
//! not, in a bounded time. Owns every signal that is sent.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use super::problem::{Ended, ProgramError};
use super::tail::Tail;
use super::{PERIOD, Program, Shared, is_readable};
use crate::launch::{LAUNCH_BYTES_MAX, LAUNCH_WORD, Launch, NOT_STARTED, NOT_STARTED_CODE};

/// From the signal that asks a program to end to the one that ends it.
const GRACE: Duration = Duration::from_secs(10);

/// The same when the daemon ends or the capture has failed: the daemon itself has not much longer.
const GRACE_OF_STOPPED: Duration = Duration::from_secs(2);

/// What is read of standard error at a time.
const LISTEN_BYTES: usize = 64 << 10;

/// How often what is left of it is read when the program has ended: more may be written by somebody else.
const LISTENS_MAX: usize = 64;

/// Why a program is ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    TimedOut,
    Stopped,
}

impl Reason {
    fn grace(self) -> Duration {
        match self {
            Self::TimedOut => GRACE,
            Self::Stopped => GRACE_OF_STOPPED,
        }
    }
}

/// Runs the program to its end. `Ok` when it ended with 0 and all of its output was read.
pub(super) fn supervise(
    program: &Program,
    is_stopped: &(dyn Fn() -> bool + Sync),
    shared: &Shared,
    started: Sender<ChildStdout>,
) -> Result<(), ProgramError> {
    let (mut supervised, stdout) = Supervised::start(program, shared)?;
    // Whoever reads is there until this thread has ended.
    let _ = started.send(stdout);
    drop(started);
    let reason = supervised.watch(is_stopped);
    let status = supervised.end();
    supervised.verdict(reason, status)
}

struct Supervised<'r> {
    program: &'r Program,
    shared: &'r Shared,
    child: Child,
    stderr: Option<ChildStderr>,
    tail: Tail,
    deadline: Instant,
    /// Whether it was said that it may not be sent signals.
    is_refused: bool,
}

impl<'r> Supervised<'r> {
    fn start(program: &'r Program, shared: &'r Shared) -> Result<(Self, ChildStdout), ProgramError> {
        let refused = |why: String| ProgramError::NotStarted { program: program.name().to_owned(), why };
        let told = told(program).map_err(refused)?;
        let mut command = Command::new(&program.launcher.0);
        command.arg0("backstay").arg(LAUNCH_WORD).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let deadline = Instant::now() + program.timeout;
        let mut child = command.spawn().map_err(|error| {
            refused(format!("{}: {error}; is /proc mounted?", program.launcher.0.display()))
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A launcher that reads no more has ended, and says why.
            let _ = stdin.write_all(&told);
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut supervised =
            Self { program, shared, child, stderr, tail: Tail::default(), deadline, is_refused: false };
        match stdout {
            Some(stdout) => Ok((supervised, stdout)),
            None => {
                let _ = supervised.end();
                Err(refused("it has no standard output".to_owned()))
            }
        }
    }

    /// Until the program has ended and its output was read, or neither is waited for any longer; why not.
    fn watch(&mut self, is_stopped: &(dyn Fn() -> bool + Sync)) -> Option<Reason> {
        let mut asked: Option<(Reason, Instant)> = None;
        loop {
            self.listen(PERIOD);
            let has_exited = self.shared.exited.get().is_some() || self.has_exited();
            if has_exited {
                self.shared.exited.get_or_init(Instant::now);
                if asked.is_some() || self.is_output_over() {
                    return asked.map(|(reason, _)| reason);
                }
            }
            match asked {
                None => {
                    if let Some(reason) = self.reason(has_exited, is_stopped) {
                        self.shared.is_ending.store(true, Ordering::Release);
                        asked = Some((reason, Instant::now()));
                        self.signal(Signal::TERM);
                    }
                }
                Some((reason, since)) if since.elapsed() >= reason.grace() => self.signal(Signal::KILL),
                Some(_) => {}
            }
        }
    }

    fn is_output_over(&self) -> bool {
        self.shared.is_read.load(Ordering::Acquire) || self.shared.is_kept_open.load(Ordering::Acquire)
    }

    /// Once the program has ended its time does not run any more: what it wrote may wait for a slow store.
    fn reason(&self, has_exited: bool, is_stopped: &(dyn Fn() -> bool + Sync)) -> Option<Reason> {
        let is_kept_open = self.shared.is_kept_open.load(Ordering::Acquire);
        if is_stopped() || (self.shared.abandoned.load(Ordering::Acquire) && !is_kept_open) {
            return Some(Reason::Stopped);
        }
        (!has_exited && Instant::now() >= self.deadline).then_some(Reason::TimedOut)
    }

    /// Ends what is left of the group, and waits for the program. Nobody has waited for it before, so that its number is
    /// that of no other group yet.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait();
        for _ in 0..LISTENS_MAX {
            if !self.listen(Duration::ZERO) {
                break;
            }
        }
        status
    }

    fn verdict(
        &self,
        reason: Option<Reason>,
        status: std::io::Result<ExitStatus>,
    ) -> Result<(), ProgramError> {
        let Program { timeout, user, .. } = self.program;
        let program = self.program.name().to_owned();
        let said = || self.tail.said(&self.program.environment.hidden());
        match reason {
            Some(Reason::TimedOut) => {
                return Err(ProgramError::TimedOut { program, timeout: *timeout, said: said() });
            }
            Some(Reason::Stopped) => return Err(ProgramError::Stopped),
            None => {}
        }
        let status = status.map_err(|cause| ProgramError::Output { program: program.clone(), cause })?;
        if !status.success() {
            let said = said();
            if status.code() == Some(i32::from(NOT_STARTED_CODE))
                && let Some(why) = said.strip_prefix(NOT_STARTED)
            {
                return Err(ProgramError::NotStarted { program, why: why.to_owned() });
            }
            let how = status.code().map_or(Ended::Signal(status.signal().unwrap_or(0)), Ended::Code);
            return Err(ProgramError::Ended { program, user: user.name.clone(), how, said });
        }
        match self.shared.is_read.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(ProgramError::KeptOpen { program }),
        }
    }

    /// Takes what is said on standard error, or waits for so long; whether anything was.
    fn listen(&mut self, wait: Duration) -> bool {
        let Some(stderr) = &mut self.stderr else {
            std::thread::sleep(wait);
            return false;
        };
        if !is_readable(stderr, wait) {
            return false;
        }
        let mut buffer = [0; LISTEN_BYTES];
        match stderr.read(&mut buffer) {
            Ok(0) => self.stderr = None,
            Ok(read) => self.tail.take(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // It is for messages alone.
            Err(_) => self.stderr = None,
        }
        self.stderr.is_some()
    }

    /// Whether it has ended. It is not waited for: while it is not, its number stays its own.
    fn has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(Some(_)))
    }

    /// To the whole group. One that is empty needs none.
    fn signal(&mut self, signal: Signal) {
        if let Err(error) = kill_process_group(Pid::from_child(&self.child), signal)
            && error != rustix::io::Errno::SRCH
        {
            // It is sent again and again; the same is said once.
            if !self.is_refused {
                tracing::warn!(program = self.program.name(), %error, "the program cannot be sent a signal");
            }
            self.is_refused = true;
        }
    }
}

/// Also when the thread panics, nothing stays behind.
impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.is_ending.store(true, Ordering::Release);
            let _ = self.end();
        }
    }
}

/// What the launcher is told.
fn told(program: &Program) -> Result<Zeroizing<Vec<u8>>, String> {
    let launch = Launch {
        parent: i32::try_from(std::process::id()).map_err(|error| error.to_string())?,
        argv: program.argv.clone(),
        variables: program.environment.variables(),
        becomes: program.user.becomes.clone(),
    };
    let told = minicbor::to_vec(&launch).map(Zeroizing::new).map_err(|error| error.to_string())?;
    match told.len() <= LAUNCH_BYTES_MAX {
        true => Ok(told),
        false => Err(format!("its arguments and environment have more than {LAUNCH_BYTES_MAX} bytes")),
    }
}
