//! Cargo tools of a pinned version, built once and kept outside the checkout.
//!
//! Owns `~/.cache/backstay/tools`. Refuses tools of another version that happen to be installed: everyone
//! and CI judge with the same one.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;

/// A tool from crates.io. Its binary has the name of the crate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Which features it is built with: arguments of `cargo install`.
    pub(crate) features: &'static [&'static str],
}

impl Tool {
    /// The path of the binary, after building it if this machine has not yet (minutes on a small machine, ten for the largest).
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let home = cache_folder()?.join("tools").join(format!("{}-{}", self.name, self.version));
        let binary = home.join("bin").join(self.name);
        if !binary.is_file() {
            self.build(&home)?;
        }
        Ok(binary)
    }

    /// Builds into a neighbouring folder and renames it, so that an interrupted build is never taken for a tool.
    fn build(&self, home: &PathBuf) -> Result<()> {
        let partial = home.with_extension("partial");
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        install
            .args(["install", "--locked", "--version", self.version, self.name])
            .args(self.features)
            .arg("--root")
            .arg(&partial)
            // Its dependencies are not ours: they must not land in our target folder.
            .env_remove("CARGO_TARGET_DIR");
        cargo::run(&mut install)?;
        std::fs::rename(&partial, home).with_context(|| format!("cannot move the tool to {}", home.display()))
    }
}

/// Where this repository keeps what outlives a checkout: `$XDG_CACHE_HOME/backstay`.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("backstay"))
}
