//! One capture of one source to its targets: opens vaults, groups targets by their cursor, and reports target
//! by target. Used by the daemon and by commands that work without it.

mod again;
pub mod commands;
mod opening;
mod told;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::clock::Moment;
use backstay_core::config::{Config, FilesSource, Source, SourceKind, Target};
use backstay_core::id::PointId;
use backstay_core::point::Facts;
use backstay_core::units::Timestamp;
use backstay_files::capture::{
    CaptureError, CaptureMeans, CaptureOptions, CaptureProgress, Captured, ExpectedSight, PartLimits,
    SnapshotTree, capture,
};
use backstay_files::devices::file_system_of;
use backstay_files::exclude::Exclude;
use backstay_files::touched::Touched;
use backstay_files::walk::{Crossing, WalkOptions};
use backstay_vault::error::VaultError;
use backstay_vault::targets::{CaptureSource, RolledBack, Standing, Targets, WithOthers};
use backstay_vault::vault::{PointObject, Vault, WriterIdentity};
use backstay_vault::write::CpuPool;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};
use backstay_wire::progress::{Certainty, Expected, Progress};

use crate::care::Care;
use crate::failure::Failure;
use crate::fleet_source;
use crate::flows::Found;
use crate::node::SeenPoints;
use crate::proving::Prover;
use crate::snapshot::{self, Snapshot};
use crate::vaults::{ClockDebug, Vaults};
use opening::OpenTarget;

/// Threads that walk a tree.
const WALK_THREADS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// Who is told of a capture while it goes on.
pub trait CaptureWatch {
    /// What the vault of a target has, before anything is captured to it.
    fn found(&self, target: &Target, found: Found);

    /// The state that a whole scan has found is durable on a target; the scan has begun then.
    fn captured(&self, target: &str, began: Moment);
}

/// Nobody.
impl CaptureWatch for () {
    fn found(&self, _: &Target, _: Found) {}

    fn captured(&self, _: &str, _: Moment) {}
}

/// What captures with.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    vaults: Arc<Vaults>,
    writer: Arc<WriterIdentity>,
    clock: Arc<dyn ClockDebug>,
    pool: Arc<CpuPool>,
    part_limits: PartLimits,
}

impl Engine {
    /// An engine with its own pool of threads.
    pub fn new(
        config: Arc<Config>,
        vaults: Arc<Vaults>,
        clock: Arc<dyn ClockDebug>,
    ) -> Result<Self, Failure> {
        let writer = Arc::clone(vaults.writer());
        let pool = CpuPool::new().map_err(|error| {
            Failure::failed(format!(
                "cannot start threads: {error}; raise the limit on tasks (TasksMax= of the unit, ulimit -u)"
            ))
        })?;
        Ok(Self { config, vaults, writer, clock, pool: Arc::new(pool), part_limits: part_limits() })
    }

    /// Care of the same vaults, with the same threads.
    pub fn care(&self) -> Care {
        let (config, vaults) = (Arc::clone(&self.config), Arc::clone(&self.vaults));
        Care::new(config, vaults, Arc::clone(&self.pool), Arc::clone(&self.clock))
    }

    /// What makes proofs from the same vaults. With threads of its own: where a directory hangs to which a point is restored, or
    /// a vault, captures to others go on.
    pub fn prover(&self) -> Result<Prover, Failure> {
        let pool = Arc::new(CpuPool::new()?);
        Ok(Prover::new(Arc::clone(&self.vaults), pool, Arc::clone(&self.clock)))
    }

    /// The vaults.
    pub fn vaults(&self) -> &Arc<Vaults> {
        &self.vaults
    }

