//! Packs of metadata that are read whole and kept for a while: what a capture of few changes writes is in a small one, and whoever
//! goes through all rows needs all that is in each.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::id::PackId;
use bytes::Bytes;

use super::plan::PackRead;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::Stretch;
use crate::vault::Vault;

/// A pack that had to make room is read whole once more if it is no longer than this, bytes.
const AGAIN_BYTES_MAX: u32 = 256 << 10;

/// Packs that are remembered for having been read whole.
const REMEMBERED_MAX: usize = 1 << 16;

/// What is read whole, and kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct WholeLimits {
    /// A pack that is read whole has at most so many bytes.
    whole_bytes_max: u32,
    /// What is kept in memory, bytes; one pack in any case.
    kept_bytes_max: usize,
}

impl WholeLimits {
    /// Of who reads the runs of many captures.
    pub(super) const MANY_RUNS: Self = Self { whole_bytes_max: 256 << 10, kept_bytes_max: 16 << 20 };

    /// Of who looks for some rows.
    pub(super) const SOME_ROWS: Self = Self { whole_bytes_max: 64 << 10, kept_bytes_max: 4 << 20 };

    /// Of who reads all rows: as large as packs of metadata become.
    pub(super) const ALL_ROWS: Self = Self { whole_bytes_max: 16 << 20, kept_bytes_max: 32 << 20 };
}

/// Packs.
#[derive(Debug)]
pub(super) struct WholePacks {
    limits: WholeLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<PackId, Bytes>,
    /// In the order in which they came.
    order: VecDeque<PackId>,
    kept_bytes: usize,
    /// Larger ones that were read whole. Of many runs that are read side by side, not all packs fit: these are read in pieces
    /// then.
    before: HashSet<PackId>,
}

impl WholePacks {
    pub(super) fn new(limits: WholeLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// A stretch of a pack, if the pack is one to be read whole, and as long as the index says.
    pub(super) fn stretch(&self, vault: &Vault, read: &PackRead) -> Result<Option<Bytes>, VaultError> {
        let (begins, end) = (read.offset as usize, read.offset as usize + read.length as usize);
        {
            let mut state = self.lock();
            if let Some(whole) = state.kept.get(&read.pack) {
                return Ok((end <= whole.len()).then(|| whole.slice(begins..end)));
            }
            let fits = read.pack_bytes <= self.limits.whole_bytes_max && end <= read.pack_bytes as usize;
            if !fits || !state.may_read(read) {
                return Ok(None);
            }
        }
        let all = Stretch { offset: 0, length: u64::from(read.pack_bytes) };
        let whole = match vault.get_range(&Named::Pack(read.pack).to_name(), all) {
            Ok(whole) if whole.len() >= end => whole,
            // One that was cut short may still have this stretch.
            Err(VaultError::Store(error)) if !error.is_transient() && !error.is_not_found() => {
                return Ok(None);
            }
            Ok(_) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.lock().keep(read.pack, whole.clone(), self.limits.kept_bytes_max);
        Ok(Some(whole.slice(begins..end)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a pack may be read whole; of a larger one that is true once.
    fn may_read(&mut self, read: &PackRead) -> bool {
        let is_small = read.pack_bytes <= AGAIN_BYTES_MAX;
        is_small || self.before.len() < REMEMBERED_MAX && self.before.insert(read.pack)
    }

    fn keep(&mut self, pack: PackId, whole: Bytes, kept_bytes_max: usize) {
        self.kept_bytes += whole.len();
        if let Some(before) = self.kept.insert(pack, whole) {
            self.kept_bytes -= before.len();
            return;
        }
        self.order.push_back(pack);
        while self.kept_bytes > kept_bytes_max
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept_bytes -= self.kept.remove(&oldest).map_or(0, |bytes| bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pack: u8, pack_bytes: u32) -> PackRead {
        PackRead { pack: PackId::new([pack; 32]), pack_bytes, offset: 0, length: 1, records: Vec::new() }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stays() {
        let mut state = State::default();
        for n in 0..10u8 {
            state.keep(PackId::new([n; 32]), Bytes::from(vec![n; 40]), 100);
            assert!(state.kept.contains_key(&PackId::new([n; 32])) && state.kept_bytes <= 100);
        }
        assert_eq!((state.kept.len(), state.order.len(), state.kept_bytes), (2, 2, 80));
        state.keep(PackId::new([10; 32]), Bytes::from(vec![0; 1000]), 100);
        assert_eq!((state.kept.len(), state.kept_bytes), (1, 1000));
    }

    #[test]
    fn a_large_pack_is_read_whole_once_and_a_small_one_again() {
        let mut state = State::default();
        let twice = |state: &mut State, read: &PackRead| [state.may_read(read), state.may_read(read)];
        assert_eq!(twice(&mut state, &read(1, AGAIN_BYTES_MAX)), [true, true]);
        assert_eq!(twice(&mut state, &read(2, AGAIN_BYTES_MAX + 1)), [true, false]);
    }
}
