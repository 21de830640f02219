//! Sending what a restore has written to the disk while it goes on, so that little is left to wait for at its end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::staging::Staging;

/// Bytes in the page cache after which they are sent to the disk.
const FLUSH_BYTES: u64 = 128 << 20;

/// What a file takes in the page cache beside its contents, about: its inode, its name, the rest of its last page.
const FILE_BYTES: u64 = 4 << 10;

/// The file systems into which a restore writes: that of the destination, and those that are mounted in it.
#[derive(Debug, Default)]
pub(super) struct FileSystems(Mutex<BTreeMap<u64, Arc<OwnedFd>>>);

impl FileSystems {
    /// Takes in the file system with this number, on which `directory` is. From here on its errors are heard.
    pub(super) fn add(&self, device: u64, directory: impl AsFd) -> Result<(), Errno> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(new) = known.entry(device) {
            // Of its own: the system tells of an error once for each opening.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            new.insert(Arc::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?));
        }
        Ok(())
    }

    /// A directory of each.
    pub(super) fn all(&self) -> Vec<Arc<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }
}

/// A thread that has what was restored written out again and again.
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
    pub(super) fn start(staging: Arc<Staging>, systems: Arc<FileSystems>) -> std::io::Result<Self> {
        let (wake, woken) = bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name("backstay-flush".into())
            .spawn(move || woken.into_iter().try_for_each(|()| staging.sync(&systems.all())))?;
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
