//! The measurement `peer`: how fast a capture of contents that cannot be compressed gets to another node, beside a bare transfer by
//! the same library, and beside restic to a server on the same machine. All of it over loopback, with both ends on this machine's
//! cores, in one run and on the same data.
//!
//! Owns the order and the report. Refuses to take an end for an end that is not durable: Backstay's is its exit code, restic's too.

mod bare;
mod fleet;
mod latency;
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
use backstay_core::units::ByteRate;
use latency::Latencies;
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
    /// Records of a log whose time to the other node is measured, of each kind.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    records: u32,
    /// How fast the bulk data goes beside them.
    #[arg(long, default_value = "50MiB", value_parser = parse_size)]
    bulk_rate: u64,
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

/// And how many times the fsync alone a record of a log may take to be durable at the other node.
const OF_FSYNC_MAX: f64 = 3.0;

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
    let folder = work.path().join("latency");
    fs::create_dir(&folder)?;
    let latencies = latency::measure(&folder, options.records as usize, ByteRate(options.bulk_rate))?;
    report(options, &seconds, &latencies, &machine::describe(work.path()))
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

fn report(
    options: &Options,
    seconds: &Seconds,
    latencies: &Latencies,
    machine: &serde_json::Value,
) -> Result<()> {
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
    let of_fsync = report_latencies(latencies);
    if let Some(file) = &options.json {
        let figures = json!({
            "machine": machine,
            "bytes": options.size,
            "bare_seconds": seconds.bare,
            "backstay_seconds": seconds.backstay,
            "restic_seconds": seconds.restic,
            "fsync_seconds": latencies.fsync,
            "fsync_beside_seconds": latencies.fsync_beside,
            "append_seconds": latencies.append,
            "append_beside_seconds": latencies.append_beside,
            "bulk_bytes_per_second": latencies.bulk_rate,
        });
        fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    if backstay / bare < OF_BARE_MIN || backstay / restic < FASTER_MIN || of_fsync > OF_FSYNC_MAX {
        bail!("a bound is not held");
    }
    Ok(())
}

/// How many times the fsync beside the bulk data a record takes to be durable at the other node beside it.
fn report_latencies(found: &Latencies) -> f64 {
    let mib = found.bulk_rate / f64::from(1 << 20);
    println!("a record of 4 KiB, median and 99 of 100, milliseconds:");
    for (what, all) in [
        ("written and synced here, alone", &found.fsync),
        ("durable at the other node, alone", &found.append),
        ("written and synced here, beside the bulk", &found.fsync_beside),
        ("durable at the other node, beside it", &found.append_beside),
    ] {
        println!("{what:<40} {:>7.2} {:>7.2}", median(all) * 1e3, quantile(all, 0.99) * 1e3);
    }
    println!("bulk data meanwhile: {mib:.0} MiB/s");
    let of_fsync = median(&found.append_beside) / median(&found.fsync_beside);
    println!("times the fsync beside the same bulk data: {of_fsync:.2} (at most {OF_FSYNC_MAX})");
    println!(
        "times the fsync with nothing beside:       {:.2}",
        median(&found.append_beside) / median(&found.fsync)
    );
    of_fsync
}

fn median(all: &[f64]) -> f64 {
    quantile(all, 0.5)
}

fn quantile(all: &[f64], part: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() as f64 * part) as usize]
}
