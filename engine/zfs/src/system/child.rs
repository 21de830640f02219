//! Processes that may hang in the kernel. Owns for how long they are waited for, how they are ended, and which of them could
//! not be.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::ZfsError;

/// So many processes that cannot be ended a pool may have; then it is not asked for anything.
const STUCK_MAX: usize = 2;

/// How long a process that was killed has to end. One that hangs in the kernel does not.
const END: Duration = Duration::from_secs(5);

/// How often it is looked at meanwhile.
const PERIOD: Duration = Duration::from_millis(10);

/// How long nothing may move.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Of an operation that answers once.
    pub answer: Duration,
    /// Of a stream, between two bytes.
    pub stream: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(120), stream: Duration::from_secs(300) }
    }
}

/// The processes that hang, by their pools.
#[derive(Debug, Default)]
pub(super) struct Stuck(Mutex<BTreeMap<String, Vec<Child>>>);

impl Stuck {
    /// Refuses where too many hang. Those that have ended meanwhile are forgotten.
    pub(super) fn admit(&self, pool: &str, doing: &str) -> Result<(), ZfsError> {
        let mut all = self.lock();
        let Some(stuck) = all.get_mut(pool) else { return Ok(()) };
        stuck.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        match stuck.len() {
            count @ STUCK_MAX.. => {
                Err(ZfsError::Stuck { doing: doing.to_owned(), pool: pool.to_owned(), count })
            }
            _ => Ok(()),
        }
    }

    fn take(&self, pool: &str, child: Child) {
        tracing::error!(pool, pid = child.id(), "a process hangs in the kernel and cannot be ended");
        self.lock().entry(pool.to_owned()).or_default().push(child);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Child>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process at work. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Process {
    child: Option<Child>,
    pool: String,
    stuck: Arc<Stuck>,
}

impl Process {
    pub(super) fn new(child: Child, pool: &str, stuck: &Arc<Stuck>) -> Self {
        Self { child: Some(child), pool: pool.to_owned(), stuck: Arc::clone(stuck) }
    }

    pub(super) fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Waits for its end; none where it does not come in time.
    pub(super) fn wait(&mut self, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(child) = &mut self.child else { return Ok(None) };
            match child.try_wait()? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() >= deadline => return Ok(None),
                None => std::thread::sleep(PERIOD),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // One that has ended by itself is not harmed.
        let _ = child.kill();
        let killed = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) if killed.elapsed() >= END => return self.stuck.take(&self.pool, child),
                Ok(None) => std::thread::sleep(PERIOD),
            }
        }
    }
}

/// Whether something can be read or written within this time, or the other side is gone.
pub(super) fn wait_for(fd: BorrowedFd<'_>, what: PollFlags, patience: Duration) -> Result<bool, Errno> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), what)], Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
