//! A vault: a store, the keys of its domain, who is trusted, and the index. Blocking calls on an async
//! store: never called from a task of the runtime.

mod bad;
mod catalogue;
mod check;
mod check_against;
mod check_commits;
mod check_points;
mod copy;
mod custodian;
mod difference;
mod draft;
mod fence;
mod first_look;
mod gc;
mod group;
mod kept_objects;
mod layout;
mod listing;
mod living;
mod many;
mod memory;
mod objects;
mod older;
mod open;
mod opening;
mod pin;
mod points;
mod proofs;
mod reading;
mod refresh;
mod sealed;
mod session;
mod settled;
mod source_listings;
mod state;
mod trust;
mod unopened;
mod verify;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use backstay_core::id::{ObjectHash, SessionId, VaultId};
use bytes::Bytes;
use tokio::runtime::Handle;

pub use catalogue::{Catalogue, PointObject};
pub use check::{CheckReport, Finding, PackShare, PacksToCheck};
pub use check_points::Uncounted;
pub use copy::{Copied, CopyLimits, Copying};
pub use custodian::{
    Awaited, Collected, Custodian, Inspection, KeepOf, Loss, MemoryNotes, NoteStore, Notes, Pass,
    PendingLayout, PointFate, RepairMeans, Repaired, SourceFates, Thinned, Undeleted, Waiting,
};
pub use difference::DifferingKeys;
pub use draft::{HeadDraft, Original, PointDraft};
pub use group::{Awaiting, GROUP_MEMBERS_MAX};
pub use kept_objects::ObjectFolder;
pub use older::{OlderMark, READ_FROM_OLDER};
pub use open::{FoundVault, NewVault, VaultCharter, VaultKeys};
pub use proofs::PROOFS_READ_MAX;
pub use reading::{PointFold, Reading};
pub use session::{Acknowledged, Session, WriterIdentity, WriterView};
pub use state::StateFold;
pub use verify::{ShareLimit, VerifiedShare, VerifyProgress};

use crate::clear::{FormatObject, TrustObject};
use crate::error::VaultError;
use crate::index::{ChunkIndex, IndexTotals};
use crate::keys::KeyRing;
use crate::name::ObjectName;
use crate::store::{Folder, Listed, Store, StoreError, Stretch, Trashed};
use first_look::FirstLook;
use group::Groups;
use kept_objects::KeptObjects;
use memory::Memory;
use older::OlderVersions;
use sealed::TrustedParts;
use settled::KnownSession;
use trust::Trust;

/// An opened vault.
#[derive(Debug)]
pub struct Vault {
    store: Arc<dyn Store>,
    io: Handle,
    ring: Arc<KeyRing>,
    format: FormatObject,
    trust: Trust,
    index: RwLock<ChunkIndex>,
    /// Held while the index is being refreshed.
    refreshing: Mutex<()>,
    /// The points that were there when their source was listed last, as far as they were read.
    points: Mutex<HashMap<ObjectHash, Arc<PointObject>>>,
    acknowledged: Mutex<HashMap<SessionId, Arc<KnownSession>>>,
    memory: Memory,
    first_look: FirstLook,
    groups: Groups,
    older: OlderVersions,
    /// Where objects are kept for the processes to come.
    kept_objects: OnceLock<KeptObjects>,
    trusted_parts: TrustedParts,
    /// Whether something was met that keys or a custodian have written which this process does not know.
    has_met_newer: AtomicBool,
    /// Whether the last delete that tried it was not refused. Before each pass it would cost a request, and where versions are kept
    /// a mark that stays.
    may_delete: AtomicBool,
}

impl Vault {
    /// Its id.
    pub fn id(&self) -> VaultId {
        self.format.vault
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// The keys of its domain.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Who may do what.
    pub fn trust(&self) -> &TrustObject {
        &self.trust.newest
    }

    /// What a reader and a writer must know.
    pub fn format(&self) -> &FormatObject {
        &self.format
    }

    /// Sums over the index.
    pub fn totals(&self) -> IndexTotals {
        self.index().totals()
    }

    /// Whether the vault is to be opened again: something in it was written under keys, or by a custodian, of which this
    /// process does not know. What it does not find may be there.
    pub fn is_outdated(&self) -> bool {
        self.has_met_newer.load(Ordering::Relaxed)
    }

    /// That nothing was met of which this process does not know: else nobody can say of anything that it is gone.
    pub(crate) fn check_not_outdated(&self) -> Result<(), VaultError> {
        match self.is_outdated() {
            true => Err(VaultError::Outdated { place: self.place() }),
            false => Ok(()),
        }
    }

    /// What was deleted and can be brought back.
    pub fn trash(&self) -> Result<Vec<Trashed>, VaultError> {
        Ok(self.io.block_on(self.store.trash())?)
    }

    /// Whether requests to its store are paid for one by one, so that what is known is not asked again.
    pub fn requests_cost(&self) -> bool {
        self.store.requests_cost()
    }

    /// Clears away what puts have left in the store that were broken off at least so long ago; how many.
    pub fn clear_unfinished(&self, age: Duration) -> Result<u64, VaultError> {
        Ok(self.io.block_on(self.store.clear_unfinished(age))?)
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, ChunkIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, ChunkIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn io(&self) -> &Handle {
        &self.io
    }

    pub(crate) fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, VaultError> {
        Ok(self.io.block_on(self.store.get_range(name, stretch))?)
    }

    pub(crate) fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.io.block_on(self.store.get(name))
    }

    fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.io.block_on(self.store.put(name, content))
    }

    fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.io.block_on(self.store.list(folder))
    }
}
