//! Reading of regular files: where their data is, what it is, and whether somebody wrote meanwhile. Owns
//! the protection against reading anything but the file that was found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::stat::{FileKind, FileStat};

/// Why a file that was found cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is gone.
    #[error("it has vanished")]
    Vanished,
    /// Another object has its name now.
    #[error("another object has taken its place")]
    Replaced,
    /// The system says no.
    #[error("{0}")]
    Refused(Errno),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Vanished,
            Errno::LOOP | Errno::NXIO | Errno::NODEV => Self::Replaced,
            error => Self::Refused(error),
        }
    }
}

/// Whether the contents stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Nobody wrote between opening and now, as far as the times of the file system can tell.
    Stable,
    /// Somebody did: what was read may be a mixture.
    Changed,
}

/// How often a file is tried on which somebody else has a lease, and how long after each other.
const LEASE_TRIES: u32 = 50;
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// A stretch of data between holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset_bytes: u64,
    /// Its length, at least 1.
    pub length_bytes: u64,
}

/// A regular file that is open for reading.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    opened: FileStat,
}

impl SourceFile {
    /// Opens `name` in `directory` if it is still the regular file that `found` describes. Its contents may
    /// have changed since.
    pub(crate) fn open(directory: BorrowedFd<'_>, name: &[u8], found: &FileStat) -> Result<Self, OpenError> {
        // Without NONBLOCK, a pipe that took the file's place would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let open_once = |flags| rustix::fs::openat(directory, name, flags, Mode::empty());
        let open = |flags| {
            let mut tries = 0..LEASE_TRIES;
            loop {
                match open_once(flags) {
                    // Somebody has a lease on it (Samba, NFS), and was just told to give it up.
                    Err(Errno::AGAIN) if tries.next().is_some() => std::thread::sleep(LEASE_LOOK),
                    opened => return opened,
                }
            }
        };
        let fd = match open(flags | OFlags::NOATIME) {
            // Only its owner may read a file without leaving a trace.
            Err(Errno::PERM) => open(flags),
            opened => opened,
        }?;
        let opened = FileStat::of(&fd)?;
        if opened.kind != FileKind::File || opened.identity != found.identity {
            return Err(OpenError::Replaced);
        }
        Ok(Self { fd, opened })
    }

    /// The file when it was opened. What was found before may be older.
    pub fn stat(&self) -> &FileStat {
        &self.opened
    }

    /// Where its data is: rising, within the size at opening. One extent where the file system knows no
    /// holes, or the file has none.
    pub fn extents(&self) -> Extents<'_> {
        Extents { file: self, from: 0 }
    }

    /// Fills `buffer` from `offset_bytes` on; gives less only at the end of the file.
    pub fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[filled..], offset_bytes + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Reads a file that was at most `size_max` bytes long when it was opened; says [`Stability::Changed`]
    /// and leaves what it got when it is longer or shorter by now, or was written to. Holes read as zeros.
    pub fn read_whole(&self, buffer: &mut Vec<u8>, size_max: usize) -> Result<Stability, Errno> {
        let size = usize::try_from(self.opened.size_bytes).ok().filter(|size| *size <= size_max);
        let size = size.ok_or(Errno::FBIG)?;
        buffer.clear();
        buffer.resize(size, 0);
        let read = self.read_at(0, buffer)?;
        buffer.truncate(read);
        let stability = self.stability()?;
        Ok(if read < size { Stability::Changed } else { stability })
    }

    /// Compares the file now with what it was when it was opened.
    pub fn stability(&self) -> Result<Stability, Errno> {
        let same = FileStat::of(&self.fd)?.same_contents_as(&self.opened);
        Ok(if same { Stability::Stable } else { Stability::Changed })
    }

    /// The next stretch of data at or behind `from`.
    fn extent_behind(&self, from: u64) -> Result<Option<Extent>, Errno> {
        let size = self.opened.size_bytes;
        let rest = |from: u64| Some(Extent { offset_bytes: from, length_bytes: size - from });
        if from >= size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(from)) {
            Ok(start) => start.max(from),
            // Only a hole follows, or the file is shorter by now.
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(rest(from)),
            Err(error) => return Err(error),
        };
        if start >= size {
            return Ok(None);
        }
        match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) if end > start => {
                Ok(Some(Extent { offset_bytes: start, length_bytes: end.min(size) - start }))
            }
            // A hole where data was said to begin: somebody punches one. Take it as data, and go on.
            Ok(_) | Err(Errno::NXIO) => Ok(rest(start)),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SourceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The stretches of data of a file, found one at a time.
