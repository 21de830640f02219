//! `backstay-bench`: measurements of the release build, beside other tools, on generated data.
//!
//! Owns the command line. Refuses to build or install anything: `cargo xtask bench` does that first.
#![allow(clippy::print_stdout, reason = "the report goes to standard output")]

mod binary;
mod change;
mod compare;
mod daemon;
mod dataset;
mod index;
mod ingest;
mod machine;
mod measure;
mod peer;
mod prune;
mod random;
mod recipe;
mod report;
mod s3;
mod size;
mod text;
mod tool;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;

use crate::dataset::Dataset;
use crate::ingest::{Keep, Plan, ingest};
use crate::recipe::Recipe;
use crate::size::parse_size;
use crate::tool::{Programs, Tool};

#[derive(Parser)]
#[command(name = "backstay-bench", about = "Measure Backstay beside other tools, on generated data")]
enum Bench {
    /// First backup, unchanged rescan, 1 % changed, restore; medians over the rounds.
    Ingest(Ingest),
    /// The index of a large vault: memory, lookups, building, reopening.
    Index(index::Options),
    /// Half of the points of a long history are dropped and what only they needed is deleted.
    Prune(prune::Options),
    /// A capture to another node over loopback, beside quinn alone and restic to rclone.
    Peer(peer::Options),
    /// First backup, some changed, restore, with the repository in a bucket of a Garage, beside restic; the requests of each are counted.
    S3(s3::Options),
}

#[derive(clap::Args)]
struct Ingest {
    /// Size of the data set, which is generated once and kept.
    #[arg(long, default_value = "4GiB", value_parser = parse_size)]
    size: u64,
    /// The same seed and size give the same data set, on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[arg(long, value_enum, default_value_t = Tools::Both)]
    tool: Tools,
    #[command(flatten)]
    programs: Programs,
    /// Write every figure, versions and the machine to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep repositories and restored trees.
    #[arg(long)]
    keep: bool,
    /// Where data sets and repositories are [default: ~/.cache/backstay/bench]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tools {
    Backstay,
    Restic,
    Both,
}

fn main() -> ExitCode {
    let outcome = match Bench::parse() {
        Bench::Ingest(options) => run_ingest(&options),
        Bench::Index(options) => index::run(&options),
        Bench::Prune(options) => prune::run(&options),
        Bench::Peer(options) => peer::run(&options),
        Bench::S3(options) => s3::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backstay-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_ingest(options: &Ingest) -> Result<()> {
    let tools = options.tools();
    let mut versions = BTreeMap::new();
    for (tool, program) in &tools {
        versions.insert(tool.name(), tool.version(program)?);
    }
    let cache = cache_folder(options.cache.as_deref())?;
    let recipe = Recipe { seed: options.seed, size_bytes: options.size };
    let dataset = Dataset::open(&cache, recipe)?;
    println!("seed {}, {} files, {} MiB", recipe.seed, dataset.plan.len(), dataset.total_bytes() >> 20);

    let work = tempfile::Builder::new().prefix("work-").tempdir_in(&cache)?;
    let keep = if options.keep { Keep::Everything } else { Keep::Nothing };
    let plan =
        Plan { dataset: &dataset, tools, rounds: options.rounds, work: work.path().to_path_buf(), keep };
    let machine = machine::describe(work.path());
    let taken = ingest(&plan);
    if keep == Keep::Everything || taken.is_err() {
        eprintln!("kept: {}", work.keep().display());
    }
    let figures = taken?;

    print!("{}", report::table(&figures, dataset.total_bytes()));
    if let Some(file) = &options.json {
        let mut value = report::json(&figures);
        value["bench"] = "ingest".into();
        value["recipe"] =
            json!({ "hash": recipe.hash(), "seed": recipe.seed, "size_bytes": recipe.size_bytes });
        value["tree"] = json!({ "files": dataset.plan.len(), "bytes": dataset.total_bytes() });
        value["versions"] = json!(versions);
        value["machine"] = machine;
        let text = serde_json::to_string_pretty(&value)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

impl Ingest {
    fn tools(&self) -> Vec<(Tool, PathBuf)> {
        let takes_part = |tool| match self.tool {
            Tools::Both => true,
            Tools::Backstay => tool == Tool::Backstay,
            Tools::Restic => tool == Tool::Restic,
        };
        self.programs.both().into_iter().filter(|(tool, _)| takes_part(*tool)).collect()
    }
}

/// Where data sets and repositories are when no folder is named.
fn cache_folder(named: Option<&Path>) -> Result<PathBuf> {
    let folder = match (named, std::env::var_os("XDG_CACHE_HOME")) {
        (Some(folder), _) => std::path::absolute(folder)?,
        (None, Some(base)) => PathBuf::from(base).join("backstay/bench"),
        (None, None) => PathBuf::from(std::env::var_os("HOME").context("HOME is not set: name a --cache")?)
            .join(".cache/backstay/bench"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
