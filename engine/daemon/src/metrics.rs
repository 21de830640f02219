//! The metrics of a node in Prometheus' text form. Owns names and labels; the figures are those of the flows and
//! of the vaults' requests.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Moment;
use backstay_core::rpo::{Condition, Durable};
use backstay_core::units::Timestamp;
use backstay_vault::store::{Operation, RequestObserver, StoreError};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::flow_counters::FlowCounters;
use crate::flow_proofs::FlowProofs;
use crate::flows::{Flows, HeldSource};
use crate::node::Probed;
use crate::protection::{Protection, answers};
use crate::vaults::VaultObserver;

const FLOW_LABELS: [&str; 4] = ["service", "source", "kind", "target"];

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    exposure: GaugeVec,
    held_exposure: GaugeVec,
    relayed_exposure: GaugeVec,
    held_scrub: GaugeVec,
    held_damaged: IntGaugeVec,
    objective: GaugeVec,
    restorable: GaugeVec,
    last_point: GaugeVec,
    state: GaugeVec,
    captured: IntCounterVec,
    sent: IntCounterVec,
    saved: IntCounterVec,
    errors: IntCounterVec,
    last_proof: GaugeVec,
    proof_success: GaugeVec,
    restore_seconds: GaugeVec,
    vault_bytes: IntGaugeVec,
    vault_chunks: IntGaugeVec,
    read_from_older: IntGaugeVec,
    provider: GaugeVec,
    probed: GaugeVec,
    protected: GaugeVec,
    pruned: GaugeVec,
    prune_errors: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    captures_running: IntGauge,
    queue_depth: IntGaugeVec,
    resident_memory: IntGauge,
}

