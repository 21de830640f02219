//! The flows of this node: what is known of each, and what follows for status, metrics and schedule. Owns the
//! facts; decisions are core's, captures are the engine's.

mod captures;
mod changes;
mod found;
mod held;
mod onward;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use backstay_core::clock::{Clock, Moment, SteadyTime};
use backstay_core::config::{Config, SourceName, Target};
use backstay_core::id::PointId;
use backstay_core::proof::ProofLevel;
use backstay_core::rpo::{Durable, FlowFacts, FlowStatus, Permission, Severity};
use backstay_core::schedule::{DurationEstimate, Jitter, ScheduledFlow};
use backstay_core::units::Timestamp;
use backstay_files::touched::Touched;
use backstay_wire::control::{CaptureReport, TargetOutcome, TargetReport};
use backstay_wire::peer::Standing;
use backstay_wire::status::{FlowReport, NodeStatus};

use crate::failure::Failure;
use crate::flow_proofs::FlowProofs;
use crate::vaults::Vaults;

use self::captures::Scan;
use self::changes::SeenChanges;
pub use self::found::{Aftermath, Found, Question};
pub use self::held::HeldSource;
use self::onward::Onward;

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
    /// No other flow of its source has a shorter objective.
    is_fastest: bool,
    /// Its vault has not been asked, or has not answered.
    awaited: bool,
    /// What the vault has that it is captured to.
    durable: Durable,
    /// Where it goes on from there.
    onward: Option<Onward>,
    cursor: Option<PointId>,
    last_point: Option<Timestamp>,
    failures: u32,
    problem: Option<String>,
    /// What the last capture has left out on purpose.
    remarks: Vec<String>,
    /// A hash of what the last capture has warned of.
    warned: Option<u64>,
    capturing: bool,
    /// When the scan has begun that a capture under way has made durable.
    captured: Option<Moment>,
    /// By the clock that nobody sets, when the scan has begun that `durable` tells of. After a restart that is not known.
    durable_steady: Option<SteadyTime>,
    /// Of how many captures it is known that they have become durable, since the daemon began.
    captures: u64,
    /// Its vault has lost something: it is due, whenever the last capture was.
    has_lost: bool,
    retry_at: Option<Timestamp>,
    estimate: DurationEstimate,
    changes: SeenChanges,
    proofs: FlowProofs,
}

/// All flows of this node.
#[derive(Debug, Clone)]
pub struct Flows {
    fleet: String,
    node: String,
    records: Vec<FlowRecord>,
}

impl Flows {
    /// The flows of what this node captures. Nothing is known of them before it is learnt.
    pub fn awaited(config: &Config) -> Self {
        let mut flows = Self {
            fleet: config.fleet.name.to_string(),
            node: config.node.name.to_string(),
            records: Vec::new(),
        };
        for source in config.captured_here() {
            let shortest = source.flows.iter().map(|flow| flow.rpo).min();
            flows.records.extend(source.flows.iter().map(|flow| FlowRecord {
                service: source.service.to_string(),
                kind: source.kind.label(),
                source: source.name.clone(),
                target: flow.target.clone(),
                rpo: flow.rpo,
                is_fastest: shortest == Some(flow.rpo),
                awaited: true,
                durable: Durable::Unknown,
                onward: is_via(config, &flow.target).then(Onward::unknown),
                cursor: None,
                last_point: None,
                failures: 0,
                problem: None,
                remarks: Vec::new(),
                warned: None,
                capturing: false,
                captured: None,
                durable_steady: None,
                captures: 0,
                has_lost: false,
                retry_at: None,
                estimate: DurationEstimate::default(),
                changes: SeenChanges::default(),
                proofs: FlowProofs::default(),
            }));
        }
        flows
    }

