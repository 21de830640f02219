//! Making the names in folders durable: many folders side by side, and again those that have changed since.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Disk, is_transient};

/// Folders that are synced at once: a file system writes down together what is asked for at the same time.
const AT_ONCE: usize = 8;

/// A folder that was changed so short a time ago may be changed once more without a difference in its time.
const SETTLED_AGE_LEAST: Duration = Duration::from_secs(2);

/// When a folder was last changed: seconds and nanoseconds.
type Changed = (i64, i64);

/// Folders of which everything is durable that was there when they were last changed.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<HashMap<PathBuf, Changed>>);

impl Settled {
    /// Makes durable what is in these folders below `root`, those that have changed since that was done last. What is seen
    /// may come from a process that died before it was durable, and whoever sees it builds on it. Where it cannot be done,
    /// as on a disk that is only read, nobody writes either; what a process lacks for a moment, as descriptors, is an error.
    pub(super) fn make_durable<'f>(
        &self,
        disk: &dyn Disk,
        root: &Path,
        folders: impl IntoIterator<Item = &'f Path>,
    ) -> io::Result<()> {
        let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is synced: what comes later gives a folder another time.
        let look = |folder: &'f Path| {
            let changed = fs::metadata(root.join(folder)).ok().and_then(|found| long_unchanged(&found));
            (folder, changed)
        };
        let changed = |(folder, changed): &(&Path, Option<Changed>)| {
            changed.is_none() || settled.get(*folder) != changed.as_ref()
        };
        let due: Vec<_> = folders.into_iter().map(look).filter(changed).collect();
        let paths: Vec<PathBuf> = due.iter().map(|(folder, _)| root.join(folder)).collect();
        match sync_all(disk, &paths) {
            Ok(()) => {
                for (folder, changed) in due {
                    match changed {
                        Some(changed) => settled.insert(folder.to_path_buf(), changed),
                        None => settled.remove(folder),
                    };
                }
                Ok(())
            }
            Err(error) if is_transient(&error) => Err(error),
            Err(_) => Ok(()),
        }
    }
}

/// Makes durable which names are in these folders, in any order, whatever becomes of one of them; one of the errors, and
/// one that may pass rather than another.
pub(super) fn sync_all(disk: &dyn Disk, folders: &[impl AsRef<Path> + Sync]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcome = Ok(());
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcome = both(outcome, disk.sync_folder(folder.as_ref()));
        }
        outcome
    };
    thread::scope(|scope| {
        let helpers = AT_ONCE.min(folders.len()).saturating_sub(1);
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined =
            helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.fold(own, both)
    })
}

fn both(first: io::Result<()>, second: io::Result<()>) -> io::Result<()> {
    match (first, second) {
        (Ok(()), outcome) | (outcome, Ok(())) => outcome,
        (Err(_), Err(error)) if is_transient(&error) => Err(error),
        (first, _) => first,
    }
}

/// When a folder was changed last; `None` when another change could have the same time.
fn long_unchanged(found: &Metadata) -> Option<Changed> {
    let age = found.modified().ok()?.elapsed().ok()?;
    (age >= SETTLED_AGE_LEAST).then(|| (found.mtime(), found.mtime_nsec()))
}
