//! Extended attributes by system call, of objects that may not be opened for reading.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Enough for nearly all lists and values, bytes.
const SMALL_BYTES: usize = 512;

/// What Linux allows for a list and for a value, bytes.
const LARGE_BYTES: usize = 64 * 1024;

/// The object whose attributes are meant.
#[derive(Debug, Clone)]
pub(crate) enum Holder<'f> {
    /// Open for reading or writing.
    Open(BorrowedFd<'f>),
    /// Open as a mere path (O_PATH). The magic link of a descriptor leads to the object itself, also if that
    /// is a symbolic link.
    Pinned(String),
}

/// The path of what is open as `fd`, for system calls that take no descriptor of a mere path.
pub(crate) fn magic_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl<'f> Holder<'f> {
    /// The names of all attributes, none where the file system has none.
    pub(crate) fn list(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let list = growing(|buffer| match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Pinned(path) => rustix::fs::listxattr(path, buffer),
        });
        match list {
            Ok(list) => Ok(list.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect()),
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        growing(|buffer| match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Pinned(path) => rustix::fs::getxattr(path, name, buffer),
        })
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Self::Pinned(path) => rustix::fs::setxattr(path, name, value, flags),
        }
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Pinned(path) => rustix::fs::removexattr(path, name),
        }
    }
}

/// Reads into a small buffer, and where that is not enough, into the largest that the kernel fills.
fn growing(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; SMALL_BYTES];
    match read(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; LARGE_BYTES];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}
