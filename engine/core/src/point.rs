//! Points: what a capture signs about itself (the common part, equal in every vault) and what one
//! vault adds to it. Owns the model and its CBOR form (docs/format.md, section 8).

use minicbor::{Decode, Encode};

use crate::collection::CollectionNumber;
use crate::digest::StateDigest;
use crate::id::{CaptureId, ObjectHash, PointId, SessionId, SourceId, VaultId};
use crate::run::PartRef;
use crate::units::Timestamp;

/// What is the same in every vault; signed by the node that captured.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PointCommon {
    /// Random.
    #[n(0)]
    pub id: PointId,
    /// Keyed hash of the source's name.
    #[n(1)]
    pub source: SourceId,
    /// Kind of source: `files`, `zfs`, `postgres`, `command`.
    #[n(2)]
    pub kind: String,
    /// `SERVICE.KIND`.
    #[n(3)]
    pub source_name: String,
    /// The node that captured.
    #[n(4)]
    pub node: String,
    /// When the capture began: everything that was done before is in it, but where `whole_until` says otherwise.
    #[n(5)]
    pub capture_start: Timestamp,
    /// When it ended.
    #[n(6)]
    pub capture_end: Timestamp,
    /// Rises from point to point of a source; holes are normal.
    #[n(7)]
    pub sequence: u64,
    /// Set hash over what a restore reproduces.
    #[n(8)]
    pub digest: StateDigest,
    /// Facts of the kind of source.
    #[n(9)]
    pub facts: Facts,
    /// Restorable entries in the state.
    #[n(10)]
    pub entries: u64,
    /// Bytes that a restore writes.
    #[n(11)]
    pub bytes: u64,
    /// What is not as it should be.
    #[n(12)]
    pub defects: Vec<DefectCount>,
    /// Names under which its writer wants it held for ever.
    #[n(13)]
    #[cbor(default)]
    pub holds: Vec<String>,
    /// Of a capture that has looked only where changes were seen: everything that was done before this is in it, and of what
    /// was done since what was seen.
    #[n(14)]
    pub whole_until: Option<Timestamp>,
}

impl PointCommon {
    /// Everything that was done before this is in it.
    pub fn complete_until(&self) -> Timestamp {
        self.whole_until.map_or(self.capture_start, |until| until.min(self.capture_start))
    }
}

/// Facts about the source; which are present depends on its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Facts {
    /// `files`: path of the root.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub root_path: Option<Vec<u8>>,
    /// `files`: a number that the file system of the root keeps through boots; none where it has none.
    #[n(4)]
    pub root_file_system: Option<u64>,
    /// Host name at the time of capture.
    #[n(2)]
    pub host: Option<String>,
    /// `files`: hash of what below the root belongs to the source: exclusions, and whether other file systems do.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub scope: Option<Vec<u8>>,
}

/// How many entries have one kind of defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DefectCount {
    /// Which.
    #[n(0)]
    pub defect: Defect,
    /// How many.
    #[n(1)]
    pub count: u64,
}

/// Why an entry of a point is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Defect {
    /// It could not be read: the point has an older state of it, or lacks it.
    #[n(1)]
    Unreadable,
    /// It changed while it was read, twice.
    #[n(2)]
    ChangedWhileRead,
}

/// A point and the hash of its object: a link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PointLink {
    /// The point.
    #[n(0)]
    pub point: PointId,
    /// Hash of its object in this vault.
    #[n(1)]
    pub object: ObjectHash,
}

/// What one vault adds to a point.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VaultPart {
    /// The vault for which this was written.
    #[n(0)]
    pub vault: VaultId,
    /// The point that the own run edits; `None` for a base.
    #[n(1)]
    pub parent: Option<PointLink>,
    /// Parts of the run from the parent to this point.
    #[n(2)]
    pub run: Vec<PartRef>,
    /// Hash of the newest head of the source when this was written.
    #[n(3)]
    pub previous_head: Option<ObjectHash>,
    /// The session that committed it.
    #[n(4)]
    pub session: SessionId,
    /// Present in a partial point only.
    #[n(5)]
    pub partial: Option<Partial>,
    /// The newest collection when that session began.
    #[n(6)]
    pub collection: CollectionNumber,
    /// Of a point that was copied: the time by which retention judges it in the vault that it comes from.
    #[n(7)]
    pub retention_time: Option<Timestamp>,
}

/// How far an unfinished capture came.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Partial {
    /// The capture, the same in all its partial points.
    #[n(0)]
    pub capture: CaptureId,
    /// Everything up to and with this key is in the parts.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub resume_key: Vec<u8>,
    /// When that capture began.
    #[n(2)]
    pub capture_start: Timestamp,
    /// Parts of no run, by which chunks are kept to which no entry refers yet: of a file that is being read, or of a point
    /// that is being copied.
    #[cbor(n(3), default, skip_if = "Vec::is_empty")]
    pub keeps: Vec<PartRef>,
    /// The point of another vault that is being copied. Nothing goes on from what a copy has left but the copy.
    #[n(4)]
    pub copied: Option<PointId>,
}

/// The heartbeat of a source in a vault.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Head {
    /// The source.
    #[n(0)]
    pub source: SourceId,
    /// Rises with every head and point of the source.
    #[n(1)]
    pub sequence: u64,
    /// Up to when the state is complete that was found: the start of the capture, or the time before it up to which that
    /// is so, where it has looked only where changes were seen.
    #[n(2)]
    pub time: Timestamp,
    /// The newest point of each target that the writer knows.
    #[n(3)]
    pub targets: Vec<HeadTarget>,
    /// Hash of the head before.
    #[n(4)]
    pub previous: Option<ObjectHash>,
}

/// One target's newest point, as the writer of a head knew it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HeadTarget {
    /// The vault.
    #[n(0)]
    pub vault: VaultId,
    /// Sequence number of the point.
    #[n(1)]
    pub sequence: u64,
    /// The point.
    #[n(2)]
    pub point: PointId,
    /// Hash of its object there.
    #[n(3)]
    pub object: ObjectHash,
    /// Start of the capture that last found the source in this state.
    #[n(4)]
    pub time: Timestamp,
}
