//! Care of a vault by its custodian: retention and collection. Used by the daemon and by commands that work without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::clock::Clock;
use backstay_core::config::{Config, Keep, VaultKind};
use backstay_core::kind::{KindRules, Kinds};
use backstay_core::units::ByteSize;
use backstay_files::kind::FilesKind;
use backstay_vault::vault::{
    Collected, CopyLimits, Copying, Custodian, Inspection, Pass, SourceFates, Vault, Waiting, WriterIdentity,
};
use backstay_vault::write::CpuPool;
use backstay_wire::control::{AwaitedCommit, PruneReport};

use crate::failure::Failure;
use crate::node::FileNotes;
use crate::vaults::{Absent, ClockDebug, Vaults};

/// Least time from one prune of a vault to the next, where nobody asks for one.
pub const PERIOD: Duration = Duration::from_secs(3600);

/// The same where requests cost: a prune lists all that a vault has, several times for each source.
pub const PERIOD_WHERE_REQUESTS_COST: Duration = Duration::from_secs(6 * 3600);

/// Least time from one prune of a vault of this kind to the next.
pub fn period_of(kind: &VaultKind) -> Duration {
    match kind {
        VaultKind::S3(_) => PERIOD_WHERE_REQUESTS_COST,
        _ => PERIOD,
    }
}

/// Passes of one prune: each moves a bounded amount.
const PASSES_MAX: usize = 1000;

/// A put that has been under way for longer than that was broken off.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 3600);

/// What one commit of a copy to another node has: that much is sent again after a crash, and lines may be slow.
const COMMIT_BYTES_OVER_A_NETWORK: u64 = 512 << 20;

/// What cares for vaults.
#[derive(Debug)]
pub struct Care {
    config: Arc<Config>,
    vaults: Arc<Vaults>,
    identity: Arc<WriterIdentity>,
    pool: Arc<CpuPool>,
    clock: Arc<dyn ClockDebug>,
}

impl Care {
    /// Care with these threads.
    pub fn new(
        config: Arc<Config>,
        vaults: Arc<Vaults>,
        pool: Arc<CpuPool>,
        clock: Arc<dyn ClockDebug>,
    ) -> Self {
        let identity = Arc::clone(vaults.writer());
        Self { config, vaults, identity, pool, clock }
    }

    /// The same, unless it was done within the last hour, or hours where requests cost, there is no vault yet, or another node cares
    /// for it.
    pub fn prune_if_due(&self, name: &str) -> Result<Option<PruneReport>, Failure> {
        // Whether it is as it was, is looked at when it is pruned.
        let vault = match self.vaults.open_often(name, Absent::Refuse) {
            Err(failure) if failure.class == "no_vault" => return Ok(None),
            vault => vault?,
        };
        let notes = FileNotes::of(&self.config.node.state, vault.id())?;
        let period = self.config.vaults.get(name).map_or(PERIOD, |vault| period_of(&vault.kind));
        if notes.age().is_some_and(|age| age < period) {
            return Ok(None);
        }
        match self.prune(name, false) {
            Err(failure) if failure.class == "not_custodian" => Ok(None),
            report => report.map(Some),
        }
    }

    /// Accepts what was committed, drops what retention does not want, and deletes what nothing needs any more. If
    /// `trusts_clock`, points of a time to come get the times of their captures before that.
    pub fn prune(&self, name: &str, trusts_clock: bool) -> Result<PruneReport, Failure> {
        let start = Instant::now();
        let mut report = PruneReport { vault: name.to_owned(), ..PruneReport::default() };
        self.with_custodian(name, |custodian| {
            if trusts_clock {
                // Also where the rest has to wait.
                report.points_redated = custodian.trust_clock()?;
            }
            // What was committed has to be accepted before retention can judge it.
            if let PassEnd::Waits { .. } = take_down(custodian.accept()?, &mut report) {
                report.is_unfinished = true;
                return Ok(());
            }
            if trusts_clock {
                report.points_redated += custodian.trust_clock()?;
            }
            let thinned = custodian.thin(&keep_of(&self.config))?;
            report.points_dropped = thinned.points_dropped;
            report.sources_ahead = thinned.sources_ahead;
            report.runs_merged = thinned.runs_merged;
            clear_unfinished(custodian, name);
            report.is_unfinished = match collect(custodian, &mut report)? {
                PassEnd::Whole => false,
                PassEnd::Cut => true,
                // What was committed since the pass before is for the next prune.
                PassEnd::Waits { packs } => packs > 0 || thinned.points_dropped > 0,
            };
            Ok(())
        })?;
        report.took_millis = start.elapsed().as_millis() as u64;
        Ok(report)
    }

