//! The embedded store: a directory of the local file system. An object is written beside, fsynced,
//! renamed into place and its folder fsynced before `put` returns.

mod append;
mod arriving;
mod disk;
mod durable;
mod listing;
mod trash;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use append::Appends;
pub use arriving::Arriving;
pub use disk::{Disk, SystemDisk, Writing};
use durable::{Settled, sync_all};
pub use listing::Page;

use super::{
    Folder, Listed, OBJECT_BYTES_MAX, Operation, Store, StoreError, StoreErrorKind, Stretch, Trashed, is_kept,
};
use crate::buffer::ALIGNMENT_BYTES;
use crate::keys::random_bytes;
use crate::name::ObjectName;

/// Where objects are before they get their name.
const UNFINISHED: &str = "unfinished";

/// An unfinished object of this age belongs to nobody any more.
const UNFINISHED_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Objects from this size on, packs as a rule, are written past the page cache: who writes a backup does not push out
/// what others have cached, and a copy is saved.
const DIRECT_BYTES_LEAST: usize = 1 << 20;

/// Greatest session or fence that is read, bytes; they have some hundreds.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// A directory that holds a vault.
#[derive(Debug, Clone)]
pub struct DirStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Device and inode of the root when it was first used.
    identity: OnceLock<(u64, u64)>,
    /// Folders that are there and durable in their parents, as far as this process knows.
    folders: Mutex<HashSet<PathBuf>>,
    /// Folders of which what was listed is durable.
    settled: Settled,
    appends: Appends,
    /// For how long what was deleted can be brought back; where there is no time, it is gone at once.
    undelete: Option<Duration>,
    disk: Arc<dyn Disk>,
}

