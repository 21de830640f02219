//! The measurement `prune`: half of the points of a long history are dropped, and what only they needed is deleted, by
//! Backstay and by restic. Both have captured the same tree after each of the same edits.
//!
//! Owns the history and the order. Pruning destroys what it measures: each round works on a copy of the repositories, and
//! the tools take turns. At the end captures go on while Backstay prunes. Refuses to believe either tool: each has to check
//! its repository afterwards, and the newest point is restored and compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::compare::{differences, walk};
use crate::daemon::Daemon;
use crate::machine;
use crate::measure::{Cost, measure};
use crate::random::Random;
use crate::size::parse_size;
use crate::tool::{Programs, Setup, Tool};

/// Size of a file of the tree, all of which an edit replaces.
const FILE_BYTES: u64 = 256 << 10;
/// The folder of the tree within the one of the history.
const TREE: &str = "tree";
/// How many times as fast as restic a prune has to be.
const FASTER_MIN: f64 = 5.0;
/// What `vault prune` ends with when it waits for a capture.
const WAITS: i32 = 3;
/// How often it is tried beside captures.
const PRUNES_MAX: u32 = 100;
/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Points of the history.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(4..=10_000))]
    points: u64,
    /// Size of the repository in the end, more or less: half is the tree, half what has changed.
    #[arg(long, default_value = "4GiB", value_parser = parse_size)]
    size: u64,
    /// The same seed gives the same history, on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    #[command(flatten)]
    programs: Programs,
    /// Where tree and repositories are: three times --size, and as much again [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Keep the history in FOLDER, and take the one that is there if it was made with the same figures.
    #[arg(long, value_name = "FOLDER", conflicts_with = "work")]
    history: Option<PathBuf>,
    /// Write every figure to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One prune.
struct Figure {
    tool: Tool,
    cost: Cost,
    before_bytes: u64,
    after_bytes: u64,
}

impl Figure {
    fn print(&self) {
        println!(
            "{:<9} {:>8.2} s  {:>8.2} s of CPU  {:>5} MiB  {:>6} MiB before, {:>6} after",
            self.tool.name(),
            self.cost.wall_seconds,
            self.cost.cpu_seconds,
            self.cost.peak_anon_bytes >> 20,
            self.before_bytes >> 20,
            self.after_bytes >> 20
        );
    }
}

/// What captures went through while a prune ran.
struct Meanwhile {
    prune_seconds: f64,
    captures: u64,
    slowest_seconds: f64,
}

/// Makes the history, or takes the one that is there, prunes it, prints and judges.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tools = options.programs.both();
    for (tool, program) in &tools {
        println!("{}", tool.version(program)?);
    }
    let temporary;
    let work = match &options.history {
        Some(folder) => folder.as_path(),
        None => {
            let folder = options.work.clone().unwrap_or_else(std::env::temp_dir);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            temporary = tempfile::Builder::new().prefix("backstay-prune-").tempdir_in(&folder)?;
            temporary.path()
        }
    };
    let setups = made(options, &tools, work)?;
    let kept = options.points / 2;
    let mut figures = Vec::new();
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..setups.len()).collect();
        order.rotate_left(round as usize % setups.len());
        for place in order {
            let figure = one(&setups[place], kept, work)?;
            figure.print();
            figures.push(figure);
        }
    }
    let saved = (work.join("saved tree"), work.join("saved"));
    copy(&work.join(TREE), &saved.0)?;
    copy(setups[0].home(), &saved.1)?;
    let mut history = History::new(options, work, "prune, meanwhile");
    let meanwhile = prune_while_capturing(&setups[0], kept, &mut history);
    if meanwhile.is_err() && options.history.is_some() {
        let kept = work.join("failed");
        fs::rename(setups[0].home(), &kept)?;
        eprintln!("what it failed with is kept in {}", kept.display());
        fs::create_dir(setups[0].home())?;
    }
    put_back(&saved.0, &work.join(TREE))?;
    put_back(&saved.1, setups[0].home())?;
    report(options, &figures, &meanwhile?, work)
}

