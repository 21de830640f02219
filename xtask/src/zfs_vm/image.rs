//! The image of the machine: a root disk with Debian and OpenZFS, and its kernel.
//!
//! Owns the recipe, `~/.cache/backstay/zfs-vm`, and the question whether this host can run the machine. An image is written once:
//! guests boot from it, and none changes it. Refuses to make a failure of what the host cannot do: that is told.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cargo;
use crate::provision::{self, Program};
use crate::tool::cache_folder;

/// What the image depends on beside the texts below: raise it when that changes.
const FORMAT: u32 = 1;

const BUILD: &str = include_str!("build.sh");
const INIT: &str = include_str!("init.sh");

/// The kernel and OpenZFS for it, what the init script uses, and what tests compare with.
const PACKAGES: &[&str] = &[
    "acl",
    "attr",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "libzfslinux-dev",
    "linux-headers-cloud-amd64",
    "linux-image-cloud-amd64",
    "lzop",
    "mbuffer",
    "openssh-client",
    "openssh-server",
    "openssl",
    "procps",
    "pv",
    "sanoid",
    "udev",
    "util-linux",
    "zfs-dkms",
    "zfsutils-linux",
];

/// What boots a guest.
const RUNNING: &[Program] = &[
    Program { name: "mkfs.ext4", package: "e2fsprogs" },
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86" },
    Program { name: "setpriv", package: "util-linux" },
];

/// What builds the image.
const BUILDING: &[Program] = &[
    Program { name: "mmdebstrap", package: "mmdebstrap" },
    Program { name: "ssh-keygen", package: "openssh-client" },
    Program { name: "unshare", package: "util-linux" },
    Program { name: "unxz", package: "xz-utils" },
];

/// The machine, or why this host has none.
pub(crate) enum Machine {
    Built(Image),
    Impossible(String),
}

/// The folder of an image that is complete.
pub(crate) struct Image(PathBuf);

impl Image {
    #[cfg(test)]
    pub(super) fn at(folder: &str) -> Image {
        Image(folder.into())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn root_disk(&self) -> PathBuf {
        self.0.join("root.ext4")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// What Debian had when it was built, a package on each line.
    pub(super) fn versions(&self) -> Result<String> {
        let file = self.0.join("versions");
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }
}

/// Looks whether this host can run the machine, and builds it if it has not yet (10 minutes on two cores).
pub(crate) fn machine() -> Result<Machine> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Ok(Machine::Impossible("it is for Linux on x86-64 alone".to_owned()));
    }
    if let Err(obstacle) = provision::ensure(RUNNING) {
        return Ok(Machine::Impossible(format!("{obstacle:#}")));
    }
    let image = Image(images()?.join(key(PACKAGES, BUILD, INIT)));
    if image.folder().is_dir() {
        return Ok(Machine::Built(image));
    }
    if !provision::is_root()? {
        return Ok(Machine::Impossible("its image is built by root alone".to_owned()));
    }
    if let Err(obstacle) = provision::ensure(BUILDING) {
        return Ok(Machine::Impossible(format!("{obstacle:#}")));
    }
    build_alone(&image).context("cannot build the machine with OpenZFS")?;
    Ok(Machine::Built(image))
}

/// Where all images are.
pub(super) fn images() -> Result<PathBuf> {
    Ok(cache_folder()?.join("zfs-vm"))
}

/// Changes with everything that changes the image, but for what Debian publishes. A hash that another Rust computes in another
/// way costs a build.
fn key(packages: &[&str], build: &str, init: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (FORMAT, packages, build, init).hash(&mut hasher);
    format!("image-{:016x}", hasher.finish())
}

/// Builds, unless another run does: then waits for what that one has built.
fn build_alone(image: &Image) -> Result<()> {
    fs::create_dir_all(images()?).context("cannot make the folder of images")?;
    let file = images()?.join("building");
    let lock = fs::File::create(&file).with_context(|| format!("cannot make {}", file.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("another run builds the machine with OpenZFS: waiting for it");
        lock.lock().context("cannot wait for another run")?;
    }
    if image.folder().is_dir() { Ok(()) } else { build(image) }
}

/// Builds into a neighbouring folder and renames it, so that an interrupted build is never taken for an image.
fn build(image: &Image) -> Result<()> {
    let start = Instant::now();
    let home = image.folder();
    let partial = home.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    if let Err(error) = build_into(&partial) {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        return Err(error);
    }
    fs::rename(&partial, home).with_context(|| format!("cannot move the image to {}", home.display()))?;
    remove_others(home)?;
    let taken = fs::metadata(image.root_disk())?.blocks() * 512 / 1_000_000;
    eprintln!("built in {} s: {}, {taken} MB on disk", start.elapsed().as_secs(), home.display());
    eprint!("{}", image.versions()?);
    Ok(())
}

fn build_into(folder: &Path) -> Result<()> {
    let (build, init) = (folder.join("build.sh"), folder.join("init.sh"));
    fs::write(&build, BUILD).context("cannot write the script that builds")?;
    fs::write(&init, INIT).context("cannot write the script of the guest")?;
    // What is mounted meanwhile goes with the build, however that ends.
    let mut script = Command::new("unshare");
    script.args(["--mount", "sh"]).arg(&build).arg(folder).arg(PACKAGES.join(",")).arg(&init);
    cargo::run(&mut script)?;
    for file in ["root.ext4", "vmlinuz", "versions"] {
        ensure!(folder.join(file).is_file(), "the build ended well, but without {file}");
    }
    Ok(())
}

/// Removes the images of other recipes, and what builds left behind that did not end: none but ours runs.
fn remove_others(home: &Path) -> Result<()> {
    let images = home.parent().context("an image lies in a folder")?;
    for entry in fs::read_dir(images).context("cannot list the images")? {
        let other = entry?.path();
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("image-") && other != home {
            fs::remove_dir_all(&other).with_context(|| format!("cannot remove {}", other.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_by_all_that_makes_the_image() {
        let plain = key(PACKAGES, BUILD, INIT);
        assert_eq!(plain, key(PACKAGES, BUILD, INIT));
        assert_ne!(plain, key(&PACKAGES[1..], BUILD, INIT));
        assert_ne!(plain, key(PACKAGES, "exit 1", INIT));
        assert_ne!(plain, key(PACKAGES, BUILD, "exit 1"));
    }

    #[test]
    fn images_of_other_recipes_and_interrupted_builds_go_and_nothing_else() {
        let images = std::env::temp_dir().join(format!("backstay-images-{}", std::process::id()));
        for name in ["image-a", "image-b", "image-a.partial-1", "runs"] {
            fs::create_dir_all(images.join(name)).unwrap();
        }
        remove_others(&images.join("image-a")).unwrap();
        let mut left: Vec<_> = fs::read_dir(&images)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        fs::remove_dir_all(&images).unwrap();
        assert_eq!(left, ["image-a", "runs"]);
    }
}
