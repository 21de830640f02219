//! What a node keeps for itself: its lock, its identity, the keys of its domain, and which vaults it knows.

mod identity;
mod known;
mod lock;
mod private;

pub use identity::Identity;
pub use known::KnownVaults;
pub use lock::StateLock;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::failure::Failure;

/// Makes a directory of the state, readable by its owner only; takes an existing one away from everybody else.
pub fn make_state_folder(state: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| {
        Failure::failed(format!(
            "cannot make the state directory {}: {error}; run as root, or set node.state to a directory of yours",
            state.display()
        ))
    });
    made.and_then(|()| private::close(state))
}

/// Writes a small file of the state so that after a crash either the old or the new content is there.
fn write_durably(path: &Path, content: &[u8]) -> Result<(), Failure> {
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