impl DirStore {
    /// The store at `root`; looks at nothing yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(SystemDisk), root, None)
    }

    /// The store at `root`, which keeps for so long what is deleted.
    pub fn with_trash(root: impl Into<PathBuf>, undelete: Duration) -> Self {
        Self::on(Arc::new(SystemDisk), root, Some(undelete))
    }

    /// The store at `root` of a disk that is not the system's.
    pub fn on(disk: Arc<dyn Disk>, root: impl Into<PathBuf>, undelete: Option<Duration>) -> Self {
        let (root, identity) = (root.into(), OnceLock::new());
        let (folders, settled, appends) = (Mutex::default(), Settled::default(), Appends::default());
        Self { inner: Arc::new(Inner { root, identity, folders, settled, appends, undelete, disk }) }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// How long an object is, bytes.
    pub async fn length(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let path = name.to_string();
        let work = move |_: &Inner, root: &Path| Ok(fs::metadata(root.join(&path))?.len());
        self.run(Operation::GetRange, name.to_string(), work).await
    }

    /// Makes durable that an object is there: whoever has put it may have died before it was.
    pub async fn make_durable(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = name.to_string();
        let work = move |inner: &Inner, root: &Path| {
            let folders = Path::new(&path).ancestors().skip(1);
            folders.into_iter().try_for_each(|folder| inner.disk.sync_folder(&root.join(folder)))
        };
        self.run(Operation::Put, name.to_string(), work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        object: String,
        work: impl FnOnce(&Inner, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let place = self.place();
        let outcome = tokio::task::spawn_blocking(move || {
            let root = inner.open_root()?;
            work(&inner, &root.path)
        })
        .await;
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("the process is ending"),
        };
        Err(StoreError { operation, object, place, kind: kind_of(&error), cause: error.to_string() })
    }
}

#[async_trait]
impl Store for DirStore {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        let path = name.to_string();
        self.run(Operation::Put, name.to_string(), move |inner, root| inner.put(root, &path, &content)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let path = name.to_string();
        self.run(Operation::Get, name.to_string(), move |_, root| get(root, &path)).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        let path = name.to_string();
        self.run(Operation::GetRange, name.to_string(), move |_, root| get_range(root, &path, stretch)).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let path = folder.as_str().trim_end_matches('/').to_owned();
        let work = move |inner: &Inner, root: &Path| {
            let listed = listing::list(root, &path)?;
            inner.make_durable(root, &path, &listed)?;
            Ok(listed)
        };
        let mut listed = self.run(Operation::List, folder.as_str().to_owned(), work).await?;
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.delete_all(std::slice::from_ref(name)).await
    }

    async fn delete_all(&self, names: &[ObjectName]) -> Result<(), StoreError> {
        let Some(first) = names.first() else { return Ok(()) };
        let is_kept = |name: &&ObjectName| {
            self.inner.undelete.is_some()
                && ObjectName::parse(name.as_str()).is_some_and(|(_, named)| is_kept(&named))
        };
        let (kept, rest): (Vec<&ObjectName>, Vec<&ObjectName>) = names.iter().partition(is_kept);
        let owned = |names: Vec<&ObjectName>| names.into_iter().map(ToString::to_string).collect::<Vec<_>>();
        let (kept, rest) = (owned(kept), owned(rest));
        let what = match names.len() {
            1 => first.to_string(),
            count => format!("{first} and {} others", count - 1),
        };
        let work = move |inner: &Inner, root: &Path| {
            if let Some(undelete) = inner.undelete.filter(|_| !kept.is_empty()) {
                trash::throw_away(&*inner.disk, root, &kept, undelete)?;
            }
            delete(&*inner.disk, root, &rest)
        };
        self.run(Operation::Delete, what, work).await
    }

    async fn append(&self, name: &ObjectName, offset: u64, content: Bytes) -> Result<(), StoreError> {
        append::append(&self.inner, name, offset, content).await.map_err(|error| StoreError {
            operation: Operation::Append,
            object: name.to_string(),
            place: self.place(),
            kind: kind_of(&error),
            cause: error.to_string(),
        })
    }

    async fn trash(&self) -> Result<Vec<Trashed>, StoreError> {
        self.run(Operation::List, trash::FOLDER.to_owned(), |_, root| trash::list(root)).await
    }

    async fn bring_back(&self, trashed: &Trashed) -> Result<(), StoreError> {
        let (batch, path) = (trashed.batch, trashed.object.name.to_string());
        let work = move |inner: &Inner, root: &Path| {
            let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
            inner.make_folder(root, folder)?;
            trash::bring_back(&*inner.disk, root, batch, &path)
        };
        self.run(Operation::BringBack, trashed.object.name.to_string(), work).await
    }

    fn place(&self) -> String {
        self.inner.root.display().to_string()
    }
}

/// Why nothing is asked of a root, or written into it.
#[derive(Debug, thiserror::Error)]
#[error("the directory is not the one that it was: most likely a disk is not mounted any more")]
struct AnotherRoot;

/// The root while something is done in it.
struct Root {
    /// Leads to the directory that was looked at, whatever has its name by now.
    path: PathBuf,
    /// Not kept longer than that: a disk with an open directory cannot be unmounted.
    _open: Option<OwnedFd>,
}

impl Inner {
    /// Opens the root, if it is the one that was there before: where a disk has been unmounted, an empty directory has its
    /// name. A root that was never seen may be missing, and is made with the first object.
    fn open_root(&self) -> io::Result<Root> {
        // Before the look: others may be making it.
        let before = self.identity.get();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = match rustix::fs::open(&self.root, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(open) => open,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match before {
                    None => Ok(Root { path: self.root.clone(), _open: None }),
                    Some(_) => Err(io::Error::other(AnotherRoot)),
                };
            }
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&open)?;
        let found = (stat.st_dev, stat.st_ino);
        if *self.identity.get_or_init(|| found) != found {
            return Err(io::Error::other(AnotherRoot));
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        // Without /proc by its name: then it may become another one between the look and the work.
        let path = if path.exists() { path } else { self.root.clone() };
        Ok(Root { path, _open: Some(open) })
    }

    /// Makes durable what a listing has shown.
    fn make_durable(&self, root: &Path, top: &str, listed: &[Listed]) -> io::Result<()> {
        let below = listed.iter().filter_map(|listed| Path::new(listed.name.as_str()).parent());
        let within = |folder: &&Path| folder.starts_with(top);
        let folders: BTreeSet<&Path> =
            below.flat_map(|folder| folder.ancestors().take_while(within)).collect();
        self.settled.make_durable(&*self.disk, root, folders)
    }

    /// Writes an object. A disk that is full may have what could be brought back for long enough: that goes then, since no
    /// prune, which would throw it out, gets anywhere on such a disk.
    fn put(&self, root: &Path, name: &str, content: &[u8]) -> io::Result<()> {
        match self.put_once(root, name, content) {
            Err(error) if is_full(&error) && self.has_emptied_trash(root) => {
                self.put_once(root, name, content)
            }
            outcome => outcome,
        }
    }

    /// Whether anything has gone out of the trash whose time was over.
    fn has_emptied_trash(&self, root: &Path) -> bool {
        let Some(undelete) = self.undelete else { return false };
        trash::remove_old(&*self.disk, root, undelete).unwrap_or_else(|error| {
            tracing::warn!(%error, "the trash cannot be emptied");
            0
        }) > 0
    }

    fn put_once(&self, root: &Path, name: &str, content: &[u8]) -> io::Result<()> {
        let unfinished = self.unfinished(root)?;
        let result = write_durably(&*self.disk, &unfinished, content)
            .and_then(|()| self.rename(root, &unfinished, name));
        if result.is_err() {
            // The first error is the one that tells; what is left behind is swept after a day.
            let _ = self.disk.remove_file(&unfinished);
        }
        result
    }

    fn rename(&self, root: &Path, from: &Path, name: &str) -> io::Result<()> {
        let folder = Path::new(name).parent().unwrap_or(Path::new(""));
        self.make_folder(root, folder)?;
        self.disk.rename(from, &root.join(name))?;
        self.disk.sync_folder(&root.join(folder))
    }

    /// Makes a folder and those above it from the root down, each durable in its parent. One that exists may
    /// come from a process that died before it was durable: it is made durable once more. Under a lock, so that
    /// nobody relies on a folder that is not durable yet. True if it was not known before.
    fn make_folder(&self, root: &Path, folder: &Path) -> io::Result<bool> {
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(folder) {
            return Ok(false);
        }
        let mut missing: Vec<&Path> = folder.ancestors().collect();
        while let Some(folder) = missing.pop() {
            let path = root.join(folder);
            match self.disk.make_folder(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => result?,
            }
            self.disk.sync_folder(&path.join(".."))?;
            known.insert(folder.to_owned());
        }
        Ok(true)
    }

    fn unfinished(&self, root: &Path) -> io::Result<PathBuf> {
        let folder = root.join(UNFINISHED);
        if self.make_folder(root, Path::new(UNFINISHED))? {
            sweep(&*self.disk, &folder)?;
        }
        // Others may write here that are in another process, or on another host: nothing but chance keeps apart.
        Ok(folder.join(format!("{:032x}", u128::from_le_bytes(random_bytes()))))
    }
}

fn get(root: &Path, name: &str) -> io::Result<Bytes> {
    let file = File::open(root.join(name))?;
    let length = file.metadata()?.len();
    let bytes_max = if is_small(name) { SMALL_BYTES_MAX } else { OBJECT_BYTES_MAX };
    if length > bytes_max {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut content = Vec::with_capacity(length as usize);
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content.into())
}

/// Sessions and fences are read many at once, and their lengths are not known before.
fn is_small(name: &str) -> bool {
    name.starts_with("ledger/") || name.starts_with("fences/")
}

fn get_range(root: &Path, name: &str, stretch: Stretch) -> io::Result<Bytes> {
    if stretch.length > OBJECT_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let file = File::open(root.join(name))?;
    // Before anything is allocated; it also spares the system offsets that it would refuse in its own way.
    let length = file.metadata()?.len();
    if stretch.offset.checked_add(stretch.length).is_none_or(|end| end > length) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut content = vec![0; stretch.length as usize];
    file.read_exact_at(&mut content, stretch.offset)?;
    Ok(content.into())
}

/// Each folder is made durable once.
fn delete(disk: &dyn Disk, root: &Path, names: &[String]) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for name in names {
        let path = root.join(name);
        match disk.remove_file(&path) {
            // That it is gone may not be durable yet, if whoever has removed it has died.
            Err(error) if error.kind() == ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            removed => removed?,
        }
        folders.extend(path.parent().map(Path::to_path_buf));
    }
    sync_all(disk, &folders.into_iter().collect::<Vec<_>>())
}

