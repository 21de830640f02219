//! `restore --all`: on a bare machine, without any configuration, brings back what a vault has: the configuration, and every source.

mod configuration;
mod found;
mod plan;
mod record;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use backstay_core::config::NodeName;
use backstay_core::units::ByteSize;
use backstay_files::place::{Destination, Existing, PlaceError};
use backstay_files::restore::{RestoreError, Selection};
use serde::Serialize;
use tokio::runtime::Handle;

use self::configuration::{ConfigPlace, ShownConfiguration};
use self::found::{Found, FoundSource};
use self::plan::Way;
use self::record::Record;
use super::choose::Asked;
use super::restore::{RestoreArgs, watched};
use super::status::show_table;
use super::{CONFIG_DEFAULT, print_json, restore_stream};
use crate::address::VaultAddress;
use crate::bare;
use crate::failure::Failure;
use crate::terminal::{print, remark};
use crate::vaults::open_key_file;

/// What became of a source, or would.
#[derive(Debug, Serialize)]
struct ShownSource {
    source: String,
    node: String,
    kind: String,
    point: String,
    time: String,
    entries: u64,
    bytes: u64,
    /// Where it is restored to, if it can be.
    to: Option<String>,
    outcome: Outcome,
    /// Why it was not restored, or what of it is not as it was.
    problem: Option<String>,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It would be restored.
    Planned,
    /// It is restored.
    Restored,
    /// This command has restored it before.
    WasRestored,
    /// It is restored, but for what `problem` says.
    Incomplete,
    /// It was not begun, because of what is there, or because this version cannot restore it.
    Refused,
    /// It has failed on the way; the same command goes on with it.
    Failed,
}

impl Outcome {
    fn is_good(self) -> bool {
        matches!(self, Self::Planned | Self::Restored | Self::WasRestored)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Planned => "",
            Self::Restored => "restored",
            Self::WasRestored => "was restored before",
            Self::Incomplete => "incomplete",
            Self::Refused => "REFUSED",
            Self::Failed => "FAILED",
        }
    }
}

#[derive(Debug, Serialize)]
struct ShownAll {
    from: String,
    vault: String,
    dry_run: bool,
    nodes: Vec<String>,
    configuration: Option<ShownConfiguration>,
    sources: Vec<ShownSource>,
    /// Sources of the vault that cannot be read.
    problems: Vec<String>,
}

/// Where the configuration is to be, as far as it was said.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedConfig<'a>(pub(super) Option<&'a Path>);

pub(super) fn run(
    arguments: &RestoreArgs,
    config: AskedConfig<'_>,
    json: bool,
    io: &Handle,
) -> Result<u8, Failure> {
    let (Some(from), Some(key_file)) = (&arguments.point.from, &arguments.point.key_file) else {
        return Err(Failure::usage(
            "--all needs to know where the vault is, and a key: --from s3://BUCKET/PREFIX or --from DIRECTORY, and --key-file FILE (the recovery key, or the page of `backstay kit`)",
        ));
    };
    let node = arguments.node.as_deref().map(str::parse::<NodeName>).transpose().map_err(Failure::usage)?;
    let address: VaultAddress = from.parse().map_err(Failure::usage)?;
    let address = address.with(arguments.endpoint.as_deref(), arguments.region.as_deref());
    let asked = Asked::of(&arguments.point)?;
    let key = open_key_file(key_file, arguments.passphrase_file.as_deref())?;
    let address = bare::completed(address.map_err(Failure::usage)?, &key);
    let vault = bare::open(&address, &key, io)?;
    let found = Found::in_vault(&vault, &address.to_string(), &asked)?;
    let nodes = found.nodes();
    remark(&format!(
        "in {address} is vault {} with {} sources of: {}",
        vault.id(),
        found.sources.len(),
        nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    ));
    let mut all = All { arguments, shown: Vec::new(), failed: false };
    let chosen = chosen_node(&found, &nodes, node.as_ref(), arguments)?;
    let place = match (config.0, &arguments.to) {
        (Some(path), _) => Some(ConfigPlace::at(path)),
        (None, None) => Some(ConfigPlace::at(Path::new(CONFIG_DEFAULT))),
        // It is below the directory with all the rest.
        (None, Some(_)) => None,
    };
    let configuration = all.configuration(&found, chosen.as_deref(), place.as_ref());
    let record = all.record(place.as_ref());
    let sources = found.sources.into_iter().filter(|source| {
        let is_chosen = chosen.as_deref().is_none_or(|chosen| chosen == source.node());
        // Without --to, what it has is at its place by now.
        is_chosen && (arguments.to.is_some() || source.name.as_fleet_of().is_none())
    });
    all.restore(sources.collect(), record);
    let shown = ShownAll {
        from: address.to_string(),
        vault: vault.id().to_string(),
        dry_run: arguments.dry_run,
        nodes: nodes.into_iter().collect(),
        configuration,
        sources: all.shown,
        problems: found.problems,
    };
    tell(&shown, json)?;
    end(&shown, all.failed)
}

