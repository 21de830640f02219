//! Sending what a restore has written to the disk while it goes on, so that little is left to wait for at its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use rustix::io::Errno;

/// Bytes in the page cache after which they are sent to the disk.
const FLUSH_BYTES: u64 = 128 << 20;

/// What a file takes in the page cache beside its contents, about: its inode, its name, the rest of its last page.
const FILE_BYTES: u64 = 4 << 10;

/// A thread that has the file system written out again and again.
#[derive(Debug)]
pub(super) struct Flusher {
    cached_bytes: AtomicU64,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    wake: Sender<()>,
    thread: JoinHandle<Result<(), Errno>>,
}

impl Flusher {
    /// For the file system on which `root` is.
    pub(super) fn start(root: BorrowedFd<'_>) -> std::io::Result<Self> {
        let root: OwnedFd = root.try_clone_to_owned()?;
        let (wake, woken) = bounded::<()>(1);
        let thread = std::thread::Builder::new().name("backstay-flush".into()).spawn(move || {
            // An error of an earlier write is told once for each open file: the first one must be kept.
            woken.into_iter().try_for_each(|()| rustix::fs::syncfs(root.as_fd()))
        })?;
        Ok(Self { cached_bytes: AtomicU64::new(0), running: Mutex::new(Some(Running { wake, thread })) })
    }

    /// That a piece of a file has been left in the page cache.
    pub(super) fn cached(&self, bytes: u64) {
        let more = bytes + FILE_BYTES;
        let before = self.cached_bytes.fetch_add(more, Ordering::Relaxed);
        if before / FLUSH_BYTES != (before + more) / FLUSH_BYTES
            && let Some(running) = &*self.running()
        {
            // While it is at work already, the next time is soon enough.
            let _ = running.wake.try_send(());
        }
    }

    /// Ends the thread, and tells what it has met.
    pub(super) fn stop(&self) -> Result<(), Errno> {
        let Some(Running { wake, thread }) = self.running().take() else { return Ok(()) };
        drop(wake);
        thread.join().unwrap_or(Err(Errno::IO))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        // Only where the restore has failed already.
        let _ = self.stop();
    }
}
