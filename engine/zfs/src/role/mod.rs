//! What becomes of datasets when their service goes to another node, and comes back: a replica becomes writable
//! ([`activate()`]), and what was the source becomes a replica ([`yield_to()`]). Owns the order of the steps; every one of them can be done
//! again, so that a crash is repaired by the same call. Nothing is destroyed: what one side has and the other has not is kept aside.

mod activate;
mod wind_back;
mod yielding;

use backstay_core::config::DatasetName;

use crate::error::ZfsError;
use crate::name::OwnSnapshot;

pub use self::activate::{Activated, MountAt, activate};
pub(crate) use self::wind_back::begun;
pub use self::yielding::{Yielded, yield_to};

/// The property of a root that is no replica any more: the set from which it has gone on.
pub const ACTIVE_PROPERTY: &str = "active";
/// The one that keeps where a dataset was mounted before it became a replica.
pub const MOUNTPOINT_PROPERTY: &str = "mountpoint";

/// Why datasets cannot change their role.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// ZFS has failed, or refuses.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
    /// There is nothing of this name.
    #[error("{0} is not there")]
    NotThere(DatasetName),
    /// No set has ever been there whole.
    #[error(
        "{0} has no complete set: its first replication has not come to its end, so that it cannot be gone on with"
    )]
    NothingComplete(DatasetName),
    /// It is encrypted, and cannot be mounted.
    #[error("the keys of these are not loaded: {}; load them (`zfs load-key`) and try again. Nothing was changed", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    KeysMissing(Vec<DatasetName>),
    /// Of what the other side has, nothing is here.
    #[error(
        "{root} has nothing of the set {set} with which the other side goes on; it cannot become its replica without a full send"
    )]
    NothingInCommon {
        /// The root here.
        root: DatasetName,
        /// The set there.
        set: OwnSnapshot,
    },
    /// It is a whole pool.
    #[error("{0} is a whole pool, beside which nothing can be kept: use a dataset in it as source")]
    WholePool(DatasetName),
    /// A name would be too long.
    #[error("{0} cannot be kept aside: its name is too long")]
    NameTooLong(DatasetName),
}
