//! Numbers of devices. Some file systems get another one at each boot, or when they are mounted again, and each snapshot has
//! one of its own, while the objects in it keep their inodes. In rows a tree keeps the number that it had first.
//! And where, within one file system, another device begins that is no mount point.

use std::path::Path;

use rustix::io::Errno;

use crate::stat::{FileKind, FileStat, Identity};

/// What `statfs` says of Btrfs (statfs(2)).
const BTRFS_MAGIC: u64 = 0x9123_683e;

/// The top of a Btrfs subvolume; no other object has this inode (btrfs-subvolume(8)).
const SUBVOLUME_INODE: u64 = 256;

/// What stands in a snapshot in the place of a subvolume that was below (the same).
const EMPTY_SUBVOLUME_INODE: u64 = 2;

/// Whether a directory is on Btrfs.
pub fn is_on_btrfs(path: &Path) -> Result<bool, Errno> {
    // The type of the field is another one on each architecture; magic numbers have 32 bits.
    Ok(rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff == BTRFS_MAGIC)
}

/// Whether an object is the top of a Btrfs subvolume.
pub fn is_subvolume(inode: u64) -> bool {
    inode == SUBVOLUME_INODE
}

/// Whether what was found in a tree on Btrfs is a subvolume of its own, in which a walk that stays on one device finds nothing.
pub(crate) fn is_other_subvolume(stat: &FileStat, root: Identity) -> bool {
    let is_other = stat.identity.device != root.device && is_subvolume(stat.identity.inode);
    stat.kind == FileKind::Directory && (is_other || stat.identity.inode == EMPTY_SUBVOLUME_INODE)
}

/// By which number the device of a tree is known in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    /// The number now, and that in rows, where they differ.
    renumbered: Option<(u64, u64)>,
}

impl Devices {
    /// Of a tree whose root is known as `recorded` and is `now` this object. Another object there is another tree, most likely
    /// the empty place of a disk that is not mounted.
    pub(crate) fn of_root(recorded: Option<Identity>, now: Identity) -> Self {
        let recorded = recorded.filter(|recorded| recorded.inode == now.inode);
        let renumbered = recorded.map(|recorded| (now.device, recorded.device)).filter(|(a, b)| a != b);
        Self { renumbered }
    }

    /// As which object one is known.
    pub(crate) fn known(self, now: Identity) -> Identity {
        match self.renumbered {
            Some((device, recorded)) if now.device == device => Identity { device: recorded, ..now },
            _ => now,
        }
    }

    /// The same, with all that was seen of it.
    pub(crate) fn known_stat(self, stat: &FileStat) -> FileStat {
        FileStat { identity: self.known(stat.identity), ..*stat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_tree_are_known_by_the_number_that_its_device_had_first() {
        let at = |device, inode| Identity { device, inode };
        let devices = Devices::of_root(Some(at(40, 256)), at(57, 256));
        assert_eq!(devices.known(at(57, 300)), at(40, 300));
        assert_eq!(devices.known(at(60, 300)), at(60, 300), "of another device nothing is known");
        assert_eq!(Devices::of_root(Some(at(40, 256)), at(40, 256)), Devices::default());
        assert_eq!(Devices::of_root(None, at(57, 256)), Devices::default());
        assert_eq!(Devices::of_root(Some(at(40, 256)), at(57, 9)), Devices::default(), "another tree");
    }
}