/// The history of each tool, whole.
fn made(options: &Options, tools: &[(Tool, PathBuf)], work: &Path) -> Result<Vec<Setup>> {
    let made = work.join("made.json");
    let figures = json!({ "points": options.points, "size_bytes": options.size, "seed": options.seed });
    let tree = work.join(TREE);
    if made.exists() {
        let there: Value = serde_json::from_str(&fs::read_to_string(&made)?)?;
        if there != figures {
            bail!("{} has a history of other figures: {there}; name another folder", work.display());
        }
        return Ok(tools
            .iter()
            .map(|(tool, program)| Setup::made(*tool, program, &work.join(tool.name()), &tree))
            .collect());
    }
    // One that was cut short has no record of its figures, and is in the way.
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let mut history = History::new(options, work, "prune");
    history.make()?;
    let mut setups = Vec::new();
    for (tool, program) in tools {
        let home = work.join(tool.name());
        fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
        setups.push(Setup::new(*tool, program, &home, &tree)?);
    }
    let start = Instant::now();
    for point in 0..options.points {
        if point > 0 {
            history.edit()?;
        }
        for setup in &setups {
            measure(&mut setup.backup(), &work.join("log"))?;
        }
    }
    println!(
        "{} points of {} MiB, seed {}, made in {:.0} s",
        options.points,
        options.size >> 20,
        options.seed,
        start.elapsed().as_secs_f64()
    );
    fs::write(made, figures.to_string())?;
    Ok(setups)
}

/// Prunes a repository, and puts it back as it was.
fn one(setup: &Setup, kept: u64, work: &Path) -> Result<Figure> {
    let saved = work.join("saved");
    copy(setup.home(), &saved)?;
    setup.keep_last(kept)?;
    let before_bytes = repository_bytes(setup)?;
    let log = work.join("log");
    // What copying has left to be written is not the tool's.
    rustix::fs::sync();
    let cost = measure(&mut setup.prune(kept), &log)?;
    let after_bytes = repository_bytes(setup)?;
    measure(&mut setup.check(), &log).context("the repository is not whole after the prune")?;
    let restored = work.join("restored");
    measure(&mut setup.restore(&restored), &log)?;
    let wrong = differences(&work.join(TREE), &restored)?;
    if !wrong.is_empty() {
        bail!("the newest point is not the tree after {} has pruned: {wrong:?}", setup.tool().name());
    }
    fs::remove_dir_all(&restored)?;
    put_back(&saved, setup.home())?;
    Ok(Figure { tool: setup.tool(), cost, before_bytes, after_bytes })
}

/// The daemon prunes, and captures one edit after the other meanwhile.
fn prune_while_capturing(setup: &Setup, kept: u64, history: &mut History) -> Result<Meanwhile> {
    setup.keep_last(kept)?;
    rustix::fs::sync();
    let mut daemon = Daemon::start(setup, &setup.home().join("daemon.log"))?;
    let start = Instant::now();
    let mut prune = setup.prune(kept).stdout(Stdio::null()).spawn()?;
    let (mut captures, mut slowest_seconds, mut prunes) = (0, 0.0f64, 1);
    loop {
        if let Some(status) = prune.try_wait()? {
            match status.code() {
                Some(0) => break,
                // It has met a capture that was under way, and the next one goes on from there.
                Some(WAITS) if prunes < PRUNES_MAX => {
                    prunes += 1;
                    prune = setup.prune(kept).stdout(Stdio::null()).spawn()?;
                }
                _ => bail!("the prune failed beside captures: {status}, after {prunes} tries"),
            }
        }
        history.edit()?;
        let capture = Instant::now();
        let status = setup.backup().stdout(Stdio::null()).status()?;
        if !status.success() {
            bail!("a capture failed while a prune ran: {status}");
        }
        captures += 1;
        slowest_seconds = slowest_seconds.max(capture.elapsed().as_secs_f64());
    }
    let prune_seconds = start.elapsed().as_secs_f64();
    daemon.stop()?;
    measure(&mut setup.check(), &setup.home().join("log")).context("the vault is not whole")?;
    Ok(Meanwhile { prune_seconds, captures, slowest_seconds })
}