    /// Captures `source` now for `targets`. Never fails as a whole: the report says what became of each target.
    /// Of a tree it looks only where something was touched.
    pub fn capture(
        &self,
        source: &Source,
        targets: &[Target],
        touched: &Touched,
        order: &CaptureOrder<'_>,
    ) -> CaptureReport {
        let start = Instant::now();
        let mut report = CaptureReport::of_nothing(source.name.as_str());
        let is_fleet = fleet_source::is_fleet(source);
        if is_fleet && let Err(failure) = fleet_source::lay_out(&self.config, source) {
            let failed =
                |target: &Target| TargetReport::without_work(target.to_string(), failed_outcome(&failure));
            report.targets.extend(targets.iter().map(failed));
            return report;
        }
        // Of what is laid out nobody has seen what was touched.
        let touched = if is_fleet { &Touched::Everywhere } else { touched };
        let asked = Asked { source, order, touched, numbered_after: 0, reading: Reading::AsRemembered };
        let (mut groups, failed) = self.groups(&asked, targets);
        if is_fleet && order.hold.is_none() {
            self.leave_out_told(source, &mut groups, &mut report);
        }
        report.targets.extend(failed);
        let opening_millis = millis_since(start);
        let progress = order.progress;
        if let Some(expected) = expected(source, &groups) {
            progress.expect(expected);
        }
        for (n, (cursor, group)) in groups.into_iter().enumerate() {
            // What was touched while the groups before were captured is not in what was said.
            let touched = if n == 0 { touched } else { &Touched::Everywhere };
            self.capture_group(&Asked { touched, ..asked }, cursor, group, &mut report);
        }
        self.capture_again(&asked, targets, &mut report);
        report.read_bytes = progress.read_bytes();
        report.stored_bytes = progress.stored_bytes();
        report.saved_bytes = progress.saved_bytes();
        report.targets.iter_mut().for_each(|target| target.took_millis += opening_millis);
        report.took_millis = millis_since(start);
        report
    }

    fn capture_group(
        &self,
        asked: &Asked<'_>,
        cursor: Option<PointId>,
        group: Vec<OpenTarget>,
        report: &mut CaptureReport,
    ) {
        let Asked { source, order: &CaptureOrder { progress, watch, .. }, .. } = *asked;
        let vaults = group.iter().map(|target| Arc::clone(&target.vault)).collect();
        let numbered_after = group.iter().map(|target| target.numbered_after).max().unwrap_or(0);
        let asked = &Asked { numbered_after, ..*asked };
        let waited = || asked.order.others.as_ref().map_or(Duration::ZERO, WithOthers::waited);
        let (before, start, waited_before) = (Work::of(progress), Instant::now(), waited());
        let outcome = match &source.kind {
            SourceKind::Files(files) => self.capture_files(asked, files, cursor, vaults),
            SourceKind::Command(command) => self.capture_command(asked, command, cursor, vaults),
            kind => {
                let message =
                    format!("sources of kind {} are not supported by this version yet", kind.label());
                Err(Failure::failed(message))
            }
        };
        // What others commit says nothing of how long this one takes.
        let waited_millis = (waited() - waited_before).as_millis() as u64;
        let (work, took_millis) = (Work::of(progress), millis_since(start).saturating_sub(waited_millis));
        let reported = |target: String, outcome, scan: Option<(Timestamp, Option<Timestamp>)>| TargetReport {
            target,
            outcome,
            scan_start_nanos: scan.map(|(start, _)| start.as_nanos()),
            whole_until_nanos: scan.and_then(|(_, whole_until)| whole_until).map(Timestamp::as_nanos),
            read_bytes: work.read - before.read,
            stored_bytes: work.stored - before.stored,
            saved_bytes: work.saved - before.saved,
            took_millis,
        };
        match outcome {
            Ok(captured) => {
                let summary = captured.summary;
                let seen = SeenPoints::of(&self.config.node.state, source.name.as_str());
                if let Err(failure) = seen.update(&captured.seen) {
                    tracing::warn!(%failure, "it is not remembered what the vaults have");
                }
                report.warnings.extend(captured.rolled_back.iter().map(rolled_back_line));
                report.entries = summary.entries;
                report.bytes = summary.bytes;
                // Several groups see the same tree.
                report.defects = report.defects.max(summary.warnings.defects() + summary.warnings.remarks);
                report.warnings.extend(summary.warnings.lines);
                for line in summary.warnings.left_out {
                    // The captures of several groups leave out the same.
                    if !report.remarks.contains(&line) {
                        report.remarks.push(line);
                    }
                }
                for (target, result) in group.into_iter().zip(captured.targets) {
                    let outcome = match result {
                        Ok(Some(link)) if summary.changed => {
                            TargetOutcome::Point { point: link.point.to_string() }
                        }
                        Ok(link) => {
                            TargetOutcome::Unchanged { point: link.map(|link| link.point.to_string()) }
                        }
                        Err(error) => failed_outcome(&error.into()),
                    };
                    let is_durable = !matches!(outcome, TargetOutcome::Failed { .. });
                    let scan = is_durable.then_some((summary.capture_start.wall, summary.whole_until));
                    for (n, name) in target.names.into_iter().enumerate() {
                        if is_durable && summary.whole_until.is_none() {
                            watch.captured(&name, summary.capture_start);
                        }
                        let report_of_it = reported(name, outcome.clone(), scan);
                        // What was sent once is counted once.
                        report.targets.push(if n == 0 { report_of_it } else { report_of_it.without_bytes() });
                    }
                }
            }
            Err(failure) => {
                let failed = |target| reported(target, failed_outcome(&failure), None);
                report.targets.extend(group.into_iter().flat_map(|target| target.names).map(failed));
            }
        }
    }

