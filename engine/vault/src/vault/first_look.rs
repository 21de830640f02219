//! What was seen of a vault when it was opened: where requests cost, one shows the names of its objects, and who opens it goes by
//! that in place of listing each folder. Owns how long that counts, and for whom.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Vault;
use crate::name::ObjectName;
use crate::store::{Folder, Glance, Listed, StoreError};

/// How long it counts. What writers remember counts for longer; what readers find gone they look for anew.
const SEEN_FOR: Duration = Duration::from_secs(600);

/// What was seen, and since when it counts.
#[derive(Debug)]
pub(super) struct FirstLook(Mutex<Option<(Instant, Glance)>>);

impl FirstLook {
    pub(super) fn of(seen: Option<(Instant, Glance)>) -> Self {
        Self(Mutex::new(seen))
    }

    fn seen(&self) -> MutexGuard<'_, Option<(Instant, Glance)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a look at all that was seen and was not told of yet.
    pub(super) fn with_shown(&self, look: impl FnOnce(&[Listed])) {
        if let Some((_, glance)) = &*self.seen() {
            look(glance.shown());
        }
    }

    /// Has everything be listed from now on.
    pub(super) fn forget(&self) {
        *self.seen() = None;
    }
}

impl Vault {
    /// The objects of a folder, as they were seen when the vault was opened, or as they are now. For who needs no later ones than
    /// that; who asks once more wants to know what is there by now, and is told that.
    pub(super) fn list_at_first(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let shown = match &mut *self.first_look.seen() {
            Some((since, glance)) if since.elapsed() < SEEN_FOR => glance.take(folder),
            _ => None,
        };
        shown.map_or_else(|| self.list(folder), Ok)
    }

    /// Whether what was seen when the vault was opened counts as seen after these records of collections, which are all that are
    /// listed: one answer shows names in whatever order. So it does where there are none, since there never were any then; and where
    /// a process of this node has listed the same ones before. A record says the same for ever, and does not come back once it has
    /// gone: they have been there all the time since.
    pub(super) fn were_known(&self, records: &[Listed]) -> bool {
        if records.is_empty() {
            return true;
        }
        let names: Vec<&ObjectName> = records.iter().map(|listed| &listed.name).collect();
        let known = self.kept_objects.get().and_then(|kept| kept.records());
        known.is_some_and(|known| known.iter().eq(names))
    }
}
