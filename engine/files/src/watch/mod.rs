//! Watching a tree: being told within moments that something in it has changed. Owns a thread that says so; when something
//! is captured because of it is for others, and nothing counts as captured because nobody has seen it change: watchers do not
//! see everything (writes through mappings, changes by other hosts), and lose events.

mod watches;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use self::watches::Watches;
use crate::touched::Touched;
use crate::walk::WalkOptions;

/// Changes are told no more often than this: many are told together.
const TELL_PERIOD: Duration = Duration::from_millis(250);

/// How long after a failure it is tried again to watch the tree.
const RETRY_PERIOD: Duration = Duration::from_secs(60);

/// How often the thread looks whether the root is what it was; that a link leads elsewhere is told by no event.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

/// Why a tree is not watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchProblem {
    /// The system allows no more.
    #[error(
        "it has more directories than this system lets anybody watch: raise fs.inotify.max_user_watches (`sysctl fs.inotify.max_user_watches=1048576`, and a file in /etc/sysctl.d), or set `watch = false` for it"
    )]
    TooMany,
    /// Something else.
    #[error("{what}: {cause}")]
    Refused {
        /// What was refused.
        what: String,
        /// What the system said.
        cause: Errno,
    },
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The tree is watched from now on. What has changed before is not told.
    Watched {
        /// Directories that are watched.
        directories: usize,
    },
    /// Something has changed, in these directories. [`Touched::Everywhere`] where events were lost.
    Changed(Touched),
    /// Nothing is told until it is watched again; that is tried from time to time.
    Unwatched(WatchProblem),
}

/// A tree that is watched, until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: OwnedFd,
}

/// Is told something; gives back what it has no room for now, to be told again.
type Tell = Box<dyn Fn(Told) -> Result<(), Told> + Send>;

impl Watcher {
    /// Watches the tree with this root, but for what does not belong to a walk with these options.
    pub fn start(
        root: &Path,
        walk: WalkOptions,
        tell: impl Fn(Told) -> Result<(), Told> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let watching = Watching { root: root.to_path_buf(), walk, tell: Box::new(tell), stopped };
        std::thread::Builder::new().name("watch".into()).spawn(move || watching.run())?;
        Ok(Self { stop })
    }
}

impl Drop for Watcher {
    /// The thread is not waited for: the file system may hang in which it looks.
    fn drop(&mut self) {
        // Any number but 0 is a sign.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

/// What the thread has.
struct Watching {
    root: PathBuf,
    walk: WalkOptions,
    tell: Tell,
    stopped: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stopped,
    Events,
    Time,
}

impl Watching {
    fn run(&self) {
        let mut last: Option<WatchProblem> = None;
        loop {
            let Err(problem) = self.watch(&mut last) else { return };
            // The same once a minute is told once.
            if last.as_ref() != Some(&problem) && self.tell_at_last(Told::Unwatched(problem.clone())) {
                last = Some(problem);
            }
            if self.wait(None, RETRY_PERIOD) == Woken::Stopped {
                return;
            }
        }
    }

    /// Watches until it is stopped, or cannot go on. `last` is the problem that was told last, as long as it lasts.
    fn watch(&self, last: &mut Option<WatchProblem>) -> Result<(), WatchProblem> {
        let mut watches = Watches::new(&self.root, &self.walk)?;
        watches.watch_all()?;
        *last = None;
        self.tell_at_last(Told::Watched { directories: watches.count() });
        let mut tried: Option<Instant> = None;
        let mut untold = Touched::nowhere();
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= LOOK_PERIOD {
                looked = Instant::now();
                watches.check_root(&self.root)?;
            }
            let rest = tried.map_or(Duration::ZERO, |tried| TELL_PERIOD.saturating_sub(tried.elapsed()));
            let is_told = untold.is_nowhere();
            if !is_told && rest.is_zero() {
                tried = Some(Instant::now());
                let change = std::mem::replace(&mut untold, Touched::nowhere());
                if let Err(Told::Changed(change)) = (self.tell)(Told::Changed(change)) {
                    untold = change;
                }
                continue;
            }
            match self.wait(Some(watches.fd()), if is_told { LOOK_PERIOD } else { rest }) {
                Woken::Stopped => return Ok(()),
                Woken::Time => {}
                Woken::Events => watches.read(&mut untold)?,
            }
        }
    }

    /// Tells until it is taken; false when it is stopped.
    fn tell_at_last(&self, mut told: Told) -> bool {
        while let Err(untold) = (self.tell)(told) {
            told = untold;
            if self.wait(None, TELL_PERIOD) == Woken::Stopped {
                return false;
            }
        }
        true
    }

    fn wait(&self, events: Option<&OwnedFd>, time: Duration) -> Woken {
        let mut fds = vec![PollFd::new(&self.stopped, PollFlags::IN)];
        fds.extend(events.map(|events| PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)));
        // At least a millisecond, or a short rest would be asked for again and again.
        let time = time.max(Duration::from_millis(1));
        let timeout = Timespec::try_from(time).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(_) => Woken::Time,
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => Woken::Stopped,
            Ok(_) => Woken::Events,
        }
    }
}
