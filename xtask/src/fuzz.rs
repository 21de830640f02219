//! `cargo xtask fuzz`: libFuzzer with AddressSanitizer, without a nightly toolchain.
//!
//! Owns the compiler flags. Refuses to own targets and corpora: they are in `fuzz/libfuzzer`, a workspace of
//! its own, because these flags must not reach the ordinary build.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{self, root};

/// Flags for coverage-guided fuzzing: edge counters, the table of program counters that libFuzzer prints new
/// coverage from, traced comparisons, and branches left unfolded so that each is seen. One codegen unit keeps
/// the counters of a crate together.
const COVERAGE_FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=yes",
    "-Zsanitizer=address",
];

/// A decoder that takes longer for one input has a bug of its own kind.
const INPUT_LIMIT_SECONDS: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The decoder to fuzz: a binary of fuzz/libfuzzer.
    target: String,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes one target, beginning with the kept inputs of `fuzz/corpus/TARGET`. What it finds, new inputs and
/// crashes alike, stays below `fuzz/libfuzzer/target`: which of them are worth keeping is for a person to say.
pub(crate) fn run(options: &Options) -> Result<()> {
    let home = root().join("fuzz/libfuzzer");
    let manifest = home.join("Cargo.toml");
    if !manifest.is_file() {
        bail!("there is no {}: the fuzz targets live there", manifest.display());
    }
    let found = made(home.join("target/corpus").join(&options.target))?;
    let crashes = made(home.join("target/crashes").join(&options.target))?;
    let mut fuzz = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    fuzz.current_dir(&home)
        // An explicit target keeps the flags away from build scripts and procedural macros.
        .args(["run", "--release", "--target", &host()?, "--bin", &options.target, "--"])
        .arg(format!("-max_total_time={}", options.seconds))
        // Without value profiles a comparison of two bytes (a magic, a version) is only passed by luck.
        .args(["-use_value_profile=1", &format!("-timeout={INPUT_LIMIT_SECONDS}")])
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        // libFuzzer writes to the first folder and only reads the others.
        .arg(&found)
        .args(Some(root().join("fuzz/corpus").join(&options.target)).filter(|kept| kept.is_dir()))
        // Sanitizers are unstable options; this lets the pinned stable compiler accept them.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", COVERAGE_FLAGS.join(" "))
        // In a shared folder these flags would make cargo rebuild what the ordinary build left there.
        .env("CARGO_TARGET_DIR", home.join("target"));
    cargo::run(&mut fuzz)
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn host() -> Result<String> {
    let output =
        Command::new("rustc").args(["--version", "--verbose"]).output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_linux_triple() {
        let host = host().expect("rustc is installed");
        assert!(host.contains("-linux-"), "{host}");
    }
}
