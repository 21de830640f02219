//! The flows of this node: what is known of each, and what follows for status, metrics and schedule. Owns the
//! facts; decisions are core's, captures are the engine's.

use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::config::{Config, SourceName, Target};
use backstay_core::id::PointId;
use backstay_core::rpo::{Durable, FlowFacts, FlowStatus, Permission, Severity};
use backstay_core::schedule::{Activity, DurationEstimate, Jitter, ScheduledFlow, backoff};
use backstay_core::units::Timestamp;
use backstay_vault::vault::{Catalogue, Vault};
use backstay_wire::control::{CaptureReport, TargetOutcome};
use backstay_wire::status::{FlowReport, NodeStatus};

use crate::failure::Failure;
use crate::vaults::{Absent, Vaults};

/// What is said of a flow as long as its vault is awaited.
pub const UNANSWERED: &str = "the vault has not answered yet since the daemon began; where that lasts, see whether its disk or its server hangs";

/// One flow and what is known of it.
#[derive(Debug, Clone)]
pub struct FlowRecord {
    service: String,
    kind: &'static str,
    /// Its source.
    pub source: SourceName,
    /// Its target.
    pub target: Target,
    rpo: Duration,
    /// Its vault has not been asked, or has not answered.
    awaited: bool,
    durable: Durable,
    cursor: Option<PointId>,
    last_point: Option<Timestamp>,
    failures: u32,
    problem: Option<String>,
    /// What the last capture has left out on purpose.
    remarks: Vec<String>,
    capturing: bool,
    /// Of how many captures it is known that they have become durable, since the daemon began.
    captures: u64,
    /// Its vault has lost something: it is due, whenever the last capture was.
    has_lost: bool,
    retry_at: Option<Timestamp>,
    estimate: DurationEstimate,
}

/// All flows of this node.
#[derive(Debug, Clone)]
pub struct Flows {
    fleet: String,
    node: String,
    records: Vec<FlowRecord>,
}

/// What a vault knows of a flow.
#[derive(Debug)]
pub struct Found {
    durable: Durable,
    cursor: Option<PointId>,
    last_point: Option<Timestamp>,
}

impl Found {
    /// Asks the vault what it has; waits for it.
    pub fn ask(vaults: &Vaults, source: &SourceName, target: &Target) -> Result<Self, Failure> {
        let Target::Vault(name) = target else {
            return Err(Failure::failed("this version cannot keep replicas yet"));
        };
        let vault = vaults.open(name.as_str(), Absent::Refuse)?;
        let catalogue = vault.catalogue(vault.ring().source_id(source.as_str()))?;
        Ok(Self::in_catalogue(&catalogue, &vault))
    }

    /// What a vault has by the catalogue of the source.
    pub fn in_catalogue(catalogue: &Catalogue, vault: &Vault) -> Self {
        Self {
            durable: catalogue.durable_until(vault.id()).map_or(Durable::Nothing, Durable::Since),
            cursor: catalogue.newest().map(|point| point.link.point),
            last_point: catalogue.newest().map(|point| point.common.capture_start),
        }
    }

    /// Whether it is less than what was known, or all that is known.
    fn corrects(&self, known: Durable) -> bool {
        match (self.durable, known) {
            (_, Durable::Unknown) | (Durable::Nothing, Durable::Since(_)) => true,
            (Durable::Since(found), Durable::Since(known)) => found < known,
            _ => false,
        }
    }
}

/// What a vault is asked again, and as of when: an answer is worth nothing that a capture has overtaken.
#[derive(Debug)]
pub struct Question {
    /// The source.
    pub source: SourceName,
    /// The target.
    pub target: Target,
    captures: u64,
}

/// What became of a vault in a job, as far as flows depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// It has what it had, or more.
    Kept,
    /// It was mended: what it had may be gone, but nothing is known to be lost.
    Mended,
    /// It was mended, and something is lost. The next capture stores what the source still has of it.
    Lost,
}

impl Flows {
    /// The flows whose sources are at home on this node. Nothing is known of them before it is learnt.
    pub fn awaited(config: &Config) -> Self {
        let mut flows = Self {
            fleet: config.fleet.name.to_string(),
            node: config.node.name.to_string(),
            records: Vec::new(),
        };
        for source in config.sources_at_home_on(&config.node.name) {
            flows.records.extend(source.flows.iter().map(|flow| FlowRecord {
                service: source.service.to_string(),
                kind: source.kind.label(),
                source: source.name.clone(),
                target: flow.target.clone(),
                rpo: flow.rpo,
                awaited: true,
                durable: Durable::Unknown,
                cursor: None,
                last_point: None,
                failures: 0,
                problem: None,
                remarks: Vec::new(),
                capturing: false,
                captures: 0,
                has_lost: false,
                retry_at: None,
                estimate: DurationEstimate::default(),
            }));
        }
        flows
    }

