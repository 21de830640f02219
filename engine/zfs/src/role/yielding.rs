//! What was the source becomes the replica of what has gone on without it. What it has that the other side has not is kept aside;
//! what both have is where the other side's next incremental begins, so that nothing is sent whole.

use backstay_core::config::DatasetName;

use super::activate::make_replica;
use super::wind_back::WindBack;
use super::{ACTIVE_PROPERTY, RoleError};
use crate::name::OwnSnapshot;
use crate::plan::MEMBER_PROPERTY;
use crate::state::{Dataset, PROPERTY_PREFIX};
use crate::zfs::Zfs;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yielded {
    /// Where what the other side has not is kept, if there was anything.
    pub kept: Option<DatasetName>,
}

/// Makes the tree at `root` ready to be the replica of one that has gone on from `set`. Whoever calls it has stopped what writes to it.
/// It is adopted when the other side's next run finds it.
pub fn yield_to(zfs: &dyn Zfs, root: &DatasetName, set: OwnSnapshot) -> Result<Yielded, RoleError> {
    let is_replica = |root: &Dataset| {
        root.properties.contains_key(MEMBER_PROPERTY) && !root.properties.contains_key(ACTIVE_PROPERTY)
    };
    if zfs.list(root)?.first().is_some_and(is_replica) {
        // It has yielded, and was adopted: what is newer than the set has come from the other side since.
        return Ok(Yielded { kept: None });
    }
    let kept = WindBack { zfs, root, set, mark: None }.run()?;
    for dataset in zfs.list(root)?.iter().rev() {
        if dataset.is_mounted {
            zfs.unmount(&dataset.name)?;
        }
        for property in [ACTIVE_PROPERTY, MEMBER_PROPERTY] {
            if dataset.properties.contains_key(property) {
                zfs.set(&dataset.name, &format!("{PROPERTY_PREFIX}{property}"), None)?;
            }
        }
        make_replica(zfs, dataset)?;
    }
    Ok(Yielded { kept })
}