/// The node whose sources are wanted; none where those of all are.
fn chosen_node(
    found: &Found,
    nodes: &BTreeSet<String>,
    asked: Option<&NodeName>,
    arguments: &RestoreArgs,
) -> Result<Option<String>, Failure> {
    let all = || nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if found.sources.is_empty() {
        let why = found
            .problems
            .first()
            .map_or_else(|| "nothing was captured to it by then".to_owned(), String::clone);
        return Err(Failure::failed(format!("the vault has no point to restore: {why}")));
    }
    match (asked, &arguments.to) {
        (Some(node), _) if nodes.contains(node.as_str()) => Ok(Some(node.to_string())),
        (Some(node), _) => Err(Failure::usage(format!(
            "there is nothing of node {node} in this vault; it has sources of: {}",
            all()
        ))),
        (None, None) if nodes.len() > 1 && !arguments.dry_run => Err(Failure::usage(format!(
            "the vault has sources of several nodes: {}. Say which of them this machine is to be, with --node NODE; or have all of them below a directory, with --to DIR",
            all()
        ))),
        (None, _) => Ok(None),
    }
}

/// What is done.
struct All<'a> {
    arguments: &'a RestoreArgs,
    shown: Vec<ShownSource>,
    /// Whether anything was not done that was wanted, beside sources.
    failed: bool,
}