    /// A copy from one vault to another, which has this name.
    pub fn copying<'c>(
        &self,
        from: Arc<Vault>,
        to: Arc<Vault>,
        to_name: &str,
        clock: &'c dyn Clock,
    ) -> Copying<'c> {
        let (writer, pool) = (Arc::clone(&self.identity), Arc::clone(&self.pool));
        let limits = match self.config.vaults.get(to_name).map(|vault| &vault.kind) {
            Some(VaultKind::Peer(_)) => {
                CopyLimits { bytes: COMMIT_BYTES_OVER_A_NETWORK, ..CopyLimits::default() }
            }
            _ => CopyLimits::default(),
        };
        Copying { from, to, writer, kinds: kinds(), pool, clock, limits }
    }

    /// Something that only the custodian of a vault may do.
    pub fn with_custodian<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let vault = self.vaults.open(name, Absent::Refuse)?;
        let mut notes = FileNotes::of(&self.config.node.state, vault.id())?;
        let look = Inspection::new(vault, kinds(), &*self.clock);
        let (identity, pool) = (Arc::clone(&self.identity), Arc::clone(&self.pool));
        let custodian = Custodian::new(look, identity, pool, &mut notes).map_err(Failure::from);
        custodian
            .and_then(|mut custodian| work(&mut custodian))
            .map_err(|failure| self.without_deletes(name, failure))
    }

    /// Of a key that may not delete it is said whose it is, and where another one is named.
    fn without_deletes(&self, name: &str, failure: Failure) -> Failure {
        if failure.class != "no_delete" {
            return failure;
        }
        let secret = self.config.secrets.get(name);
        let why = match secret.is_some_and(|secret| secret.custodian.is_some()) {
            true => "the custodian's key ([secret] of node.toml) may not delete in the bucket; give it the right to".to_owned(),
            false => format!(
                "the access key of this node may not delete in the bucket, and [secret] of node.toml names no other for that; add one: {name} = {{ access = …, secret = …, custodian = {{ access = \"file:…\", secret = \"file:…\" }} }}"
            ),
        };
        let said = failure.message;
        Failure::failed(format!("nothing goes from vault {name}: {why}. Captures go on ({said})"))
            .of_class("no_delete")
    }
}

/// What [`Care::prune`] would do to each point of a vault that is only read.
pub fn explain(
    config: &Config,
    vault: Arc<Vault>,
    clock: &dyn ClockDebug,
    trusts_clock: bool,
) -> Result<Vec<SourceFates>, Failure> {
    Ok(Inspection::new(vault, kinds(), clock).explain(&keep_of(config), trusts_clock)?)
}

/// The kinds of sources whose runs this version can merge.
pub fn kinds() -> Arc<Kinds> {
    // What a program has written is a tree of one file.
    let trees: Arc<dyn KindRules> = Arc::new(FilesKind);
    Arc::new(Kinds::from([(FilesKind::NAME, Arc::clone(&trees)), (backstay_command::KIND, trees)]))
}

/// By the configuration; of a source that is not in it everything is kept.
fn keep_of(config: &Config) -> impl Fn(&str) -> Option<Keep> + use<> {
    let keep: BTreeMap<String, Keep> =
        config.all_sources().map(|source| (source.name.to_string(), source.keep.clone())).collect();
    move |name| keep.get(name).cloned()
}

/// One line on what was done.
pub fn summary(report: &PruneReport) -> String {
    format!(
        "vault {}: points dropped: {}, deleted: {}; runs merged: {}; packs deleted: {} with {}, {} written anew; in {:.1} s",
        report.vault,
        report.points_dropped,
        report.points_deleted,
        report.runs_merged,
        report.packs_deleted,
        ByteSize(report.bytes_deleted),
        ByteSize(report.bytes_written),
        report.took_millis as f64 / 1000.0
    )
}

/// What was broken off, such as uploads in parts to a bucket, costs room for ever. That it cannot be cleared away harms nothing.
fn clear_unfinished(custodian: &Custodian<'_>, name: &str) {
    match custodian.clear_unfinished(UNFINISHED_AGE) {
        Ok(0) => {}
        Ok(count) => tracing::info!(vault = name, count, "cleared away what unfinished uploads have left"),
        Err(error) => tracing::warn!(vault = name, %error, "what unfinished uploads have left stays for now"),
    }
}

/// How a pass ended for the prune it belongs to.
enum PassEnd {
    /// There is nothing more to go.
    Whole,
    /// It has moved as much as one pass may.
    Cut,
    /// It cannot go on before commits have ended.
    Waits {
        /// How many packs go then.
        packs: usize,
    },
}

/// Passes until there is nothing more to go, or one has to wait. The end of the last.
fn collect(custodian: &mut Custodian<'_>, report: &mut PruneReport) -> Result<PassEnd, Failure> {
    for _ in 0..PASSES_MAX {
        match take_down(custodian.collect()?, report) {
            PassEnd::Cut => {}
            end => return Ok(end),
        }
    }
    Ok(PassEnd::Cut)
}

/// Adds to the report what a pass has done, or for whom it waits.
fn take_down(pass: Pass, report: &mut PruneReport) -> PassEnd {
    match pass {
        Pass::Idle => PassEnd::Whole,
        Pass::Done(done) => {
            let end = if done.is_cut { PassEnd::Cut } else { PassEnd::Whole };
            add(report, done);
            end
        }
        Pass::Waits(Waiting { commits, packs }) => {
            report.awaited = commits
                .into_iter()
                .map(|commit| AwaitedCommit {
                    node: commit.node,
                    session: commit.session.to_string(),
                    start_nanos: commit.start.as_nanos(),
                    given_up_in_seconds: commit.given_up_in_seconds,
                })
                .collect();
            PassEnd::Waits { packs }
        }
    }
}

fn add(report: &mut PruneReport, done: Collected) {
    let Collected { points_accepted, points_deleted, packs_deleted, bytes_deleted, .. } = done;
    report.points_accepted += points_accepted;
    report.points_deleted += points_deleted;
    report.packs_deleted += packs_deleted;
    report.bytes_deleted += bytes_deleted;
    report.bytes_written += done.bytes_written;
}