/// What a node is busy with.
#[derive(Debug, Default, Clone, Copy)]
pub struct NodeLoad {
    /// Captures under way.
    pub captures_running: usize,
    /// Requests to capture now that wait for their turn.
    pub requests_waiting: usize,
    /// Events that the daemon's loop has not taken up.
    pub events_waiting: usize,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let labels_and =
            |more: &'static str| -> Vec<&str> { FLOW_LABELS.into_iter().chain([more]).collect() };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec, prometheus::Error> {
            let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let int_gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let plain = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let info = gauge("backstay_build_info", "Always 1; the version is a label.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let request_seconds = HistogramVec::new(
            HistogramOpts::new("backstay_store_request_seconds", "How long requests to stores take."),
            &["vault", "op"],
        )?;
        registry.register(Box::new(request_seconds.clone()))?;
        Ok(Self {
            exposure: gauge(
                "backstay_rpo_exposure_seconds",
                "Seconds of changes that would be lost if the host died now; NaN when unknown.",
                &FLOW_LABELS,
            )?,
            held_exposure: gauge(
                "backstay_held_exposure_seconds",
                "Seconds of changes of another node's source that would be lost with it, by what is held here; NaN when unknown.",
                &["node", "source"],
            )?,
            relayed_exposure: gauge(
                "backstay_relayed_exposure_seconds",
                "Seconds of changes of another node's source that would be lost with it and with what is held here, by the vault to which this node copies on; NaN when unknown.",
                &["node", "source", "target"],
            )?,
            held_scrub: gauge(
                "backstay_held_scrub_timestamp_seconds",
                "When the reading of all that is held for another node began that was ended last; NaN before the first.",
                &["node"],
            )?,
            held_damaged: int_gauge(
                "backstay_held_damaged",
                "Objects held for another node that are not what their names say.",
                &["node"],
            )?,
            objective: gauge(
                "backstay_rpo_objective_seconds",
                "Seconds of changes that may be lost.",
                &FLOW_LABELS,
            )?,
            restorable: gauge(
                "backstay_restorable_timestamp_seconds",
                "Everything before this time is restorable; NaN when unknown.",
                &FLOW_LABELS,
            )?,
            last_point: gauge(
                "backstay_last_point_timestamp_seconds",
                "Time of the newest point; NaN when there is none.",
                &FLOW_LABELS,
            )?,
            state: gauge(
                "backstay_flow_state",
                "1 for the state in which the flow is, else 0.",
                &labels_and("state"),
            )?,
            captured: counter("backstay_captured_bytes_total", "Bytes read from sources.", &FLOW_LABELS)?,
            sent: counter(
                "backstay_sent_bytes_total",
                "Bytes of new records sent to targets.",
                &FLOW_LABELS,
            )?,
            saved: counter(
                "backstay_dedup_saved_bytes_total",
                "Bytes of contents that were read and not sent, because the targets have them already.",
                &FLOW_LABELS,
            )?,
            errors: counter(
                "backstay_flow_errors_total",
                "Failed captures, by class.",
                &labels_and("class"),
            )?,
            last_proof: gauge(
                "backstay_last_proof_timestamp_seconds",
                "When the last proof of this level was made; of shares of contents, the last round that was whole.",
                &labels_and("level"),
            )?,
            proof_success: gauge(
                "backstay_last_proof_success",
                "1 when the last proofs of all levels have shown that all is well, 0 when one has failed.",
                &FLOW_LABELS,
            )?,
            restore_seconds: gauge(
                "backstay_restore_seconds",
                "How long the restore for the last proof has taken, with the comparison.",
                &FLOW_LABELS,
            )?,
            vault_bytes: int_gauge("backstay_vault_bytes", "Bytes of packs, by class.", &["vault", "class"])?,
            vault_chunks: int_gauge("backstay_vault_chunks", "Chunks that the index knows.", &["vault"])?,
            read_from_older: int_gauge(
                "backstay_vault_read_from_older",
                "Objects that were gone or replaced, of which this process has read an older version, and that are not put back.",
                &["vault"],
            )?,
            provider: gauge(
                "backstay_vault_provider",
                "What the provider of a bucket does, by the last probe: 1 yes, 0 no, NaN unknown.",
                &["vault", "does"],
            )?,
            probed: gauge(
                "backstay_vault_probe_timestamp_seconds",
                "When it was found out last what the provider of a bucket does.",
                &["vault"],
            )?,
            protected: gauge(
                "backstay_vault_history_protected",
                "Whether a bucket keeps its history from who has the keys of this node: 1 yes, 0 no, NaN unknown.",
                &["vault"],
            )?,
            pruned: gauge(
                "backstay_vault_pruned_timestamp_seconds",
                "When the vault was last pruned to the end by this daemon.",
                &["vault"],
            )?,
            prune_errors: counter("backstay_prune_errors_total", "Failed prunes.", &["vault"])?,
            requests: counter(
                "backstay_store_requests_total",
                "Requests to stores.",
                &["vault", "op", "outcome"],
            )?,
            request_seconds,
            captures_running: plain("backstay_captures_running", "Captures under way.")?,
            queue_depth: int_gauge(
                "backstay_queue_depth",
                "What waits: requests to capture now, and events of the daemon's loop.",
                &["queue"],
            )?,
            resident_memory: plain(
                "backstay_resident_memory_bytes",
                "Memory of the process that is resident; 0 when the system does not tell.",
            )?,
            registry,
        })
    }

    /// The text form, with the flows as they are at `now`.
    pub fn render(
        &self,
        flows: &Flows,
        counters: &FlowCounters,
        load: NodeLoad,
        now: Moment,
    ) -> Result<Vec<u8>, prometheus::Error> {
        for record in flows.records() {
            let labels = record.labels();
            let status = record.status(now);
            let [service, source, kind, target] = labels;
            for condition in Condition::ALL {
                let value = if condition == status.condition { 1.0 } else { 0.0 };
                self.state.with_label_values(&[service, source, kind, target, condition.label()]).set(value);
            }
            // The greatest exposure of a node is that of its data: what it keeps of the configuration is behind by hours.
            if record.source.as_fleet_of().is_some() {
                continue;
            }
            self.exposure.with_label_values(&labels).set(status.exposure.as_seconds_f64());
            self.objective.with_label_values(&labels).set(status.objective.as_secs_f64());
            let seconds = |time: Option<Timestamp>| time.map_or(f64::NAN, Timestamp::as_seconds_f64);
            self.restorable.with_label_values(&labels).set(seconds(record.restorable()));
            self.last_point.with_label_values(&labels).set(seconds(record.last_point()));
            self.show_proofs(record.proofs(), labels);
            let counter = counters.of(source, target);
            set(&self.captured, &labels, counter.captured_bytes);
            set(&self.sent, &labels, counter.sent_bytes);
            set(&self.saved, &labels, counter.saved_bytes);
            for (class, errors) in &counter.errors {
                set(&self.errors, &[service, source, kind, target, class], *errors);
            }
        }
        self.set_node(load);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Shows how far behind it is what is held for other nodes.
    pub fn show_held(&self, held: &[HeldSource], now: Timestamp) {
        for one in held {
            let exposure = match one.durable {
                Durable::Since(time) => now.duration_since(time).as_secs_f64(),
                Durable::Nothing | Durable::Unknown => f64::NAN,
            };
            self.held_exposure.with_label_values(&[one.node.as_str(), one.source.as_str()]).set(exposure);
        }
    }

    /// Shows how far behind it is what is copied on for another node: node, source and vault.
    pub fn show_relayed(&self, labels: [&str; 3], until: Option<Timestamp>, now: Timestamp) {
        let exposure = until.map_or(f64::NAN, |until| now.duration_since(until).as_secs_f64());
        self.relayed_exposure.with_label_values(&labels).set(exposure);
    }

    /// Shows what came out of reading what is held for another node: when the last whole reading began, seconds since 1970.
    pub fn show_scrub(&self, node: &str, began: Option<i64>, damaged: usize) {
        self.held_scrub.with_label_values(&[node]).set(began.map_or(f64::NAN, |began| began as f64));
        self.held_damaged.with_label_values(&[node]).set(i64::try_from(damaged).unwrap_or(i64::MAX));
    }

    /// Of what was never proven there is no figure.
    fn show_proofs(&self, proofs: &FlowProofs, labels: [&str; 4]) {
        let [service, source, kind, target] = labels;
        for (level, last) in proofs.last() {
            let labels = [service, source, kind, target, level.word()];
            self.last_proof.with_label_values(&labels).set(last.end.as_seconds_f64());
        }
        if let Some(good) = proofs.are_good() {
            self.proof_success.with_label_values(&labels).set(if good { 1.0 } else { 0.0 });
        }
        if let Some(took) = proofs.restore_time() {
            self.restore_seconds.with_label_values(&labels).set(took.as_secs_f64());
        }
    }

    fn set_node(&self, load: NodeLoad) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.captures_running.set(number(load.captures_running));
        self.queue_depth.with_label_values(&["requests"]).set(number(load.requests_waiting));
        self.queue_depth.with_label_values(&["events"]).set(number(load.events_waiting));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident_memory.set(resident_bytes(&status).unwrap_or(0));
    }

    /// A vault was pruned to the end.
    pub fn pruned(&self, vault: &str, now: Timestamp) {
        self.pruned.with_label_values(&[vault]).set(now.as_seconds_f64());
        // So that it is there, with what it counts or 0.
        self.prune_errors.with_label_values(&[vault]);
    }

    /// A prune of a vault failed.
    pub fn prune_failed(&self, vault: &str) {
        self.prune_errors.with_label_values(&[vault]).inc();
    }

    /// Shows what the provider of a bucket does.
    pub fn show_probed(&self, vault: &str, probed: &Probed) {
        let number = |answer: Option<bool>| answer.map_or(f64::NAN, |answer| if answer { 1.0 } else { 0.0 });
        for (does, answer) in answers(&probed.provider) {
            self.provider.with_label_values(&[vault, does]).set(number(answer));
        }
        self.probed.with_label_values(&[vault]).set(probed.seconds as f64);
        let protected = Protection::of(&probed.provider).is_whole();
        self.protected.with_label_values(&[vault]).set(number(protected));
    }

    /// Sets the sums of a vault, and of how many objects older versions were read.
    pub fn set_vault(&self, name: &str, totals: backstay_vault::index::IndexTotals, read_from_older: usize) {
        let set = |gauge: &IntGaugeVec, labels: &[&str], value: u64| {
            gauge.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.vault_bytes, &[name, "data"], totals.data_pack_bytes);
        set(&self.vault_bytes, &[name, "metadata"], totals.meta_pack_bytes);
        set(&self.vault_chunks, &[name], totals.chunks);
        set(&self.read_from_older, &[name], read_from_older as u64);
    }
}

