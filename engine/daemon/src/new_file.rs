//! A file that is there whole or not at all: it gets its name when all of it is on the disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use backstay_vault::keys::random_bytes;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// What is written at once, bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// What is in it is for its owner alone.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What may happen to a file of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It is replaced, when the new one is whole.
    Replace,
}

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is something already.
    #[error("{} is there already, and is not written over; remove it, or give another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is something that is not a file.
    #[error("{} is not a file, and is not replaced; give the name of a file, or `-` for standard output", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The system says no.
    #[error("{}: {cause}{}", path.display(), advice(*.cause))]
    System {
        /// The file, or the directory that it is in.
        path: PathBuf,
        /// What it says.
        cause: Errno,
    },
}

fn advice(cause: Errno) -> &'static str {
    match cause {
        Errno::NOSPC | Errno::DQUOT => "; make room there, and restore again",
        Errno::NOENT => "; make the directory first",
        Errno::ROFS => "; mount it writable",
        _ => "",
    }
}

/// A file that has no name yet, or one of its own.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    directory: File,
    name: OsString,
    out: BufWriter<File>,
    /// The name by which it goes until it is whole, where the file system cannot do without.
    temporary: Option<OsString>,
    existing: Existing,
}

impl NewFile {
    /// A file that will be at `path`.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, FileError> {
        let not_a_file = || FileError::NotAFile { path: path.to_path_buf() };
        let name = path.file_name().ok_or_else(not_a_file)?.to_owned();
        match std::fs::symlink_metadata(path) {
            Ok(_) if existing == Existing::Refuse => {
                return Err(FileError::Exists { path: path.to_path_buf() });
            }
            Ok(metadata) if !metadata.is_file() => return Err(not_a_file()),
            _ => {}
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |cause| FileError::System { path: parent.to_path_buf(), cause };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(openat(CWD, parent, flags, Mode::empty()).map_err(failed)?);
        let (file, temporary) = match unnamed(&directory) {
            Some(file) => (file, None),
            None => {
                let temporary = temporary_name(&name);
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&directory, &temporary, flags, MODE).map_err(failed)?;
                (File::from(file), Some(temporary))
            }
        };
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_path_buf(), directory, name, out, temporary, existing })
    }

    /// Where to write.
    pub fn writer(&mut self) -> &mut (impl Write + Send + use<>) {
        &mut self.out
    }

    /// Gives it its name, once all of it is on the disk.
    pub fn finish(mut self) -> Result<(), FileError> {
        let path = self.path.clone();
        let failed = move |cause| match cause {
            Errno::EXIST => FileError::Exists { path: path.clone() },
            cause => FileError::System { path: path.clone(), cause },
        };
        let flushed = self.out.flush();
        flushed.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        rustix::fs::fsync(self.out.get_ref()).map_err(&failed)?;
        self.take_name().map_err(&failed)?;
        self.temporary = None;
        rustix::fs::fsync(&self.directory).map_err(&failed)
    }

    fn take_name(&mut self) -> Result<(), Errno> {
        let (directory, name) = (&self.directory, &self.name);
        match (&self.temporary, self.existing) {
            (None, Existing::Refuse) => link(self.out.get_ref(), directory, name),
            (None, Existing::Replace) => {
                // A link never replaces anything, a renaming does.
                let temporary = temporary_name(name);
                link(self.out.get_ref(), directory, &temporary)?;
                let temporary = self.temporary.insert(temporary);
                renameat(directory, &*temporary, directory, name)
            }
            (Some(temporary), Existing::Replace) => renameat(directory, temporary, directory, name),
            (Some(temporary), Existing::Refuse) => {
                match renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
                    // A file system that does not know how. It was looked for at the beginning.
                    Err(Errno::INVAL | Errno::NOSYS) => renameat(directory, temporary, directory, name),
                    renamed => renamed,
                }
            }
        }
    }
}

/// One that is not whole goes.
impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

/// A file without a name: of a restore that is killed nothing stays. Not every file system has them, and without /proc
/// they cannot be named later.
fn unnamed(directory: &File) -> Option<File> {
    if !Path::new("/proc/self/fd").is_dir() {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    openat(directory, ".", flags, MODE).ok().map(File::from)
}

fn link(file: &File, directory: &File, name: &OsString) -> Result<(), Errno> {
    let by_descriptor = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    linkat(CWD, by_descriptor, directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// A name that nobody else has, in the same directory.
fn temporary_name(name: &OsString) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".backstay-{:016x}", u64::from_be_bytes(random_bytes())));
    temporary
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn with_temporary_name(mut file: NewFile) -> NewFile {
        // As on a file system that has no files without names.
        let temporary = temporary_name(&file.name);
        file.out = BufWriter::new(File::create_new(file.path.with_file_name(&temporary)).expect("a file"));
        file.temporary = Some(temporary);
        file
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_not_before() {
        for named in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("dump");
            let create = |existing| {
                let file = NewFile::create(&path, existing).expect("a file");
                if named { with_temporary_name(file) } else { file }
            };
            let mut file = create(Existing::Refuse);
            file.writer().write_all(b"half").expect("written");
            assert!(!path.exists());
            drop(file);
            assert_eq!(names(folder.path()), [""; 0], "named: {named}");

            let mut file = create(Existing::Refuse);
            file.writer().write_all(b"whole").expect("written");
            file.finish().expect("finished");
            assert_eq!(names(folder.path()), ["dump"]);
            assert_eq!(std::fs::read(&path).expect("there"), b"whole");

            assert!(matches!(NewFile::create(&path, Existing::Refuse), Err(FileError::Exists { .. })));
            let mut file = create(Existing::Replace);
            file.writer().write_all(b"newer").expect("written");
            assert_eq!(std::fs::read(&path).expect("there"), b"whole");
            file.finish().expect("finished");
            assert_eq!(std::fs::read(&path).expect("there"), b"newer");
            assert_eq!(names(folder.path()), ["dump"]);
        }
    }

    #[test]
    fn a_file_is_for_its_owner_alone_and_replaces_nothing_that_came_meanwhile() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dump");
        for named in [false, true] {
            let file = NewFile::create(&path, Existing::Refuse).expect("a file");
            let file = if named { with_temporary_name(file) } else { file };
            if !named {
                assert_eq!(file.out.get_ref().metadata().expect("there").mode() & 0o7777, 0o600);
            }
            std::fs::write(&path, b"of somebody else").expect("written");
            assert!(matches!(file.finish(), Err(FileError::Exists { .. })));
            assert_eq!(std::fs::read(&path).expect("there"), b"of somebody else");
            assert_eq!(names(folder.path()), ["dump"]);
            std::fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("below");
        std::fs::create_dir(&below).expect("a folder");
        for path in [below.as_path(), Path::new("/dev/null"), Path::new("/")] {
            let error = NewFile::create(path, Existing::Replace).expect_err("not a file");
            assert!(matches!(error, FileError::NotAFile { .. }), "{error}");
        }
        let error = NewFile::create(&folder.path().join("no/dump"), Existing::Refuse).expect_err("no folder");
        assert!(error.to_string().contains("make the directory first"), "{error}");
    }
}
