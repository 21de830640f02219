//! Objects that grow. What is appended to one of them at the same time is written in the order of its places and made durable by one
//! sync: whoever comes while that is done has part in the next one. An object is open only as long as something is written to
//! it, and what its length is the file system says: so nothing has to be remembered from one append to the next.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{AnotherRoot, Inner, is_full};
use crate::name::ObjectName;
use crate::store::{APPEND_BYTES_MAX, OBJECT_BYTES_MAX};

/// Appends to one object that are under way at once.
const AT_ONCE_MAX: usize = 64;

/// What would leave a hole waits for so long for what comes before it.
const GAP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Objects that could not be made durable; with so many nothing is appended any more, until the process is started anew.
const UNSURE_MAX: usize = 1024;

/// Names that are known to be durable; what is forgotten is synced once more.
const NAMES_KNOWN_MAX: usize = 1024;

/// What is being appended, by the name of its object.
#[derive(Debug, Default)]
pub(super) struct Appends {
    queues: Mutex<HashMap<String, Queue>>,
    /// Objects whose names this process has made durable.
    named: Mutex<HashSet<String>>,
    /// Objects of which a part could not be made durable. The system may take it for written from then on: nothing that follows it
    /// is acknowledged.
    unsure: Mutex<HashSet<String>>,
    count: AtomicU64,
}

/// What is to be appended to one object.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Somebody works on it, and looks again when something has come.
    is_worked: bool,
    /// Something has come since that was looked at last.
    has_new: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Something is missing before it.
    is_early: bool,
    offset: u64,
    content: Bytes,
    answer: oneshot::Sender<io::Result<()>>,
}

impl Appends {
    fn queues(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self) -> MutexGuard<'_, HashSet<String>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where an earlier part may not be on the disk.
    fn refuse_unsure(&self, name: &str) -> io::Result<()> {
        let unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        match unsure.contains(name) || unsure.len() >= UNSURE_MAX {
            false => Ok(()),
            true => Err(io::Error::other(
                "an earlier part could not be made durable: it goes on in another object",
            )),
        }
    }

    fn is_unsure(&self, name: &str) {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// What waits is told that nobody works on it any more.
    fn give_up(&self, name: &str) {
        self.queues().remove(name);
    }

    /// Enters something. True if nobody works on that object.
    fn enter(&self, name: &str, waiting: Waiting) -> io::Result<bool> {
        let mut queues = self.queues();
        let queue = queues.entry(name.to_owned()).or_default();
        if queue.waiting.len() >= AT_ONCE_MAX {
            return Err(ErrorKind::ResourceBusy.into());
        }
        queue.waiting.push(waiting);
        queue.has_new = true;
        Ok(!std::mem::replace(&mut queue.is_worked, true))
    }

    /// All that waits, in the order of its places; none when nothing has come since this was asked last. Then nobody works on it any
    /// more.
    fn take(&self, name: &str) -> Option<Vec<Waiting>> {
        let mut queues = self.queues();
        let queue = queues.get_mut(name)?;
        if std::mem::take(&mut queue.has_new) {
            let mut taken = std::mem::take(&mut queue.waiting);
            taken.sort_by_key(|waiting| waiting.offset);
            return Some(taken);
        }
        queue.is_worked = false;
        if queue.waiting.is_empty() {
            queues.remove(name);
        }
        None
    }

    /// Gives back what is early.
    fn give_back(&self, name: &str, early: Vec<Waiting>) {
        if let Some(queue) = self.queues().get_mut(name) {
            queue.waiting.extend(early.into_iter().map(|waiting| Waiting { is_early: true, ..waiting }));
        }
    }

    /// Whether that waits for what is missing before it, and not for the disk.
    fn is_early(&self, name: &str, number: u64) -> bool {
        let queues = self.queues();
        let waiting = queues.get(name).and_then(|queue| queue.waiting.iter().find(|w| w.number == number));
        waiting.is_some_and(|waiting| waiting.is_early)
    }

    /// Removes what nobody waits for any more.
    fn forget_abandoned(&self, name: &str) {
        let mut queues = self.queues();
        if let Some(queue) = queues.get_mut(name) {
            queue.waiting.retain(|waiting| !waiting.answer.is_closed());
            if queue.waiting.is_empty() && !queue.is_worked {
                queues.remove(name);
            }
        }
    }
}

/// Somebody who waits. Whoever gives up leaves nothing in a queue.
struct Waiter<'a> {
    appends: &'a Appends,
    name: &'a str,
    told: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        drop(self.told.take());
        self.appends.forget_abandoned(self.name);
    }
}

