//! Places on disks: whether a path is there, whose it is, what it lies on, how much room there is, and whether this process
//! can write there. Gathers facts, and has the judgements of room and of media that state, scratch and vaults share. The test
//! of writing leaves nothing, whatever happens: its file never has a name.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstay_core::units::ByteSize;
use rustix::fs::{Access, OFlags, XattrFlags};
use rustix::io::Errno;

use super::finding::{Finding, Level};
use super::mounts::{Mount, Mounts};
use super::words::{percent, quote};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Whether nothing is in it.
        is_empty: bool,
    },
    /// Something else.
    OtherThanDirectory,
    /// Nothing.
    Missing,
    /// It cannot be looked at.
    Closed(String),
}

/// Whether something can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writing {
    /// A file was written and synced.
    Tried,
    /// It is permitted; it was not tried, because the file system has no files without names.
    Permitted,
    /// It cannot. The reason decides what mends it: rights do not help where a disk is full or broken.
    Refused(Errno),
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Entries that can still be made; 0 with `entries` where the file system does not count them.
    pub free_entries: u64,
    /// Entries in all.
    pub entries: u64,
}

/// A path, and what there is to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As configured.
    pub path: PathBuf,
    /// What is there.
    pub presence: Presence,
    /// The path itself, or the nearest directory above it that is there, without links.
    pub nearest: PathBuf,
    /// How many levels of the path are below `nearest`.
    pub missing_levels: usize,
    /// The number of the file system of `nearest`.
    pub device: u64,
    /// What `nearest` lies on.
    pub mount: Option<Mount>,
    /// Room there.
    pub room: Room,
    /// Whether this process can write there.
    pub writing: Writing,
    /// Whether extended attributes and access control lists can be written there; `None` where that was not tried.
    pub attributes: Option<Attributes>,
    /// Where `/etc/fstab` wants something mounted at or above the path, and nothing is.
    pub unmounted: Option<PathBuf>,
}

/// What a file system keeps beside contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Extended attributes `user.*`.
    pub extended: bool,
    /// Access control lists.
    pub acl: bool,
}

impl Place {
    /// Looks; may hang as long as the file system does.
    pub fn look(path: &Path, mounts: &Mounts) -> std::io::Result<Self> {
        let presence = presence(path);
        let is_there = |above: &&Path| fs::metadata(above).is_ok_and(|found| found.is_dir());
        let above = path.ancestors().find(is_there).unwrap_or(Path::new("/"));
        let nearest = fs::canonicalize(above)?;
        let stat = rustix::fs::statvfs(&nearest)?;
        let (writing, attributes) = try_writing(&nearest);
        Ok(Self {
            path: path.to_path_buf(),
            presence,
            device: fs::metadata(&nearest)?.dev(),
            mount: mounts.of_path(&nearest).cloned(),
            room: Room {
                free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
                bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
                free_entries: stat.f_favail,
                entries: stat.f_files,
            },
            writing,
            attributes,
            unmounted: mounts.missing_at(path).map(Path::to_path_buf),
            missing_levels: path.components().count().saturating_sub(above.components().count()),
            nearest,
        })
    }

    /// Whether a directory is there.
    pub fn is_directory(&self) -> bool {
        matches!(self.presence, Presence::Directory { .. })
    }

    /// What it lies on, in words.
    pub fn medium_words(&self) -> String {
        self.mount.as_ref().map_or_else(
            || "an unknown file system".to_owned(),
            |mount| format!("{} of {} at {}", mount.kind, mount.device, mount.point.display()),
        )
    }
}

fn presence(path: &Path) -> Presence {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let mut entries = fs::read_dir(path).ok();
            let is_empty = entries.as_mut().is_some_and(|entries| entries.next().is_none());
            Presence::Directory { mode: found.mode() & 0o7777, uid: found.uid(), is_empty }
        }
        Ok(_) => Presence::OtherThanDirectory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Presence::Missing,
        Err(error) => Presence::Closed(error.to_string()),
    }
}

/// A file without a name is written and synced; it is gone when it is closed, also when this process is killed.
fn try_writing(folder: &Path) -> (Writing, Option<Attributes>) {
    if let Err(errno) = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return (Writing::Refused(errno), None);
    }
    let unnamed =
        OpenOptions::new().write(true).mode(0o600).custom_flags(OFlags::TMPFILE.bits() as i32).open(folder);
    let mut file = match unnamed {
        Ok(file) => file,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                return (Writing::Permitted, None);
            }
            errno => return (Writing::Refused(errno.unwrap_or(Errno::IO)), None),
        },
    };
    let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
    match written {
        Ok(()) => (Writing::Tried, Some(attributes(&file))),
        Err(error) => (Writing::Refused(Errno::from_io_error(&error).unwrap_or(Errno::IO)), None),
    }
}

