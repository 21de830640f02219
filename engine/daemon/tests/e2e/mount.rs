//! Mounts of a test, taken away at its end. A machine that permits none is told of on standard error, once for
//! each test that needs one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::run;

/// Something mounted on a directory.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// A file system in memory, of this size as mount(8) writes it, on `place`, which is made. `None` where
    /// mounting is not permitted.
    pub(crate) fn tmpfs(place: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(place).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "backstay-e2e"], place)
    }

    /// `place` on itself, for reading only.
    pub(crate) fn read_only(place: &Path) -> Option<Self> {
        let bound = mount(&["--bind", place.to_str().unwrap()], place)?;
        let mut again = Command::new("mount");
        again.args(["-o", "remount,bind,ro"]).arg(place);
        run(again).good();
        Some(bound)
    }

    /// A directory in another place as well.
    pub(crate) fn bind(directory: &Path, place: &Path) -> Option<Self> {
        mount(&["--bind", directory.to_str().unwrap()], place)
    }

    /// The file system in a file.
    pub(crate) fn image(image: &Path, place: &Path) -> Option<Self> {
        mount(&["-o", "loop", image.to_str().unwrap()], place)
    }

    /// Changes the size of a file system in memory.
    pub(crate) fn resize(&self, size: &str) {
        let mut again = Command::new("mount");
        again.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        run(again).good();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        // Lazily: a test that fails may have left a program in it.
        unmount.arg("-l").arg(&self.0);
        run(unmount);
    }
}

fn mount(arguments: &[&str], place: &Path) -> Option<Mount> {
    let mut mount = Command::new("mount");
    mount.args(arguments).arg(place);
    let outcome = run(mount);
    if outcome.code == Some(0) {
        return Some(Mount(place.to_owned()));
    }
    eprintln!("LEFT OUT: mounting is not permitted here: {}", outcome.stderr.trim());
    None
}
