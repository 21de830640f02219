//! The measurement `peer`: how fast a capture of contents that cannot be compressed gets to another node, beside a bare transfer by
//! the same library, and beside restic to a server on the same machine. All of it over loopback, with both ends on this machine's
//! cores, in one run and on the same data.
//!
//! Owns the order and the report. Refuses to take an end for an end that is not durable: Backstay's is its exit code, restic's too.

mod bare;
mod pair;
mod server;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::machine;
use crate::measure::measure;
use crate::random::Random;
use crate::size::parse_size;
use pair::Pair;

/// Size of a file of the tree.
const FILE_BYTES: u64 = 64 << 20;

/// What a capture has to reach of a bare transfer.
const OF_BARE_MIN: f64 = 0.6;

/// And how many times as fast as restic it has to be.
const FASTER_MIN: f64 = 2.0;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of the tree.
    #[arg(long, default_value = "2GiB", value_parser = parse_size)]
    size: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// The programs to measure.
    #[arg(long, default_value = "backstay")]
    backstay: PathBuf,
    #[arg(long, default_value = "restic")]
    restic: PathBuf,
    #[arg(long, default_value = "rclone")]
    rclone: PathBuf,
    /// Where tree and repositories are: four times --size [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Write every figure to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Seconds of each round.
#[derive(Default)]
struct Seconds {
    bare: Vec<f64>,
    backstay: Vec<f64>,
    restic: Vec<f64>,
}

/// Measures in turns, so that what the machine does besides meets all alike.
pub(crate) fn run(options: &Options) -> Result<()> {
    let work = options.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("backstay-bench-peer-").tempdir_in(work)?;
    let tree = work.path().join("tree");
    make_tree(&tree, options.size)?;
    let mut seconds = Seconds::default();
    for round in 0..options.rounds {
        let folder = work.path().join(format!("round-{round}"));
        fs::create_dir(&folder)?;
        seconds.bare.push(bare::transfer(options.size)?);
        seconds.backstay.push(by_backstay(options, &tree, &folder)?);
        seconds.restic.push(by_restic(options, &tree, &folder)?);
        fs::remove_dir_all(&folder)?;
    }
    report(options, &seconds, &machine::describe(work.path()))
}

/// Contents that no tool can make smaller, or find twice.
fn make_tree(tree: &Path, size: u64) -> Result<()> {
    fs::create_dir(tree)?;
    let (mut random, mut left, mut number) = (Random::new(1, "peer"), size, 0);
    while left > 0 {
        let length = left.min(FILE_BYTES);
        let mut file = File::create(tree.join(format!("file-{number:04}")))?;
        let mut content = vec![0; length as usize];
        random.fill(&mut content);
        file.write_all(&content)?;
        (left, number) = (left - length, number + 1);
    }
    Ok(())
}

fn by_backstay(options: &Options, tree: &Path, folder: &Path) -> Result<f64> {
    let pair = Pair::start(&options.backstay, tree, &folder.join("backstay"))?;
    let cost = measure(&mut pair.capture(), &folder.join("backstay.log"))?;
    pair.check()?;
    Ok(cost.wall_seconds)
}

fn by_restic(options: &Options, tree: &Path, folder: &Path) -> Result<f64> {
    let server = server::Server::start(&options.rclone, &folder.join("repository"))?;
    let restic = |arguments: &[&str]| {
        let mut command = Command::new(&options.restic);
        command.args(["--repo", &server.url(), "--quiet", "--cache-dir"]).arg(folder.join("cache"));
        command.args(arguments).env("RESTIC_PASSWORD", "bench");
        command
    };
    let made = restic(&["init"]).status().context("cannot start restic")?;
    if !made.success() {
        bail!("restic init: {made}");
    }
    let mut backup = restic(&["backup"]);
    backup.arg(tree);
    Ok(measure(&mut backup, &folder.join("restic.log"))?.wall_seconds)
}

fn report(options: &Options, seconds: &Seconds, machine: &serde_json::Value) -> Result<()> {
    let mib = options.size as f64 / f64::from(1 << 20);
    let rate = |all: &[f64]| mib / median(all);
    let (bare, backstay, restic) = (rate(&seconds.bare), rate(&seconds.backstay), rate(&seconds.restic));
    println!("{mib:.0} MiB that cannot be compressed, over loopback, medians of {} rounds", options.rounds);
    for (what, all, rate) in [
        ("quinn alone, 1 stream, nothing stored", &seconds.bare, bare),
        ("backstay now to a peer, durable there", &seconds.backstay, backstay),
        ("restic backup to rclone serve restic", &seconds.restic, restic),
    ] {
        let each: Vec<String> = all.iter().map(|seconds| format!("{seconds:.2}")).collect();
        println!("{what:<40} {rate:>7.0} MiB/s   ({} s)", each.join(", "));
    }
    println!("of quinn alone: {:.2} (at least {OF_BARE_MIN})", backstay / bare);
    println!("times restic:   {:.2} (at least {FASTER_MIN})", backstay / restic);
    if let Some(file) = &options.json {
        let figures = json!({
            "machine": machine,
            "bytes": options.size,
            "bare_seconds": seconds.bare,
            "backstay_seconds": seconds.backstay,
            "restic_seconds": seconds.restic,
        });
        fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    if backstay / bare < OF_BARE_MIN || backstay / restic < FASTER_MIN {
        bail!("a bound is not held");
    }
    Ok(())
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
