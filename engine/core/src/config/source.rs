//! Sources: what is protected, with everything filled in that policies say about it. Owns the keys of each
//! kind; inheritance is in `policy`, and the way to targets in `flow`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::units::{ByteSize, Span};

use super::flow::{Flow, LiveFlow, ServiceContext};
use super::keep::Keep;
use super::name::{CommandName, ServiceName, SourceName};
use super::path::DatasetName;
use super::policy::{Layers, SyncMode, Target, Verify};
use super::problem::{ProblemKind, Refusal};
use super::secret::SecretRef;
use super::table::{Table, read_named};
use super::value::Value;
use super::variable::VariableName;

/// How long a `command` source may run where nothing is said.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);
/// How long it may at most: a commit that stands still for a day is given up by the custodian, and one of a `command`
/// source stands while its program runs.
pub const COMMAND_TIMEOUT_MAX: Duration = Duration::from_secs(20 * 3600);
const BASE_BACKUP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const PITR_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
const PG_WAL_LIMIT_DEFAULT: ByteSize = ByteSize(8 << 30);

/// One protected thing, with everything that policies say about it filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `SERVICE.KIND`, or `SERVICE.NAME` for a command.
    pub name: SourceName,
    /// The service that it is a part of.
    pub service: ServiceName,
    /// What it is.
    pub kind: SourceKind,
    /// Where it goes; at least one, no target twice.
    pub flows: Vec<Flow>,
    /// Which of its points are kept.
    pub keep: Keep,
    /// How it is proven.
    pub verify: Verify,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory tree.
    Files(FilesSource),
    /// A ZFS dataset.
    Zfs(ZfsSource),
    /// A PostgreSQL cluster.
    Postgres(PostgresSource),
    /// What a program writes to its standard output.
    Command(CommandSource),
}

impl SourceKind {
    /// The word in the configuration and in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::Zfs(_) => "zfs",
            Self::Postgres(_) => "postgres",
            Self::Command(_) => "command",
        }
    }
}

/// A directory tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSource {
    /// Its root.
    pub path: PathBuf,
    /// Globs, relative to the root, of what is left out. Not yet compiled.
    pub exclude: Vec<String>,
    /// Whether it is kept applied on the other node; then it has a flow to [`Target::Replica`].
    pub mirror: bool,
    /// Whether mount points inside are taken as empty directories.
    pub one_file_system: bool,
    /// Whether changes are watched for, and bring captures forward.
    pub watch: bool,
    /// Of what it is read; of the tree itself when absent.
    pub snapshot: Option<SnapshotKind>,
}

/// A snapshot that a file system makes of itself, from which a tree is read as it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Of the Btrfs subvolume in which the tree is.
    Btrfs,
}

/// A ZFS dataset with its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsSource {
    /// The dataset.
    pub dataset: DatasetName,
    /// Children that are left out, relative to it.
    pub except: Vec<DatasetName>,
}

/// A PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSource {
    /// Socket directories or addresses to try in order; the system's default when empty.
    pub hosts: Vec<String>,
    /// The database to connect to.
    pub dbname: Option<String>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// Statements that must give true on a restored cluster.
    pub check: Vec<String>,
    /// The longest time between two base backups.
    pub base_backup: Span,
    /// How far back any second can be restored.
    pub pitr: Span,
    /// Whether commits wait for the standby.
    pub sync: SyncMode,
    /// How much WAL may be held back on the primary.
    pub wal_limit: ByteSize,
}

/// The standard output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSource {
    /// The program and its arguments; not empty.
    pub run: Vec<String>,
    /// After which it is ended and makes no point.
    pub timeout: Span,
    /// Variables of its environment, beside those that every program gets.
    pub env: BTreeMap<VariableName, String>,
    /// More of them, whose values stand elsewhere. None is in `env` as well.
    pub secrets: BTreeMap<VariableName, SecretRef>,
}

pub(super) fn read_files(value: &Value<'_>, context: &ServiceContext<'_>) -> Option<Source> {
    Table::read(value, |table| {
        let layers = context.layers(table);
        let path = table.require("path", "path = \"/srv/static\"").and_then(|value| value.parse());
        let exclude = table.get("exclude").map(|value| value.texts()).unwrap_or_default();
        let mirror = table.get("mirror").and_then(|value| value.truth()).unwrap_or(false);
        let one_file_system = table.get("one_file_system").and_then(|value| value.truth()).unwrap_or(true);
        let watch = table.get("watch").and_then(|value| value.truth()).unwrap_or(true);
        let snapshot = table.get("snapshot").and_then(|value| read_snapshot(value, one_file_system));
        let live = if mirror { LiveFlow::Always(Target::Replica) } else { LiveFlow::None };
        let flows = context.flows(table, &layers, live);
        let path = path?;
        let kind = SourceKind::Files(FilesSource { path, exclude, mirror, one_file_system, watch, snapshot });
        Some(resolved(context, "files", kind, flows, &layers))
    })?
}

