//! The status of a node and its flows, as `status --json`, `/status.json` and the control socket show it.

use serde::{Deserialize, Serialize};

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the fleet.
    pub fleet: String,
    /// Name of the node.
    pub node: String,
    /// Version of the daemon.
    pub version: String,
    /// Whether a daemon gave this answer; otherwise it was read from the vaults.
    pub daemon: bool,
    /// When, RFC 3339.
    pub time: String,
    /// Flow by flow.
    pub flows: Vec<FlowReport>,
    /// The worst of all flows: `ok`, `warning`, `critical`, `unknown`.
    pub severity: String,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Its service.
    pub service: String,
    /// Its source.
    pub source: String,
    /// Kind of the source.
    pub kind: String,
    /// Its target.
    pub target: String,
    /// `ok`, `seeding`, `failing`, `late`, `critical`, `unknown` or `paused`.
    pub state: String,
    /// Whether a capture runs.
    pub capturing: bool,
    /// What would be lost now, seconds; absent when unknown.
    pub exposure_seconds: Option<f64>,
    /// What may be lost, seconds.
    pub objective_seconds: f64,
    /// Everything before this is restorable, RFC 3339; absent when unknown.
    pub restorable: Option<String>,
    /// Time of the newest point, RFC 3339.
    pub last_point: Option<String>,
    /// When the newest proof was made that was good, RFC 3339.
    #[serde(default)]
    pub last_proof: Option<String>,
    /// What is wrong: message of the last failure since the last success.
    pub problem: Option<String>,
    /// What the last capture has left out on purpose.
    #[serde(default)]
    pub remarks: Vec<String>,
}
