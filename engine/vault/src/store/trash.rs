//! The trash of a store: what was deleted and can be brought back for a while, against the operator's mistakes and
//! against a custodian that errs. Owns which objects are worth it.

use super::{Listed, Operation, StoreError, StoreErrorKind};
use crate::name::Named;

/// An object in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// The object, under the name that it had.
    pub object: Listed,
    /// In which batch it was deleted: the store's own way to find it.
    pub batch: u64,
}

/// Whether an object of this name is kept when it is deleted. Points, the layouts that say what they were made of, and
/// the packs with all of that: the rest is made anew from them, or is over.
pub fn is_kept(named: &Named) -> bool {
    matches!(named, Named::Pack(_) | Named::Point(..) | Named::Layout(..))
}

pub(super) fn keeps_none(place: String, trashed: &Trashed) -> StoreError {
    StoreError {
        operation: Operation::BringBack,
        object: trashed.object.name.to_string(),
        place,
        kind: StoreErrorKind::NotFound,
        cause: "it is not in the trash any more".into(),
    }
}
