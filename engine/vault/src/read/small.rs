//! Small packs of metadata, read whole and kept for a while: what a capture of few changes writes is in one of them, and
//! whoever goes through the runs of many captures needs all that is in each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::id::PackId;
use bytes::Bytes;

use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::Stretch;
use crate::vault::Vault;

/// A pack that is read whole has at most so many bytes.
const WHOLE_BYTES_MAX: u32 = 256 << 10;

/// What is kept in memory, bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Small packs.
#[derive(Debug, Default)]
pub(super) struct SmallPacks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Those that an index object names, and their lengths.
    known: HashMap<PackId, u32>,
    kept: HashMap<PackId, Bytes>,
    /// In the order in which they came.
    order: VecDeque<PackId>,
    kept_bytes: usize,
}

impl SmallPacks {
    /// Learns which there are.
    pub(super) fn learn(&self, vault: &Vault) {
        let packs = vault.index().packs();
        let small =
            |(class, bytes): &(ChunkClass, u32)| *class == ChunkClass::Meta && *bytes <= WHOLE_BYTES_MAX;
        let known = packs.into_iter().filter(|(_, pack)| small(pack)).map(|(id, (_, bytes))| (id, bytes));
        self.lock().known = known.collect();
    }

    /// A stretch of a pack, if the pack is small and as long as the index says.
    pub(super) fn stretch(
        &self,
        vault: &Vault,
        pack: PackId,
        offset: u32,
        length: u32,
    ) -> Result<Option<Bytes>, VaultError> {
        let (offset, end) = (offset as usize, offset as usize + length as usize);
        let known = {
            let state = self.lock();
            if let Some(whole) = state.kept.get(&pack) {
                return Ok((end <= whole.len()).then(|| whole.slice(offset..end)));
            }
            state.known.get(&pack).copied()
        };
        let Some(bytes) = known.filter(|bytes| end <= *bytes as usize) else { return Ok(None) };
        let all = Stretch { offset: 0, length: u64::from(bytes) };
        let whole = match vault.get_range(&Named::Pack(pack).to_name(), all) {
            Ok(whole) if whole.len() >= end => whole,
            // One that was cut short may still have this stretch.
            Err(VaultError::Store(error)) if !error.is_transient() && !error.is_not_found() => {
                return Ok(None);
            }
            Ok(_) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.lock().keep(pack, whole.clone());
        Ok(Some(whole.slice(offset..end)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, pack: PackId, whole: Bytes) {
        self.kept_bytes += whole.len();
        if let Some(before) = self.kept.insert(pack, whole) {
            self.kept_bytes -= before.len();
            return;
        }
        self.order.push_back(pack);
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept_bytes -= self.kept.remove(&oldest).map_or(0, |bytes| bytes.len());
        }
    }
}
