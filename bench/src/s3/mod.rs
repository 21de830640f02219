//! The measurement `s3`: a first backup, one after some was changed, and a restore, with the repository in a bucket, by Backstay and by
//! restic. Both use the same Garage, which runs on this machine's cores beside them, on the same tree, and take turns.
//!
//! Owns the order. The first backup and the restore are processes of their own. After the first, Backstay's daemon runs, as it does
//! where it is used, and `now` has it capture; what it asks to get under way, a collection among it, is told apart. Requests are
//! counted by Garage itself, for both alike and at no cost to either; what it takes to make an empty repository is neither counted
//! nor timed. A restore that is not the original ends the measurement. What a run leaves is deleted at its
//! end, which makes restores to ext4 slower for some minutes (see `ingest::empty`): the next run had better wait for so long.

mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use backstay_testkit::garage::Garage;

use crate::daemon::Daemon;
use crate::dataset::Dataset;
use crate::ingest::{Step, empty, turns, verify};
use crate::measure::{Cost, measure};
use crate::recipe::Recipe;
use crate::size::parse_size;
use crate::tool::{Programs, Setup, Tool};
use crate::{cache_folder, change, machine};

/// What is measured, in this order.
const STEPS: [Step; 3] = [Step::First, Step::Changed, Step::Restore];

/// One file in so many is changed, a tenth of each.
const CHANGED_ONE_IN: usize = 25;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of the data set, which is generated once and kept.
    #[arg(long, default_value = "2GiB", value_parser = parse_size)]
    size: u64,
    /// The same seed and size give the same data set, on every machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    #[command(flatten)]
    programs: Programs,
    /// Write every figure to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where data sets, the bucket and restored trees are: of the size of all rounds [default: ~/.cache/backstay/bench]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

/// Requests of one step, by what they ask for.
type Requests = BTreeMap<String, u64>;

/// The daemon is at rest when nothing was asked for so long. It asks for nothing by itself then for a quarter of an hour, which is
/// the RPO of the source.
const REST: Duration = Duration::from_secs(2);

/// How long that may take.
const REST_SECONDS_MAX: u64 = 120;

/// One step of one tool in one round.
#[derive(Debug)]
struct Figure {
    round: u32,
    tool: Tool,
    step: Step,
    cost: Cost,
    requests: Requests,
}