    /// The flows with what their vaults say of them. A vault that cannot be asked leaves its flows unknown; waits for
    /// all.
    pub fn load(config: &Config, vaults: &Vaults) -> Self {
        let mut flows = Self::awaited(config);
        for record in &mut flows.records {
            record.learn(Found::ask_at_first(vaults, &record.source, &record.target));
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

    /// Flows to a vault that its hub writes to; only those that are on their way, where that is said.
    pub fn on_the_way_to(&self, vault: &str, only_outstanding: bool) -> Vec<SourceName> {
        let to_it = self.records.iter().filter(|record| record.target.as_str() == vault);
        let asked = to_it.filter(|record| !only_outstanding || record.is_outstanding());
        asked.map(|record| record.source.clone()).collect()
    }

    /// Notes what the hub of a vault says of a flow to it, or why it says nothing.
    pub fn stands(&mut self, source: &SourceName, vault: &str, standing: Result<Standing, String>) {
        if let Some(record) = self.of(source.as_str()).find(|record| record.target.as_str() == vault) {
            record.stands(standing);
        }
    }

    /// Notes that a capture under way has made durable on a target what a scan has found that began then.
    pub fn captured(&mut self, source: &str, target: &str, began: Moment) {
        for record in self.of(source).filter(|record| record.target.as_str() == target) {
            record.captured = Some(began);
        }
    }

    /// Notes what was proven of a flow.
    pub fn proven(&mut self, source: &str, target: &str, proofs: FlowProofs) {
        for record in self.of(source).filter(|record| record.target.as_str() == target) {
            record.proofs.clone_from(&proofs);
        }
    }

    /// Whether anything was ever proven of a flow.
    pub fn is_proven(&self, source: &str, target: &str) -> bool {
        let mut of_it = self.records.iter().filter(|record| record.source.as_str() == source);
        of_it.any(|record| record.target.as_str() == target && !record.proofs.last().is_empty())
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
    pub fn scheduled(&self, now: Moment) -> Vec<ScheduledFlow> {
        let known = self.records.iter().filter(|record| !record.awaited);
        known.map(|record| record.scheduled(now)).collect()
    }

    /// Notes that a capture of a source for these targets begins now, because somebody has asked for it or not; where it is to
    /// look. Who asks wants what is there, seen or not.
    pub fn begin(&mut self, source: &str, targets: &[Target], is_asked: bool, now: Moment) -> Touched {
        let mut touched = Touched::nowhere();
        for record in self.of(source).filter(|record| targets.contains(&record.target)) {
            touched.merge(record.begin(is_asked, now));
        }
        touched
    }

    /// Notes that something in a source was seen to change.
    pub fn changed(&mut self, source: &str, touched: &Touched, now: Timestamp) {
        for record in self.of(source) {
            record.changes.note(touched.clone(), now);
        }
    }

    /// Whether any vault that is known has only what a source was before this time.
    pub fn has_changed_since(&self, source: &str, time: Timestamp) -> bool {
        let mut of_it = self.records.iter().filter(|record| record.source.as_str() == source);
        of_it.any(|record| matches!(record.durable, Durable::Since(since) if since <= time))
    }

    /// Notes whether changes of a source are seen, or why not.
    pub fn watched(&mut self, source: &str, problem: Option<&str>) {
        for record in self.of(source) {
            record.changes.watched(problem);
        }
    }

    /// Notes what a capture that began at `start` has done.
    pub fn end(&mut self, report: &CaptureReport, start: Timestamp, now: Timestamp, jitter: Jitter) {
        for outcome in &report.targets {
            // Not by the clock: it may be set meanwhile, or the machine sleep.
            let took = Duration::from_millis(outcome.took_millis);
            // One that went on from where an earlier one was interrupted shows the source as of that one's start.
            let scan_start = outcome.scan_start_nanos.map_or(start, Timestamp::from_nanos);
            for record in self.of(&report.source).filter(|record| record.target.as_str() == outcome.target) {
                record.capturing = false;
                let steady = record.captured.take().filter(|began| began.wall == scan_start);
                let start = Moment { wall: scan_start, steady: steady.and_then(|began| began.steady) };
                let whole_until = outcome.whole_until_nanos.map(Timestamp::from_nanos);
                record.note(&outcome.outcome, Scan { start, whole_until, took }, now, jitter);
                record.note_defects(report);
                // One that has not looked at everything says nothing of what it has not looked at.
                let is_whole = whole_until.is_none();
                if is_whole && !matches!(outcome.outcome, TargetOutcome::Failed { .. }) {
                    record.remarks.clone_from(&report.remarks);
                    record.warned = Some(hash_of(&report.warnings));
                } else if !report.warnings.is_empty() {
                    record.warned = Some(hash_of(&report.warnings));
                }
            }
        }
        for record in self.of(&report.source) {
            let reported = report.targets.iter().any(|outcome| record.target.as_str() == outcome.target);
            record.capturing &= !reported;
        }
    }

    /// Whether a report warns of what it has warned of the last time, for each of its targets: once is enough for the log.
    pub fn has_warned(&self, report: &CaptureReport) -> bool {
        let warnings = Some(hash_of(&report.warnings));
        let of_target = |target: &TargetReport| {
            let mut of_source = self.records.iter().filter(|record| record.source.as_str() == report.source);
            of_source.any(|record| record.target.as_str() == target.target && record.warned == warnings)
        };
        report.targets.iter().all(of_target)
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
        let now = clock.moment();
        let flows: Vec<FlowReport> = self.records.iter().map(|record| record.report(now)).collect();
        let severity = Severity::overall(self.records.iter().flat_map(|record| record.severities(now)));
        NodeStatus {
            fleet: self.fleet.clone(),
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon,
            time: now.wall.to_string(),
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
    pub fn status(&self, now: Moment) -> FlowStatus {
        let durable = match (&self.onward, self.durable) {
            (Some(onward), _) => onward.as_seen_from(now),
            (None, Durable::Since(start)) => Durable::Since(self.as_seen_from(now, start)),
            (None, unknown) => unknown,
        };
        let facts = FlowFacts { durable, failures: self.failures, permission: Permission::Running };
        FlowStatus::assess(&facts, self.rpo, now.wall)
    }

    /// How bad it is: of the flow, and of its proofs.
    fn severities(&self, now: Moment) -> impl Iterator<Item = Severity> + use<> {
        let failed = self.proofs.are_good() == Some(false);
        std::iter::once(self.status(now).condition.severity()).chain(failed.then_some(Severity::Critical))
    }

    /// What was proven of it.
    pub fn proofs(&self) -> &FlowProofs {
        &self.proofs
    }

    /// What is said of proofs that have failed.
    fn failed_proofs(&self) -> Option<String> {
        let levels: Vec<&str> = self.proofs.failed_levels().map(ProofLevel::word).collect();
        (!levels.is_empty()).then(|| {
            let (source, target) = (&self.source, &self.target);
            format!(
                "the last proof has failed ({}): `backstay proofs {source}` says of what, `backstay vault repair {target}` mends",
                levels.join(", ")
            )
        })
    }

    /// When the scan has begun that is durable, as the clock shows the time now: one that was set back makes nothing fresher.
    fn as_seen_from(&self, now: Moment, start: Timestamp) -> Timestamp {
        Moment { wall: start, steady: self.durable_steady }.as_seen_from(now)
    }

    /// Labels of its metrics: service, source, kind, target.
    pub fn labels(&self) -> [&str; 4] {
        [&self.service, self.source.as_str(), self.kind, self.target.as_str()]
    }

    /// Everything before this is restorable.
    pub fn restorable(&self) -> Option<Timestamp> {
        match self.onward.as_ref().map_or(self.durable, |onward| onward.durable) {
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
            self.take(Found::default());
        }
        self.learn(found);
        if aftermath != Aftermath::Kept {
            // What has failed before may have failed because of what is mended.
            self.retry_at = None;
            self.has_lost |= aftermath == Aftermath::Lost;
        }
    }

    fn take(&mut self, found: Found) {
        let Found { durable, cursor, last_point, proofs, standing } = found;
        if let Some(proofs) = proofs {
            self.proofs = proofs;
        }
        if cursor != self.cursor {
            self.changes.forget();
        }
        if durable != self.durable {
            self.durable_steady = None;
        }
        (self.durable, self.cursor) = (durable, cursor);
        match standing {
            Some(standing) => self.stands(standing),
            None if self.onward.is_none() => self.last_point = last_point,
            None => {}
        }
    }

    fn report(&self, now: Moment) -> FlowReport {
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
            last_proof: self.proofs.newest_good().map(|time| time.to_string()),
            problem: self
                .problem
                .clone()
                .or_else(|| self.awaited.then(|| UNANSWERED.to_owned()))
                .or_else(|| self.onward.as_ref()?.problem.clone())
                .or_else(|| self.failed_proofs()),
            remarks: self.remarks.iter().cloned().chain(self.changes.remark()).collect(),
        }
    }
}

/// Whether another node writes to this target for this one.
fn is_via(config: &Config, target: &Target) -> bool {
    matches!(target, Target::Vault(name) if config.via.contains_key(name))
}

/// The same for the same lines, in whichever order the threads of a capture have met them.
fn hash_of(lines: &[String]) -> u64 {
    let mut sorted: Vec<&String> = lines.iter().collect();
    sorted.sort_unstable();
    let mut hasher = DefaultHasher::new();
    sorted.hash(&mut hasher);
    hasher.finish()
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

#[cfg(test)]
mod tests {
    use backstay_core::clock::ManualClock;
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::*;

    const CONFIG: &str = r#"
[fleet]
name = "home"
[node]
name = "alpha"
state = "/tmp/state"
[vault.local]
kind = "dir"
path = "/srv/local"
[service.data]
files = { path = "/srv/data" }
"#;

    const SECOND: Duration = Duration::from_secs(1);
    const SOURCE: &str = "data.files";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// The only flow, of whose vault it is known what it has.
    fn flows(durable: Durable) -> Flows {
        let text = SourceText { name: "backstay.toml", text: CONFIG };
        let mut flows = Flows::awaited(&Config::parse(ConfigTexts::Single(text)).expect("a configuration"));
        let record = &mut flows.records[0];
        record.learn(Ok(has(durable)));
        flows
    }

    fn has(durable: Durable) -> Found {
        Found { durable, ..Found::default() }
    }

    /// A capture that finds nothing changed and takes ten seconds.
    fn capture(flows: &mut Flows, clock: &ManualClock) {
        capture_during(flows, clock, 10 * SECOND);
    }

    /// The same, while the machine sleeps, so that so much time goes by.
    fn capture_during(flows: &mut Flows, clock: &ManualClock, by: Duration) {
        let began = clock.moment();
        let mut report = CaptureReport::of_nothing(SOURCE);
        let outcome = TargetOutcome::Unchanged { point: None };
        let scan_start_nanos = Some(began.wall.as_nanos());
        let nothing = TargetReport::without_work("local".into(), outcome);
        let target = TargetReport { scan_start_nanos, took_millis: 10_000, ..nothing };
        report.targets.push(target);
        flows.begin(SOURCE, &[flows.records[0].target.clone()], false, began);
        let end = clock.advance(by);
        flows.captured(SOURCE, "local", began);
        flows.end(&report, began.wall, end, Jitter(0));
    }

    fn exposure(flows: &Flows, clock: &ManualClock) -> Option<f64> {
        flows.status(true, clock).flows[0].exposure_seconds
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_flow_fresher_and_its_next_capture_no_later() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Nothing);
        capture(&mut flows, &clock);
        clock.advance(590 * SECOND);
        assert_eq!(exposure(&flows, &clock), Some(600.0));
        for shown in [10_100, 10_000, 5_000] {
            clock.set(at(shown));
            assert_eq!(exposure(&flows, &clock), Some(600.0), "{shown}");
            let scheduled = flows.scheduled(clock.moment());
            assert_eq!(scheduled[0].durable_scan_start, Some(at(shown - 600)));
        }
        clock.set(at(20_000));
        assert_eq!(exposure(&flows, &clock), Some(10_000.0), "rather too old than too fresh");
    }

    #[test]
    fn a_capture_is_not_expected_to_take_as_long_as_the_machine_has_slept_in_one() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Since(at(9_000)));
        capture_during(&mut flows, &clock, 30_000 * SECOND);
        assert_eq!(flows.scheduled(clock.moment())[0].expected, 10 * SECOND);
    }

    /// A capture begins because of a change in `a`, and ends so.
    fn touched_capture(flows: &mut Flows, clock: &ManualClock, outcome: TargetOutcome) -> Touched {
        let mut touched = Touched::nowhere();
        touched.touch(backstay_files::keys::PathKey::root().child(b"a").expect("a key"));
        flows.changed(SOURCE, &touched, clock.now());
        clock.advance(2 * SECOND);
        let (began, durable) = (clock.moment(), flows.records[0].restorable());
        let looked = flows.begin(SOURCE, &[flows.records[0].target.clone()], false, began);
        let mut report = CaptureReport::of_nothing(SOURCE);
        report.targets.push(TargetReport {
            scan_start_nanos: Some(began.wall.as_nanos()),
            whole_until_nanos: durable.filter(|_| looked != Touched::Everywhere).map(Timestamp::as_nanos),
            took_millis: 10,
            ..TargetReport::without_work("local".into(), outcome)
        });
        flows.end(&report, began.wall, clock.now(), Jitter(0));
        looked
    }

    #[test]
    fn a_capture_that_is_begun_by_a_change_looks_there_alone_and_makes_nothing_fresher() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Nothing);
        flows.watched(SOURCE, None);
        capture(&mut flows, &clock);
        let unchanged = TargetOutcome::Unchanged { point: None };
        let looked = touched_capture(&mut flows, &clock, unchanged.clone());
        assert_ne!(looked, Touched::Everywhere);
        assert_eq!(exposure(&flows, &clock), Some(12.0));
        // Set back, the clock makes nothing fresher, either.
        clock.set(at(10_000));
        assert_eq!(exposure(&flows, &clock), Some(12.0));
        assert_eq!(flows.scheduled(clock.moment())[0].expected, Duration::ZERO, "whole ones take longer");
        // The objective asks for a whole scan soon, whatever was seen.
        clock.advance(600 * SECOND);
        assert_eq!(touched_capture(&mut flows, &clock, unchanged), Touched::Everywhere);
        assert_eq!(exposure(&flows, &clock), Some(0.0));
    }

