//! Policies: where sources go, how far behind they may be, what is kept and how it is proven. Owns the keys
//! and their inheritance; refuses to know sources.
//!
//! Settings are looked up key by key: in the source, the policy that the source names, its service, the
//! policy that the service names, the policy `default`, and then the built-in values below. `rpo` is looked
//! up per target and `verify` per sub-key; `keep` is one key: rules of two policies are never mixed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::units::{ByteSize, Span};

use super::keep::{Keep, read_keep};
use super::name::{Name, VaultName};
use super::problem::{FromText, ProblemKind, Refusal, excerpt};
use super::table::Table;
use super::value::{ENTRIES_MAX, Value};

/// The recovery point objective where none is given.
pub const RPO_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// How often a source is proven where nothing is said.
pub const VERIFY_EVERY_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a flow leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A vault.
    Vault(VaultName),
    /// A copy kept applied on the service's other node: a received dataset, a mirrored tree.
    Replica,
    /// A PostgreSQL standby on the service's other node.
    Standby,
}

impl Target {
    /// The name in the configuration, on the command line and in metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Vault(name) => name.as_str(),
            Self::Replica => "replica",
            Self::Standby => "standby",
        }
    }

    /// The name of the vault, if it is one.
    pub fn vault(&self) -> Option<&str> {
        match self {
            Self::Vault(name) => Some(name.as_str()),
            Self::Replica | Self::Standby => None,
        }
    }

    /// The target that is no vault and has this name.
    pub(super) fn live(text: &str) -> Option<Self> {
        [Self::Replica, Self::Standby].into_iter().find(|target| target.as_str() == text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a source is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    /// The longest time between two proofs.
    pub every: Span,
    /// How far a proof goes.
    pub level: VerifyLevel,
    /// How much may be read from a vault per day for proofs; no limit when absent.
    pub budget_per_day: Option<ByteSize>,
}

/// How far a proof goes; each level includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyLevel {
    /// Everything that the point refers to is there.
    Structure,
    /// Everything was read and has the right content.
    Data,
    /// It was restored and compared.
    #[default]
    Restore,
}

/// Whether a commit waits for the standby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// It does not.
    #[default]
    Off,
    /// It does: the twin is a synchronous standby.
    Strict,
}

/// The keys of one policy, service or source, as far as they are given there.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyKeys {
    pub(super) to: Option<Vec<Target>>,
    rpo_of_all: Option<Span>,
    rpo_of: BTreeMap<Target, Span>,
    pub(super) keep: Option<Keep>,
    pub(super) verify_every: Option<Span>,
    pub(super) verify_level: Option<VerifyLevel>,
    pub(super) verify_budget: Option<ByteSize>,
    pub(super) base_backup: Option<Span>,
    pub(super) pitr: Option<Span>,
    pub(super) sync: Option<SyncMode>,
    pub(super) pg_wal_limit: Option<ByteSize>,
}

impl PolicyKeys {
    /// Reads the keys that every kind of source has.
    pub(super) fn read(table: &mut Table<'_>, vaults: &BTreeSet<VaultName>) -> Self {
        let mut keys = Self {
            to: table.get("to").map(|value| read_targets(&value, vaults)),
            keep: table.get("keep").and_then(|value| read_keep(&value)),
            ..Self::default()
        };
        if let Some(rpo) = table.get("rpo") {
            keys.read_rpo(&rpo, vaults);
        }
        if let Some(verify) = table.get("verify") {
            Table::read(&verify, |table| keys.read_verify(table));
        }
        keys
    }

    /// Reads the keys of PostgreSQL sources in addition.
    pub(super) fn read_postgres(&mut self, table: &mut Table<'_>) {
        self.base_backup = table.get("base_backup").and_then(|value| value.positive_span());
        self.pitr = table.get("pitr").and_then(|value| value.positive_span());
        let modes = [("off", SyncMode::Off), ("strict", SyncMode::Strict)];
        self.sync = table.get("sync").and_then(|value| value.choice(&modes));
        self.pg_wal_limit = table.get("pg_wal_limit").and_then(|value| value.positive_size());
    }

    /// The objective for a target, where these keys give one.
    pub(super) fn rpo(&self, target: &Target) -> Option<Span> {
        self.rpo_of.get(target).copied().or(self.rpo_of_all)
    }

