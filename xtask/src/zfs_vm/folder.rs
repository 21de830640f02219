//! The private folder of one run: disks, sockets and consoles of its guests.
//!
//! Owns its end. It goes with the run, however that ends: a small process outlives us for as long as removing takes.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::image::images;

/// Waits until nobody holds the other end of its standard input any more, which is when we are gone.
const REMOVER: &str = r#"cat; rm -rf -- "$1""#;

pub(super) struct Folder {
    path: PathBuf,
    /// The folder itself, to name what is in it by a short path: those of sockets are limited to 107 bytes.
    opened: fs::File,
    remover: Child,
}

impl Folder {
    /// A new folder beside the images; what earlier runs could not remove, since the host went down, is removed now.
    pub(super) fn make() -> Result<Folder> {
        let runs = images()?.join("runs");
        remove_stale(&runs)?;
        let path = runs.join(std::process::id().to_string());
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let opened = fs::File::open(&path).context("cannot open what was just made")?;
        let remover = Command::new("sh")
            .args(["-c", REMOVER, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A signal from the terminal goes to all of a group.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        Ok(Folder { path, opened, remover })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A socket in the folder that QEMU connects to.
    pub(super) fn listen(&self, name: &str) -> Result<UnixListener> {
        let path = format!("/proc/self/fd/{}/{name}", self.opened.as_raw_fd());
        UnixListener::bind(path).with_context(|| format!("cannot listen for {name}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // Nothing is lost with a folder that stays: the next run removes it.
        let _ = self.remover.wait();
    }
}

/// Of runs that are no more. One that had our number is among them.
fn remove_stale(runs: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(runs) else { return Ok(()) };
    for entry in entries {
        let run = entry.context("cannot list earlier runs")?;
        let is_ours = run.file_name() == OsStr::new(&std::process::id().to_string());
        if is_ours || !Path::new("/proc").join(run.file_name()).exists() {
            // Its own remover may be at work.
            let _ = fs::remove_dir_all(run.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_runs_that_are_no_more_are_removed() {
        let runs = std::env::temp_dir().join(format!("backstay-runs-{}", std::process::id()));
        let own = std::process::id().to_string();
        // The first process of all always runs, and none has the number 0.
        for run in ["0", "1", own.as_str()] {
            fs::create_dir_all(runs.join(run)).unwrap();
        }
        remove_stale(&runs).unwrap();
        let left = ["0", "1", own.as_str()].map(|run| runs.join(run).exists());
        fs::remove_dir_all(&runs).unwrap();
        assert_eq!(left, [false, true, false]);
    }
}