    #[test]
    fn who_asks_gets_everything_and_that_says_nothing_of_what_was_seen() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Nothing);
        flows.watched(SOURCE, None);
        capture(&mut flows, &clock);
        let mut touched = Touched::nowhere();
        touched.touch(backstay_files::keys::PathKey::root());
        flows.changed(SOURCE, &touched, clock.now());
        clock.advance(2 * SECOND);
        let (began, target) = (clock.moment(), flows.records[0].target.clone());
        assert_eq!(flows.begin(SOURCE, &[target], true, began), Touched::Everywhere);
        let unchanged = TargetOutcome::Unchanged { point: None };
        let mut report = CaptureReport::of_nothing(SOURCE);
        report.targets.push(TargetReport {
            scan_start_nanos: Some(began.wall.as_nanos()),
            ..TargetReport::without_work("local".into(), unchanged.clone())
        });
        flows.end(&report, began.wall, clock.now(), Jitter(0));
        assert_ne!(touched_capture(&mut flows, &clock, unchanged), Touched::Everywhere);
    }

    #[test]
    fn after_a_failure_everything_is_looked_at() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Nothing);
        flows.watched(SOURCE, None);
        capture(&mut flows, &clock);
        let failed = TargetOutcome::Failed { message: "no".to_owned(), class: "other".to_owned() };
        assert_ne!(touched_capture(&mut flows, &clock, failed.clone()), Touched::Everywhere);
        clock.advance(60 * SECOND);
        assert_eq!(touched_capture(&mut flows, &clock, failed), Touched::Everywhere);
    }

    #[test]
    fn a_source_that_is_watched_is_looked_at_hourly_however_long_its_objective_is() {
        let mut flows = flows(Durable::Since(at(9_000)));
        flows.records[0].rpo = 24 * 3600 * SECOND;
        let now = Moment::of_wall(at(10_000));
        assert_eq!(flows.scheduled(now)[0].rpo, 24 * 3600 * SECOND);
        flows.watched(SOURCE, None);
        assert_eq!(flows.scheduled(now)[0].rpo, 3600 * SECOND);
        flows.records[0].is_fastest = false;
        assert_eq!(flows.scheduled(now)[0].rpo, 24 * 3600 * SECOND, "another flow looks hourly");
    }

    #[test]
    fn warnings_are_news_once_until_they_change_or_come_from_another_target() {
        let mut flows = flows(Durable::Nothing);
        let mut report = CaptureReport::of_nothing(SOURCE);
        let outcome = TargetOutcome::Unchanged { point: None };
        report.targets.push(TargetReport::without_work("local".into(), outcome));
        let mut is_news = |flows: &mut Flows, lines: &[&str], target: &str| {
            report.warnings = lines.iter().map(|line| (*line).to_owned()).collect();
            report.targets[0].target = target.to_owned();
            let is_news = !flows.has_warned(&report);
            flows.end(&report, at(0), at(1), Jitter(0));
            is_news
        };
        assert!(is_news(&mut flows, &["a", "b"], "local"));
        assert!(!is_news(&mut flows, &["b", "a"], "local"));
        assert!(is_news(&mut flows, &["b"], "local"));
        assert!(is_news(&mut flows, &["b"], "usb"));
        assert!(!is_news(&mut flows, &["b"], "local"));
        assert!(is_news(&mut flows, &[], "local"));
        assert!(is_news(&mut flows, &["b"], "local"), "it was gone meanwhile");
    }

    #[test]
    fn after_a_restart_the_time_alone_is_known() {
        let clock = ManualClock::new(at(10_600));
        let flows = flows(Durable::Since(at(10_000)));
        assert_eq!(exposure(&flows, &clock), Some(600.0));
        clock.set(at(9_000));
        assert_eq!(exposure(&flows, &clock), None);
    }

    #[test]
    fn an_answer_that_a_capture_has_overtaken_is_worth_nothing_and_any_other_counts() {
        let clock = ManualClock::new(at(10_000));
        let mut flows = flows(Durable::Since(at(9_000)));
        let before = flows.questions_to("local").remove(0);
        capture(&mut flows, &clock);
        flows.learn_again(&before, Ok(has(Durable::Since(at(9_000)))), Aftermath::Kept);
        assert_eq!(flows.records[0].durable, Durable::Since(at(10_000)));
        let question = flows.questions_to("local").remove(0);
        flows.learn_again(&question, Ok(has(Durable::Since(at(9_000)))), Aftermath::Lost);
        assert_eq!(exposure(&flows, &clock), Some(1010.0));
        assert_eq!(flows.scheduled(clock.moment())[0].durable_scan_start, None, "it is due at once");
        capture(&mut flows, &clock);
        assert_eq!(flows.scheduled(clock.moment())[0].durable_scan_start, Some(at(10_010)));
    }

    #[test]
    fn of_a_vault_that_does_not_answer_after_it_was_mended_nothing_is_known() {
        let mut flows = flows(Durable::Since(at(9_000)));
        let question = flows.questions_to("local").remove(0);
        flows.learn_again(&question, Err(Failure::failed("it hangs")), Aftermath::Kept);
        assert_eq!(flows.records[0].durable, Durable::Since(at(9_000)));
        flows.learn_again(&question, Err(Failure::failed("it hangs")), Aftermath::Mended);
        assert_eq!(flows.records[0].durable, Durable::Unknown);
    }

    #[test]
    fn a_capture_that_finds_less_is_believed_and_one_that_finds_more_is_not() {
        let mut flows = flows(Durable::Since(at(9_000)));
        let target = flows.records[0].target.clone();
        for (found, known) in [
            (Durable::Since(at(9_500)), Durable::Since(at(9_000))),
            (Durable::Since(at(8_000)), Durable::Since(at(8_000))),
            (Durable::Nothing, Durable::Nothing),
            (Durable::Since(at(8_000)), Durable::Nothing),
        ] {
            flows.found(SOURCE, &target, has(found));
            assert_eq!(flows.records[0].durable, known, "{found:?}");
        }
    }
}
