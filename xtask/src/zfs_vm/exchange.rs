//! The disks of a run: one with the program and what it needs, and for each guest one to write on.
//!
//! Owns what `init.sh` finds on the exchange disk: `command`, `paths`, and `files` with all of these paths. Both guests mount it
//! read-only. The kernel of the guest has no file system that would be shared with the host, so files are copied to the disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::namespaces::run;

/// What a guest can write: as much as it takes on the host is what was written.
const SCRATCH_BYTES: u64 = 8 << 30;
/// What the file system takes for itself, at most, beside a quarter of what is in it.
const SPARE_BYTES: u64 = 64 << 20;

/// Variables with these beginnings are passed on to the guest.
const PASSED_ON: [&str; 2] = ["BACKSTAY_", "RUST_"];

/// Writes the disk `exchange` with the program and `files` into the folder.
pub(super) fn make(folder: &Path, command: &[&OsStr], files: &[PathBuf]) -> Result<()> {
    let tree = folder.join("tree");
    fs::create_dir(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    let passed_on = std::env::vars_os().filter(|(name, _)| is_passed_on(name));
    fs::write(tree.join("command"), script(passed_on, command)).context("cannot write the command")?;
    let mut paths = Vec::new();
    for file in files {
        copy(file, &tree.join("files"))?;
        paths.extend_from_slice(file.as_os_str().as_bytes());
        paths.push(b'\n');
    }
    fs::write(tree.join("paths"), paths).context("cannot write the paths")?;
    let bytes = taken_bytes(&tree)?;
    let disk = folder.join("exchange");
    sparse(&disk, bytes + bytes / 4 + SPARE_BYTES)?;
    run(make_ext4(&disk).args(["-O", "^has_journal", "-i", "4096", "-d"]).arg(&tree))
        .context("cannot make the exchange disk")?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))
}

/// Writes the empty disk `name` into the folder.
pub(super) fn make_scratch(folder: &Path, name: &str) -> Result<()> {
    let disk = folder.join(name);
    sparse(&disk, SCRATCH_BYTES)?;
    run(&mut make_ext4(&disk)).context("cannot make the scratch disk")
}

/// The path at which the guest shall have the file. It must be on a line of its own, and not in the way of others.
pub(super) fn path_in_guest(file: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(file).with_context(|| format!("{} is no path", file.display()))?;
    ensure!(path.exists(), "there is no {}", path.display());
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir | Component::CurDir));
    ensure!(
        plain && path.parent().is_some() && !path.as_os_str().as_bytes().contains(&b'\n'),
        "{} cannot be given to the guest: name it by a plain path",
        path.display()
    );
    Ok(path)
}

/// Those of ours that a shell can have.
fn is_passed_on(name: &OsStr) -> bool {
    let can_be = name.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    can_be && PASSED_ON.iter().any(|beginning| name.as_bytes().starts_with(beginning.as_bytes()))
}

/// What the guest's shell runs.
fn script<N: AsRef<OsStr>>(variables: impl Iterator<Item = (N, N)>, command: &[&OsStr]) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in variables {
        script.extend_from_slice(b"export ");
        script.extend_from_slice(name.as_ref().as_bytes());
        script.push(b'=');
        script.extend(quoted(value.as_ref()));
        script.push(b'\n');
    }
    script.extend_from_slice(b"exec");
    for word in command {
        script.push(b' ');
        script.extend(quoted(word));
    }
    script.push(b'\n');
    script
}

/// As one word of a shell, whatever is in it.
fn quoted(word: &OsStr) -> Vec<u8> {
    let inner = word.as_bytes().iter().flat_map(|byte| match byte {
        b'\'' => b"'\\''".as_slice(),
        other => std::slice::from_ref(other),
    });
    [b'\''].iter().chain(inner).chain(b"'").copied().collect()
}

/// Puts a file or folder to its absolute path below `tree`: by name where that is possible, since binaries are large.
fn copy(file: &Path, tree: &Path) -> Result<()> {
    let to = tree.join(file.strip_prefix("/").context("it was made absolute")?);
    fs::create_dir_all(to.parent().context("it lies in a folder")?)
        .with_context(|| format!("cannot make the folder of {}", to.display()))?;
    let copy_by = |how| run(Command::new("cp").args(["--archive", "-H", how]).arg("--").arg(file).arg(&to));
    copy_by("--link")
        .or_else(|_| {
            // On another file system, or another user's.
            run(Command::new("rm").args(["-rf", "--"]).arg(&to)).and_then(|()| copy_by("--reflink=auto"))
        })
        .with_context(|| format!("cannot copy {}", file.display()))
}

fn taken_bytes(tree: &Path) -> Result<u64> {
    let output =
        Command::new("du").args(["-s", "--block-size=1"]).arg(tree).output().context("cannot start du")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .next()
        .and_then(|bytes| bytes.parse().ok())
        .context("du did not say how much there is")
}

fn sparse(disk: &Path, bytes: u64) -> Result<()> {
    let file = fs::File::create_new(disk).with_context(|| format!("cannot make {}", disk.display()))?;
    file.set_len(bytes).context("cannot make a sparse file")
}

/// The path of an ordinary user leaves out where Debian keeps the program.
fn make_ext4(disk: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut make = Command::new("mkfs.ext4");
    make.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    make.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]).arg(disk);
    make
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_gets_our_variables_and_no_others() {
        let passed_on = |name: &str| is_passed_on(OsStr::new(name));
        assert!(passed_on("BACKSTAY_SEED") && passed_on("RUST_BACKTRACE"));
        assert!(!passed_on("RUSTFLAGS") && !passed_on("PATH") && !passed_on("MY_BACKSTAY_SEED"));
        assert!(!passed_on("BACKSTAY_A-B"), "no shell could set it");
    }

    #[test]
    fn a_shell_finds_the_words_as_they_were() {
        let words = ["printf", "%s|", "it's", "", "a b", "$HOME `id`", "two\nlines"].map(OsStr::new);
        let script = script([("BACKSTAY_X", "1 '2'")].into_iter(), &words);
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it's||a b|$HOME `id`|two\nlines|");
        assert!(script.starts_with(b"export BACKSTAY_X='1 '\\''2'\\'''\n"));
    }

    #[test]
    fn what_cannot_be_placed_is_refused() {
        assert!(path_in_guest(Path::new("/")).is_err());
        assert!(path_in_guest(Path::new("/proc/../etc")).is_err());
        assert!(path_in_guest(Path::new("/nonexistent/backstay")).is_err());
        assert_eq!(path_in_guest(Path::new("/proc/self")).unwrap(), Path::new("/proc/self"));
    }
}