impl All<'_> {
    /// Brings back the configuration of the node that this machine is to be.
    fn configuration(
        &mut self,
        found: &Found,
        chosen: Option<&str>,
        place: Option<&ConfigPlace>,
    ) -> Option<ShownConfiguration> {
        let place = place?;
        let mut of_fleet = found.sources.iter().filter(|source| source.name.as_fleet_of().is_some());
        let mut of_chosen =
            of_fleet.clone().filter(|source| chosen.is_none_or(|chosen| chosen == source.node()));
        let (Some(source), None) = (of_chosen.next(), of_chosen.next()) else {
            let why = match of_fleet.next() {
                Some(_) => "say whose it is to be, with --node NODE".to_owned(),
                None => format!(
                    "there is none in this vault: nothing was captured to it yet since its nodes keep it there. Write it by hand, to {}",
                    place.path.display()
                ),
            };
            remark(&format!("the configuration was not restored: {why}"));
            self.failed = true;
            return None;
        };
        match configuration::restore(source, place, self.arguments.dry_run) {
            Ok(shown) => {
                self.failed |= shown.is_refused();
                Some(shown)
            }
            Err(failure) => {
                remark(&format!("the configuration was not restored: {failure}"));
                self.failed = true;
                None
            }
        }
    }

    /// What was restored by an earlier run of the command.
    fn record(&self, place: Option<&ConfigPlace>) -> Record {
        let folder = self.arguments.to.clone().or_else(|| place.map(ConfigPlace::folder));
        match (folder, self.arguments.dry_run) {
            (Some(folder), true) => Record::read(&folder),
            (Some(folder), false) => Record::keep(&folder),
            (None, _) => Record::none(),
        }
    }

    fn restore(&mut self, sources: Vec<FoundSource>, mut record: Record) {
        let mut planned: Vec<(FoundSource, Result<Way, String>)> = sources
            .into_iter()
            .map(|source| {
                let way = plan::way(&source.facts(), self.arguments.to.as_deref());
                (source, way)
            })
            .collect();
        // What lies in something else comes after it.
        planned.sort_by_key(|(source, way)| {
            (way.as_ref().ok().map(|way| way.path().to_path_buf()), source.name.clone())
        });
        for (source, way) in planned {
            let start = Instant::now();
            let to = way.as_ref().ok().map(|way| way.path().display().to_string());
            let (outcome, problem) = match way {
                Err(why) => (Outcome::Refused, Some(why)),
                Ok(way) => self.one(&source, &way, &mut record),
            };
            let common = &source.point.common;
            let shown = ShownSource {
                source: source.name.to_string(),
                node: common.node.clone(),
                kind: common.kind.clone(),
                point: common.id.to_string(),
                time: common.capture_start.to_string(),
                entries: common.entries,
                bytes: common.bytes,
                to,
                outcome,
                problem,
                seconds: start.elapsed().as_secs_f64(),
            };
            if !self.arguments.dry_run {
                remark(&progress_line(&shown));
            }
            self.shown.push(shown);
        }
        if self.shown.iter().all(|shown| shown.outcome.is_good()) && !self.arguments.dry_run {
            record.remove();
        }
    }

    fn one(&self, source: &FoundSource, way: &Way, record: &mut Record) -> (Outcome, Option<String>) {
        let done = source.done_at(way.path());
        if record.has(&done) && way.path().exists() {
            return (Outcome::WasRestored, None);
        }
        if self.arguments.dry_run {
            return match occupied(way) {
                None => (Outcome::Planned, None),
                Some(why) => (Outcome::Refused, Some(why)),
            };
        }
        let restored = match way {
            Way::Tree(to) => restore_tree(source, to),
            Way::File(to) => restore_file(source, to),
        };
        match restored {
            Ok(None) => {
                record.add(done);
                (Outcome::Restored, None)
            }
            Ok(Some(problem)) => (Outcome::Incomplete, Some(problem)),
            Err(refused) => refused,
        }
    }
}

type Restored = Result<Option<String>, (Outcome, Option<String>)>;

/// What of it is not as it was, if anything.
fn restore_tree(source: &FoundSource, to: &Path) -> Restored {
    let restored = watched(&source.held, &source.point, None, &Selection::all(), to, Existing::Refuse);
    match restored {
        Ok(report) if report.problems_total == 0 => Ok(None),
        Ok(report) => {
            report.problems.iter().for_each(|problem| remark(&format!("warning: {problem}")));
            Ok(Some(format!("{} things are not as they were; see above", report.problems_total)))
        }
        Err(RestoreError::Place(PlaceError::NotEmpty { path })) => Err(not_empty(&path)),
        Err(error) => Err((Outcome::Failed, Some(error.to_string()))),
    }
}

fn restore_file(source: &FoundSource, to: &Path) -> Restored {
    match restore_stream::to_new_file(&source.held, &source.point, to) {
        Ok(_) => Ok(None),
        Err(_) if to.symlink_metadata().is_ok() => Err((Outcome::Refused, Some(there_already(to)))),
        Err(failure) => Err((Outcome::Failed, Some(failure.message))),
    }
}

fn not_empty(path: &Path) -> (Outcome, Option<String>) {
    let what = format!(
        "{} is there and not empty, and nothing is written over: move it away, or restore elsewhere with --to DIR",
        path.display()
    );
    (Outcome::Refused, Some(what))
}

