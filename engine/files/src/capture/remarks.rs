//! What is remarked of a source as a whole: that it is most likely not what it is meant to be.

use super::{CaptureRun, rows};
use crate::devices::is_other_subvolume;
use crate::stat::Identity;
use crate::walk::Found;

impl CaptureRun<'_> {
    /// What a walk passes by that is no mount point.
    pub(super) fn check_subvolume(&mut self, found: &Found) {
        if self.btrfs_root.is_some_and(|root| is_other_subvolume(found, root)) {
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
