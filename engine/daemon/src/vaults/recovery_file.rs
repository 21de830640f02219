//! The file with the recovery key: an age identity, which the operator keeps elsewhere. Never written over.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use backstay_vault::keys::AgeIdentity;

use crate::failure::Failure;
use crate::node::advice;
use crate::terminal::remark;

/// The identity in this file; a new one, written there, where there is none.
pub(super) fn read_or_make(file: &Path) -> Result<AgeIdentity, Failure> {
    if let Some(identity) = read(file)? {
        return Ok(identity);
    }
    let identity = AgeIdentity::generate();
    let write = || {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(identity.to_file().as_bytes())?;
        out.sync_all()?;
        // Its name as well: the admin's private key leaves the node next.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::failed(format!("cannot write the recovery key to {}: {error}", file.display()))
    })?;
    Ok(identity)
}

/// The identity in this file, which has to be there.
pub fn read_key_file(file: &Path) -> Result<AgeIdentity, Failure> {
    let key = read(file)?.ok_or_else(|| {
        Failure::usage(format!(
            "there is no key file {}; it is the one that `backstay vault init VAULT --recovery FILE` has written",
            file.display()
        ))
    })?;
    warn_if_open(file);
    Ok(key)
}

/// The identity in this file, if there is one.
pub(super) fn read(file: &Path) -> Result<Option<AgeIdentity>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => AgeIdentity::from_file(&text).map(Some).map_err(|error| {
            Failure::failed(format!("{} is there and not a recovery key: {error}; give the file that `backstay vault init VAULT --recovery FILE` has written", file.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!(
            "cannot read the key file {}: {error}; {}",
            file.display(),
            advice(file, &error)
        ))),
    }
}

/// Whoever can read it can read all vaults. It may lie on a disk that knows no permissions, and it may be the worst day: it is
/// said, and no more.
fn warn_if_open(file: &Path) {
    let mode = fs::metadata(file).map_or(0, |found| found.mode());
    if mode & 0o077 != 0 {
        remark(&format!(
            "warning: {} can be read by other users, and with it all vaults: `chmod 600 {}`",
            file.display(),
            file.display()
        ));
    }
}