/// Counters of the flows are kept elsewhere: brings the metric to their value.
fn set(counter: &IntCounterVec, labels: &[&str], value: u64) {
    let counter = counter.with_label_values(labels);
    counter.inc_by(value.saturating_sub(counter.get()));
}

/// The resident memory that `/proc/self/status` tells; the kernel gives it in units of 1024 bytes.
fn resident_bytes(status: &str) -> Option<i64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Observes the requests of all vaults.
#[derive(Debug)]
pub struct MeteredVaults(pub Arc<Metrics>);

impl VaultObserver for MeteredVaults {
    fn of_vault(&self, name: &str) -> Arc<dyn RequestObserver> {
        Arc::new(MeteredRequests { vault: name.to_owned(), metrics: Arc::clone(&self.0) })
    }
}

#[derive(Debug)]
struct MeteredRequests {
    vault: String,
    metrics: Arc<Metrics>,
}

impl RequestObserver for MeteredRequests {
    fn observe(&self, operation: Operation, failed: Option<&StoreError>, took: Duration, _: u64) {
        let outcome = match failed {
            None => "ok",
            Some(error) if error.is_not_found() => "not_found",
            Some(_) => "error",
        };
        let (vault, op) = (self.vault.as_str(), operation.as_str());
        self.metrics.requests.with_label_values(&[vault, op, outcome]).inc();
        self.metrics.request_seconds.with_label_values(&[vault, op]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("VmHWM:\t  900 kB\nVmRSS:\t    8 kB\n"), Some(8192));
        assert_eq!(resident_bytes("VmRSS: nothing kB\n"), None);
        assert_eq!(resident_bytes(""), None);
    }

    #[test]
    fn names_and_labels_can_be_registered() {
        let metrics = Metrics::new().expect("registers");
        metrics.set_vault("local", backstay_vault::index::IndexTotals::default(), 3);
        let mut text = Vec::new();
        TextEncoder::new().encode(&metrics.registry.gather(), &mut text).expect("encodes");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("backstay_vault_chunks{vault=\"local\"} 0"), "{text}");
        assert!(text.contains("backstay_vault_read_from_older{vault=\"local\"} 3"), "{text}");
    }
}