fn read_snapshot(value: Value<'_>, one_file_system: bool) -> Option<SnapshotKind> {
    let kind = value.choice(&[("btrfs", SnapshotKind::Btrfs)])?;
    if !one_file_system {
        value.problem(ProblemKind::Conflict, || {
            let fix = "leave `one_file_system` true, and give what is mounted below a source of its own";
            Refusal::new("a snapshot has nothing in it of other file systems", fix)
        });
        return None;
    }
    Some(kind)
}

pub(super) fn read_zfs(value: &Value<'_>, context: &ServiceContext<'_>) -> Option<Source> {
    Table::read(value, |table| {
        let layers = context.layers(table);
        let dataset = table.require("dataset", "dataset = \"tank/NAME\"").and_then(|value| value.parse());
        let except = table.get("except").map(|value| value.parse_array()).unwrap_or_default();
        let flows = context.flows(table, &layers, LiveFlow::WhenNamed(Target::Replica));
        let kind = SourceKind::Zfs(ZfsSource { dataset: dataset?, except });
        Some(resolved(context, "zfs", kind, flows, &layers))
    })?
}

pub(super) fn read_postgres(value: &Value<'_>, context: &ServiceContext<'_>) -> Option<Source> {
    Table::read(value, |table| {
        let mut layers = context.layers(table);
        layers.own.read_postgres(table);
        let postgres = PostgresSource {
            hosts: table.get("hosts").map(|value| value.texts()).unwrap_or_default(),
            dbname: table.get("dbname").and_then(|value| value.text()).map(str::to_owned),
            data: table.get("data").and_then(|value| value.parse()),
            check: table.get("check").map(|value| value.texts()).unwrap_or_default(),
            base_backup: layers.pick(|keys| keys.base_backup).unwrap_or(Span::new(BASE_BACKUP_DEFAULT)),
            pitr: layers.pick(|keys| keys.pitr).unwrap_or(Span::new(PITR_DEFAULT)),
            sync: layers.pick(|keys| keys.sync).unwrap_or_default(),
            wal_limit: layers.pick(|keys| keys.pg_wal_limit).unwrap_or(PG_WAL_LIMIT_DEFAULT),
        };
        let flows = context.flows(table, &layers, LiveFlow::WhenNamed(Target::Standby));
        resolved(context, "postgres", SourceKind::Postgres(postgres), flows, &layers)
    })
}

pub(super) fn read_command(
    name: &CommandName,
    value: &Value<'_>,
    context: &ServiceContext<'_>,
) -> Option<Source> {
    Table::read(value, |table| {
        let layers = context.layers(table);
        let run = table.require("run", "run = [\"PROGRAM\", \"ARGUMENT\"]").and_then(|value| value.argv());
        let timeout = table.get("timeout").and_then(|value| read_timeout(&value));
        let timeout = timeout.unwrap_or(Span::new(COMMAND_TIMEOUT_DEFAULT));
        let env = table.get("env").map(|value| read_env(&value)).unwrap_or_default();
        let secrets = table.get("secrets").map(|value| read_secrets(&value, &env)).unwrap_or_default();
        let flows = context.flows(table, &layers, LiveFlow::None);
        let kind = SourceKind::Command(CommandSource { run: run?, timeout, env, secrets });
        Some(resolved(context, name.as_str(), kind, flows, &layers))
    })?
}

fn read_timeout(value: &Value<'_>) -> Option<Span> {
    let span = value.positive_span()?;
    let most = Span::new(COMMAND_TIMEOUT_MAX);
    if span.as_duration() > COMMAND_TIMEOUT_MAX {
        value.problem(ProblemKind::BadValue, || {
            let what = format!("{span} is longer than a vault waits for a commit");
            Refusal::new(what, format!("write at most {most}"))
        });
        return None;
    }
    Some(span)
}

fn read_env(value: &Value<'_>) -> BTreeMap<VariableName, String> {
    let named = read_named::<VariableName>(value).into_iter();
    named.filter_map(|(name, value)| Some((name, read_variable(&value)?))).collect()
}

fn read_variable(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.contains('\0') {
        value.problem(ProblemKind::BadValue, || {
            Refusal::new("it contains a NUL character", "no environment can hold that: leave it out")
        });
        return None;
    }
    Some(text.to_owned())
}

fn read_secrets(
    value: &Value<'_>,
    env: &BTreeMap<VariableName, String>,
) -> BTreeMap<VariableName, SecretRef> {
    let mut secrets = BTreeMap::new();
    for (name, value) in read_named::<VariableName>(value) {
        if env.contains_key(&name) {
            value.problem(ProblemKind::Conflict, || {
                Refusal::new(format!("{name} stands in env as well"), "remove one of the two")
            });
        }
        if let Some(secret) = value.parse() {
            secrets.insert(name, secret);
        }
    }
    secrets
}

fn resolved(
    context: &ServiceContext<'_>,
    part: &str,
    kind: SourceKind,
    flows: Vec<Flow>,
    layers: &Layers<'_>,
) -> Source {
    Source {
        name: SourceName::new(context.service, part),
        service: context.service.clone(),
        kind,
        flows,
        keep: layers.pick(|keys| keys.keep.clone()).unwrap_or_default(),
        verify: layers.verify(),
    }
}
