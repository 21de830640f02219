//! How far what one node has captured to another was copied on from there (docs/protocol.md, section 5).

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// Most proofs that are told.
pub const STANDING_PROOFS_MAX: usize = 8;

/// How far a source was copied on to a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything that was done before is in the vault, nanoseconds since 1970; nothing is there when absent.
    pub until_nanos: Option<i64>,
    /// The newest point there.
    pub newest: Option<NewestThere>,
    /// The last proof of each level, at most [`STANDING_PROOFS_MAX`].
    pub proofs: Vec<ProofThere>,
    /// What keeps it from going on, for people.
    pub problem: Option<String>,
}

/// A point that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct NewestThere {
    /// Its id.
    #[n(0)]
    pub id: ByteArray<16>,
    /// When its capture began, nanoseconds since 1970.
    #[n(1)]
    pub time_nanos: i64,
    /// The greatest number that a point of the source has there: a capture that is to come there has a greater one.
    #[n(2)]
    pub number: u64,
}

/// A proof that was made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ProofThere {
    /// The number of its level (docs/format.md, section 10a).
    #[n(0)]
    pub level: u64,
    /// When it was over, nanoseconds since 1970.
    #[n(1)]
    pub end_nanos: i64,
    /// How long it took, nanoseconds.
    #[n(2)]
    pub took_nanos: u64,
    /// How much has failed.
    #[n(3)]
    pub failures: u64,
}
