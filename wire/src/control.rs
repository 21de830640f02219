//! The control socket: what a command asks the daemon of its node, and what that answers.

use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use crate::status::NodeStatus;
use crate::upkeep::{Upkeep, UpkeepReport};

/// Version of the protocol. A daemon refuses a greater one by name; fields that it does not know are ignored.
pub const VERSION: u32 = 3;

/// What of a request every version understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Version that the client speaks.
    pub version: u32,
}

/// What is asked. One request for each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Version that the client speaks.
    pub version: u32,
    /// What it wants.
    pub ask: Ask,
}

/// The questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// How every flow is.
    Status,
    /// Capture now. Answered by any number of [`Reply::Progress`] and one [`Reply::Captured`].
    Now {
        /// Names of sources; all of this node when empty.
        sources: Vec<String>,
        /// The name under which the points are to be held for ever.
        #[serde(default)]
        hold: Option<String>,
    },
    /// Capture what is due, and wait for what is being captured. Answered as [`Ask::Now`], without sources of which
    /// nothing was due.
    Due {
        /// Names of sources; all of this node when empty.
        sources: Vec<String>,
    },
    /// Thin and collect a vault now. Answered by any number of [`Reply::Progress`] and one [`Reply::Pruned`].
    Prune {
        /// The vault's name.
        vault: String,
        /// Whether points of a time to come get the times of their captures first.
        #[serde(default)]
        trusts_clock: bool,
    },
    /// Do something else to a vault. Answered by any number of [`Reply::Progress`] and one [`Reply::Upkept`].
    Upkeep(Upkeep),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Ask::Status`].
    Status(Box<NodeStatus>),
    /// Work goes on.
    Progress(Progress),
    /// To [`Ask::Now`] and [`Ask::Due`]: what became of each source.
    Captured(Vec<CaptureReport>),
    /// To [`Ask::Prune`].
    Pruned(PruneReport),
    /// To [`Ask::Upkeep`].
    Upkept(Box<UpkeepReport>),
    /// The request was refused or failed as a whole.
    Failed {
        /// What, why and what to do, in one text.
        message: String,
        /// Whose fault it is.
        #[serde(default)]
        fault: Fault,
    },
}

impl Reply {
    /// A request that has failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), fault: Fault::Failed }
    }
}

/// How a request has failed, as far as the exit code of the command hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing of it was done.
    #[default]
    Failed,
    /// It was asked for wrongly.
    Usage,
    /// A part of it was done.
    Partly,
}

/// What was done to a vault by its custodian.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PruneReport {
    /// The vault's name.
    pub vault: String,
    /// Points that were committed, and that retention judges from now on.
    pub points_accepted: u64,
    /// Points of a time to come that got the times of their captures.
    #[serde(default)]
    pub points_redated: u64,
    /// Sources of which nothing may be dropped, since their newest point is of a time to come.
    #[serde(default)]
    pub sources_ahead: u64,
    /// Points that do not count any more.
    pub points_dropped: u64,
    /// Runs that were made out of others.
    pub runs_merged: u64,
    /// Points whose objects are gone.
    pub points_deleted: u64,
    /// Packs that are gone.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Bytes of packs that hold what was still needed of them.
    pub bytes_written: u64,
    /// Commits that have to end before more can be deleted; the next prune goes on from there.
    pub awaited: Vec<AwaitedCommit>,
    /// Whether there is more to delete then, so that it is worth to look again soon.
    #[serde(default)]
    pub is_unfinished: bool,
    /// How long it took, milliseconds.
    pub took_millis: u64,
}

/// A commit that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedCommit {
    /// Its node.
    pub node: String,
    /// The session.
    pub session: String,
    /// When it began, nanoseconds since 1970 UTC.
    pub start_nanos: i64,
    /// After how many seconds without a sign of life it is given up.
    pub given_up_in_seconds: u64,
}

/// What became of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureReport {
    /// The source.
    pub source: String,
    /// Target by target.
    pub targets: Vec<TargetReport>,
    /// What could not be captured as it should be: at most 1000 lines.
    pub warnings: Vec<String>,
    /// What is left out on purpose and is no defect: at most 1000 lines.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Entries that are unreadable or changed while they were read, in all.
    pub defects: u64,
    /// Entries in the state.
    pub entries: u64,
    /// Bytes that a restore writes.
    pub bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of new records.
    pub stored_bytes: u64,
    /// Bytes of contents that were read and not sent, because the targets have them already.
    #[serde(default)]
    pub saved_bytes: u64,
    /// How long it took, milliseconds.
    pub took_millis: u64,
}

/// What became of one source on one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// The target.
    pub target: String,
    /// What happened.
    pub outcome: TargetOutcome,
    /// Start of the scan to which the state belongs, nanoseconds since 1970 UTC: of a capture that was interrupted and
    /// continued, of its first attempt. Absent when nothing is durable.
    #[serde(default)]
    pub scan_start_nanos: Option<i64>,
    /// Of a scan that has looked only where changes were seen: up to when what it made durable is complete, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_until_nanos: Option<i64>,
    /// Bytes read for this target, and for those that stand at the same point.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes of new records for them.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Bytes of contents that were read and not sent to them, because they have them already.
    #[serde(default)]
    pub saved_bytes: u64,
    /// How long it took for them, without what was done for other targets, milliseconds.
    #[serde(default)]
    pub took_millis: u64,
}

impl TargetReport {
    /// The same for a target for which nothing was moved: it is the same place as another one.
    #[must_use]
    pub fn without_bytes(self) -> Self {
        Self { read_bytes: 0, stored_bytes: 0, saved_bytes: 0, ..self }
    }

    /// Counts the bytes that were moved for it before as well, in vain. How long that took says nothing of the next time.
    pub fn add_bytes(&mut self, before: &Self) {
        self.read_bytes += before.read_bytes;
        self.stored_bytes += before.stored_bytes;
        self.saved_bytes += before.saved_bytes;
    }

    /// The report of a target for which nothing was read.
    pub fn without_work(target: String, outcome: TargetOutcome) -> Self {
        Self {
            target,
            outcome,
            scan_start_nanos: None,
            whole_until_nanos: None,
            read_bytes: 0,
            stored_bytes: 0,
            saved_bytes: 0,
            took_millis: 0,
        }
    }
}

/// What happened on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOutcome {
    /// A new point is durable there.
    Point {
        /// The point.
        point: String,
    },
    /// Nothing has changed since that point; that is durable there.
    Unchanged {
        /// The newest point; absent when the source is new and empty.
        point: Option<String>,
    },
    /// Nothing of this capture is durable there.
    Failed {
        /// What, why and what to do.
        message: String,
        /// A word for the class of the error.
        #[serde(default)]
        class: String,
    },
}

impl CaptureReport {
    /// The report of a capture that has not begun.
    pub fn of_nothing(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            targets: Vec::new(),
            warnings: Vec::new(),
            remarks: Vec::new(),
            defects: 0,
            entries: 0,
            bytes: 0,
            read_bytes: 0,
            stored_bytes: 0,
            saved_bytes: 0,
            took_millis: 0,
        }
    }

    /// Whether anything failed on any target.
    pub fn has_failures(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.outcome, TargetOutcome::Failed { .. }))
    }
}
