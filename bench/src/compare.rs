//! Whether a restored tree is the original: names, kinds, modes, times, content.
//!
//! Owns the comparison that every restore must survive before its time counts. Reads both trees byte by byte
//! and trusts neither tool's own checking.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::dataset::PIECE_BYTES;

/// Differences beyond this many are not looked for.
const MOST_DIFFERENCES: usize = 100_000;

/// Every path below `root`, relative to it, folders before what is in them.
pub(crate) fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        for entry in fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(relative.clone());
            }
            found.push(relative);
        }
    }
    found.sort();
    Ok(found)
}

/// One line for each path that is not the same on both sides; empty when the trees are equal.
pub(crate) fn differences(original: &Path, restored: &Path) -> Result<Vec<String>> {
    let (left, right): (BTreeSet<_>, BTreeSet<_>) =
        (walk(original)?.into_iter().collect(), walk(restored)?.into_iter().collect());
    let mut found: Vec<_> =
        left.difference(&right).map(|path| format!("missing: {}", path.display())).collect();
    found.extend(right.difference(&left).map(|path| format!("added: {}", path.display())));
    for path in left.intersection(&right) {
        if found.len() >= MOST_DIFFERENCES {
            break;
        }
        if let Some(what) = difference(&original.join(path), &restored.join(path))? {
            found.push(format!("{what}: {}", path.display()));
        }
    }
    Ok(found)
}

/// The first thing that differs. Times are last: other damage usually changes them too.
fn difference(original: &Path, restored: &Path) -> Result<Option<&'static str>> {
    let look =
        |path: &Path| path.symlink_metadata().with_context(|| format!("cannot look at {}", path.display()));
    let (left, right) = (look(original)?, look(restored)?);
    let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    Ok(if left.mode() != right.mode() {
        Some("kind or mode differs")
    } else if left.is_symlink() && fs::read_link(original)? != fs::read_link(restored)? {
        Some("link differs")
    } else if left.is_file() && left.len() != right.len() {
        Some("length differs")
    } else if left.is_file() && !same_content(original, restored)? {
        Some("content differs")
    } else if left.is_file() && time(&left) != time(&right) {
        Some("modification time differs")
    } else {
        None
    })
}

fn same_content(original: &Path, restored: &Path) -> Result<bool> {
    let (mut left, mut right) = (File::open(original)?, File::open(restored)?);
    let (mut left_piece, mut right_piece) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        let length = left.read(&mut left_piece)?;
        if length == 0 {
            return Ok(right.read(&mut right_piece)? == 0);
        }
        match right.read_exact(&mut right_piece[..length]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if left_piece[..length] != right_piece[..length] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Two equal trees; the second one is damaged by `damage` before they are compared.
    fn after(damage: impl Fn(&Path)) -> Vec<String> {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        for folder in &folders {
            fs::create_dir(folder.path().join("sub")).expect("made");
            fs::write(folder.path().join("sub/file"), b"content").expect("written");
            touch(&folder.path().join("sub/file"), 1_000);
            std::os::unix::fs::symlink("file", folder.path().join("sub/link")).expect("linked");
        }
        damage(folders[1].path());
        differences(folders[0].path(), folders[1].path()).expect("compared")
    }

    fn touch(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("touched");
    }

    #[test]
    fn equal_trees_have_no_differences() {
        assert_eq!(after(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let file = |root: &Path| root.join("sub/file");
        let write = |root: &Path, bytes: &[u8]| fs::write(file(root), bytes).expect("written");
        assert_eq!(after(|root| write(root, b"cOntent")), ["content differs: sub/file"]);
        assert_eq!(after(|root| write(root, b"contents")), ["length differs: sub/file"]);
        assert_eq!(after(|root| fs::remove_file(file(root)).expect("removed")), ["missing: sub/file"]);
        assert_eq!(after(|root| fs::write(root.join("more"), b"").expect("written")), ["added: more"]);
        assert_eq!(after(|root| touch(&file(root), 1_001)), ["modification time differs: sub/file"]);
        let tighten =
            |root: &Path| fs::set_permissions(file(root), Permissions::from_mode(0o600)).expect("set");
        assert_eq!(after(tighten), ["kind or mode differs: sub/file"]);
        let relink = |root: &Path| {
            fs::remove_file(root.join("sub/link")).expect("removed");
            std::os::unix::fs::symlink("elsewhere", root.join("sub/link")).expect("linked");
        };
        assert_eq!(after(relink), ["link differs: sub/link"]);
    }
}