fn there_already(path: &Path) -> String {
    format!(
        "{} is there already, and nothing is written over: move it away, or restore elsewhere with --to DIR",
        path.display()
    )
}

/// What would keep it from being restored there, as far as that is seen without a try.
fn occupied(way: &Way) -> Option<String> {
    match way {
        Way::File(to) => to.symlink_metadata().is_ok().then(|| there_already(to)),
        Way::Tree(to) => {
            let has_entries = std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
            let is_begun = matches!(Destination::read_marker(to), Ok(Some(_)));
            let is_other = to.exists() && !to.is_dir();
            if is_other {
                return Some(there_already(to));
            }
            (has_entries && !is_begun).then(|| not_empty(to).1.unwrap_or_default())
        }
    }
}

fn progress_line(shown: &ShownSource) -> String {
    let ShownSource { source, time, entries, bytes, seconds, .. } = shown;
    let to = shown.to.as_deref().unwrap_or("nowhere");
    match (shown.outcome, &shown.problem) {
        (Outcome::Restored, _) => format!(
            "{source} restored to {to} as of {time}: {entries} entries, {} in {seconds:.1} s",
            ByteSize(*bytes)
        ),
        (Outcome::WasRestored, _) => format!("{source} was restored to {to} before, as of {time}"),
        (outcome, problem) => {
            format!("{source}: {}: {}", outcome.word(), problem.as_deref().unwrap_or_default())
        }
    }
}

fn tell(shown: &ShownAll, json: bool) -> Result<(), Failure> {
    shown.problems.iter().for_each(|problem| remark(&format!("warning: {problem}")));
    if json {
        return print_json(shown);
    }
    if let Some(configuration) = &shown.configuration {
        configuration.lines().iter().for_each(|line| print(line));
    }
    let head = ["SOURCE", "NODE", "KIND", "POINT OF", "ENTRIES", "SIZE", "TO", ""].map(str::to_owned);
    let rows = shown.sources.iter().map(|one| {
        [
            one.source.clone(),
            one.node.clone(),
            one.kind.clone(),
            one.time.clone(),
            one.entries.to_string(),
            ByteSize(one.bytes).to_string(),
            one.to.clone().unwrap_or_else(|| "-".to_owned()),
            one.outcome.word().to_owned(),
        ]
    });
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    show_table(&table);
    for one in &shown.sources {
        if let Some(problem) = &one.problem {
            print(&format!("{}: {problem}", one.source));
        }
    }
    let bytes = shown.sources.iter().filter(|one| one.outcome.is_good()).map(|one| one.bytes).sum();
    if shown.dry_run {
        print(&format!(
            "{} would be restored; nothing was written. Without --dry-run it is done",
            ByteSize(bytes)
        ));
    }
    Ok(())
}

fn end(shown: &ShownAll, failed: bool) -> Result<u8, Failure> {
    let good = shown.sources.iter().filter(|one| one.outcome.is_good()).count();
    let bad: Vec<&str> =
        shown.sources.iter().filter(|one| !one.outcome.is_good()).map(|one| one.source.as_str()).collect();
    // What would be refused is a result as well.
    let is_told = bad.is_empty() && !failed || shown.dry_run;
    if is_told && shown.problems.is_empty() {
        return Ok(0);
    }
    let mut what: Vec<String> = Vec::new();
    if !bad.is_empty() {
        what.push(format!("not restored, or not whole: {}", bad.join(", ")));
    }
    if !shown.problems.is_empty() {
        what.push(format!("{} sources of the vault could not be read", shown.problems.len()));
    }
    if failed {
        what.push("the configuration is not what the vault has".to_owned());
    }
    let what = format!("{}; see above. The same command goes on with what is missing", what.join("; "));
    let incomplete = shown.sources.iter().any(|one| one.outcome == Outcome::Incomplete);
    Err(if good == 0 && !incomplete { Failure::failed(what) } else { Failure::partly(what) })
}
