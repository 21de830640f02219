//! What is remarked of a source as a whole: that it is most likely not what it is meant to be.

use super::{CaptureError, CaptureRun, rows};
use crate::devices::is_other_subvolume;
use crate::stat::Identity;
use crate::walk::Found;

impl CaptureRun<'_> {
    /// What could not be found because the snapshot that is read was taken away would count as gone, and whoever goes on from a
    /// part would not look again.
    pub(super) fn check_snapshot(&self) -> Result<(), CaptureError> {
        let Some(snapshot) = &self.options.snapshot else { return Ok(()) };
        let found = rustix::fs::stat(&snapshot.root).ok().map(|stat| stat.st_ino);
        let is_there = found.is_some() && found == self.root.map(|root| root.inode);
        if is_there { Ok(()) } else { Err(CaptureError::SnapshotGone) }
    }

    /// What a walk passes by that is no mount point.
    pub(super) fn check_subvolume(&mut self, found: &Found) {
        if self.is_on_btrfs && self.root.is_some_and(|root| is_other_subvolume(found, root)) {
            let path = rows::shown(&self.options.root, &found.key);
            self.warnings.remark(format!(
                "{path}: a Btrfs subvolume of its own, of which nothing is captured with what is around it; give it a source of its own, or exclude it"
            ));
        }
    }

    /// A tree on another device than before is most likely an unmounted disk.
    pub(super) fn check_device(&mut self, known: Option<Identity>, root: Identity) {
        if known.is_some_and(|known| self.devices.known(root) != known && known.device != root.device) {
            let root = self.options.root.display();
            self.warnings.remark(format!(
                "{root}: the root is on another device than at the last capture; if a disk is not mounted, mount it. Points before stay restorable"
            ));
        }
    }

    /// A tree that has lost almost everything was most likely not meant to.
    pub(super) fn check_losses(&mut self) {
        let Some(before) = self.previous.map(|state| state.header().entries) else { return };
        // Also by the numbers: of what an interrupted capture found gone, only they know.
        let gone =
            self.sink.gone.saturating_sub(self.sink.moved).max(before.saturating_sub(self.sink.entries));
        if gone > 10 && gone > before / 10 * 9 {
            let root = self.options.root.display();
            self.warnings.remark(format!(
                "{root}: {gone} of {before} entries are gone since the last capture; if that was a mistake, restore the point before"
            ));
        }
    }
}
