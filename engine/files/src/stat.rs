//! What the file system says about one object: kind, identity, owner, size, times. Owns the translation
//! from the system call; interprets nothing.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

/// An instant with the resolution of file systems. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    seconds: i64,
    nanos: u32,
}

impl FileTime {
    /// Nanoseconds of a second are below this.
    pub const NANOS_END: u32 = 1_000_000_000;

    /// `seconds` since 1970 UTC (negative before) and `nanos` after that; `None` unless `nanos` is below
    /// [`Self::NANOS_END`].
    pub const fn new(seconds: i64, nanos: u32) -> Option<Self> {
        if nanos < Self::NANOS_END { Some(Self { seconds, nanos }) } else { None }
    }

    /// Seconds since 1970 UTC, rounded down.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::seconds`].
    pub const fn nanos(self) -> u32 {
        self.nanos
    }
}

/// Type of a file system object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Which object it is, as long as it exists: names may come and go, this stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Number of the file system.
    pub device: u64,
    /// Number within the file system.
    pub inode: u64,
}

/// The attributes of one object at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Which object it is.
    pub identity: Identity,
    /// Type.
    pub kind: FileKind,
    /// Permission bits, 07777.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Length in bytes; of a symbolic link, of its target.
    pub size_bytes: u64,
    /// When the contents changed last.
    pub mtime: FileTime,
    /// When anything but the access time changed last.
    pub ctime: FileTime,
    /// Number of names.
    pub links: u64,
    /// Of a device, what it stands for: (major, minor).
    pub represents: (u32, u32),
    /// Storage that is in use, in units of 512 bytes.
    pub blocks: u64,
}

impl FileStat {
    /// Of what `name` in `directory` names itself: a symbolic link is not followed.
    pub fn at(directory: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::translate(&rustix::fs::statat(directory, name, flags)?)
    }

    /// Of what is open as `fd`.
    pub fn of(fd: impl AsFd) -> Result<Self, Errno> {
        Self::translate(&rustix::fs::fstat(fd)?)
    }

    /// Whether size, mtime, ctime and identity are those of `earlier`: then nobody has written to it in
    /// between, as far as the clock of the file system can tell.
    pub fn same_contents_as(&self, earlier: &Self) -> bool {
        self.identity == earlier.identity
            && self.size_bytes == earlier.size_bytes
            && self.mtime == earlier.mtime
            && self.ctime == earlier.ctime
    }

    fn translate(stat: &Stat) -> Result<Self, Errno> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::CharacterDevice => FileKind::CharDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::Unknown => return Err(Errno::OPNOTSUPP),
        };
        Ok(Self {
            identity: Identity { device: stat.st_dev, inode: stat.st_ino },
            kind,
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)?,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec)?,
            ctime: time(stat.st_ctime, stat.st_ctime_nsec)?,
            #[allow(clippy::useless_conversion, reason = "32 bits wide on some architectures")]
            links: stat.st_nlink.into(),
            represents: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            blocks: u64::try_from(stat.st_blocks).map_err(|_| Errno::OVERFLOW)?,
        })
    }
}

/// The types of the two numbers differ between architectures.
fn time(seconds: impl Into<i64>, nanos: impl TryInto<u32>) -> Result<FileTime, Errno> {
    nanos.try_into().ok().and_then(|nanos| FileTime::new(seconds.into(), nanos)).ok_or(Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_symlink_is_described_itself_and_a_file_as_the_standard_library_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"twelve bytes").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let fd = fs::File::open(dir.path()).unwrap();

        let file = FileStat::at(&fd, b"file").unwrap();
        let expected = fs::metadata(dir.path().join("file")).unwrap();
        assert_eq!((file.kind, file.size_bytes, file.links), (FileKind::File, 12, 1));
        assert_eq!(file.identity, Identity { device: expected.dev(), inode: expected.ino() });
        assert_eq!(
            (file.mtime.seconds(), i64::from(file.mtime.nanos())),
            (expected.mtime(), expected.mtime_nsec())
        );
        assert_eq!(FileStat::at(&fd, b"link").unwrap().kind, FileKind::Symlink);
    }
}
