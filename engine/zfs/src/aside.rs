//! Where what was set aside is kept: beside the root of a tree, so that it counts to the same quota and can stay below the same
//! encryption root. Never mounted, and deleted by nobody but the operator (docs/zfs.md, section 2).

use backstay_core::config::DatasetName;

const ASIDE: &str = "backstay-aside";

/// The dataset that holds what was set aside of this tree; none of a whole pool, which has nothing beside it.
pub(crate) fn beside(root: &DatasetName) -> Option<DatasetName> {
    root.parent()?.join(ASIDE)
}

/// Whether it was set aside: it is no member of anything then.
pub(crate) fn is_aside(name: &DatasetName) -> bool {
    name.as_str().split('/').any(|part| part == ASIDE)
}
