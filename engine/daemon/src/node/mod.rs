//! What a node keeps for itself: its lock, its identity, the keys of its domain, and which vaults it knows.

mod checked;
mod custodian_notes;
mod identity;
mod known;
mod lock;
mod observed;
mod owner;
mod private;
mod probed;
mod scrubs;
mod seen;

pub use checked::{Checked, Progress};
pub use custodian_notes::FileNotes;
pub use identity::Identity;
pub use known::KnownVaults;
pub use lock::StateLock;
pub use observed::{ObservedVault, day_of};
pub use owner::advice;
pub use probed::{Probed, ProbedBucket};
pub use scrubs::{DAMAGED_MAX, Scrub, Scrubs};
pub use seen::SeenPoints;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;

/// For how long what is deleted from a vault can be brought back, where the configuration does not say.
pub const UNDELETE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a process may do to the node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It holds the state lock: identity, keys and known vaults are kept.
    Keep,
    /// It only reads: nothing is written under `node.state`.
    ReadOnly,
}

/// Makes a directory of the state, readable by its owner only; takes an existing one away from everybody else. It and
/// those above it that were missing are durable in their parents: keys will lie there that exist nowhere else.
pub fn make_state_folder(state: &Path) -> Result<(), Failure> {
    let made = make_durably(state).map_err(|error| {
        Failure::failed(format!(
            "cannot make the state directory {}: {error}; {}, or set node.state to a directory of yours",
            state.display(),
            advice(state, &error)
        ))
    });
    made.and_then(|()| private::close(state))
}

fn make_durably(folder: &Path) -> std::io::Result<()> {
    let mut missing: Vec<&Path> = folder.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    // Always: a process that made it may have died before it was durable.
    missing.insert(0, folder);
    for folder in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
        match fs::File::open(folder.parent().unwrap_or(folder)) {
            // Whoever may only pass through the folder above has made nothing in it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            above => above?.sync_all()?,
        }
    }
    Ok(())
}

/// Writes a small file of the state so that after a crash either the old or the new content is there.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let unfinished = path.with_extension("new");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::failed(format!(
            "cannot write {}: {error}; see that the disk of node.state is writable and has room",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_folder_is_made_with_those_above_it_and_taken_up_when_it_is_there() {
        let root = tempfile::tempdir().expect("a folder");
        let state = root.path().join("var/lib/backstay");
        for _ in 0..2 {
            make_state_folder(&state).expect("makes");
            let mode = fs::metadata(&state).expect("is there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
        }
        fs::write(root.path().join("file"), "").expect("writes");
        let error = make_state_folder(&root.path().join("file")).expect_err("a file is no folder");
        assert!(error.to_string().contains("set node.state to a directory of yours"), "{error}");
    }
}
