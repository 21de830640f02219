//! `cargo xtask deny`: the dependencies against `deny.toml`.
//!
//! Owns the running of cargo-deny. Refuses to pass over advisories in silence when their database cannot be
//! fetched: it says so, and the outcome carries it.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{self, root};
use crate::tool::Tool;

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: &["--no-default-features"] };

/// What was judged when nothing was found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Everything,
    /// The advisory database could not be fetched: all but advisories.
    WithoutAdvisories,
}

/// Checks licences, sources and bans, and advisories where their database can be fetched.
pub(crate) fn run() -> Result<Judged> {
    let deny = CARGO_DENY.ensure()?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(root()).args(["--workspace", "--locked"]).args(arguments);
        command
    };
    cargo::run(&mut command(&["check", "--show-stats", "licenses", "bans", "sources"]))?;
    if cargo::run(&mut command(&["fetch", "db"])).is_err() {
        eprintln!("deny: advisories NOT CHECKED, their database cannot be fetched from here");
        return Ok(Judged::WithoutAdvisories);
    }
    cargo::run(&mut command(&["check", "--disable-fetch", "advisories"]))?;
    Ok(Judged::Everything)
}
