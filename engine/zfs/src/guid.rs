//! What datasets, snapshots and points in a pool's time are known by. Shown as `zfs get -p` shows them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Names a dataset. One that is destroyed and made again, or received elsewhere, has another.
    DatasetGuid);
number!(
    /// Names a snapshot: the same wherever it was received, and that of a bookmark made from it.
    SnapshotGuid);
number!(
    /// A transaction group of one pool: snapshots of a dataset are ordered by it. It means nothing in another pool.
    Txg);
