//! The calls by which the store of a directory changes a file system, one method for each. Owns nothing but them: what is
//! called in which order, and so what a loss of power leaves, is the store's. A test puts a disk below that loses power.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// By way of the page cache.
    Cached,
    /// Past it.
    Direct,
}

/// A disk. What a method does by itself is what the system does.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a folder.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Makes an empty file that was not there.
    fn make_file(&self, path: &Path, writing: Writing) -> io::Result<File> {
        let further = match writing {
            Writing::Cached => OFlags::empty(),
            Writing::Direct => OFlags::DIRECT,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | further;
        Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Writes a file that was just made, and is at this path.
    fn write(&self, mut file: &File, _: &Path, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    /// Opens a file that grows, and makes it where it is not there.
    fn open_growing(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Writes into a file that grows.
    fn write_at(&self, file: &File, _: &Path, offset: u64, content: &[u8]) -> io::Result<()> {
        file.write_all_at(content, offset)
    }

    /// Makes what was written to a file durable.
    fn sync_file(&self, file: &File, _: &Path) -> io::Result<()> {
        file.sync_data()
    }

    /// Makes durable which names are in a folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes a folder with all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}

/// The disk of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {}
