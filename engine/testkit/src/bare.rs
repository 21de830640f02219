//! A machine of the worst day: nothing is there but the program, and what was typed from the printed page.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Of every page in tests.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A machine with nothing but the program and what was typed from paper.
#[derive(Debug)]
pub struct Bare {
    folder: TempDir,
}

impl Bare {
    /// With this program as `backstay`, and this page in `kit.txt`; its passphrase is in `passphrase.txt`.
    pub fn with(program: &str, page: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-bare-").tempdir().expect("a folder");
        let bare = Self { folder };
        symlink(program, bare.path("backstay")).expect("links");
        fs::write(bare.path("kit.txt"), page).expect("writes");
        fs::write(bare.path("passphrase.txt"), PASSPHRASE).expect("writes");
        bare
    }

    /// A path on it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What has a shell read a line that was typed. No terminal can be asked.
    pub fn typed(&self, line: &str) -> Command {
        let mut command = Command::new("setsid");
        command.args(["--wait", "sh", "-c", line]).env_clear().current_dir(self.folder.path());
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        command.env("PATH", path).env("HOME", self.folder.path());
        command
    }
}

/// The commands of a page, each with all that belongs to it, and with the passphrase's file where a terminal would be asked.
pub fn commands(page: &str) -> Vec<String> {
    let whole = page.replace("\\\n", "");
    let commands = whole.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = commands.filter(|line| line.starts_with("backstay "));
    commands.map(|line| format!("{} --passphrase-file passphrase.txt", line.trim_end())).collect()
}
