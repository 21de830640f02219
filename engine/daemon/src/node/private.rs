//! Keeping the state from everybody but its owner: keys lie there in clear, and rows of captures with names of files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Mode;

use crate::failure::Failure;

/// What other users are given by a mode.
const OTHERS: u32 = 0o077;

/// From now on, what this process makes is for its own user only, unless it gives a mode by itself.
pub(super) fn make_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Takes a directory of the state away from other users, with a word in the log when it was open to them.
pub(super) fn close(folder: &Path) -> Result<(), Failure> {
    let closed = fs::metadata(folder).and_then(|metadata| {
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & OTHERS == 0 {
            return Ok(None);
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(mode & !OTHERS))?;
        Ok(Some(mode))
    });
    let was_open = closed.map_err(|error| {
        Failure::failed(format!(
            "{} is open to other users and cannot be closed to them: {error}; run as its owner, or `chmod 700` it",
            folder.display()
        ))
    })?;
    if let Some(mode) = was_open {
        tracing::warn!(
            "{} was open to other users (mode {mode:04o}) and is now closed to them: who has read keys there has them",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_can_enter_is_closed_and_keeps_its_owners_rights() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("sets");
        close(folder.path()).expect("closes");
        let mode = || fs::metadata(folder.path()).expect("is there").permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o700);
        close(folder.path()).expect("is closed already");
        assert_eq!(mode(), 0o700);
    }
}