fn write_durably(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let aligned = |number: usize| number.is_multiple_of(ALIGNMENT_BYTES);
    if content.len() >= DIRECT_BYTES_LEAST && aligned(content.len()) && aligned(content.as_ptr().addr()) {
        match write_and_sync(disk, path, content, Writing::Direct) {
            // The file system has no such writes, or asks for more than this alignment.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                // It may have been made before that was found out.
                match disk.remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            written => return written,
        }
    }
    write_and_sync(disk, path, content, Writing::Cached)
}

fn write_and_sync(disk: &dyn Disk, path: &Path, content: &[u8], writing: Writing) -> io::Result<()> {
    let file = disk.make_file(path, writing)?;
    disk.write(&file, path, content)?;
    disk.sync_file(&file, path)
}

/// Removes what writers that died have left.
fn sweep(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok());
        if age.is_some_and(|age| age > UNFINISHED_AGE_MAX) {
            // Another process may have removed it, and what is not ours is no reason to write nothing.
            let _ = disk.remove_file(&entry.path());
        }
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    kind_of(error) == StoreErrorKind::NoSpace
}

/// Whether an error may be gone at the next try.
fn is_transient(error: &io::Error) -> bool {
    kind_of(error) == StoreErrorKind::Transient
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    if error.get_ref().is_some_and(|cause| cause.is::<AnotherRoot>()) {
        return StoreErrorKind::Gone;
    }
    match error.kind() {
        ErrorKind::NotFound => StoreErrorKind::NotFound,
        ErrorKind::UnexpectedEof => StoreErrorKind::Truncated,
        ErrorKind::AlreadyExists => StoreErrorKind::Conflict,
        ErrorKind::FileTooLarge => StoreErrorKind::TooLarge,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::NoSpace,
        ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        ErrorKind::PermissionDenied => StoreErrorKind::Denied,
        ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::ResourceBusy => StoreErrorKind::Transient,
        // Of the machine and not of the object: a repair would take it for lost.
        ErrorKind::OutOfMemory | ErrorKind::StaleNetworkFileHandle => StoreErrorKind::Transient,
        _ if [Errno::MFILE, Errno::NFILE]
            .map(|errno| Some(errno.raw_os_error()))
            .contains(&error.raw_os_error()) =>
        {
            StoreErrorKind::Transient
        }
        _ => StoreErrorKind::Permanent,
    }
}