/// Appends; durable when it returns.
pub(super) async fn append(
    inner: &Arc<Inner>,
    name: &ObjectName,
    offset: u64,
    content: Bytes,
) -> io::Result<()> {
    let length = content.len() as u64;
    if length > APPEND_BYTES_MAX || offset.saturating_add(length) > OBJECT_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let (answer, told) = oneshot::channel();
    let number = inner.appends.count.fetch_add(1, Ordering::Relaxed);
    let mut waiter = Waiter { appends: &inner.appends, name: name.as_str(), told: Some(told) };
    let waiting = Waiting { number, is_early: false, offset, content, answer };
    if inner.appends.enter(name.as_str(), waiting)? {
        let (inner, name) = (Arc::clone(inner), name.to_string());
        let mut working = Working { inner, name, is_done: false };
        // To its end, also when whoever began it is gone: others may wait for it by then.
        tokio::task::spawn_blocking(move || working.work());
    }
    let Some(told) = waiter.told.as_mut() else { return Err(ending()) };
    loop {
        match timeout(GAP_WAIT_MAX, &mut *told).await {
            Ok(outcome) => return outcome.unwrap_or_else(|_| Err(ending())),
            Err(_) if inner.appends.is_early(name.as_str(), number) => {
                let why = format!("what comes before byte {offset} is not there");
                return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
            }
            // The disk is slow.
            Err(_) => {}
        }
    }
}

/// Whoever works on an object. Where it does not come to its end, those who wait are told.
struct Working {
    inner: Arc<Inner>,
    name: String,
    is_done: bool,
}

impl Working {
    fn work(&mut self) {
        let (appends, name) = (&self.inner.appends, &self.name);
        while let Some(taken) = appends.take(name) {
            appends.give_back(name, self.inner.append_all(name, taken));
        }
        self.is_done = true;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.is_done {
            self.inner.appends.give_up(&self.name);
        }
    }
}

impl Inner {
    /// Appends all that fits on to what is there, answers, and gives back what is early.
    fn append_all(&self, name: &str, taken: Vec<Waiting>) -> Vec<Waiting> {
        let least = taken.first().map_or(0, |first| first.offset);
        let opened = self.appends.refuse_unsure(name).and_then(|()| self.open_root()).and_then(|root| {
            let file = self.open_growing(&root.path, name, least == 0)?;
            let length = file.as_ref().map_or(Ok(0), |file| Ok::<_, io::Error>(file.metadata()?.len()))?;
            Ok((root, file, length))
        });
        let (root, file, mut length) = match opened {
            Ok((root, Some(file), length)) => (root, file, length),
            Ok((_, None, _)) => return taken,
            Err(error) => {
                taken.into_iter().for_each(|waiting| tell(waiting.answer, Err(again(&error))));
                return Vec::new();
            }
        };
        let is_new = length == 0;
        let (mut written, mut early) = (Vec::new(), Vec::new());
        for waiting in taken {
            if waiting.offset > length {
                early.push(waiting);
                continue;
            }
            match self.write_part(&root.path, name, &file, length, &waiting) {
                Ok(()) => {
                    length = length.max(waiting.offset + waiting.content.len() as u64);
                    written.push(waiting.answer);
                }
                Err(error) => tell(waiting.answer, Err(error)),
            }
        }
        if written.is_empty() {
            return early;
        }
        let synced = self.disk.sync_file(&file, &root.path.join(name));
        if synced.is_err() {
            self.appends.is_unsure(name);
        }
        let durable = synced.and_then(|()| self.make_name_durable(&root.path, name, is_new));
        for answer in written {
            tell(answer, durable.as_ref().copied().map_err(again));
        }
        early
    }

