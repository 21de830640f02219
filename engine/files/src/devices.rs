//! Numbers of devices. Some file systems get another one at each boot, or when they are mounted again, and each snapshot has
//! one of its own, while the objects in it keep their inodes. In rows a tree keeps the number that it had first.
//! And where, within one file system, another device begins that is no mount point.

use std::path::Path;

use rustix::io::Errno;

use crate::stat::{FileKind, FileStat, Identity};
use crate::walk::Found;

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

/// File systems whose `f_fsid` (statvfs(3)) comes from what is on the disk: ext4, Btrfs, ZFS. Others make it from the number of the
/// device, or have none.
const LASTING: [u64; 3] = [0xef53, BTRFS_MAGIC, 0x2fc1_2fc1];

/// A number that a file system keeps through boots, where it has one and somebody can tell.
pub fn file_system_of(path: &Path) -> Option<u64> {
    let is_lasting = LASTING.contains(&(rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff));
    rustix::fs::statvfs(path).ok().map(|system| system.f_fsid).filter(|number| is_lasting && *number != 0)
}

/// Whether what was found in a tree on Btrfs with this root is a subvolume of its own, in which a walk that stays on one device
/// finds nothing; what is mounted there is not.
pub(crate) fn is_other_subvolume(found: &Found, root: Identity) -> bool {
    let Identity { device, inode } = found.stat.identity;
    let is_other = device != root.device && (is_subvolume(inode) || inode == EMPTY_SUBVOLUME_INODE);
    found.stat.kind == FileKind::Directory && is_other && !found.is_mount_point()
}

/// By which number the device of a tree is known in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    /// The number now, and that in rows, where they differ.
    renumbered: Option<(u64, u64)>,
}

impl Devices {
    /// Of a tree whose root is known as `recorded` and is `now` this object, in the same file system as far as that has a number.
    /// Another object there is another tree, most likely the empty place of a disk that is not mounted.
    pub(crate) fn of_root(recorded: Option<Identity>, now: Identity, is_same_file_system: bool) -> Self {
        let recorded = recorded.filter(|recorded| is_same_file_system && recorded.inode == now.inode);
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
        let devices = Devices::of_root(Some(at(40, 256)), at(57, 256), true);
        assert_eq!(devices.known(at(57, 300)), at(40, 300));
        assert_eq!(devices.known(at(60, 300)), at(60, 300), "of another device nothing is known");
        for (recorded, now, is_same, why) in [
            (Some(at(40, 256)), at(40, 256), true, "the same number"),
            (None, at(57, 256), true, "nothing was known"),
            (Some(at(40, 256)), at(57, 9), true, "another tree"),
            (Some(at(40, 256)), at(57, 256), false, "another file system"),
        ] {
            assert_eq!(Devices::of_root(recorded, now, is_same), Devices::default(), "{why}");
        }
    }
}