#[derive(Debug)]
pub struct Extents<'f> {
    file: &'f SourceFile,
    from: u64,
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.file.extent_behind(self.from).transpose()?;
        // After an error there is nothing more; otherwise each extent ends behind where it began.
        self.from = found.map_or(u64::MAX, |extent| extent.offset_bytes + extent.length_bytes);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::Path;

    use super::*;

    fn open(dir: &Path, name: &str) -> Result<SourceFile, OpenError> {
        let directory = File::open(dir).unwrap();
        let found = FileStat::at(&directory, name.as_bytes()).unwrap();
        SourceFile::open(directory.as_fd(), name.as_bytes(), &found)
    }

    fn extents(file: &SourceFile) -> Vec<(u64, u64)> {
        file.extents().map(|e| e.map(|e| (e.offset_bytes, e.length_bytes)).unwrap()).collect()
    }

    #[test]
    fn a_dense_file_is_one_extent_and_an_empty_one_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dense"), vec![1; 100_000]).unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        assert_eq!(extents(&open(dir.path(), "dense").unwrap()), [(0, 100_000)]);
        assert_eq!(extents(&open(dir.path(), "empty").unwrap()), []);
    }

    #[test]
    fn data_between_holes_is_found() {
        const MIB: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let sparse = File::create(&path).unwrap();
        sparse.set_len(8 * MIB).unwrap();
        sparse.write_all_at(&[7; 4096], 2 * MIB).unwrap();
        sparse.write_all_at(&[7; 4096], 6 * MIB).unwrap();
        sparse.sync_all().unwrap();
        let found = extents(&open(dir.path(), "sparse").unwrap());
        if found == [(0, 8 * MIB)] {
            println!("SKIPPED: the file system of the temporary directory knows no holes");
            return;
        }
        let covers = |at: u64| found.iter().any(|&(offset, length)| (offset..offset + length).contains(&at));
        assert!(covers(2 * MIB) && covers(6 * MIB + 4095), "{found:?}");
        assert!(!covers(MIB) && !covers(4 * MIB) && !covers(8 * MIB - 1), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0), "{found:?}");
        let only_hole = File::create(dir.path().join("hole")).unwrap();
        only_hole.set_len(MIB).unwrap();
        assert_eq!(extents(&open(dir.path(), "hole").unwrap()), []);
    }

    #[test]
    fn a_small_file_is_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "contents").unwrap();
        let file = open(dir.path(), "file").unwrap();
        let mut buffer = b"left from the file before".to_vec();
        assert_eq!(file.read_whole(&mut buffer, 8), Ok(Stability::Stable));
        assert_eq!(buffer, b"contents");
        assert_eq!(file.read_whole(&mut buffer, 7), Err(Errno::FBIG));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_said_to_have() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut buffer = Vec::new();
        for (change, left) in [("longer contents", &b"longer c"[..]), ("short", b"short")] {
            fs::write(&path, "contents").unwrap();
            let file = open(dir.path(), "file").unwrap();
            fs::write(&path, change).unwrap();
            assert_eq!(file.read_whole(&mut buffer, 100), Ok(Stability::Changed));
            assert_eq!(buffer, left);
        }
    }

    #[test]
    fn only_the_file_that_was_found_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "contents").unwrap();
        fs::write(dir.path().join("other"), "secret").unwrap();
        let found = FileStat::at(&directory, b"file").unwrap();
        let open = || SourceFile::open(directory.as_fd(), b"file", &found).map(|_| ());
        assert_eq!(open(), Ok(()));

        fs::rename(dir.path().join("other"), &path).unwrap();
        assert_eq!(open(), Err(OpenError::Replaced));
        fs::remove_file(&path).unwrap();
        assert_eq!(open(), Err(OpenError::Vanished));
        symlink("/etc/passwd", &path).unwrap();
        assert_eq!(open(), Err(OpenError::Replaced));
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(&directory, "file", Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(open(), Err(OpenError::Replaced));
    }
}
