//! Where segments are kept: a folder of this process alone, or files without a name. Owns the lock, names, and that a
//! file is whole under its name or not there.
//!
//! Segments never change, so a process that does not get the lock may read those of the one that has it: files that are
//! removed meanwhile stay until they are closed. What it writes itself has no name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstay_core::id::VaultId;
use rustix::fs::{FlockOperation, flock};

use super::head::SegmentError;
use super::rows::Rows;
use super::segment::Segment;
use super::write::SegmentWriter;
use crate::keys::random_bytes;

const LOCK: &str = "lock";
const WHOLE: &str = "segment";
const UNFINISHED: &str = "new";

/// Most segments of a folder that are opened; there are some dozens of the largest vault.
const SEGMENTS_MAX: usize = 4096;

/// Who uses the folder of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFolder {
    /// This process, if no other does.
    Own,
    /// Another: what lies there is read, and nothing is written there.
    Borrow,
}

/// A place for segments.
#[derive(Debug)]
pub(super) struct Shelf {
    vault: VaultId,
    home: Home,
}

#[derive(Debug)]
enum Home {
    /// The folder, while the lock is held.
    Folder { folder: PathBuf, _lock: File },
    /// The folder for temporary files.
    Nameless(PathBuf),
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Unfinished {
    writer: SegmentWriter,
    /// The name while it is being written, and afterwards; none if it has none.
    names: Option<(PathBuf, PathBuf)>,
}

impl Shelf {
    /// The shelf in this folder, and the segments that are there. Without the lock they are read and no more.
    pub(super) fn open(
        folder: &Path,
        vault: VaultId,
        wanted: IndexFolder,
    ) -> io::Result<(Self, Vec<Segment>)> {
        let lock = match wanted {
            IndexFolder::Own => take(folder)?,
            IndexFolder::Borrow => None,
        };
        match lock {
            Some(lock) => {
                let segments = open_all(folder, vault, wanted)?;
                Ok((
                    Self { vault, home: Home::Folder { folder: folder.to_path_buf(), _lock: lock } },
                    segments,
                ))
            }
            None => {
                // Who may not even look has nothing to borrow.
                let segments = open_all(folder, vault, IndexFolder::Borrow).unwrap_or_default();
                Ok((Self { vault, home: Home::Nameless(std::env::temp_dir()) }, segments))
            }
        }
    }

    /// Begins a segment.
    pub(super) fn begin(&self) -> io::Result<Unfinished> {
        let name = u64::from_le_bytes(random_bytes());
        let (folder, is_nameless) = match &self.home {
            Home::Folder { folder, .. } => (folder, false),
            Home::Nameless(folder) => (folder, true),
        };
        let stem = if is_nameless { format!("backstay-index-{name:016x}") } else { format!("{name:016x}") };
        let unfinished = folder.join(format!("{stem}.{UNFINISHED}"));
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let names = match is_nameless {
            true => {
                fs::remove_file(&unfinished)?;
                None
            }
            false => Some((unfinished, folder.join(format!("{stem}.{WHOLE}")))),
        };
        let begun = SegmentWriter::new(file, self.vault);
        if begun.is_err() {
            remove(names.as_ref().map(|(unfinished, _)| unfinished.as_path()));
        }
        Ok(Unfinished { writer: begun?, names })
    }
}

impl Unfinished {
    /// Has everything written, makes the file durable and then gives it its name. What fails leaves nothing behind.
    pub(super) fn complete<E: From<io::Error>>(
        self,
        write: impl FnOnce(&mut SegmentWriter) -> Result<Rows, E>,
    ) -> Result<Option<Segment>, E> {
        let Self { mut writer, names } = self;
        let whole = names.as_ref().map(|(_, whole)| whole.clone());
        let unfinished = names.as_ref().map(|(unfinished, _)| unfinished.as_path());
        let written = write(&mut writer).and_then(|rows| {
            if writer.entries() == 0 {
                return Ok(None);
            }
            let segment = writer.finish(rows, whole)?;
            if let Some((unfinished, whole)) = &names {
                segment.file.sync_all()?;
                fs::rename(unfinished, whole)?;
                sync_folder_of(whole)?;
            }
            Ok(Some(segment))
        });
        if !matches!(written, Ok(Some(_))) {
            remove(unfinished);
        }
        written
    }
}

/// Removes a file of the cache, if it has a name. It may be gone already; one that stays is met again at the next start.
pub(super) fn remove(file: Option<&Path>) {
    let Some(file) = file else { return };
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "cannot remove a file of the local index");
        }
        _ => {}
    }
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Makes the folder and takes its lock; `None` when another has it.
fn take(folder: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock = folder.join(LOCK);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens what is there, in order of name. The owner removes what is no good, and what was never finished.
fn open_all(folder: &Path, vault: VaultId, wanted: IndexFolder) -> io::Result<Vec<Segment>> {
    let is_own = wanted == IndexFolder::Own;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(WHOLE) if files.len() < SEGMENTS_MAX => files.push(path),
            Some(WHOLE | UNFINISHED) if is_own => remove(Some(&path)),
            _ => {}
        }
    }
    files.sort_unstable();
    let mut segments = Vec::new();
    for path in files {
        let opened = File::open(&path).map_err(SegmentError::from);
        match opened.and_then(|file| Segment::open(file, is_own.then(|| path.clone()), vault)) {
            Ok(segment) => segments.push(segment),
            // The owner has merged it meanwhile.
            Err(SegmentError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let file = path.display();
                tracing::warn!(%file, %error, "a file of the local index is left out; the vault is read instead");
                // One that could not be read for now may be good.
                let is_bad = match &error {
                    SegmentError::Io(error) => error.kind() == ErrorKind::UnexpectedEof,
                    _ => true,
                };
                remove((is_own && is_bad).then_some(&path));
            }
        }
    }
    Ok(segments)
}
