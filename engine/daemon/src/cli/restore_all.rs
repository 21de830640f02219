//! `restore --all`: on a bare machine, without any configuration, brings back what a vault has: the configuration, and every source.

mod configuration;
mod expected;
mod found;
mod known;
mod next;
mod plan;
mod record;
mod restoring;
mod tell;

use std::collections::BTreeSet;
use std::path::Path;

use backstay_core::config::{NodeName, VaultAddress};
use serde::Serialize;
use tokio::runtime::Handle;

use self::configuration::{ConfigPlace, FoundConfiguration, ShownConfiguration};
use self::found::Found;
use self::known::Known;
use self::next::Next;
use self::record::Record;
use self::restoring::Restoring;
use self::tell::{end, remark_on, tell};
use super::CONFIG_DEFAULT;
use super::choose::Asked;
use super::restore::RestoreArgs;
use crate::bare;
use crate::failure::Failure;
use crate::vaults::{is_page, open_key_file};

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
    /// Why not all of the configuration is known.
    unknown: Vec<String>,
    sources: Vec<ShownSource>,
    /// What the configuration has and the vault has not.
    missing: Vec<String>,
    /// Sources of the vault that cannot be read.
    problems: Vec<String>,
    /// What is left to do, line by line.
    next: Vec<String>,
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
    let address = address.map_err(Failure::usage)?;
    bare::refuse_missing(&address)?;
    let key = open_key_file(key_file, arguments.passphrase_file.as_deref())?;
    let address = bare::completed(address, &key);
    let vault = bare::open(&address, &key, io)?;
    let found = Found::in_vault(&vault, &address.to_string(), &asked)?;
    let nodes = found.nodes();
    remark_on(&format!(
        "in {address} is vault {} with {} sources of: {}",
        vault.id(),
        found.sources.len(),
        nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    ));
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
    let Known { one, expected, problems: mut unknown } = Known::of(&found, chosen.as_deref(), place.as_ref());
    let own = expected.first().filter(|_| arguments.to.is_none() && chosen.is_some());
    if own.is_none() && arguments.to.is_none() && chosen.is_some() {
        unknown.push(
            "without it, each source goes to the path that its newest point has noted, and whether one is missing is not known"
                .to_owned(),
        );
    }
    unknown.iter().for_each(|why| remark_on(&format!("warning: {why}")));
    let mut failed = place.is_some() && !unknown.is_empty();
    let configuration = match (&one, &place) {
        (Some(one), Some(place)) => match one.restore(place, arguments.dry_run) {
            Ok(shown) => {
                // Of a run without a trace, what would be refused is a result.
                failed |= shown.is_refused() && !arguments.dry_run;
                Some(shown)
            }
            Err(failure) => {
                remark_on(&format!("the configuration was not restored: {failure}"));
                failed = true;
                None
            }
        },
        _ => None,
    };
    let record = record(arguments, place.as_ref());
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
    let mut restoring = Restoring { arguments, asked, shown: Vec::new() };
    restoring.restore(sources.collect(), own, record);
    // Not before its trees are there: what is captured of a path that is empty is empty as well.
    let lacks = |one: &ShownSource| matches!(one.outcome, Outcome::Failed | Outcome::Refused);
    let is_all = configuration.is_some() && !restoring.shown.iter().any(lacks);
    let next = match (&one, &place, &chosen) {
        (Some(one), Some(place), Some(_)) if is_all && !arguments.dry_run => left_to_do(one, place, key_file),
        _ => Vec::new(),
    };
    let shown = ShownAll {
        from: address.to_string(),
        vault: vault.id().to_string(),
        dry_run: arguments.dry_run,
        nodes: nodes.into_iter().collect(),
        configuration,
        unknown,
        sources: restoring.shown,
        missing,
        problems: found.problems,
        next,
    };
    tell(&shown, json)?;
    end(&shown, failed)
}

/// What has the vaults know this machine, where the configuration says what these are.
fn left_to_do(one: &FoundConfiguration, place: &ConfigPlace, key_file: &Path) -> Vec<String> {
    let Ok(config) = one.parsed() else { return Vec::new() };
    let next = Next {
        config: &config,
        read_from: one.read_from(place),
        key_file,
        is_page: is_page(key_file),
        roster: one.roster(),
    };
    next.lines()
}

/// What was restored by an earlier run of the command.
fn record(arguments: &RestoreArgs, place: Option<&ConfigPlace>) -> Record {
    let folder = arguments.to.clone().or_else(|| place.map(ConfigPlace::folder));
    match (folder, arguments.dry_run) {
        (Some(folder), true) => Record::read(&folder),
        (Some(folder), false) => Record::keep(&folder),
        (None, _) => Record::none(),
    }
}

/// The node whose sources are wanted; none where those of all are.
fn chosen_node(
    found: &Found,
    nodes: &BTreeSet<String>,
    asked: Option<&NodeName>,
    arguments: &RestoreArgs,
) -> Result<Option<String>, Failure> {
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
        (Some(node), _) => {
            let so_called = found.who_call_themselves(node.as_str());
            let renamed = match so_called.is_empty() {
                true => String::new(),
                false => format!(
                    "; what calls itself {node} there is signed by the key that the vault knows as {known}, since before it was renamed: give --node {known}",
                    known = so_called.into_iter().collect::<Vec<_>>().join(" or ")
                ),
            };
            Err(Failure::usage(format!(
                "there is nothing of node {node} in this vault; it has sources of: {}{renamed}",
                found.told()
            )))
        }
        (None, None) if nodes.len() > 1 && !arguments.dry_run => Err(Failure::usage(format!(
            "the vault has sources of several nodes: {}. Say which of them this machine is to be, with --node NODE; or have all of them below a directory, with --to DIR",
            found.told()
        ))),
        // What this machine is to be is plain.
        (None, None) if nodes.len() == 1 => Ok(nodes.first().cloned()),
        (None, _) => Ok(None),
    }
}
