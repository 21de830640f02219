//! Go programs of a pinned version, built from the Go module proxy.
//!
//! Owns the way from a module to its binaries, and what Go is recent enough. Refuses a module whose content is not what was
//! pinned, and any other toolchain than the one that is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::provision::{self, Program};

const GO: Program = Program { name: "go", package: "golang-go" };

/// A version of Go: major, minor, patch.
pub(crate) type GoVersion = (u32, u32, u32);

/// A module of the proxy, and what is built of it.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Module {
    pub(crate) path: &'static str,
    pub(crate) version: &'static str,
    /// The hash of its content, as in `go.sum`.
    pub(crate) sum: &'static str,
    /// Packages below it, each with a `main`.
    pub(crate) commands: &'static [&'static str],
    /// Build tags, separated by commas.
    pub(crate) tags: &'static str,
}

/// What became of building a module.
pub(crate) enum Built {
    Done,
    /// It cannot be had or built on this machine, for this reason.
    Not(String),
}

/// Installs Go if there is none, and makes sure that it is recent enough.
pub(crate) fn ensure(oldest: GoVersion) -> Result<()> {
    provision::ensure(&[GO])?;
    let output = go().args(["env", "GOVERSION"]).output().context("cannot start `go`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = version(text.trim()).with_context(|| format!("`go env GOVERSION` printed {text:?}"))?;
    if found < oldest {
        let (major, minor, patch) = oldest;
        bail!("Go is too old: {} is installed, {major}.{minor}.{patch} is needed", text.trim());
    }
    Ok(())
}

impl Module {
    /// Fetches the module and builds its programs into `folder`. An error means that the module is not what was pinned.
    pub(crate) fn build(&self, folder: &Path) -> Result<Built> {
        let wanted = format!("{}@{}", self.path, self.version);
        let source = match fetch(&wanted) {
            Ok((sum, source)) if sum == self.sum => source,
            Ok((sum, _)) => bail!("{wanted} is not what was pinned: its sum is {sum}, not {}", self.sum),
            Err(error) => return Ok(Built::Not(format!("{wanted} cannot be fetched: {error:#}"))),
        };
        let mut build = go();
        // Within the module its own go.sum is binding for everything that it needs.
        build.current_dir(source).args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false"]);
        build.args(["-ldflags=-s -w", "-tags", self.tags, "-o"]).arg(folder).args(self.commands);
        Ok(match cargo::run(&mut build) {
            Ok(()) => Built::Done,
            Err(error) => Built::Not(format!("{wanted} cannot be built: {error:#}")),
        })
    }
}

/// The sum of a module, and the folder that it was unpacked to.
fn fetch(wanted: &str) -> Result<(String, PathBuf)> {
    // Outside of any module: nothing here has a go.mod.
    let mut download = go();
    download.current_dir("/").args(["mod", "download", "-json", wanted]);
    eprintln!("+ go mod download {wanted}");
    let output = download.output().context("cannot start `go mod download`")?;
    let fetched: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
    if let Some(error) = fetched["Error"].as_str() {
        bail!("{error}");
    }
    let sum = fetched["Sum"].as_str().context("it has no sum")?;
    let folder = fetched["Dir"].as_str().context("it has no folder")?;
    Ok((sum.to_owned(), PathBuf::from(folder)))
}

/// Go as it is installed, without C and without what the user's own settings would add, for a limited time.
fn go() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10s", &cargo::limit(), "go"]);
    command.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0").env("GOWORK", "off").env_remove("GOFLAGS");
    command
}

fn version(text: &str) -> Option<GoVersion> {
    let mut numbers = text.strip_prefix("go")?.split(['.', ' ', '-']);
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    // A first release has no third number; the candidates for it are called `go1.27rc1`, which is no number.
    let patch = numbers.next().and_then(|patch| patch.parse().ok()).unwrap_or(0);
    Some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_compare_as_numbers() {
        assert_eq!(version("go1.24.4"), Some((1, 24, 4)));
        assert_eq!(version("go1.26"), Some((1, 26, 0)));
        assert_eq!(version("go1.24.4 X:nocoverageredesign"), Some((1, 24, 4)));
        assert!(version("go1.9.7") < version("go1.24.4"));
        assert_eq!(version("devel"), None);
    }
}
