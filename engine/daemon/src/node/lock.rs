//! The lock on the state: held by the one process that captures.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// Held until dropped; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock, or names who has it.
    pub fn take(state: &Path) -> Result<Self, Failure> {
        super::private::make_files_private();
        super::make_state_folder(state)?;
        let path = state.join("lock");
        let io = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot open the lock {}: {error}; {}",
                path.display(),
                super::advice(&path, &error)
            ))
        };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.take(32).read_to_string(&mut holder).map_err(io)?;
            let holder = holder.trim();
            return Err(Failure::failed(format!(
                "another backstay works on {} (pid {holder}); wait for it, or stop it",
                state.display()
            )));
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Keeps the lock until the kernel lets go of it.
    pub fn keep_until_exit(self) {
        std::mem::forget(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_learns_who_holds_the_lock() {
        let state = tempfile::tempdir().expect("a folder");
        let first = StateLock::take(state.path()).expect("takes");
        let refused = StateLock::take(state.path()).expect_err("is held");
        assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        StateLock::take(state.path()).expect("takes again");
    }
}