fn report(options: &Options, figures: &[Figure], meanwhile: &Meanwhile, work: &Path) -> Result<()> {
    let median = |tool: Tool| {
        let mut seconds: Vec<f64> = figures
            .iter()
            .filter(|figure| figure.tool == tool)
            .map(|figure| figure.cost.wall_seconds)
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let faster = median(Tool::Restic) / median(Tool::Backstay);
    println!(
        "backstay is {faster:.2} times as fast (bound: {FASTER_MIN}), medians of {} rounds",
        options.rounds
    );
    println!(
        "beside captures the prune took {:.2} s; {} captures meanwhile, the slowest {:.2} s",
        meanwhile.prune_seconds, meanwhile.captures, meanwhile.slowest_seconds
    );
    if let Some(file) = &options.json {
        let rounds: Vec<Value> = figures
            .iter()
            .map(|figure| {
                json!({
                    "tool": figure.tool.name(),
                    "seconds": figure.cost.wall_seconds,
                    "cpu_seconds": figure.cost.cpu_seconds,
                    "peak_anon_bytes": figure.cost.peak_anon_bytes,
                    "before_bytes": figure.before_bytes,
                    "after_bytes": figure.after_bytes,
                })
            })
            .collect();
        let value = json!({
            "bench": "prune",
            "points": options.points,
            "size_bytes": options.size,
            "seed": options.seed,
            "rounds": rounds,
            "faster": faster,
            "beside_captures": {
                "seconds": meanwhile.prune_seconds,
                "captures": meanwhile.captures,
                "slowest_capture_seconds": meanwhile.slowest_seconds,
            },
            "machine": machine::describe(work),
        });
        fs::write(file, serde_json::to_string_pretty(&value)? + "\n")?;
    }
    match faster >= FASTER_MIN && meanwhile.captures > 0 {
        true => Ok(()),
        false => bail!("a bound was not held"),
    }
}

/// A tree and what is done to it.
struct History {
    tree: PathBuf,
    random: Random,
    files: u64,
    edited_at_once: u64,
}

impl History {
    fn new(options: &Options, work: &Path, stream: &str) -> Self {
        Self {
            tree: work.join(TREE),
            random: Random::new(options.seed, stream),
            files: (options.size / 2 / FILE_BYTES).max(1),
            edited_at_once: (options.size / 2 / options.points / FILE_BYTES).max(1),
        }
    }

    /// Makes the tree: bytes that do not compress, in files of one size.
    fn make(&mut self) -> Result<()> {
        fs::create_dir(&self.tree).with_context(|| format!("cannot make {}", self.tree.display()))?;
        (0..self.files).try_for_each(|file| self.write(file))
    }

    fn path(&self, file: u64) -> PathBuf {
        self.tree.join(format!("{:02}", file % 64)).join(format!("file {file}"))
    }

    fn write(&mut self, file: u64) -> Result<()> {
        let mut bytes = vec![0; FILE_BYTES as usize];
        self.random.fill(&mut bytes);
        let path = self.path(file);
        fs::create_dir_all(path.parent().context("a file of the tree has a folder")?)?;
        fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    fn edit(&mut self) -> Result<()> {
        for _ in 0..self.edited_at_once {
            let file = self.random.below(self.files);
            self.write(file)?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status()?;
    match status.success() {
        true => Ok(()),
        false => bail!("cannot copy {} to {}", from.display(), to.display()),
    }
}

fn put_back(saved: &Path, folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder)?;
    Ok(fs::rename(saved, folder)?)
}

/// What the repository takes on disk, without what is only kept to be brought back.
fn repository_bytes(setup: &Setup) -> Result<u64> {
    let repository = setup.repository();
    let mut bytes = 0;
    for relative in walk(&repository)?.into_iter().filter(|relative| !relative.starts_with("trash")) {
        let metadata = fs::symlink_metadata(repository.join(relative))?;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(bytes)
}
