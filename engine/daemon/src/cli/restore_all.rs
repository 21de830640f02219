//! `restore --all`: on a bare machine, without any configuration, brings back what a vault has: the configuration, and every source.

mod configuration;
mod expected;
mod found;
mod plan;
mod record;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use backstay_core::config::{NodeName, VaultAddress};
use backstay_files::place::{Destination, Existing, PlaceError};
use backstay_files::restore::{RestoreError, Selection};
use serde::Serialize;
use tokio::runtime::Handle;

use self::configuration::{ConfigPlace, FoundConfiguration, ShownConfiguration};
use self::expected::{Expected, Unwanted};
use self::found::{Found, FoundSource};
use self::plan::Way;
use self::record::{Note, Record, State};
use self::tell::{end, progress_line, remark_on, tell};
use super::choose::Asked;
use super::restore::{RestoreArgs, watched};
use super::{CONFIG_DEFAULT, restore_stream};
use crate::bare;
use crate::failure::Failure;
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
    /// It has no place of its own: what a program has written.
    NeedsTo,
    /// The configuration does not name it, so that it does not go to where it was.
    NotConfigured,
    /// It was not begun, because of what is there, or because this version cannot restore it.
    Refused,
    /// It has failed on the way; the same command goes on with it.
    Failed,
}

/// A source, and the way that it goes, or why it goes none.
type Planned = (FoundSource, Result<Way, (Outcome, String)>);

impl Outcome {
    fn is_good(self) -> bool {
        self.is_done() || self == Self::NotConfigured
    }

    /// Whether it is where it should be, or would be.
    fn is_done(self) -> bool {
        matches!(self, Self::Planned | Self::Restored | Self::WasRestored)
    }

    /// Whether the same command has nothing more to do with it.
    fn is_over(self) -> bool {
        self.is_good() || self == Self::NeedsTo
    }

    fn word(self) -> &'static str {
        match self {
            Self::Planned => "",
            Self::Restored => "restored",
            Self::WasRestored => "was restored before",
            Self::Incomplete => "incomplete",
            Self::NeedsTo => "needs --to",
            Self::NotConfigured => "not configured",
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
    /// What the configuration has and the vault has not.
    missing: Vec<String>,
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
    remark_on(&format!(
        "in {address} is vault {} with {} sources of: {}",
        vault.id(),
        found.sources.len(),
        nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    ));
    let mut all = All { arguments, asked, shown: Vec::new(), failed: false };
    let chosen = chosen_node(&found, &nodes, node.as_ref(), arguments)?;
    let is_chosen = |node: &str| chosen.as_deref().is_none_or(|chosen| chosen == node);
    for (why, _) in found.later.iter().filter(|(_, node)| is_chosen(node)) {
        remark_on(why);
    }
    let place = match (config.0, &arguments.to) {
        (Some(path), _) => Some(ConfigPlace::at(path)),
        (None, None) => Some(ConfigPlace::at(Path::new(CONFIG_DEFAULT))),
        // It is below the directory with all the rest.
        (None, Some(_)) => None,
    };
    let mut expected = Vec::new();
    let mut found_configuration = None;
    for source in &found.sources {
        let Some(node) = source.name.as_fleet_of().filter(|node| is_chosen(node)) else { continue };
        match FoundConfiguration::of(source) {
            Ok(one) => {
                match (one.parsed(), node.parse::<NodeName>()) {
                    (Ok(config), Ok(node)) => expected.push(Expected::of(&config, &node)),
                    (Err(why), _) => remark_on(&format!(
                        "warning: what should be there is not known: the configuration cannot be read: {why}"
                    )),
                    (_, Err(why)) => remark_on(&format!("warning: {why}")),
                }
                found_configuration = Some(one);
            }
            Err(failure) => {
                all.failed = true;
                remark_on(&format!("the configuration was not restored: {failure}"));
            }
        }
    }
    let is_one =
        found.sources.iter().filter(|source| source.name.as_fleet_of().is_some_and(is_chosen)).count() == 1;
    let one = found_configuration.as_ref().filter(|_| is_one);
    let configuration = all.configuration(&found, one, place.as_ref());
    let record = all.record(place.as_ref());
    let names: BTreeSet<String> = found.sources.iter().map(|source| source.name.to_string()).collect();
    let missing = expected.iter().flat_map(|expected| expected.missing(&names)).collect();
    let sources = found.sources.into_iter().filter(|source| {
        let is_named = expected.iter().any(|expected| expected.has(source.name.as_str()));
        // Without --to, what it has of the configuration is at its place by now.
        match (source.name.as_fleet_of(), &arguments.to) {
            (Some(node), to) => to.is_some() && is_chosen(node),
            (None, _) => is_chosen(&source.node) || is_named,
        }
    });
    let own = expected.first().filter(|_| arguments.to.is_none() && chosen.is_some());
    all.restore(sources.collect(), own, record);
    let shown = ShownAll {
        from: address.to_string(),
        vault: vault.id().to_string(),
        dry_run: arguments.dry_run,
        nodes: nodes.into_iter().collect(),
        configuration,
        sources: all.shown,
        missing,
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
            .or_else(|| found.later.first().map(|(why, _)| why))
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
        // What this machine is to be is plain.
        (None, None) if nodes.len() == 1 => Ok(nodes.first().cloned()),
        (None, _) => Ok(None),
    }
}

/// What is done.
struct All<'a> {
    arguments: &'a RestoreArgs,
    asked: Asked,
    shown: Vec<ShownSource>,
    /// Whether anything was not done that was wanted, beside sources.
    failed: bool,
}

