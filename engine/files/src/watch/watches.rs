//! The watches of one tree (inotify(7)): one for each directory, set before the directory is listed, so that what comes into
//! it afterwards is told and what was there before is found.

use std::collections::{BTreeMap, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::WatchProblem;
use crate::beneath;
use crate::keys::PathKey;
use crate::names::Names;
use crate::stat::{FileKind, FileStat};
use crate::touched::Touched;
use crate::walk::{Scope, WalkOptions};
use crate::xattr::magic_path;

/// What is asked of the kernel. Reading is not among it: a capture reads.
const MASK: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// Events that are read at once, bytes.
const EVENTS_BYTES: usize = 64 << 10;

/// An event, taken out of the buffer.
struct Taken {
    watch: i32,
    flags: ReadFlags,
    name: Option<Vec<u8>>,
}

/// All watches.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    root: OwnedFd,
    scope: Scope,
    by_watch: HashMap<i32, PathKey>,
    by_path: BTreeMap<PathKey, i32>,
}

impl Watches {
    pub(super) fn new(root: &Path, walk: &WalkOptions) -> Result<Self, WatchProblem> {
        let refused =
            |cause| WatchProblem::Refused { what: format!("{} cannot be watched", root.display()), cause };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(refused)?;
        let device = FileStat::of(&fd).map_err(refused)?.identity.device;
        let scope = Scope::new(walk, device).map_err(|_| refused(Errno::INVAL))?;
        // EMFILE here is the number of instances that one user may have.
        let inotify =
            init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|cause| WatchProblem::Refused {
                what: "no more trees can be watched (fs.inotify.max_user_instances)".to_owned(),
                cause,
            })?;
        Ok(Self { inotify, root: fd, scope, by_watch: HashMap::new(), by_path: BTreeMap::new() })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.inotify
    }

    pub(super) fn count(&self) -> usize {
        self.by_watch.len()
    }

    /// Watches all directories of the tree.
    pub(super) fn watch_all(&mut self) -> Result<(), WatchProblem> {
        self.watch_below(PathKey::root())
    }

    /// Whether the path of the root leads to what is watched.
    pub(super) fn check_root(&self, root: &Path) -> Result<(), WatchProblem> {
        let refused = |cause| WatchProblem::Refused { what: "the root is not what it was".to_owned(), cause };
        let now = rustix::fs::stat(root).map_err(refused)?;
        let watched = FileStat::of(&self.root).map_err(refused)?.identity;
        let is_same = (now.st_dev, now.st_ino) == (watched.device, watched.inode);
        if is_same { Ok(()) } else { Err(refused(Errno::STALE)) }
    }

    /// Reads what is there, and adds where it has happened.
    pub(super) fn read(&mut self, touched: &mut Touched) -> Result<(), WatchProblem> {
        let mut has_overflown = false;
        for event in self.take()? {
            has_overflown |= event.flags.contains(ReadFlags::QUEUE_OVERFLOW);
            self.judge(&event, touched)?;
        }
        if has_overflown {
            tracing::info!("more has changed at once than the system could tell of");
            *touched = Touched::Everywhere;
            // Directories may have come that nobody has told of. Those that are watched stay so.
            self.watch_all()?;
        }
        Ok(())
    }

    /// The events that wait; the buffer is read to its end, since what it has is lost otherwise.
    fn take(&self) -> Result<Vec<Taken>, WatchProblem> {
        let mut buffer = vec![MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = Reader::new(self.inotify.as_fd(), &mut buffer);
        let mut taken = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(taken),
                Err(Errno::INTR) => continue,
                Err(cause) => {
                    return Err(WatchProblem::Refused { what: "events cannot be read".to_owned(), cause });
                }
            };
            let name = event.file_name().map(|name| name.to_bytes().to_vec());
            taken.push(Taken { watch: event.wd(), flags: event.events(), name });
            if reader.is_buffer_empty() {
                return Ok(taken);
            }
        }
    }

    fn judge(&mut self, event: &Taken, touched: &mut Touched) -> Result<(), WatchProblem> {
        let has = |flags: ReadFlags| event.flags.intersects(flags);
        let Some(directory) = self.by_watch.get(&event.watch).cloned() else { return Ok(()) };
        if has(ReadFlags::IGNORED) {
            self.forget(event.watch);
            return Ok(());
        }
        if directory.is_root() && has(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            let what = "the root is not where it was".to_owned();
            return Err(WatchProblem::Refused { what, cause: Errno::NOENT });
        }
        // A path that no key can have is told by the capture.
        let path = event.name.as_ref().and_then(|name| directory.child(name).ok());
        if path.as_ref().is_some_and(|path| self.scope.excludes(path)) {
            return Ok(());
        }
        let Some(path) = path else {
            touched.touch(directory);
            return Ok(());
        };
        if has(ReadFlags::ISDIR) {
            if has(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
                self.forget_below(&path);
            }
            if has(ReadFlags::MOVED_TO | ReadFlags::CREATE) {
                // What has come into it before it is watched is not told.
                touched.touch_all_below(path.clone());
                self.watch_below(path)?;
            }
        } else if *touched != Touched::Everywhere
            && has(ReadFlags::CREATE | ReadFlags::MOVED_TO)
            && self.has_other_names(&directory, &path)
        {
            *touched = Touched::Everywhere;
        }
        touched.touch(directory);
        Ok(())
    }

    /// Whether a name that has come is one of several of its object. The others do not know yet that they are, and a change
    /// through one name is told of that one only.
    fn has_other_names(&self, directory: &PathKey, path: &PathKey) -> bool {
        let name = path.file_name().unwrap_or_default();
        let stat = beneath::open_directory(self.root.as_fd(), directory)
            .and_then(|directory| FileStat::at(&directory, name));
        stat.is_ok_and(|stat| stat.links > 1)
    }

    /// Watches a directory and those below it, as far as they belong to the tree.
    fn watch_below(&mut self, top: PathKey) -> Result<(), WatchProblem> {
        let mut waiting = vec![top];
        while let Some(path) = waiting.pop() {
            let below = match self.watch_one(&path) {
                Ok(below) => below,
                // Gone again, or another kind of object by now; what cannot be listed a capture tells of.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM)
                    if !path.is_root() =>
                {
                    continue;
                }
                Err(Errno::NOSPC) => return Err(WatchProblem::TooMany),
                Err(cause) => {
                    return Err(WatchProblem::Refused { what: format!("{path} cannot be watched"), cause });
                }
            };
            waiting.extend(below);
        }
        Ok(())
    }

    /// Watches one directory; the directories in it. First watched, then listed: what comes in between is told, or found.
    fn watch_one(&mut self, path: &PathKey) -> Result<Vec<PathKey>, Errno> {
        let directory = beneath::open_directory(self.root.as_fd(), path)?;
        let identity = FileStat::of(&directory)?.identity;
        if self.scope.is_foreign(identity) || self.scope.leaves_out(identity) {
            return Ok(Vec::new());
        }
        // By its magic link: the object that is open, whatever has its name now.
        let watch = add_watch(&self.inotify, magic_path(&directory), MASK)?;
        if let Some(before) = self.by_watch.insert(watch, path.clone()) {
            self.by_path.remove(&before);
        }
        self.by_path.insert(path.clone(), watch);
        let names = Names::read(&directory, |_| true)?;
        let mut below = Vec::new();
        for name in (0..names.len()).map(|place| names.get(place)) {
            let Ok(child) = path.child(name) else { continue };
            let is_directory =
                FileStat::at(&directory, name).is_ok_and(|stat| stat.kind == FileKind::Directory);
            if is_directory && !self.scope.excludes(&child) {
                below.push(child);
            }
        }
        Ok(below)
    }

    /// Ends the watches of a directory that is elsewhere now, and of all below it.
    fn forget_below(&mut self, top: &PathKey) {
        let within: Vec<(PathKey, i32)> = self
            .by_path
            .range(top.clone()..)
            .take_while(|(path, _)| path.is_within(top))
            .map(|(path, watch)| (path.clone(), *watch))
            .collect();
        for (path, watch) in within {
            self.by_path.remove(&path);
            self.by_watch.remove(&watch);
            // It is gone by itself when the directory is.
            let _ = remove_watch(&self.inotify, watch);
        }
    }

    fn forget(&mut self, watch: i32) {
        if let Some(path) = self.by_watch.remove(&watch) {
            self.by_path.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;

    use super::*;
    use crate::exclude::Exclude;
    use crate::walk::Crossing;

    const NOWHERE: [&str; 0] = [];

    fn watched(root: &Path, exclude: &[&str], leave_out: &[&Path]) -> Watches {
        let options = WalkOptions {
            exclude: Exclude::new(exclude).unwrap(),
            leave_out: leave_out.iter().map(|path| path.to_path_buf()).collect(),
            crossing: Crossing::Stay,
            threads: NonZeroUsize::MIN,
        };
        let mut watches = Watches::new(root, &options).unwrap();
        watches.watch_all().unwrap();
        watches
    }

    /// Where something was seen, until nothing is.
    fn seen(watches: &mut Watches) -> Vec<String> {
        let mut touched = Touched::nowhere();
        loop {
            let events = watches.take().unwrap();
            if events.is_empty() {
                return touched.lines();
            }
            for event in events {
                watches.judge(&event, &mut touched).unwrap();
            }
        }
    }

    fn paths(watches: &Watches) -> Vec<String> {
        assert_eq!(watches.by_watch.len(), watches.by_path.len());
        watches.by_path.keys().map(PathKey::to_string).collect()
    }

    #[test]
    fn every_kind_of_change_is_told_and_reading_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "contents").unwrap();
        let mut watches = watched(dir.path(), &[], &[]);
        assert_eq!(paths(&watches), [".", "a", "a/b"]);
        let file = dir.path().join("a/b/file");
        /// What it is, where it is told, and how it is done.
        type Change<'c> = (&'c str, &'c [&'c str], &'c dyn Fn());
        let changes: [Change<'_>; 8] = [
            ("written", &["a/b"], &|| fs::write(&file, "other").unwrap()),
            ("mode", &["a/b"], &|| {
                fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }),
            ("new", &["a"], &|| fs::write(dir.path().join("a/new"), "").unwrap()),
            ("linked", &["**"], &|| fs::hard_link(&file, dir.path().join("a/link")).unwrap()),
            ("renamed", &["a"], &|| {
                fs::rename(dir.path().join("a/new"), dir.path().join("a/newer")).unwrap()
            }),
            ("removed", &["a"], &|| fs::remove_file(dir.path().join("a/newer")).unwrap()),
            ("made", &[".", "c/**"], &|| fs::create_dir(dir.path().join("c")).unwrap()),
            ("in it", &["c"], &|| fs::write(dir.path().join("c/file"), "").unwrap()),
        ];
        for (what, places, change) in changes {
            assert_eq!(seen(&mut watches), NOWHERE, "before {what}");
            change();
            assert_eq!(seen(&mut watches), *places, "{what}");
        }
        fs::read(&file).unwrap();
        fs::read_dir(dir.path().join("a")).unwrap().for_each(drop);
        assert_eq!(seen(&mut watches), NOWHERE, "reading");
    }

    #[test]
    fn directories_that_come_with_contents_are_watched_and_those_that_go_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        fs::create_dir_all(outside.path().join("come/deep/deeper")).unwrap();
        let mut watches = watched(dir.path(), &[], &[]);
        fs::rename(outside.path().join("come"), dir.path().join("come")).unwrap();
        assert_eq!(seen(&mut watches), [".", "come/**"]);
        assert_eq!(paths(&watches), [".", "come", "come/deep", "come/deep/deeper"]);
        fs::write(dir.path().join("come/deep/deeper/file"), "").unwrap();
        assert_eq!(seen(&mut watches), ["come/deep/deeper"]);
        fs::rename(dir.path().join("come/deep"), dir.path().join("elsewhere")).unwrap();
        assert_eq!(seen(&mut watches), [".", "come", "elsewhere/**"]);
        assert_eq!(paths(&watches), [".", "come", "elsewhere", "elsewhere/deeper"]);
        fs::write(dir.path().join("elsewhere/deeper/file"), "again").unwrap();
        assert_eq!(seen(&mut watches), ["elsewhere/deeper"]);
        fs::rename(dir.path().join("elsewhere"), outside.path().join("gone")).unwrap();
        assert_eq!(seen(&mut watches), ["."]);
        assert_eq!(paths(&watches), [".", "come"]);
        fs::write(outside.path().join("gone/deeper/file"), "").unwrap();
        assert_eq!(seen(&mut watches), NOWHERE, "it belongs to the tree no more");
        fs::remove_dir(dir.path().join("come")).unwrap();
        assert_eq!(seen(&mut watches), [".", "come"]);
        assert_eq!(paths(&watches), ["."]);
    }

    #[test]
    fn what_is_left_out_is_neither_watched_nor_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vault/packs", "cache/deep", "kept"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let vault = dir.path().join("vault");
        let mut watches = watched(dir.path(), &["cache", "**/*.log"], &[&vault]);
        assert_eq!(paths(&watches), [".", "kept"]);
        fs::write(dir.path().join("vault/packs/pack"), "").unwrap();
        fs::write(dir.path().join("cache/deep/file"), "").unwrap();
        fs::write(dir.path().join("kept/x.log"), "").unwrap();
        assert_eq!(seen(&mut watches), NOWHERE);
        fs::write(dir.path().join("kept/x"), "").unwrap();
        assert_eq!(seen(&mut watches), ["kept"]);
    }

    #[test]
    fn when_events_are_lost_it_is_told_and_directories_that_came_meanwhile_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        let mut watches = watched(dir.path(), &[], &[]);
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        // By turns, or the kernel would make one event of them.
        for n in 0..most {
            fs::write(dir.path().join(format!("file {}", n % 2)), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("came/meanwhile")).unwrap();
        let mut told = Touched::nowhere();
        loop {
            let mut read = Touched::nowhere();
            watches.read(&mut read).unwrap();
            if read.is_nowhere() {
                break;
            }
            told.merge(read);
        }
        assert_eq!(told, Touched::Everywhere);
        assert_eq!(paths(&watches), [".", "came", "came/meanwhile"]);
        fs::write(dir.path().join("came/meanwhile/file"), "").unwrap();
        assert_eq!(seen(&mut watches), ["came/meanwhile"]);
    }

    #[test]
    fn a_link_that_leads_to_another_root_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (link, there) = (dir.path().join("link"), |name: &str| dir.path().join(name));
        for name in ["one", "other"] {
            fs::create_dir(there(name)).unwrap();
        }
        std::os::unix::fs::symlink(there("one"), &link).unwrap();
        let watches = watched(&link, &[], &[]);
        watches.check_root(&link).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(there("other"), &link).unwrap();
        assert!(watches.check_root(&link).unwrap_err().to_string().contains("not what it was"));
    }

    #[test]
    fn a_root_that_goes_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut watches = watched(&root, &[], &[]);
        fs::rename(&root, dir.path().join("other")).unwrap();
        assert!(watches.read(&mut Touched::nowhere()).unwrap_err().to_string().contains("not where it was"));
    }
}
