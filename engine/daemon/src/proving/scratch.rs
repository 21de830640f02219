//! Directories to restore points to, to prove them: for this user only, gone when the proof is made, and swept when whoever
//! has made one died.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use backstay_core::units::ByteSize;
use backstay_files::prove::bytes_without_holes;
use backstay_files::restore::RestoreError;
use backstay_vault::keys::random_bytes;
use backstay_vault::vault::{PointObject, Reading};
use rustix::fs::FlockOperation;
use std::sync::Arc;

use crate::failure::Failure;

/// What stays free there, beside what the point has.
const FREE_LEAST_BYTES: u64 = 256 << 20;

/// What an entry takes beside its contents, bytes: more than any file system needs.
const ENTRY_BYTES: u64 = 4096;

/// The class of a failure when nowhere is room to restore to.
const NO_SCRATCH: &str = "no_scratch";

/// The class of a failure when another restore for a proof is under way.
pub const BUSY: &str = "busy";

const PREFIX: &str = "proof-";

/// Held by who uses the directory.
const LOCK: &str = "lock";

/// In it the point is restored: its modes are those of the source.
const TREE: &str = "tree";

/// One without a lock may be about to get it.
const YOUNG: Duration = Duration::from_secs(3600);

/// One restore at a time in a process: two would not see of each other how much room they take.
static RESTORING: Mutex<()> = Mutex::new(());

/// A directory of this process, which goes when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    _lock: File,
    _alone: MutexGuard<'static, ()>,
}

impl Scratch {
    /// A new one below `parent`, with room for a point.
    pub(super) fn make(parent: &Path, reading: &Arc<Reading>, point: &PointObject) -> Result<Self, Failure> {
        let alone = match RESTORING.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::failed("another point is being restored for a proof").of_class(BUSY));
            }
        };
        let failed = |error: std::io::Error| cannot(parent, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        sweep(parent);
        check_room(parent, reading, point)?;
        let name: String = random_bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = parent.join(format!("{PREFIX}{name}"));
        // Fails if there is anything of that name.
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let lock = File::create_new(folder.join(LOCK)).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self { folder, _lock: lock, _alone: alone })
    }

    /// Where the point is restored.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Removes what those have left who are gone.
pub fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && is_left(&entry.path()) {
            remove(&entry.path());
        }
    }
}

fn is_left(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => {
            let age = fs::symlink_metadata(folder).and_then(|metadata| metadata.modified());
            age.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > YOUNG))
        }
    }
}

fn remove(folder: &Path) {
    let removed = fs::remove_dir_all(folder).or_else(|_| {
        // Directories that their owner may not write to have that from the source.
        open_to_owner(folder);
        fs::remove_dir_all(folder)
    });
    if let Err(error) = removed {
        tracing::warn!(folder = %folder.display(), %error, "what was restored for a proof is still there; remove it");
    }
}

/// Gives the owner all rights to the directories there; nobody else can be in them.
fn open_to_owner(top: &Path) {
    let mut waiting = vec![top.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        // What cannot be changed is told when it cannot be removed.
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        waiting.extend(entries.flatten().filter(is_directory).map(|entry| entry.path()));
    }
}

fn check_room(parent: &Path, reading: &Arc<Reading>, point: &PointObject) -> Result<(), Failure> {
    let stat = rustix::fs::statvfs(parent).map_err(|errno| cannot(parent, &errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let common = &point.common;
    let of_entries = common.entries.saturating_mul(ENTRY_BYTES).saturating_add(FREE_LEAST_BYTES);
    let mut needed = common.bytes.saturating_add(of_entries);
    if free < needed {
        // Files with holes take less. That is looked at only where it matters: it takes a while.
        needed = match bytes_without_holes(reading) {
            Ok(bytes) => bytes.saturating_add(of_entries),
            // The restore will say so.
            Err(RestoreError::Vault(error)) if error.is_finding() => 0,
            Err(error) => return Err(error.into()),
        };
    }
    if free >= needed {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} has {} free, and {} are needed to restore {} there; give another directory (`scratch` in [node], or --scratch), or verify = {{ level = \"data\" }}",
        parent.display(),
        ByteSize(free),
        ByteSize(needed),
        common.source_name
    ))
    .of_class(NO_SCRATCH))
}

fn cannot(parent: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!(
        "cannot restore to {}: {error}; give another directory (`scratch` in [node], or --scratch)",
        parent.display()
    ))
    .of_class(NO_SCRATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_left_goes_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let folder = parent.path().join(name);
            fs::create_dir_all(folder.join("tree/closed/below")).expect("makes");
            fs::write(folder.join("tree/closed/below/file"), "").expect("writes");
            fs::set_permissions(folder.join("tree/closed"), fs::Permissions::from_mode(0o555))
                .expect("closes");
            File::create_new(folder.join(LOCK)).expect("makes")
        };
        let used = make("proof-used");
        rustix::fs::flock(&used, FlockOperation::NonBlockingLockExclusive).expect("locks");
        drop(make("proof-left"));
        drop(make("mine"));
        fs::create_dir(parent.path().join("proof-young")).expect("makes");
        sweep(parent.path());
        let mut names: Vec<String> = fs::read_dir(parent.path())
            .expect("lists")
            .map(|entry| entry.expect("is there").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["mine", "proof-used", "proof-young"]);
    }
}