impl All<'_> {
    /// Brings back the configuration of the node that this machine is to be.
    fn configuration(
        &mut self,
        found: &Found,
        one: Option<&FoundConfiguration>,
        place: Option<&ConfigPlace>,
    ) -> Option<ShownConfiguration> {
        let place = place?;
        let Some(one) = one else {
            if !self.failed {
                let is_any = found.sources.iter().any(|source| source.name.as_fleet_of().is_some());
                let why = match (is_any, found.fleet_problems.first()) {
                    (_, Some(why)) => format!("it cannot be read: {why}"),
                    (true, None) => "say whose it is to be, with --node NODE".to_owned(),
                    (false, None) => format!(
                        "there is none in this vault: nothing was captured to it yet since its nodes keep it there. Write it by hand, to {}",
                        place.path.display()
                    ),
                };
                remark_on(&format!("the configuration was not restored: {why}"));
            }
            self.failed = true;
            return None;
        };
        match one.restore(place, self.arguments.dry_run) {
            Ok(shown) => {
                self.failed |= shown.is_refused();
                Some(shown)
            }
            Err(failure) => {
                remark_on(&format!("the configuration was not restored: {failure}"));
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

    fn restore(&mut self, sources: Vec<FoundSource>, own: Option<&Expected>, mut record: Record) {
        let to = self.arguments.to.as_deref();
        let newest = newest_of_roots(&sources);
        let mut planned: Vec<Planned> = Vec::new();
        for source in sources {
            let facts = source.facts();
            let unwanted = match own {
                Some(own) => own.refuses(&facts, &source.node),
                // Of several with one root the older ones may be what it was called before.
                None if to.is_none() => facts.root.as_ref().and_then(|root| {
                    let newest = newest.get(root).filter(|newest| newest.as_str() != source.name.as_str())?;
                    Some(Unwanted::Other(format!("{newest} is newer and was at the same path: use --to DIR")))
                }),
                None => None,
            };
            let way = match unwanted {
                Some(Unwanted::Unknown) => Err((
                    Outcome::NotConfigured,
                    "it is not in the configuration: use --to DIR to have it".to_owned(),
                )),
                Some(Unwanted::Other(why)) => Err((Outcome::Refused, why)),
                None => plan::way(&facts, to).map_err(|why| match facts.kind.as_str() {
                    "command" => (Outcome::NeedsTo, why),
                    _ => (Outcome::Refused, why),
                }),
            };
            let begun = way.as_ref().ok().and_then(|way| record.get(&source.place_at(way.path())));
            let source = match (begun, &self.asked) {
                // A vault that others write to has newer points by now.
                (Some(note), Asked::Newest) => source.begun_at(&note.point),
                _ => source,
            };
            planned.push((source, way));
        }
        // What lies in something else comes after it.
        planned.sort_by_key(|(source, way)| {
            (way.as_ref().ok().map(|way| way.path().to_path_buf()), source.name.clone())
        });
        for (mut source, way) in planned {
            let start = Instant::now();
            let to = way.as_ref().ok().map(|way| way.path().display().to_string());
            let (outcome, problem) = match way {
                Err((outcome, why)) => (outcome, Some(why)),
                Ok(way) => self.one(&mut source, &way, &mut record),
            };
            let common = &source.point.common;
            let shown = ShownSource {
                source: source.name.to_string(),
                node: source.node.clone(),
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
                remark_on(&progress_line(&shown));
            }
            self.shown.push(shown);
        }
        if self.shown.iter().all(|shown| shown.outcome.is_over()) && !self.arguments.dry_run {
            record.remove();
        }
    }

    fn one(&self, source: &mut FoundSource, way: &Way, record: &mut Record) -> (Outcome, Option<String>) {
        let place = source.place_at(way.path());
        let note = |state: State| Note { point: source.point.common.id.to_string(), state };
        match record.get(&place) {
            Some(known) if known.point != source.point.common.id.to_string() => {}
            Some(Note { state: State::Restored, .. }) if way.path().exists() => {
                return (Outcome::WasRestored, None);
            }
            Some(Note { state: State::Incomplete(why), .. }) if way.path().exists() => {
                return (Outcome::Incomplete, Some(why.clone()));
            }
            _ => {}
        }
        let occupied = occupied(way);
        match (self.arguments.dry_run, occupied) {
            (_, Some(why)) => return (Outcome::Refused, Some(why)),
            (true, None) => return (Outcome::Planned, None),
            (false, None) => record.note(&place, note(State::Begun)),
        }
        let restored = note(State::Restored);
        if let Err(failure) = source.anew() {
            return (Outcome::Failed, Some(failure.message));
        }
        match restore_to(source, way) {
            Ok(None) => {
                record.note(&place, restored);
                (Outcome::Restored, None)
            }
            Ok(Some(problem)) => {
                record.note(&place, Note { state: State::Incomplete(problem.clone()), ..restored });
                (Outcome::Incomplete, Some(problem))
            }
            Err(refused) => refused,
        }
    }
}

/// For each path, the source with the newest point of it.
fn newest_of_roots(sources: &[FoundSource]) -> BTreeMap<PathBuf, String> {
    let mut of_roots: Vec<_> = sources
        .iter()
        .filter_map(|source| {
            let root = source.facts().root?;
            Some((source.point.common.capture_start, source.name.to_string(), root))
        })
        .collect();
    of_roots.sort();
    // The last of each stays.
    of_roots.into_iter().map(|(_, name, root)| (root, name)).collect()
}

fn restore_to(source: &FoundSource, way: &Way) -> Restored {
    match way {
        Way::Tree(to) => restore_tree(source, to),
        Way::File(to) => restore_file(source, to),
    }
}

type Restored = Result<Option<String>, (Outcome, Option<String>)>;

/// What of it is not as it was, if anything.
fn restore_tree(source: &FoundSource, to: &Path) -> Restored {
    let restored = watched(&source.held, &source.point, None, &Selection::all(), to, Existing::Refuse);
    match restored {
        Ok(report) if report.problems_total == 0 => Ok(None),
        Ok(report) => {
            report.problems.iter().for_each(|problem| remark_on(&format!("warning: {problem}")));
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