    /// The flows with what their vaults say of them. A vault that cannot be asked leaves its flows unknown; waits for
    /// all.
    pub fn load(config: &Config, vaults: &Vaults) -> Self {
        let mut flows = Self::awaited(config);
        for record in &mut flows.records {
            record.learn(Found::ask(vaults, &record.source, &record.target));
        }
        flows
    }

    /// Notes what the vault of a flow has answered.
    pub fn learn(&mut self, source: &SourceName, target: &Target, found: Result<Found, Failure>) {
        if let Some(record) = self.of(source.as_str()).find(|record| record.target == *target) {
            record.learn(found);
        }
    }

    /// The questions to a vault, one for each flow to it.
    pub fn questions_to(&self, vault: &str) -> Vec<Question> {
        let to_it = self.records.iter().filter(|record| record.target.as_str() == vault);
        let question = |record: &FlowRecord| Question {
            source: record.source.clone(),
            target: record.target.clone(),
            captures: record.captures,
        };
        to_it.map(question).collect()
    }

    /// Notes what the vault of a flow has answered after a job: it counts also where it is less than was known.
    pub fn learn_again(&mut self, question: &Question, found: Result<Found, Failure>, aftermath: Aftermath) {
        let asked = self.of(question.source.as_str()).find(|record| record.target == question.target);
        if let Some(record) = asked.filter(|record| record.captures == question.captures) {
            record.learn_again(found, aftermath);
        }
    }

    /// Notes what a capture has found in the vault of a flow before it captures. Where that is less than was known, the
    /// vault has lost something, and is believed, whatever becomes of the capture. More was not acknowledged.
    pub fn found(&mut self, source: &str, target: &Target, found: Found) {
        let of_it = self.of(source).find(|record| record.target == *target);
        if let Some(record) = of_it.filter(|record| found.corrects(record.durable)) {
            record.take(found);
        }
    }

    /// Targets of a source whose vaults have not answered yet.
    pub fn awaited_of(&self, source: &str) -> Vec<Target> {
        let awaited = self.records.iter().filter(|record| record.awaited && record.source.as_str() == source);
        awaited.map(|record| record.target.clone()).collect()
    }

    /// The flows.
    pub fn records(&self) -> &[FlowRecord] {
        &self.records
    }

    /// For the schedule: those of which it is known what their vaults have. A capture to another could only wait
    /// for its vault, and others would have to wait for that capture.
    pub fn scheduled(&self) -> Vec<ScheduledFlow> {
        self.records.iter().filter(|record| !record.awaited).map(FlowRecord::scheduled).collect()
    }

    /// Notes that a capture of a source for these targets has begun.
    pub fn begin(&mut self, source: &str, targets: &[Target]) {
        for record in self.of(source) {
            record.capturing |= targets.contains(&record.target);
        }
    }

    /// Notes what a capture that began at `start` has done.
    pub fn end(&mut self, report: &CaptureReport, start: Timestamp, now: Timestamp, jitter: Jitter) {
        for outcome in &report.targets {
            let took = now.duration_since(start);
            // One that went on from where an earlier one was interrupted shows the source as of that one's start.
            let scan_start = outcome.scan_start_nanos.map_or(start, Timestamp::from_nanos);
            for record in self.of(&report.source).filter(|record| record.target.as_str() == outcome.target) {
                record.capturing = false;
                record.note(&outcome.outcome, scan_start, took, now, jitter);
                record.note_defects(report);
                if !matches!(outcome.outcome, TargetOutcome::Failed { .. }) {
                    record.remarks.clone_from(&report.remarks);
                }
            }
        }
        for record in self.of(&report.source) {
            let reported = report.targets.iter().any(|outcome| record.target.as_str() == outcome.target);
            record.capturing &= !reported;
        }
    }

    /// The remarks of a report that no flow of its source has yet: each is worth a line in the log once.
    pub fn new_remarks<'r>(&self, report: &'r CaptureReport) -> Vec<&'r str> {
        let known = |remark: &String| {
            let mut of_source = self.records.iter().filter(|record| record.source.as_str() == report.source);
            of_source.any(|record| record.remarks.contains(remark))
        };
        report.remarks.iter().filter(|remark| !known(remark)).map(String::as_str).collect()
    }

    /// As status shows them.
    pub fn status(&self, daemon: bool, clock: &dyn Clock) -> NodeStatus {
        let now = clock.now();
        let flows: Vec<FlowReport> = self.records.iter().map(|record| record.report(now)).collect();
        let severity =
            Severity::overall(self.records.iter().map(|record| record.status(now).condition.severity()));
        NodeStatus {
            fleet: self.fleet.clone(),
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon,
            time: now.to_string(),
            flows,
            severity: severity_word(severity).to_owned(),
        }
    }

    fn of(&mut self, source: &str) -> impl Iterator<Item = &mut FlowRecord> {
        self.records.iter_mut().filter(move |record| record.source.as_str() == source)
    }
}