/// Measures in turns, so that what the machine does besides meets both alike.
pub(crate) fn run(options: &Options) -> Result<()> {
    if std::env::var_os("BACKSTAY_GARAGE").is_none() {
        bail!("BACKSTAY_GARAGE does not name Garage: `cargo xtask bench s3` builds it");
    }
    let cache = cache_folder(options.cache.as_deref())?;
    let recipe = Recipe { seed: options.seed, size_bytes: options.size };
    let dataset = Dataset::open(&cache, recipe)?;
    change::undo(&dataset).context("cannot undo the edit of an interrupted run")?;
    let tools = options.programs.both();
    let versions = tools.iter().map(|(tool, program)| tool.version(program)).collect::<Result<Vec<_>>>()?;
    println!("seed {}, {} files, {}", recipe.seed, dataset.plan.len(), versions.join(", "));

    let work = tempfile::Builder::new().prefix("s3-").tempdir_in(&cache)?;
    let service = work.path().join("garage");
    fs::create_dir(&service)?;
    let garage = Garage::start(&service);
    let (mut figures, mut copies) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        for (tool, program) in turns(&tools, round) {
            let home = work.path().join(format!("round-{round}-{}", tool.name()));
            fs::create_dir(&home)?;
            dataset.warm()?;
            let taken = run_round(&dataset, tool, &program, &home, &garage);
            change::undo(&dataset)?;
            let taken = taken.with_context(|| format!("round {round}, {}", tool.name()))?;
            let figure = |(step, cost, requests)| Figure { round, tool, step, cost, requests };
            figures.extend(taken.into_iter().map(figure));
            empty(&home)?;
        }
        copies.push(copy(&dataset, &work.path().join(format!("round-{round}-cp")))?);
    }
    let described = machine::describe(work.path());
    print!("{}", report::table(&figures, &copies, dataset.total_bytes()));
    if let Some(file) = &options.json {
        let value = report::json(&figures, &copies, dataset.total_bytes(), &versions, &described);
        fs::write(file, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    match report::missed(&figures).as_slice() {
        [] => Ok(()),
        missed => bail!("missed: {}", missed.join("; ")),
    }
}

/// How long the files of a restore take by themselves: a copy of the tree, which is in memory, until it is on the disk, seconds.
fn copy(dataset: &Dataset, home: &Path) -> Result<f64> {
    fs::create_dir(home)?;
    dataset.warm()?;
    rustix::fs::sync();
    let mut command = Command::new("cp");
    command.arg("-a").arg(dataset.tree()).arg(home.join("copied"));
    let cost = measure(&mut command, &home.join("cp.log"))?;
    eprintln!("{:9} {:9} {:8.2} s", "cp", Step::Restore.name(), cost.wall_seconds);
    empty(home)?;
    Ok(cost.wall_seconds)
}

fn run_round(
    dataset: &Dataset,
    tool: Tool,
    program: &Path,
    home: &Path,
    garage: &Garage,
) -> Result<Vec<(Step, Cost, Requests)>> {
    let tree = dataset.tree();
    let setup = Setup::in_bucket(tool, program, home, &tree, garage.access())?;
    let restored = home.join("restored");
    let (mut taken, mut daemon) = (Vec::new(), None);
    for step in STEPS {
        if step == Step::Changed {
            if tool == Tool::Backstay {
                daemon = Some(at_rest(&setup, garage)?);
            }
            change::apply(dataset, CHANGED_ONE_IN)?;
        }
        if step == Step::Restore
            && let Some(mut daemon) = daemon.take()
        {
            daemon.stop()?;
        }
        let mut command = if step == Step::Restore { setup.restore(&restored) } else { setup.backup() };
        // Nobody's earlier writes may be flushed on this step's time.
        rustix::fs::sync();
        let before = (garage.requests(), cpu_seconds(daemon.as_ref())?);
        let mut cost = measure(&mut command, &home.join(format!("{}.log", step.name())))?;
        cost.cpu_seconds += cpu_seconds(daemon.as_ref())? - before.1;
        let before = before.0;
        let requests = since(&before, garage.requests());
        eprintln!("{:9} {:9} {:8.2} s {requests:?}", tool.name(), step.name(), cost.wall_seconds);
        taken.push((step, cost, requests));
    }
    verify(&tree, &restored)?;
    Ok(taken)
}

/// A daemon that has captured, looked after retention and captured once more, and asks for nothing now.
fn at_rest(setup: &Setup, garage: &Garage) -> Result<Daemon> {
    let before = garage.requests();
    let daemon = Daemon::start(setup, &setup.home().join("daemon.log"))?;
    // The first has a collection follow, after which all is read anew.
    for _ in 0..2 {
        measure(&mut setup.backup(), &setup.home().join("rest.log"))?;
        let (start, mut asked) = (Instant::now(), garage.requests());
        loop {
            thread::sleep(REST);
            let now = garage.requests();
            if now == asked {
                break;
            }
            asked = now;
            if start.elapsed().as_secs() > REST_SECONDS_MAX {
                bail!("the daemon does not come to rest; see {}", setup.home().join("daemon.log").display());
            }
        }
    }
    let requests = since(&before, garage.requests());
    eprintln!("{:9} {:9} {requests:?}", Tool::Backstay.name(), "at rest");
    Ok(daemon)
}

/// CPU time of the daemon so far, where there is one.
fn cpu_seconds(daemon: Option<&Daemon>) -> Result<f64> {
    daemon.map_or(Ok(0.0), Daemon::cpu_seconds)
}

/// What has come since then.
fn since(before: &Requests, after: Requests) -> Requests {
    let more = after.into_iter().map(|(what, count)| {
        let had = before.get(&what).copied().unwrap_or(0);
        (what, count - had)
    });
    more.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_come_since_counts() {
        let counts = |counts: &[(&str, u64)]| -> Requests {
            counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
        };
        let found = since(
            &counts(&[("GetObject", 3), ("PutObject", 5)]),
            counts(&[("GetObject", 3), ("ListObjectsV2", 1), ("PutObject", 9)]),
        );
        assert_eq!(found, counts(&[("ListObjectsV2", 1), ("PutObject", 4)]));
    }
}
