//! The disk that writes down what it is told.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_vault::store::{Disk, SystemDisk, Writing};
use bytes::Bytes;

/// One change of a file system. Paths are below the folder of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A folder was made.
    MakeFolder(PathBuf),
    /// An empty file was made.
    MakeFile(PathBuf),
    /// That much was written to it.
    Write(PathBuf, Bytes),
    /// That was written into it, from this byte on.
    WriteAt(PathBuf, u64, Bytes),
    /// What was written to it is durable.
    SyncFile(PathBuf),
    /// The names in this folder are durable.
    SyncFolder(PathBuf),
    /// A file has another name.
    Rename(PathBuf, PathBuf),
    /// A file, or an empty folder, was removed.
    Remove(PathBuf),
}

/// What was written down: steps, and what whoever uses the disk has noted between them.
#[derive(Debug, Clone)]
pub enum Record<N> {
    /// A change.
    Step(Step),
    /// A note.
    Note(N),
}

/// What a disk leaves out of its record, as if the store had: so that a test can show that it is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgets {
    /// Nothing.
    Nothing,
    /// That files were synced.
    Files,
    /// That folders were synced.
    Folders,
}

/// When the process that uses a disk dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// After that many further changes.
    Change(usize),
    /// When it would sync a folder, after that many that it has synced: what it has just put there is seen by others.
    FolderSync(usize),
}

/// A disk that writes down every change. Nothing is synced. One change is made at a time, so that their order is known.
#[derive(Debug)]
pub struct LossyDisk<N> {
    /// The folder that is the disk, by its real path.
    root: PathBuf,
    forgets: Forgets,
    record: Mutex<Vec<Record<N>>>,
    death: Mutex<Option<Death>>,
}

impl<N: Send + Clone + std::fmt::Debug> LossyDisk<N> {
    /// The disk in this folder, which is there.
    pub fn new(root: &Path, forgets: Forgets) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root, forgets, record: Mutex::default(), death: Mutex::default() })
    }

    /// Notes what has just become true.
    pub fn note(&self, note: N) {
        self.record().push(Record::Note(note));
    }

    /// What has been written down.
    pub fn records(&self) -> Vec<Record<N>> {
        self.record().clone()
    }

    /// Says when whoever uses the disk dies: from then on nothing is done any more. `None` is for the next process.
    pub fn die(&self, death: Option<Death>) {
        *self.death() = death;
    }

    fn death(&self) -> MutexGuard<'_, Option<Death>> {
        self.death.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Vec<Record<N>>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something, and writes it down if it was done.
    fn change<T>(&self, steps: Vec<Step>, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut record = self.record();
        self.live_on(&steps)?;
        let done = change()?;
        record.extend(steps.into_iter().map(Record::Step));
        Ok(done)
    }

    /// An error when the process dies here, or is dead.
    fn live_on(&self, steps: &[Step]) -> io::Result<()> {
        let mut death = self.death();
        let left = match &mut *death {
            Some(Death::FolderSync(left)) if matches!(steps, [Step::SyncFolder(_)]) => left,
            Some(Death::Change(left)) => left,
            _ => return Ok(()),
        };
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => {
                *death = Some(Death::Change(0));
                return Err(io::Error::other("the process has died"));
            }
        }
        Ok(())
    }

    /// A path below the disk, which may lead there by way of a descriptor. There are no links on the disk itself.
    fn below(&self, path: &Path) -> io::Result<PathBuf> {
        match (fs::canonicalize(path), path.parent(), path.file_name()) {
            (Ok(path), ..) => self.strip(&path),
            (_, Some(folder), Some(name)) => self.strip(&fs::canonicalize(folder)?.join(name)),
            (Err(error), ..) => Err(error),
        }
    }

    fn strip(&self, path: &Path) -> io::Result<PathBuf> {
        let below = path.strip_prefix(&self.root).map_err(|_| {
            io::Error::other(format!("{} is not below {}", path.display(), self.root.display()))
        })?;
        Ok(below.to_path_buf())
    }
}

impl<N: Send + Clone + std::fmt::Debug> Disk for LossyDisk<N> {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(vec![Step::MakeFolder(self.below(path)?)], || SystemDisk.make_folder(path))
    }

    fn make_file(&self, path: &Path, writing: Writing) -> io::Result<File> {
        self.change(vec![Step::MakeFile(self.below(path)?)], || SystemDisk.make_file(path, writing))
    }

    fn write(&self, file: &File, path: &Path, content: &[u8]) -> io::Result<()> {
        let step = Step::Write(self.below(path)?, Bytes::copy_from_slice(content));
        self.change(vec![step], || SystemDisk.write(file, path, content))
    }

    fn open_growing(&self, path: &Path) -> io::Result<File> {
        let made = if path.try_exists()? { vec![] } else { vec![Step::MakeFile(self.below(path)?)] };
        self.change(made, || SystemDisk.open_growing(path))
    }

    fn write_at(&self, file: &File, path: &Path, offset: u64, content: &[u8]) -> io::Result<()> {
        let step = Step::WriteAt(self.below(path)?, offset, Bytes::copy_from_slice(content));
        self.change(vec![step], || SystemDisk.write_at(file, path, offset, content))
    }

    fn sync_file(&self, _: &File, path: &Path) -> io::Result<()> {
        let step = Step::SyncFile(self.below(path)?);
        self.change(if self.forgets == Forgets::Files { vec![] } else { vec![step] }, || Ok(()))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let step = Step::SyncFolder(self.strip(&fs::canonicalize(path)?)?);
        self.change(if self.forgets == Forgets::Folders { vec![] } else { vec![step] }, || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let step = Step::Rename(self.below(from)?, self.below(to)?);
        self.change(vec![step], || SystemDisk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(vec![Step::Remove(self.below(path)?)], || SystemDisk.remove_file(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut steps = Vec::new();
        within(&fs::canonicalize(path)?, &mut |inner| {
            steps.push(Step::Remove(self.strip(inner)?));
            Ok(())
        })?;
        self.change(steps, || SystemDisk.remove_folder(path))
    }
}

/// All that is in a folder, and then itself.
fn within(path: &Path, tell: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            within(&entry?.path(), tell)?;
        }
    }
    tell(path)
}