    /// Whether these keys speak of the target by name.
    pub(super) fn names(&self, target: &Target) -> bool {
        self.rpo_of.contains_key(target) || self.to.as_ref().is_some_and(|to| to.contains(target))
    }

    fn read_rpo(&mut self, value: &Value<'_>, vaults: &BTreeSet<VaultName>) {
        if !value.is_table() {
            self.rpo_of_all = value.positive_span();
            return;
        }
        let Some(entries) = value.entries() else { return };
        value.check_count(entries.len());
        for (key, raw) in entries.iter().take(ENTRIES_MAX) {
            let entry = value.child(key.get_ref(), key.span().start, raw.get_ref());
            if let (Some(target), Some(span)) =
                (target_named(key.get_ref(), &entry, vaults), entry.positive_span())
            {
                self.rpo_of.insert(target, span);
            }
        }
    }

    fn read_verify(&mut self, table: &mut Table<'_>) {
        let levels = [
            ("structure", VerifyLevel::Structure),
            ("data", VerifyLevel::Data),
            ("restore", VerifyLevel::Restore),
        ];
        self.verify_every = table.get("every").and_then(|value| value.positive_span());
        self.verify_level = table.get("level").and_then(|value| value.choice(&levels));
        self.verify_budget =
            table.get("budget").and_then(|value| value.parse::<DailySize>()).map(|size| size.0);
    }
}

/// The keys that apply to one source, the nearest first.
pub(super) struct Layers<'a> {
    pub(super) own: PolicyKeys,
    pub(super) outer: Vec<&'a PolicyKeys>,
}

impl Layers<'_> {
    /// The nearest layer's answer.
    pub(super) fn pick<T>(&self, of: impl Fn(&PolicyKeys) -> Option<T>) -> Option<T> {
        std::iter::once(&self.own).chain(self.outer.iter().copied()).find_map(of)
    }

    pub(super) fn rpo(&self, target: &Target) -> Duration {
        self.pick(|keys| keys.rpo(target)).map_or(RPO_DEFAULT, Span::as_duration)
    }

    pub(super) fn names(&self, target: &Target) -> bool {
        self.pick(|keys| keys.names(target).then_some(())).is_some()
    }

    pub(super) fn verify(&self) -> Verify {
        Verify {
            every: self.pick(|keys| keys.verify_every).unwrap_or(Span::new(VERIFY_EVERY_DEFAULT)),
            level: self.pick(|keys| keys.verify_level).unwrap_or_default(),
            budget_per_day: self.pick(|keys| keys.verify_budget),
        }
    }
}

fn read_targets(value: &Value<'_>, vaults: &BTreeSet<VaultName>) -> Vec<Target> {
    let mut targets = Vec::new();
    let elements = value.array();
    if elements.is_empty() {
        value.problem(ProblemKind::BadValue, || {
            Refusal::new("it names no target", "name a vault, or leave it out")
        });
    }
    for element in elements {
        let Some(target) = element.text().and_then(|text| target_named(text, &element, vaults)) else {
            continue;
        };
        if targets.contains(&target) {
            element.problem(ProblemKind::Conflict, || {
                Refusal::new(format!("{target} stands here twice"), "remove one")
            });
        } else {
            targets.push(target);
        }
    }
    targets
}

fn target_named(text: &str, place: &Value<'_>, vaults: &BTreeSet<VaultName>) -> Option<Target> {
    let vault = || VaultName::from_text(text).ok().filter(|name| vaults.contains(name)).map(Target::Vault);
    let target = Target::live(text).or_else(vault);
    if target.is_none() {
        let known = vaults.iter().map(VaultName::as_str).chain(["replica", "standby"]);
        place.unknown_name(VaultName::WHAT, text, known);
    }
    target
}

/// `20GiB/day`.
struct DailySize(ByteSize);

impl FromText for DailySize {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let size = text.trim().strip_suffix("/day").and_then(|size| size.parse::<ByteSize>().ok());
        size.filter(|size| size.as_u64() > 0).map(Self).ok_or_else(|| {
            let what = format!("{:?} is not an amount per day", excerpt(text));
            Refusal::new(what, "write a size above 0 and /day, such as 20GiB/day")
        })
    }
}