    /// The file, which is made with its first byte only.
    fn open_growing(&self, root: &Path, name: &str, may_make: bool) -> io::Result<Option<File>> {
        let path = root.join(name);
        if !may_make && !path.try_exists()? {
            return Ok(None);
        }
        self.make_folder(root, Path::new(name).parent().unwrap_or(Path::new("")))?;
        self.disk.open_growing(&path).map(Some)
    }

    /// Writes a part at its place, where the same may be.
    fn write_part(
        &self,
        root: &Path,
        name: &str,
        file: &File,
        length: u64,
        part: &Waiting,
    ) -> io::Result<()> {
        let same = (length - part.offset).min(part.content.len() as u64) as usize;
        let mut there = vec![0; same];
        file.read_exact_at(&mut there, part.offset)?;
        if there != part.content[..same] {
            let why = format!("other bytes are there from byte {} on", part.offset);
            return Err(io::Error::new(ErrorKind::AlreadyExists, why));
        }
        // What is there as well: it may be in memory alone, after a sync that has failed in an earlier process.
        let path = root.join(name);
        match self.disk.write_at(file, &path, part.offset, &part.content) {
            Err(error) if is_full(&error) && self.has_emptied_trash(root) => {
                self.disk.write_at(file, &path, part.offset, &part.content)
            }
            written => written,
        }
    }

    fn make_name_durable(&self, root: &Path, name: &str, is_new: bool) -> io::Result<()> {
        if !is_new && self.appends.named().contains(name) {
            return Ok(());
        }
        self.disk.sync_folder(&root.join(Path::new(name).parent().unwrap_or(Path::new(""))))?;
        let mut named = self.appends.named();
        if named.len() >= NAMES_KNOWN_MAX {
            named.clear();
        }
        named.insert(name.to_owned());
        Ok(())
    }
}

/// Whoever has given up is not told.
fn tell(answer: oneshot::Sender<io::Result<()>>, outcome: io::Result<()>) {
    let _ = answer.send(outcome);
}

/// The same error for one more who has waited.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None if error.get_ref().is_some_and(|cause| cause.is::<AnotherRoot>()) => {
            io::Error::other(AnotherRoot)
        }
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn ending() -> io::Error {
    io::Error::other("the process is ending")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use backstay_core::id::{BranchId, JournalId, SourceId};

    use super::*;
    use crate::name::Named;
    use crate::store::{DirStore, Disk, Store, StoreErrorKind};

    /// A disk on which a sync fails, once.
    #[derive(Debug)]
    struct FailsOnce(AtomicBool);

    impl Disk for FailsOnce {
        fn sync_file(&self, file: &File, _: &Path) -> io::Result<()> {
            match self.0.swap(false, Ordering::SeqCst) {
                true => Err(io::Error::other("a bad sector")),
                false => file.sync_data(),
            }
        }
    }

    fn journal(number: u8) -> ObjectName {
        let branch = BranchId::new([2; 16]);
        Named::Journal(SourceId::new([1; 16]), branch, 0, JournalId::new([number; 16])).to_name()
    }

    #[tokio::test]
    async fn after_a_sync_that_has_failed_nothing_more_is_acknowledged_of_that_object() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(FailsOnce(AtomicBool::new(true)));
        let store = DirStore::on(disk, folder.path().join("vault"), None);
        store.append(&journal(1), 0, Bytes::from_static(b"first")).await.expect_err("the sync fails");
        for (offset, part) in [(0, "first"), (5, "second")] {
            let again = store.append(&journal(1), offset, Bytes::from_static(part.as_bytes())).await;
            assert_eq!(again.expect_err("nobody knows what is there").kind, StoreErrorKind::Permanent);
        }
        store.append(&journal(2), 0, Bytes::from_static(b"first")).await.expect("another object is another");
        // Whoever works on it looks once more after it has answered.
        while !store.inner.appends.queues().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
