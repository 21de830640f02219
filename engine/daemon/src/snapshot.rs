//! Reading a tree from a snapshot that its file system makes: everything in it is of one moment, also a database that is
//! being written to. Owns the snapshot, from before the first read until after the last; what is read is the capture's.
//!
//! Snapshots lie in a folder of their own at the top of the subvolume, so that making them changes nothing in the tree, and
//! have the name of their source: one that a crash has left is found and removed by the next capture.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use backstay_core::config::{Config, SnapshotKind, SourceKind};
use backstay_files::devices::{is_on_btrfs, is_subvolume};

use crate::failure::Failure;

/// The folder at the top of a subvolume; it belongs to no source.
pub const FOLDER: &str = ".backstay";

/// The program that makes and deletes snapshots.
pub const PROGRAM: &str = "btrfs";

/// How much of what a program says is repeated, bytes.
const SAID_BYTES_MAX: usize = 500;

/// A snapshot, until this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    /// The subvolume of which it is.
    subvolume: PathBuf,
    /// Where it is.
    place: PathBuf,
    /// The tree in it.
    root: PathBuf,
}

impl Snapshot {
    /// Makes a snapshot of the file system in which a tree is, for this source.
    pub fn take(kind: SnapshotKind, tree: &Path, source: &str) -> Result<Self, Failure> {
        let SnapshotKind::Btrfs = kind;
        let refused = |why: String| {
            Failure::failed(format!("no snapshot of {} could be made: {why}", tree.display()))
                .of_class("snapshot")
        };
        let tree = tree.canonicalize().map_err(|error| refused(error.to_string()))?;
        let subvolume = subvolume_of(&tree).map_err(refused)?;
        let folder = make_folder(&subvolume).map_err(refused)?;
        let place = folder.join(source);
        if place.symlink_metadata().is_ok() {
            tracing::info!(source, place = %place.display(), "removing a snapshot that was left");
            delete(&place).map_err(refused)?;
        }
        let (from, to) = (subvolume.as_os_str(), place.as_os_str());
        btrfs(["subvolume".as_ref(), "snapshot".as_ref(), "-r".as_ref(), from, to]).map_err(refused)?;
        let below = tree.strip_prefix(&subvolume).unwrap_or(Path::new(""));
        let snapshot = Self { root: place.join(below), subvolume, place };
        // Below the top of a subvolume something may be mounted, of which there is only an empty directory in the snapshot.
        let inode = |path: &Path| {
            path.metadata().map(|found| found.ino()).map_err(|error| refused(error.to_string()))
        };
        if inode(&snapshot.root)? != inode(&tree)? {
            return Err(refused(format!("it is no part of the subvolume {}", snapshot.subvolume.display())));
        }
        Ok(snapshot)
    }

    /// The tree as it was at the moment of the snapshot.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is left out of a tree, by the paths that it has in the snapshot as well.
    pub fn leave_out(&self, live: &[PathBuf]) -> Vec<PathBuf> {
        let inside = live.iter().filter_map(|path| {
            let path = path.canonicalize().ok()?;
            Some(self.place.join(path.strip_prefix(&self.subvolume).ok()?))
        });
        live.iter().cloned().chain(inside).collect()
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(why) = delete(&self.place) {
            // The next capture tries again, and fails if it cannot.
            tracing::warn!(place = %self.place.display(), "a snapshot is left: {why}");
        }
    }
}

/// So long the folders of snapshots are looked for, before it is gone on without them.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// The folders of snapshots, once all of them are known.
static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Somebody looks for them.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// The folders of snapshots of all sources that have them: they belong to no source. The disk of one source may hang, and what
/// is asked for another does not wait for it: then those of which nothing is known yet are not among them.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    let own = config.sources_at_home_on(&config.node.name);
    let roots: Vec<PathBuf> = own
        .filter_map(|source| match &source.kind {
            SourceKind::Files(files) if files.snapshot.is_some() => Some(files.path.clone()),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Vec::new();
    }
    if let Some(folders) = FOLDERS.get() {
        return folders.clone();
    }
    if LOOKING.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let (send, receive) = mpsc::channel();
    let look = move || {
        let folder = |root: &PathBuf| Some(subvolume_of(&root.canonicalize().ok()?).ok()?.join(FOLDER));
        let found: Vec<PathBuf> = roots.iter().filter_map(folder).collect();
        if found.len() == roots.len() {
            // Nobody else has set it: one looks at a time.
            let _ = FOLDERS.set(found.clone());
        }
        LOOKING.store(false, Ordering::SeqCst);
        // Nobody may wait any more.
        let _ = send.send(found);
    };
    match std::thread::Builder::new().name("snapshots".into()).spawn(look) {
        Ok(_) => receive.recv_timeout(LOOK_TIME).unwrap_or_default(),
        Err(_) => {
            LOOKING.store(false, Ordering::SeqCst);
            Vec::new()
        }
    }
}

