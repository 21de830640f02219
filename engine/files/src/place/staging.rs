//! The restore's own directory inside the destination: a marker that says what is being restored, the files that have
//! several names until these are made, and what tells which files of an interrupted restore are whole. Owns its safety:
//! what somebody else put there is not taken for ours, and two restores are not at work in it at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use backstay_core::id::LinkId;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::beneath;
use crate::names::Names;
use crate::stat::{FileKind, FileStat, FileTime};

/// Its name in the root of the destination.
pub const STAGING_NAME: &str = ".backstay-restore";

/// Greatest length of a marker, bytes.
pub const MARKER_BYTES_MAX: usize = 64 * 1024;

const LINKS: &str = "links";
const MARKER: &str = "marker";
const MARKER_NEW: &str = "marker.new";

/// Holds the id of the boot in which the restore began, until a write to the disk fails.
const BOOT: &str = "boot";

/// Its time of last change: what was written before is on the disk.
const SYNCED: &str = "synced";
const SYNCED_NEW: &str = "synced.new";

/// Where the system says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which files of an interrupted restore are whole if their size and time are right, by their time of last change
/// (ctime). The data of others may not have reached the disk, or they were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    /// Not before this.
    from: FileTime,
    /// Before this, where the system was started again or a write failed since.
    until: Option<FileTime>,
}

impl Whole {
    pub(super) fn includes(self, ctime: FileTime) -> bool {
        ctime >= self.from && self.until.is_none_or(|until| ctime < until)
    }
}

/// The staging directory of a restore that is under way.
#[derive(Debug)]
pub(super) struct Staging {
    directory: OwnedFd,
    links: OwnedFd,
}

/// What was found in the place of the staging directory.
#[derive(Debug)]
pub(super) enum Earlier {
    /// Nothing, or a restore that had not even begun.
    Nothing,
    /// A restore with this marker.
    Restore(Vec<u8>),
    /// Something that no restore of this user made.
    Foreign,
}

