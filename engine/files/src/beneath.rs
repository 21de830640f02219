//! Opening of directories by path below one that is open, without following a symbolic link on the way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::keys::PathKey;

/// How directories are opened: a symbolic link in the place of one is refused.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Kernels before 5.6 and some sandboxes refuse `openat2`; asking once is enough.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens the directory `name` in `directory`.
pub(crate) fn open_child(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())
}

/// Opens the directory at `path` below `root`; `root` itself anew for the root.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &PathKey) -> Result<OwnedFd, Errno> {
    if path.is_root() {
        return open_child(root, b".");
    }
    if !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        let resolve =
            ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
        match rustix::fs::openat2(root, path.relative_path(), DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => WITHOUT_OPENAT2.store(true, Ordering::Relaxed),
            // What stepwise opening can still do: paths at the limit, and renames seen half done.
            Err(Errno::NAMETOOLONG | Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    open_stepwise(root, path)
}

fn open_stepwise(root: BorrowedFd<'_>, path: &PathKey) -> Result<OwnedFd, Errno> {
    path.components().try_fold(open_child(root, b".")?, open_child)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::stat::FileStat;

    type Open = fn(BorrowedFd<'_>, &PathKey) -> Result<OwnedFd, Errno>;

    fn key(path: &str) -> PathKey {
        PathKey::from_components(path.split('/').filter(|c| !c.is_empty()).map(str::as_bytes)).unwrap()
    }

    #[test]
    fn a_symlink_anywhere_on_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("a", dir.path().join("to-a")).unwrap();
        symlink("b", dir.path().join("a/to-b")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        for open in [open_directory as Open, open_stepwise] {
            let opened = open(root.as_fd(), &key("a/b")).unwrap();
            let direct = fs::File::open(dir.path().join("a/b")).unwrap();
            assert_eq!(FileStat::of(opened).unwrap().identity, FileStat::of(direct).unwrap().identity);
            for path in ["to-a/b", "a/to-b", "to-a"] {
                let refused = open(root.as_fd(), &key(path)).unwrap_err();
                assert!([Errno::LOOP, Errno::NOTDIR].contains(&refused), "{path}: {refused}");
            }
            assert_eq!(open(root.as_fd(), &key("a/c")).unwrap_err(), Errno::NOENT);
            assert!(open(root.as_fd(), &key("")).is_ok());
        }
    }
}
