//! The commits of one process that are under way: what is open in a vault beside them has been left open by the dead.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::id::{SessionId, VaultId};

/// Commits that a process has begun, in any vault. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Living(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    under_way: HashSet<SessionId>,
    /// Vaults in which one is over that could neither be ended nor fenced.
    left_open: HashSet<VaultId>,
}

impl Living {
    /// A commit begins, and is under way for as long as what is returned is kept.
    pub(super) fn begin(&self, vault: VaultId, session: SessionId) -> Life {
        self.known().under_way.insert(session);
        Life { living: self.clone(), vault, session, has_ended: AtomicBool::new(false) }
    }

    /// Whether a commit is under way.
    pub(super) fn include(&self, session: &SessionId) -> bool {
        self.known().under_way.contains(session)
    }

    /// Whether something was left open in a vault since this was asked last.
    pub(super) fn take_left_open(&self, vault: VaultId) -> bool {
        self.known().left_open.remove(&vault)
    }

    /// Has [`Living::take_left_open`] say once more that something was left open.
    pub(super) fn put_left_open(&self, vault: VaultId) {
        self.known().left_open.insert(vault);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit that is under way.
#[derive(Debug)]
pub(super) struct Life {
    living: Living,
    vault: VaultId,
    session: SessionId,
    has_ended: AtomicBool,
}

impl Life {
    /// Its session was ended, or is fenced, durably.
    pub(super) fn has_ended(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let mut known = self.living.known();
        known.under_way.remove(&self.session);
        if !self.has_ended.load(Ordering::Relaxed) {
            known.left_open.insert(self.vault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_without_an_end_is_left_open_in_its_vault() {
        let (living, vault, other) = (Living::default(), VaultId::new([1; 16]), VaultId::new([2; 16]));
        let (one, two) = (SessionId::new([1; 16]), SessionId::new([2; 16]));
        let (ended, left) = (living.begin(vault, one), living.begin(vault, two));
        ended.has_ended();
        drop(ended);
        assert!(!living.take_left_open(vault));
        assert_eq!([one, two].map(|session| living.include(&session)), [false, true]);
        drop(left);
        assert!(!living.include(&two));
        assert_eq!([vault, other, vault].map(|vault| living.take_left_open(vault)), [true, false, false]);
    }
}