    /// Captures; when the local state turns out torn (it is a cache, and a crash may tear it), once more without it.
    fn capture_files(
        &self,
        asked: &Asked<'_>,
        files: &FilesSource,
        cursor: Option<PointId>,
        vaults: Vec<Arc<Vault>>,
    ) -> Result<Captured, Failure> {
        let source = asked.source;
        let states = self.config.node.state.join("sources").join(source.name.as_str());
        match self.try_capture_files(asked, files, cursor, vaults.clone(), &states) {
            Err(CaptureFailure::Capture(CaptureError::LinkChanged)) => {
                let everywhere = Asked { touched: &Touched::Everywhere, ..*asked };
                self.capture_files(&everywhere, files, cursor, vaults)
            }
            Err(CaptureFailure::Capture(CaptureError::State(error))) if error.is_torn() => {
                tracing::warn!(source = %source.name, %error, "captured again with a state from the vault");
                std::fs::remove_dir_all(&states)?;
                Ok(self.try_capture_files(asked, files, cursor, vaults, &states)?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn try_capture_files(
        &self,
        asked: &Asked<'_>,
        files: &FilesSource,
        cursor: Option<PointId>,
        vaults: Vec<Arc<Vault>>,
        states: &Path,
    ) -> Result<Captured, CaptureFailure> {
        // What is done from here on need not be in it.
        let as_of = self.clock.moment();
        let taken = files.snapshot.map(|kind| Snapshot::take(kind, &files.path, asked.source.name.as_str()));
        let snapshot = taken.transpose()?;
        let mut options = self.options(files, asked.touched)?;
        if let Some(snapshot) = &snapshot {
            options.walk.leave_out = snapshot.leave_out(&options.walk.leave_out);
            options.snapshot = Some(SnapshotTree { root: snapshot.root().to_path_buf(), as_of });
        }
        let opened = self.open_targets(asked, facts(files, &options), cursor, vaults);
        let (targets, standing) = opened.map_err(Failure::from)?;
        let means = CaptureMeans { pool: Arc::clone(&self.pool), states: states.to_path_buf() };
        Ok(capture(&options, &means, targets, &standing, &*self.clock, asked.order.progress)?)
    }

    /// Sessions on these vaults; what the first that could be opened holds of the source.
    fn open_targets(
        &self,
        asked: &Asked<'_>,
        facts: Facts,
        cursor: Option<PointId>,
        vaults: Vec<Arc<Vault>>,
    ) -> Result<(Targets, Standing), VaultError> {
        let Asked { source, order, .. } = *asked;
        let described = CaptureSource {
            name: source.name.to_string(),
            kind: source.kind.label(),
            facts,
            holds: order.hold.map(str::to_owned).into_iter().collect(),
            seen: SeenPoints::of(&self.config.node.state, source.name.as_str()).load(),
            numbered_after: asked.numbered_after,
        };
        let writer = Arc::clone(&self.writer);
        match Targets::open(vaults, writer, described, cursor, &*self.clock)? {
            (targets, Some(standing)) => Ok((targets.with_others(order.others.clone()), standing)),
            (mut targets, None) => Err(targets.take_failure()),
        }
    }

    fn options(&self, files: &FilesSource, touched: &Touched) -> Result<CaptureOptions, Failure> {
        let (walk, touched) = (walk_options(&self.config, files)?, touched.clone());
        let (root, part_limits) = (files.path.clone(), self.part_limits);
        Ok(CaptureOptions { root, snapshot: None, walk, touched, part_limits })
    }
}

/// How the tree of a source is walked.
pub fn walk_options(config: &Config, files: &FilesSource) -> Result<WalkOptions, Failure> {
    // In it there are whole trees.
    let snapshots = files.snapshot.map(|_| snapshot::FOLDER.to_owned());
    let exclude: Vec<String> = files.exclude.iter().cloned().chain(snapshots).collect();
    let exclude = Exclude::new(&exclude).map_err(Failure::usage)?;
    let vaults = config.vaults.values().filter_map(|vault| vault.kind.directory()).map(Path::to_path_buf);
    let own = [config.node.state.clone(), config.node.scratch.clone()];
    let leave_out: Vec<PathBuf> = vaults.chain(own).chain(snapshot::folders(config)).collect();
    let crossing = if files.one_file_system { Crossing::Stay } else { Crossing::Cross };
    Ok(WalkOptions { exclude, leave_out, crossing, threads: WALK_THREADS })
}

/// How a source is to be captured, and who is told.
pub struct CaptureOrder<'a> {
    /// A name under which the point is held for ever.
    pub hold: Option<&'a str>,
    /// How far it is.
    pub progress: &'a CaptureProgress,
    /// What it finds and does.
    pub watch: &'a dyn CaptureWatch,
    /// How it commits together with others; at once where that is not said.
    pub others: Option<WithOthers>,
}

/// A capture of one source.
#[derive(Clone, Copy)]
struct Asked<'a> {
    source: &'a Source,
    order: &'a CaptureOrder<'a>,
    touched: &'a Touched,
    /// The points that it makes have greater numbers.
    numbered_after: u64,
    reading: Reading,
}

/// Where requests to a vault cost, what it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// What this process has read of it before.
    AsRemembered,
    /// All of it is read anew.
    Anew,
}

/// Why a capture did not come about, as far as somebody decides by it.
#[derive(Debug)]
enum CaptureFailure {
    Capture(CaptureError),
    Other(Failure),
}

impl From<CaptureFailure> for Failure {
    fn from(failure: CaptureFailure) -> Self {
        match failure {
            CaptureFailure::Capture(error) => error.into(),
            CaptureFailure::Other(failure) => failure,
        }
    }
}

impl From<Failure> for CaptureFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<CaptureError> for CaptureFailure {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

/// What a capture has done so far.
#[derive(Debug, Clone, Copy)]
struct Work {
    read: u64,
    stored: u64,
    saved: u64,
}

impl Work {
    fn of(progress: &CaptureProgress) -> Self {
        Self { read: progress.read_bytes(), stored: progress.stored_bytes(), saved: progress.saved_bytes() }
    }
}

/// What a capture will probably see, where each group of targets has a point: each of them sees the source by itself.
fn expected(source: &Source, groups: &BTreeMap<Option<PointId>, Vec<OpenTarget>>) -> Option<ExpectedSight> {
    let parents = groups.values().map(|group| group.first()?.parent.as_ref());
    let parents = parents.collect::<Option<Vec<_>>>()?;
    let sum = |figure: fn(&PointObject) -> u64| parents.iter().map(|parent| figure(parent)).sum();
    match &source.kind {
        SourceKind::Command(_) => Some(ExpectedSight::Bytes(sum(|parent| parent.common.bytes))),
        _ => Some(ExpectedSight::Entries(sum(|parent| parent.common.entries))),
    }
}

/// How far a capture is, as it is told.
pub fn progress_of(source: &str, progress: &CaptureProgress) -> Progress {
    let guessed = |entries, bytes| Expected { entries, bytes, certainty: Certainty::Guessed };
    let expected = progress.expected().map(|expected| match expected {
        ExpectedSight::Entries(entries) => guessed(Some(entries), None),
        ExpectedSight::Bytes(bytes) => guessed(None, Some(bytes)),
    });
    Progress {
        source: source.to_owned(),
        entries: progress.entries(),
        read_bytes: progress.read_bytes(),
        stored_bytes: progress.stored_bytes(),
        expected,
        ..Progress::default()
    }
}

fn millis_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}

fn failed_outcome(failure: &Failure) -> TargetOutcome {
    TargetOutcome::Failed { message: failure.message.clone(), class: failure.class.to_owned() }
}

fn rolled_back_line(vault: &RolledBack) -> String {
    let RolledBack { place, ends_at, had } = vault;
    format!(
        "the vault in {place} ends at capture {ends_at}, and this node has put {had} there: its store serves an older state; see who brought it back"
    )
}

fn facts(files: &FilesSource, options: &CaptureOptions) -> Facts {
    use std::os::unix::ffi::OsStrExt;
    Facts {
        root_path: Some(files.path.as_os_str().as_bytes().to_vec()),
        root_file_system: file_system_of(&files.path),
        host: Some(host()),
        scope: Some(options.walk.scope_hash().to_vec()),
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The limits of parts; tests make them small by an environment variable (`BACKSTAY_PART_BYTES`).
fn part_limits() -> PartLimits {
    let bytes = std::env::var("BACKSTAY_PART_BYTES").ok().and_then(|text| text.parse().ok());
    let default = PartLimits::default();
    PartLimits { read_bytes: bytes.unwrap_or(default.read_bytes), ..default }
}