/// Makes these folders, so that whoever watches a tree around one knows it from the beginning. What cannot be made is told by
/// the captures that need it.
pub fn make_folders(config: &Config) {
    for top in folders(config).iter().filter_map(|folder| folder.parent()) {
        if let Err(why) = make_folder(top) {
            tracing::warn!(top = %top.display(), "there is no folder for snapshots: {why}");
        }
    }
}

/// The top of the subvolume in which a directory is.
pub fn subvolume_of(tree: &Path) -> Result<PathBuf, String> {
    if !is_on_btrfs(tree).map_err(|error| error.to_string())? {
        return Err("it is not on Btrfs; take `snapshot = \"btrfs\"` out of the configuration of the source"
            .to_owned());
    }
    let device = tree.metadata().map_err(|error| error.to_string())?.dev();
    let found = tree.ancestors().map_while(|path| Some((path, path.metadata().ok()?)));
    let mut of_it = found.take_while(|(_, found)| found.dev() == device);
    of_it.find(|(_, found)| is_subvolume(found.ino())).map(|(path, _)| path.to_path_buf()).ok_or_else(|| {
        "the top of its subvolume is not mounted here, only a directory of it; mount the subvolume as a whole".to_owned()
    })
}

/// Whether nobody but this user can put something else in the place of what is made or deleted at the top of a subvolume: it, and
/// all directories above it, belong to that user or to root, and others cannot write to them. Above, a sticky one will do.
pub fn check_top(top: &Path, user: u32) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    for (depth, directory) in top.ancestors().enumerate() {
        let found = directory.metadata().map_err(|error| format!("{}: {error}", directory.display()))?;
        let is_open = found.mode() & 0o022 != 0 && (depth == 0 || found.mode() & STICKY == 0);
        if is_open || (found.uid() != user && (depth == 0 || found.uid() != 0)) {
            return Err(format!(
                "others than the user of the daemon can write to {}, and could lead it astray when it deletes a snapshot in {}; read the tree without one, or take the directory from them",
                directory.display(),
                top.display()
            ));
        }
    }
    Ok(())
}

/// The folder of snapshots at the top of a subvolume. Private, since what is in a snapshot was perhaps made private since.
fn make_folder(top: &Path) -> Result<PathBuf, String> {
    let user = rustix::process::geteuid().as_raw();
    check_top(top, user)?;
    let folder = top.join(FOLDER);
    let shown = |error: &io::Error| format!("{}: {error}", folder.display());
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(shown(&error)),
        _ => {}
    }
    let found = folder.symlink_metadata().map_err(|error| shown(&error))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(format!(
            "{} is there, and not a private directory of this user; remove it",
            folder.display()
        ));
    }
    Ok(folder)
}

fn delete(snapshot: &Path) -> Result<(), String> {
    btrfs(["subvolume".as_ref(), "delete".as_ref(), snapshot.as_os_str()])
}

/// Runs `btrfs`; what it says when it fails.
fn btrfs<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<(), String> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    let done = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no program `btrfs`; install the package btrfs-progs".to_owned(),
        _ => format!("`btrfs`: {error}"),
    })?;
    if done.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&done.stderr[..done.stderr.len().min(SAID_BYTES_MAX)]).trim().to_owned();
    Err(format!(
        "`btrfs` says: {said}; making and deleting snapshots takes root, or CAP_SYS_ADMIN (drop-in snapshots.conf of the unit)"
    ))
}
