//! Installs the Debian packages that a recipe needs, and only those that are missing.
//!
//! Owns the way from a program's name to its presence. Refuses to run with half of what is needed: a program
//! that is still missing afterwards is an error that says what to install.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that must be on the path, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

/// Makes sure that every program can be started. Does nothing, and needs no privilege, when all are there.
pub(crate) fn ensure(programs: &[Program]) -> Result<()> {
    let missing = missing_packages(programs);
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing).with_context(|| {
        format!("needed packages are missing: install them with `apt-get install {}`", missing.join(" "))
    })?;
    match missing_packages(programs).as_slice() {
        [] => Ok(()),
        still => bail!("{} installed, but their programs are not on the path", still.join(", ")),
    }
}

fn missing_packages(programs: &[Program]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        programs.iter().filter(|program| !is_on_path(program.name)).map(|program| program.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some tools in sbin, which the path of an ordinary user leaves out.
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    if !is_on_path("apt-get") {
        bail!("this machine has no apt-get");
    }
    eprintln!("provisioning: {}", packages.join(" "));
    if apt_get(&["install"], packages).is_ok() {
        return Ok(());
    }
    // A fresh machine or container has no package lists, or stale ones: read them, then try once more.
    apt_get(&["update"], &[])?;
    apt_get(&["install"], packages)
}

fn apt_get(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = if is_root()? { Command::new("env") } else { Command::new("sudo") };
    if command.get_program() == "sudo" {
        if !is_on_path("sudo") {
            bail!("not root, and there is no sudo");
        }
        command.args(["--non-interactive", "env"]);
    }
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"])
        .args(verb)
        .args(packages);
    crate::cargo::run(&mut command)
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    // The owner of our own entry in /proc is the effective user: no call outside the standard library needed.
    let own = Path::new("/proc/self").metadata().context("cannot read /proc/self")?;
    Ok(own.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: Program = Program { name: "sh", package: "dash" };
    const ABSENT: Program = Program { name: "backstay-no-such-program", package: "no-such-package" };

    #[test]
    fn only_what_is_missing_is_installed_and_named_once() {
        assert_eq!(missing_packages(&[SHELL, ABSENT, ABSENT]), ["no-such-package"]);
    }

    #[test]
    fn nothing_missing_needs_no_privilege() {
        ensure(&[SHELL]).expect("a shell is on every machine that builds this");
    }
}