impl Staging {
    /// Looks without changing anything.
    pub(super) fn look(root: BorrowedFd<'_>) -> Result<Earlier, Errno> {
        let directory = match beneath::open_child(root, STAGING_NAME.as_bytes()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(Earlier::Nothing),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Earlier::Foreign),
            Err(error) => return Err(error),
        };
        if !is_ours(&directory)? {
            return Ok(Earlier::Foreign);
        }
        match rustix::fs::openat(&directory, MARKER, READ_FLAGS, Mode::empty()) {
            Ok(marker) => Ok(read_marker(&marker)?.map_or(Earlier::Foreign, Earlier::Restore)),
            Err(Errno::NOENT) => Ok(Earlier::Nothing),
            Err(Errno::LOOP) => Ok(Earlier::Foreign),
            Err(error) => Err(error),
        }
    }

    /// Begins a restore; what an earlier one left is thrown away.
    pub(super) fn begin(root: BorrowedFd<'_>, marker: &[u8]) -> Result<Self, Errno> {
        clear_the_way(root)?;
        let staging = Self::open(root)?;
        remove_all_in(staging.links.as_fd())?;
        let file = staging.write(MARKER_NEW, marker)?;
        rustix::fs::fsync(&file)?;
        staging.remove_files(&[BOOT, SYNCED, SYNCED_NEW])?;
        rustix::fs::renameat(&staging.directory, MARKER_NEW, &staging.directory, MARKER)?;
        // After the marker: with that of another restore, which a kill would leave, it would vouch for that one's files.
        if let Some(boot) = boot_id() {
            staging.write(BOOT, boot.as_bytes())?;
        }
        Ok(staging)
    }

    /// Goes on with the restore that is there. After a restart of the system this stays distrustful: the id of the boot
    /// is not written anew.
    pub(super) fn resume(root: BorrowedFd<'_>) -> Result<(Self, Whole), Errno> {
        let staging = Self::open(root)?;
        let from = FileStat::at(&staging.directory, MARKER.as_bytes())?.mtime;
        let same_boot = match (staging.read(BOOT), boot_id()) {
            (Ok(began), Some(now)) => began == now.as_bytes(),
            _ => false,
        };
        let until = match FileStat::at(&staging.directory, SYNCED.as_bytes()) {
            _ if same_boot => None,
            Ok(synced) => Some(synced.mtime),
            Err(Errno::NOENT) => Some(from),
            Err(error) => return Err(error),
        };
        Ok((staging, Whole { from, until }))
    }

    /// Has everything sent to the disk that was written so far to the file systems of `roots`, and notes that it is there.
    /// The first error counts: the system tells of it once. Then nothing is taken for whole that is not noted so.
    pub(super) fn sync(&self, roots: &[Arc<OwnedFd>]) -> Result<(), Errno> {
        self.write(SYNCED_NEW, &[])?;
        let mut synced = Ok(());
        for root in roots {
            synced = synced.and(rustix::fs::syncfs(root));
        }
        match synced {
            Ok(()) => rustix::fs::renameat(&self.directory, SYNCED_NEW, &self.directory, SYNCED),
            Err(error) => {
                self.remove_files(&[BOOT])?;
                Err(error)
            }
        }
    }

    /// Takes it away. The root's time of last change moves.
    pub(super) fn remove(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        remove_all_in(self.links.as_fd())?;
        rustix::fs::unlinkat(&self.directory, LINKS, AtFlags::REMOVEDIR)?;
        remove_all_in(self.directory.as_fd())?;
        rustix::fs::unlinkat(root, STAGING_NAME, AtFlags::REMOVEDIR)
    }

    /// The directory of the files with several names.
    pub(super) fn links(&self) -> BorrowedFd<'_> {
        self.links.as_fd()
    }

    /// The name there of a file with several names.
    pub(super) fn link_name(link: &LinkId) -> String {
        link.to_string()
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut rest = contents;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        Ok(file)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let file = rustix::fs::openat(&self.directory, name, READ_FLAGS, Mode::empty())?;
        read_marker(&file)?.ok_or(Errno::FBIG)
    }

    fn remove_files(&self, names: &[&str]) -> Result<(), Errno> {
        for name in names {
            match rustix::fs::unlinkat(&self.directory, *name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fails with [`Errno::WOULDBLOCK`] while another restore is at work there.
    fn open(root: BorrowedFd<'_>) -> Result<Self, Errno> {
        let directory = loop {
            let directory = make_directory(root, STAGING_NAME)?;
            lock(&directory)?;
            // One that has ended before it was locked has taken it away.
            match FileStat::at(root, STAGING_NAME.as_bytes()) {
                Ok(there) if there.identity == FileStat::of(&directory)?.identity => break directory,
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        };
        let links = make_directory(directory.as_fd(), LINKS)?;
        Ok(Self { directory, links })
    }
}

/// Keeps other restores away as long as the directory is open: they would take away what this one is writing, and go on
/// with what it has not finished.
fn lock(directory: &OwnedFd) -> Result<(), Errno> {
    match flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
        // A file system that locks no directories (NFS says EBADF, others ENOLCK or EOPNOTSUPP) is restored to as well.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Without NONBLOCK, a pipe in the place of a file would hold us for ever.
const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn boot_id() -> Option<String> {
    std::fs::read_to_string(BOOT_ID).ok()
}

fn make_directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => beneath::open_child(parent, name.as_bytes()),
        Err(error) => Err(error),
    }
}

/// Moves nothing and follows nothing: what is not a directory of ours goes if it can go alone.
fn clear_the_way(root: BorrowedFd<'_>) -> Result<(), Errno> {
    match FileStat::at(root, STAGING_NAME.as_bytes()) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
        Ok(stat) if stat.kind != FileKind::Directory => {
            rustix::fs::unlinkat(root, STAGING_NAME, AtFlags::empty())
        }
        Ok(_) if is_ours(&beneath::open_child(root, STAGING_NAME.as_bytes())?)? => Ok(()),
        Ok(_) => rustix::fs::unlinkat(root, STAGING_NAME, AtFlags::REMOVEDIR),
    }
}

/// Whether nobody but this user can have written there.
fn is_ours(directory: &OwnedFd) -> Result<bool, Errno> {
    let stat = FileStat::of(directory)?;
    Ok(stat.uid == rustix::process::geteuid().as_raw() && stat.mode & 0o022 == 0)
}

/// `None` if it is too long, or no file.
fn read_marker(marker: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    if FileStat::of(marker)?.kind != FileKind::File {
        return Ok(None);
    }
    let mut bytes = vec![0; MARKER_BYTES_MAX + 1];
    let mut length = 0;
    while length < bytes.len() {
        match rustix::io::read(marker, &mut bytes[length..])? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    Ok((length <= MARKER_BYTES_MAX).then_some(bytes))
}

/// Takes away the files in `directory`; fails if there are directories.
fn remove_all_in(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let names = Names::read(beneath::open_child(directory, b".")?, |_| true)?;
    for place in 0..names.len() {
        match rustix::fs::unlinkat(directory, names.get(place), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
