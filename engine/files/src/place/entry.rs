//! Making one object under its name in an open directory. Owns what may be replaced: never anything by
//! following a link, and no directory that has something in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath;
use crate::keys::HeadKey;
use crate::row::{DeviceNumber, Object, SymlinkTarget};
use crate::stat::{FileKind, FileStat, FileTime, Identity};

use super::error::PlaceError;
use super::finish::Privilege;
use super::staging::Whole;

/// What to do with what has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupied {
    /// Nothing should: the destination was empty.
    Refuse,
    /// Replace it.
    Replace,
    /// Keep it if an earlier attempt finished it, else replace it.
    Resume(Whole),
}

/// A name in an open directory, and the object that is to have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'s> {
    pub(super) directory: BorrowedFd<'s>,
    pub(super) name: &'s [u8],
    pub(super) key: &'s HeadKey,
    pub(super) occupied: Occupied,
}

/// A file that was made, or need not be.
#[derive(Debug)]
pub(super) enum MadeFile {
    New(OwnedFd),
    AlreadyDone,
}

impl Slot<'_> {
    /// Makes a directory, or enters the one that is there. Only its owner may do anything in it then.
    pub(super) fn make_directory(self, privilege: Privilege) -> Result<OwnedFd, PlaceError> {
        let make = || rustix::fs::mkdirat(self.directory, self.name, Mode::RWXU);
        match make() {
            Ok(()) => return self.enter(),
            Err(Errno::EXIST) if self.occupied != Occupied::Refuse => {}
            Err(error) => return Err(self.error("making the directory", error)),
        }
        if self.stat()?.kind == FileKind::Directory {
            return self.enter_existing(privilege);
        }
        self.remove()?;
        make().map_err(|error| self.error("making the directory", error))?;
        self.enter()
    }

    /// Makes an empty file that only its owner may read. With [`Occupied::Resume`], one that has this size
    /// and time is done, where files are whole then: the time is set last.
    pub(super) fn make_file(self, size_bytes: u64, mtime: FileTime) -> Result<MadeFile, PlaceError> {
        match self.create_file() {
            Ok(fd) => return Ok(MadeFile::New(fd)),
            Err(Errno::EXIST) if self.occupied != Occupied::Refuse => {}
            Err(error) => return Err(self.error("making the file", error)),
        }
        if let Occupied::Resume(whole) = self.occupied {
            let there = self.stat()?;
            let done = there.kind == FileKind::File
                && there.size_bytes == size_bytes
                && there.mtime == mtime
                && whole.includes(there.ctime);
            if done {
                return Ok(MadeFile::AlreadyDone);
            }
        }
        self.remove()?;
        self.make_new_file().map(MadeFile::New)
    }

    /// Makes an empty file that only its owner may read, where nothing has the name.
    pub(super) fn make_new_file(self) -> Result<OwnedFd, PlaceError> {
        self.create_file().map_err(|error| self.error("making the file", error))
    }

    fn create_file(self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.directory, self.name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Makes a symbolic link.
    pub(super) fn make_symlink(self, target: &SymlinkTarget) -> Result<OwnedFd, PlaceError> {
        self.make("making the symbolic link", || {
            rustix::fs::symlinkat(target.as_bytes(), self.directory, self.name)
        })?;
        self.pin(FileKind::Symlink)
    }

    /// Makes a FIFO, a socket's name or a device.
    pub(super) fn make_node(self, object: &Object) -> Result<OwnedFd, PlaceError> {
        let none = DeviceNumber { major: 0, minor: 0 };
        let (kind, system_kind, number) = match object {
            Object::Fifo => (FileKind::Fifo, FileType::Fifo, none),
            Object::Socket => (FileKind::Socket, FileType::Socket, none),
            Object::CharDevice(number) => (FileKind::CharDevice, FileType::CharacterDevice, *number),
            Object::BlockDevice(number) => (FileKind::BlockDevice, FileType::BlockDevice, *number),
            Object::File(_) | Object::Directory | Object::Symlink(_) => {
                return Err(self.error("making a special file", Errno::INVAL));
            }
        };
        let device = rustix::fs::makedev(number.major, number.minor);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = self.make("making a special file", || {
            rustix::fs::mknodat(self.directory, self.name, system_kind, mode, device)
        });
        match made {
            Err(PlaceError::Entry { error: Errno::PERM, key, .. }) => {
                Err(PlaceError::NotPermitted { key, kind })
            }
            made => made.and_then(|()| self.pin(kind)),
        }
    }

    /// Makes a further name of `source_name` in `source`.
    pub(super) fn make_link(self, source: BorrowedFd<'_>, source_name: &str) -> Result<(), PlaceError> {
        let file = FileStat::at(source, source_name.as_bytes())
            .map_err(|error| self.error("looking at the file with several names", error))?;
        if self.occupied != Occupied::Refuse && self.identity()? == Some(file.identity) {
            return Ok(());
        }
        self.make("making a further name", || {
            rustix::fs::linkat(source, source_name, self.directory, self.name, AtFlags::empty())
        })
    }

    fn make(self, doing: &'static str, make: impl Fn() -> Result<(), Errno>) -> Result<(), PlaceError> {
        match make() {
            Err(Errno::EXIST) if self.occupied != Occupied::Refuse => {
                self.remove()?;
                make().map_err(|error| self.error(doing, error))
            }
            made => made.map_err(|error| self.error(doing, error)),
        }
    }

    /// Takes away what has the name. Neither follows a symbolic link nor empties a directory.
    fn remove(self) -> Result<(), PlaceError> {
        let unlink = |flags| rustix::fs::unlinkat(self.directory, self.name, flags);
        let removed = match unlink(AtFlags::empty()) {
            Err(Errno::ISDIR) => unlink(AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(PlaceError::InTheWay { key: self.key.clone() }),
            Err(error) => Err(self.error("removing what is in its place", error)),
        }
    }

    fn enter(self) -> Result<OwnedFd, PlaceError> {
        beneath::open_child(self.directory, self.name)
            .map_err(|error| self.error("opening the directory", error))
    }

    /// Enters a directory that may be closed even to its owner, as finished ones can be.
    fn enter_existing(self, privilege: Privilege) -> Result<OwnedFd, PlaceError> {
        if privilege == Privilege::User {
            let doing = "making the directory accessible";
            let path = self.pin(FileKind::Directory)?;
            let stat = FileStat::of(&path).map_err(|error| self.error(doing, error))?;
            let mode = Mode::from_raw_mode((stat.mode & 0o777).into());
            if !mode.contains(Mode::RWXU) {
                let opened = rustix::fs::chmod(crate::xattr::magic_path(&path), mode | Mode::RWXU);
                opened.map_err(|error| self.error(doing, error))?;
            }
        }
        self.enter()
    }

    /// Opens the object as a mere path, and makes sure that it is what was made.
    pub(super) fn pin(self, kind: FileKind) -> Result<OwnedFd, PlaceError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pinned = rustix::fs::openat(self.directory, self.name, flags, Mode::empty());
        let fd = pinned.map_err(|error| self.error("opening what was made", error))?;
        match FileStat::of(fd.as_fd()) {
            Ok(stat) if stat.kind == kind => Ok(fd),
            Ok(_) => Err(PlaceError::Taken { key: self.key.clone() }),
            Err(error) => Err(self.error("looking at what was made", error)),
        }
    }

    fn stat(self) -> Result<FileStat, PlaceError> {
        FileStat::at(self.directory, self.name)
            .map_err(|error| self.error("looking at what is in its place", error))
    }

    fn identity(self) -> Result<Option<Identity>, PlaceError> {
        match FileStat::at(self.directory, self.name) {
            Ok(stat) => Ok(Some(stat.identity)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error("looking at what is in its place", error)),
        }
    }

    fn error(self, doing: &'static str, error: Errno) -> PlaceError {
        let key = self.key.clone();
        match error {
            Errno::EXIST => PlaceError::Taken { key },
            error => PlaceError::Entry { key, doing, error },
        }
    }
}
