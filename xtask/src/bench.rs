//! `cargo xtask bench`: builds the release binaries and runs a measurement.
//!
//! Owns what must be built and installed first. Refuses to measure: that is the package `backstay-bench`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{self, cargo, root};
use crate::garage;
use crate::provision::{self, Program};

const RESTIC: Program = Program { name: "restic", package: "restic" };

const RCLONE: Program = Program { name: "rclone", package: "rclone" };

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// First backup, unchanged rescan, 1 % changed, restore: Backstay and restic on the same tree.
    Ingest {
        /// Passed on: --size 4GiB, --rounds 3, --tool backstay|restic|both, --json FILE, --keep, … (`-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The index of 100 million chunks: memory, lookups a second, building and reopening; fails where a bound is not held.
    Index {
        /// Passed on: --chunks 100000000, --seed 1, --lookups 2000000, --work FOLDER, --json FILE (`-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Half of the points of a long history are dropped: `vault prune` beside `restic forget --prune`, on the same history.
    Prune {
        /// Passed on: --points 1000, --size 4GiB, --rounds 3, --work FOLDER, --json FILE (`-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A capture to another node over loopback, beside quinn alone and restic to `rclone serve restic`; fails where a bound is not held.
    Peer {
        /// Passed on: --size 2GiB, --rounds 3, --work FOLDER, --json FILE (`-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// First backup, some changed, restore, with the repository in a bucket of a Garage, beside restic, with the requests of each;
    /// fails where a bound is not held.
    S3 {
        /// Passed on: --size 2GiB, --rounds 3, --cache FOLDER, --json FILE (`-- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Splitting, naming, sealing, opening and digests, each by itself on one core.
    Steps,
}

/// Builds, provisions, measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.bench {
        Bench::Ingest { arguments } => beside_restic("ingest", arguments, &[]),
        Bench::Prune { arguments } => beside_restic("prune", arguments, &[]),
        Bench::S3 { arguments } => {
            beside_restic("s3", arguments, &[(garage::PROGRAM_VARIABLE, garage::ensure()?)])
        }
        Bench::Peer { arguments } => {
            provision::ensure(&[RCLONE])?;
            beside_restic("peer", arguments, &[])
        }
        Bench::Index { arguments } => index(arguments),
        Bench::Steps => {
            let mut bench = cargo("bench");
            bench.args(["--package", "backstay-bench", "--bench", "steps"]);
            cargo::run(&mut bench)
        }
    }
}

fn beside_restic(bench: &str, arguments: &[String], variables: &[(&str, PathBuf)]) -> Result<()> {
    provision::ensure(&[RESTIC])?;
    let mut build = cargo("build");
    build.args(["--release", "--package", "backstay-daemon", "--package", "backstay-bench"]);
    cargo::run(&mut build)?;
    let release = target_folder().join("release");
    let mut measure = Command::new(release.join("backstay-bench"));
    measure.arg(bench).arg("--backstay").arg(release.join("backstay")).args(arguments);
    measure.envs(variables.iter().map(|(name, value)| (name, value)));
    cargo::run(&mut measure)
}

fn index(arguments: &[String]) -> Result<()> {
    let mut build = cargo("build");
    build.args(["--release", "--package", "backstay-bench"]);
    cargo::run(&mut build)?;
    let mut measure = Command::new(target_folder().join("release/backstay-bench"));
    measure.arg("index").args(arguments);
    cargo::run(&mut measure)
}

fn target_folder() -> PathBuf {
    // A relative CARGO_TARGET_DIR is relative to where cargo runs, which is the root of the repository.
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}
