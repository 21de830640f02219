//! What a capture hands over to be committed.

use backstay_core::digest::StateDigest;
use backstay_core::point::DefectCount;
use backstay_core::units::Timestamp;

/// What a capture knows of the state it has found.
#[derive(Debug, Clone)]
pub struct CapturedState {
    /// State digest.
    pub digest: StateDigest,
    /// Restorable entries.
    pub entries: u64,
    /// Bytes that a restore writes.
    pub bytes: u64,
    /// What is not as it should be.
    pub defects: Vec<DefectCount>,
    /// When the scan began whose state this is.
    pub start: Timestamp,
    /// See [`PointCommon::whole_until`](backstay_core::point::PointCommon::whole_until).
    pub whole_until: Option<Timestamp>,
}

impl CapturedState {
    /// Everything that was done before this is in it.
    pub(super) fn complete_until(&self) -> Timestamp {
        self.whole_until.map_or(self.start, |until| until.min(self.start))
    }
}