fn attributes(file: &File) -> Attributes {
    let set =
        |name: &str, value: &[u8]| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()).is_ok();
    // Version 2, then owner, group and others as mode 0600 has them (linux/posix_acl_xattr.h).
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights) in [(0x01u16, 6u16), (0x04, 0), (0x20, 0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(u32::MAX.to_le_bytes());
    }
    Attributes { extended: set("user.backstay-doctor", b"x"), acl: set("system.posix_acl_access", &acl) }
}

/// The reason of a refusal, in words.
pub fn words_of(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// Whether it is rights that lack: nothing else is mended by giving some.
pub fn is_permission(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM)
}

/// How little room is too little.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Fewer bytes are a warning, unless a fifth of the whole is free.
    pub warning_bytes: u64,
    /// Fewer bytes are a problem.
    pub problem_bytes: u64,
}

impl Room {
    /// Judges the room; `grows` says what fills it, and `advice` what makes more.
    pub fn judge(
        &self,
        subject: &str,
        place: &Path,
        least: Least,
        grows: &str,
        advice: &str,
    ) -> Vec<Finding> {
        let Self { free_bytes, bytes, free_entries, entries } = *self;
        let is_below = |percent: u64, free: u64, all: u64| {
            u128::from(free) * 100 < u128::from(all) * u128::from(percent)
        };
        let level = if is_below(1, free_bytes, bytes) || free_bytes < least.problem_bytes {
            Level::Problem
        } else if is_below(5, free_bytes, bytes)
            || (free_bytes < least.warning_bytes && is_below(20, free_bytes, bytes))
        {
            Level::Warning
        } else {
            Level::Ok
        };
        let what = format!(
            "{} of {} are free ({})",
            ByteSize(free_bytes),
            ByteSize(bytes),
            percent(free_bytes, bytes)
        );
        let df = format!("{advice}. `df -h {}` shows how much there is", quote(place));
        let of_bytes = match level {
            Level::Ok | Level::Note => Finding::ok(subject, "room", what),
            Level::Warning => Finding::warning(subject, "room", what).because(grows).advise(df),
            Level::Problem => Finding::problem(subject, "room", what).because(grows).advise(df),
        };
        let mut findings = vec![of_bytes];
        // Those that make entries as they need them say 0 of 0.
        if entries > 0 && is_below(5, free_entries, entries) {
            let what =
                format!("{free_entries} of {entries} inodes are free ({})", percent(free_entries, entries));
            let advice = format!(
                "{advice}, or use a file system that makes inodes as it needs them (XFS, Btrfs, ZFS). `df -i {}` shows how many there are",
                quote(place)
            );
            let why = "when there are none, no file can be made, however many bytes are free";
            let of_entries = match is_below(1, free_entries, entries) {
                true => Finding::problem(subject, "inodes", what),
                false => Finding::warning(subject, "inodes", what),
            };
            findings.push(of_entries.because(why).advise(advice));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const LEAST: Least = Least { warning_bytes: 10 * GIB, problem_bytes: 64 << 20 };

    fn levels(free_bytes: u64, bytes: u64, free_entries: u64, entries: u64) -> Vec<(&'static str, Level)> {
        let room = Room { free_bytes, bytes, free_entries, entries };
        let found = room.judge("vault x", Path::new("/v"), LEAST, "it grows", "make room");
        found.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn room_is_judged_by_share_and_by_bytes() {
        for (free, all, level) in [
            (500 * GIB, 1000 * GIB, Level::Ok),
            (40 * GIB, 1000 * GIB, Level::Warning),
            (9 * GIB, 1000 * GIB, Level::Problem),
            (9 * GIB, 100 * GIB, Level::Warning),
            // A small disk with much of it free is no reason to warn for ever.
            (9 * GIB, 16 * GIB, Level::Ok),
            (0, 16 * GIB, Level::Problem),
            (0, 0, Level::Problem),
        ] {
            assert_eq!(levels(free, all, 0, 0), [("room", level)], "{free} of {all}");
        }
    }

    #[test]
    fn inodes_count_where_they_are_counted() {
        assert_eq!(levels(GIB * 500, GIB * 1000, 40, 1000)[1], ("inodes", Level::Warning));
        assert_eq!(levels(GIB * 500, GIB * 1000, 0, 1000)[1], ("inodes", Level::Problem));
        assert_eq!(levels(GIB * 500, GIB * 1000, 500, 1000).len(), 1);
    }

    #[test]
    fn a_place_is_looked_at_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let mounts = Mounts::read().expect("there is /proc");
        let there = Place::look(folder.path(), &mounts).expect("looks");
        assert!(matches!(there.presence, Presence::Directory { is_empty: true, .. }), "{there:?}");
        assert!(matches!(there.writing, Writing::Tried | Writing::Permitted), "{there:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
        let below = Place::look(&folder.path().join("a/b"), &mounts).expect("looks");
        assert_eq!(below.presence, Presence::Missing);
        assert_eq!(below.nearest, fs::canonicalize(folder.path()).expect("is there"));
        fs::write(folder.path().join("file"), "").expect("writes");
        let file = Place::look(&folder.path().join("file"), &mounts).expect("looks");
        assert_eq!(file.presence, Presence::OtherThanDirectory);
    }
}