impl FlowRecord {
    /// Its status now.
    pub fn status(&self, now: Timestamp) -> FlowStatus {
        let facts =
            FlowFacts { durable: self.durable, failures: self.failures, permission: Permission::Running };
        FlowStatus::assess(&facts, self.rpo, now)
    }

    /// Labels of its metrics: service, source, kind, target.
    pub fn labels(&self) -> [&str; 4] {
        [&self.service, self.source.as_str(), self.kind, self.target.as_str()]
    }

    /// Everything before this is restorable.
    pub fn restorable(&self) -> Option<Timestamp> {
        match self.durable {
            Durable::Since(time) => Some(time),
            Durable::Nothing | Durable::Unknown => None,
        }
    }

    /// Time of the newest point.
    pub fn last_point(&self) -> Option<Timestamp> {
        self.last_point
    }

    fn learn(&mut self, found: Result<Found, Failure>) {
        self.awaited = false;
        match found {
            Ok(found) => self.take(found),
            Err(failure) => self.problem = Some(failure.message),
        }
    }

    fn learn_again(&mut self, found: Result<Found, Failure>, aftermath: Aftermath) {
        if let (Err(_), Aftermath::Kept) = (&found, aftermath) {
            return;
        }
        if found.is_err() {
            self.take(Found { durable: Durable::Unknown, cursor: None, last_point: None });
        }
        self.learn(found);
        if aftermath != Aftermath::Kept {
            // What has failed before may have failed because of what is mended.
            self.retry_at = None;
            self.has_lost |= aftermath == Aftermath::Lost;
        }
    }

    fn take(&mut self, found: Found) {
        let Found { durable, cursor, last_point } = found;
        (self.durable, self.cursor, self.last_point) = (durable, cursor, last_point);
    }

    fn note(
        &mut self,
        outcome: &TargetOutcome,
        scan_start: Timestamp,
        took: Duration,
        now: Timestamp,
        jitter: Jitter,
    ) {
        match outcome {
            TargetOutcome::Point { point } | TargetOutcome::Unchanged { point: Some(point) } => {
                if matches!(outcome, TargetOutcome::Point { .. }) {
                    self.last_point = Some(scan_start);
                }
                self.cursor = point.parse().ok().or(self.cursor);
                self.succeed(scan_start, took);
            }
            TargetOutcome::Unchanged { point: None } => self.succeed(scan_start, took),
            TargetOutcome::Failed { message, .. } => {
                self.failures = self.failures.saturating_add(1);
                self.problem = Some(message.clone());
                self.retry_at = Some(now.saturating_add(backoff(self.failures, jitter)));
            }
        }
    }

    fn succeed(&mut self, scan_start: Timestamp, took: Duration) {
        let is_first = !matches!(self.durable, Durable::Since(_));
        self.durable = Durable::Since(scan_start);
        self.captures += 1;
        self.has_lost = false;
        self.failures = 0;
        self.problem = None;
        self.retry_at = None;
        if !is_first {
            self.estimate.observe(took);
        }
    }

    /// What was captured with defects is captured, and still to be looked at.
    fn note_defects(&mut self, report: &CaptureReport) {
        if self.problem.is_none() && report.defects > 0 {
            let first = report.warnings.first().map_or("", String::as_str);
            self.problem = Some(format!("{} entries are not as they should be; {first}", report.defects));
        }
    }

    fn scheduled(&self) -> ScheduledFlow {
        let activity = match (self.capturing, self.retry_at) {
            (true, _) => Activity::Capturing,
            (false, Some(until)) => Activity::BackingOff { until },
            (false, None) => Activity::Idle,
        };
        ScheduledFlow {
            source: self.source.clone(),
            target: self.target.clone(),
            rpo: self.rpo,
            cursor: self.cursor,
            // As before the first capture: due at once, and nobody knows how long it takes.
            durable_scan_start: self.restorable().filter(|_| !self.has_lost),
            expected: self.estimate.expected(),
            activity,
        }
    }

    fn report(&self, now: Timestamp) -> FlowReport {
        let status = self.status(now);
        let exposure = status.exposure.as_seconds_f64();
        FlowReport {
            service: self.service.clone(),
            source: self.source.to_string(),
            kind: self.kind.to_owned(),
            target: self.target.to_string(),
            state: status.condition.label().to_owned(),
            capturing: self.capturing,
            exposure_seconds: (!exposure.is_nan()).then_some(exposure),
            objective_seconds: self.rpo.as_secs_f64(),
            restorable: self.restorable().map(|time| time.to_string()),
            last_point: self.last_point.map(|time| time.to_string()),
            problem: self.problem.clone().or_else(|| self.awaited.then(|| UNANSWERED.to_owned())),
            remarks: self.remarks.clone(),
        }
    }
}

/// The word for a severity, on the wire.
fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
        Severity::Unknown => "unknown",
    }
}
