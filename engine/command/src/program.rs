//! Running a program whose output is wanted. Owns the promise that it has ended when the call returns, with all that it
//! has started in its process group, and that its output counts only if it ended well. Who waits for its end and ends it
//! is `supervise`; what is done with the output is for the caller.

mod problem;
mod supervise;
mod tail;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backstay_core::config::CommandSource;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::problem::{Ended, ProgramError};
use self::supervise::supervise;
pub use self::tail::SAID_BYTES_MAX;
use crate::environment::Environment;
use crate::user::User;

/// How long something that a program has left behind may keep its output open before that is an error.
pub const KEPT_OPEN_TIME: Duration = Duration::from_secs(10);

/// What a pipe may hold when a program ends, bytes: what comes beyond that is from somebody else. The kernel lets nobody but
/// root have a longer one.
const PIPE_BYTES_MAX: u64 = 1 << 20;

/// How often it is looked whether the program still runs, and whether it shall.
const PERIOD: Duration = Duration::from_millis(50);

/// A program to be run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; not empty.
    pub argv: Vec<String>,
    /// Its environment, and nothing else.
    pub environment: Environment,
    /// As whom it runs.
    pub user: User,
    /// After which it is ended.
    pub timeout: Duration,
    /// What starts it.
    pub launcher: Launcher,
}

/// The executable that becomes the program.
#[derive(Debug, Clone)]
pub struct Launcher(PathBuf);

impl Launcher {
    /// This process's own executable. By this name it is found also after another version was put in its place.
    pub fn own() -> Self {
        Self(PathBuf::from("/proc/self/exe"))
    }

    /// Another one, that calls [`crate::launch::launched`].
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self(file.into())
    }
}

impl Program {
    /// The program of a source.
    pub fn new(source: &CommandSource, environment: Environment, user: User, launcher: Launcher) -> Self {
        let timeout = source.timeout.as_duration();
        Self { argv: source.run.clone(), environment, user, timeout, launcher }
    }

    /// Its name, for messages. Its arguments are not shown: some programs are given secrets so.
    pub fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Runs it while `take` reads what it writes. What `take` gives counts only if the program has ended with 0 and all
    /// of its output was read. When this returns, nothing of its process group is left.
    ///
    /// # Errors
    /// That of `take`, or why the output does not count.
    pub fn run<T, E: From<ProgramError>>(
        &self,
        is_stopped: &(dyn Fn() -> bool + Sync),
        take: impl FnOnce(&mut Output<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let shared = Shared::default();
        std::thread::scope(|scope| {
            let (started, start) = crossbeam_channel::bounded(1);
            // The thread that starts a program is its parent for the kernel, which kills it when that ends: so it is one
            // that stays until the program is gone.
            let supervisor = std::thread::Builder::new()
                .name("program".into())
                .spawn_scoped(scope, || supervise(self, is_stopped, &shared, started));
            let supervisor = supervisor.map_err(|error| {
                let why =
                    format!("no thread for it: {error}; raise the limit on tasks (TasksMax=, ulimit -u)");
                ProgramError::NotStarted { program: self.name().to_owned(), why }
            })?;
            let taken = start.recv().ok().map(|stdout| {
                let mut output = Output::new(self.name(), stdout, &shared);
                let taken = take(&mut output);
                if taken.is_err() {
                    shared.abandoned.store(true, Ordering::Relaxed);
                }
                taken
            });
            let verdict = supervisor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (taken, verdict) {
                (Some(Err(error)), _) => Err(error),
                (_, Err(error)) => Err(error.into()),
                (Some(taken), Ok(())) => taken,
                (None, Ok(())) => Err(ProgramError::Stopped.into()),
            }
        })
    }
}

/// What the two threads of a run tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The program is being ended: nothing that is still read counts.
    is_ending: AtomicBool,
    /// When it was seen to have ended by itself.
    exited: OnceLock<Instant>,
    /// All of its output was read.
    is_read: AtomicBool,
    /// Something else keeps the output open.
    is_kept_open: AtomicBool,
    /// Nobody wants the output any more.
    abandoned: AtomicBool,
}

/// What a program writes.
#[derive(Debug)]
pub struct Output<'r> {
    program: &'r str,
    pipe: File,
    shared: &'r Shared,
    /// How much was read since the program has ended.
    bytes_after_end: u64,
}

impl<'r> Output<'r> {
    fn new(program: &'r str, pipe: ChildStdout, shared: &'r Shared) -> Self {
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        Self { program, pipe, shared, bytes_after_end: 0 }
    }

    /// Waits for more of it; 0 at the end, which also comes when the program is ended before its time. How it ended is told
    /// by [`Program::run`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ProgramError> {
        // What time passes between two reads is the reader's, not the program's.
        let waits_since = Instant::now();
        loop {
            if self.shared.is_ending.load(Ordering::Acquire) {
                return Ok(0);
            }
            let exited = self.shared.exited.get().copied();
            let is_readable = is_readable(&self.pipe, PERIOD);
            let waits_long = exited.is_some_and(|exited| exited.max(waits_since).elapsed() > KEPT_OPEN_TIME);
            if self.bytes_after_end > PIPE_BYTES_MAX || (!is_readable && waits_long) {
                self.shared.is_kept_open.store(true, Ordering::Release);
                return Ok(0);
            }
            if !is_readable {
                continue;
            }
            match self.pipe.read(buffer) {
                Ok(0) => {
                    self.shared.is_read.store(true, Ordering::Release);
                    return Ok(0);
                }
                Ok(read) => {
                    self.bytes_after_end += if exited.is_some() { read as u64 } else { 0 };
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(ProgramError::Output { program: self.program.to_owned(), cause }),
            }
        }
    }
}

/// Whoever stops reading before the end, for whatever reason, wants no more.
impl Drop for Output<'_> {
    fn drop(&mut self) {
        if !self.shared.is_read.load(Ordering::Relaxed) || std::thread::panicking() {
            self.shared.abandoned.store(true, Ordering::Release);
        }
    }
}

/// Whether something can be read, or nothing will ever be, after waiting for so long at most.
fn is_readable(pipe: &impl AsFd, wait: Duration) -> bool {
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    // An interrupted wait is one that brought nothing.
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&wait)).is_ok_and(|ready| ready > 0)
}
