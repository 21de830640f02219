//! The trash of a directory: what is deleted moves to `trash/<batch>/` under its own name, where a batch is what was
//! deleted within the same hour, and goes with its batch when its time is over.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::listing::{FOLDER_DEPTH_MAX, list_below};
use super::{Disk, Trashed, sync_all};
use crate::store::Listed;

/// Where it is, below the root.
pub(super) const FOLDER: &str = "trash";

/// What one batch spans, seconds. Batches are named by the second at which they begin, since 1970.
const BATCH_SECONDS: u64 = 3600;

/// Most batches that are looked at.
const BATCHES_MAX: usize = 100_000;

/// Moves objects into the trash, durably; that one is not there is no error. With the first of a batch go those whose
/// time is over. Each folder is made durable once.
pub(super) fn throw_away(
    disk: &dyn Disk,
    root: &Path,
    names: &[String],
    undelete: Duration,
) -> io::Result<()> {
    let now = seconds_now();
    let batch = now - now % BATCH_SECONDS;
    if !root.join(FOLDER).join(batch.to_string()).try_exists()? {
        remove_old(disk, root, undelete)?;
    }
    let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
    for name in names {
        let path = root.join(name);
        if !path.try_exists()? {
            // That it is gone may not be durable yet, if whoever has removed it has died.
            from.extend(path.parent().filter(|folder| folder.is_dir()).map(Path::to_path_buf));
            continue;
        }
        let place = in_batch(batch, name);
        let folder = place.parent().unwrap_or(Path::new("")).to_path_buf();
        if !to.contains(&folder) {
            make_folders(disk, root, &folder)?;
        }
        match disk.rename(&path, &root.join(&place)) {
            // Somebody else has deleted it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound && !path.try_exists()? => continue,
            moved => moved?,
        }
        to.insert(folder);
        from.extend(path.parent().map(Path::to_path_buf));
    }
    // The new places first: an object that is in neither after a crash would be lost.
    let above: BTreeSet<&Path> = to.iter().flat_map(|folder| folder.ancestors()).collect();
    let above: Vec<PathBuf> = above.into_iter().map(|folder| root.join(folder)).collect();
    sync_all(disk, &above)?;
    sync_all(disk, &from.into_iter().collect::<Vec<_>>())
}

/// What is there, of all batches.
pub(super) fn list(root: &Path) -> io::Result<Vec<Trashed>> {
    let mut trashed = Vec::new();
    for batch in batches(root)? {
        let folder = format!("{FOLDER}/{batch}");
        let mut found = Vec::new();
        for below in ["packs", "points", "layout"] {
            list_in(root, &folder, below, &mut found)?;
        }
        trashed.extend(found.into_iter().map(|object| Trashed { object, batch }));
    }
    trashed.sort_unstable_by(|a, b| (&a.object.name, a.batch).cmp(&(&b.object.name, b.batch)));
    Ok(trashed)
}

/// Moves an object back, durably. One that is there again stays.
pub(super) fn bring_back(disk: &dyn Disk, root: &Path, batch: u64, name: &str) -> io::Result<()> {
    let (from, to) = (root.join(in_batch(batch, name)), root.join(name));
    if to.try_exists()? {
        return match disk.remove_file(&from) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
    }
    disk.rename(&from, &to)?;
    disk.sync_folder(to.parent().unwrap_or(root))?;
    disk.sync_folder(from.parent().unwrap_or(root))
}

fn make_folders(disk: &dyn Disk, root: &Path, folder: &Path) -> io::Result<()> {
    let mut below: Vec<&Path> = folder.ancestors().filter(|folder| *folder != Path::new("")).collect();
    while let Some(folder) = below.pop() {
        match disk.make_folder(&root.join(folder)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    Ok(())
}

fn in_batch(batch: u64, name: &str) -> PathBuf {
    Path::new(FOLDER).join(batch.to_string()).join(name)
}

fn batches(root: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut batches = Vec::new();
    for entry in entries.take(BATCHES_MAX) {
        batches.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    batches.sort_unstable();
    Ok(batches)
}

/// Removes the batches whose last object has been there for long enough; how many.
pub(super) fn remove_old(disk: &dyn Disk, root: &Path, undelete: Duration) -> io::Result<usize> {
    let (now, mut removed_batches) = (seconds_now(), 0);
    for batch in batches(root)? {
        let is_over = batch.saturating_add(BATCH_SECONDS).saturating_add(undelete.as_secs()) <= now;
        if is_over {
            match disk.remove_folder(&root.join(FOLDER).join(batch.to_string())) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
            removed_batches += 1;
        }
    }
    Ok(removed_batches)
}

fn list_in(root: &Path, batch: &str, below: &str, listed: &mut Vec<Listed>) -> io::Result<()> {
    let folder = root.join(batch);
    if !folder.join(below).is_dir() {
        return Ok(());
    }
    list_below(&folder, below, FOLDER_DEPTH_MAX, listed)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
