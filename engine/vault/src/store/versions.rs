//! What a store may keep of what is replaced or deleted, beside what is there: buckets with versions. Owns the types and how many
//! are looked at.

use super::{Operation, StoreError, StoreErrorKind};
use crate::name::ObjectName;

/// Versions of an object that are looked at: whoever has put more than that over a good one hides it.
pub const VERSIONS_MAX: usize = 1000;

/// What an object was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The store's own name for it.
    pub id: String,
    /// Its length, bytes.
    pub bytes: u64,
}

/// What a store says that keeps no such version.
pub(super) fn keeps_none(place: String, name: &ObjectName, version: &Version) -> StoreError {
    StoreError {
        operation: Operation::GetRange,
        object: name.to_string(),
        place,
        kind: StoreErrorKind::NotFound,
        cause: format!("it has no version {}", version.id),
    }
}
