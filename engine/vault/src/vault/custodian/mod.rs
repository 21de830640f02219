//! The custodian: the one node that thins points and deletes what nothing needs any more (docs/collection.md). Owns the
//! order of a pass; each of its steps has a file of its own.
//!
//! A pass never blocks for a commit: it says for whom it waits, and the next call goes on from there. It may die
//! anywhere: what it has to know again it finds in the store, but for its notes.

mod announce;
mod choose;
mod decide;
mod delete;
mod equal;
mod explain;
mod inspection;
mod merge;
mod needs;
mod notes;
mod proof;
mod publish;
mod redate;
mod renew;
mod repack;
mod repair;
mod sparse;
mod split;
mod strays;
mod thin;
mod undelete;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::collection::CollectionNumber;
use backstay_core::config::Keep;

use super::{Vault, WriterIdentity};
use crate::error::VaultError;
use crate::index::DAMAGES_MAX;
use crate::read::ChunkReader;
use crate::write::CpuPool;
use announce::Scope;

pub(super) use merge::write_merged;

pub use explain::{PointFate, SourceFates};
pub use inspection::Inspection;
pub use notes::{MemoryNotes, NoteStore, Notes, PendingLayout};
pub use repair::{Loss, RepairMeans, Repaired};
pub use thin::Thinned;
pub use undelete::Undeleted;
pub use wait::Awaited;

/// Which points of a source are kept, by the source's name; `None` for one that is not configured: all.
pub type KeepOf<'a> = dyn Fn(&str) -> Option<Keep> + 'a;

/// A node that is custodian of a vault.
pub struct Custodian<'a> {
    look: Inspection<'a>,
    vault: Arc<Vault>,
    /// For runs.
    reader: ChunkReader,
    identity: Arc<WriterIdentity>,
    term: u64,
    pool: Arc<CpuPool>,
    store: &'a mut dyn NoteStore,
    notes: Notes,
}

/// What became of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// There was nothing to do.
    Idle,
    /// It goes on at a later call, when other commits have ended.
    Waits(Waiting),
    /// It is over.
    Done(Collected),
}

/// What a pass waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Commits that have to end first, some of them.
    pub commits: Vec<Awaited>,
    /// How many packs go then. Where there are none, what is left is to decide on what was committed.
    pub packs: usize,
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Its number.
    pub number: CollectionNumber,
    /// Points that count for good from now on.
    pub points_accepted: u64,
    /// Points whose objects are gone.
    pub points_deleted: u64,
    /// Packs that are gone.
    pub packs_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Records that were moved into new packs.
    pub records_moved: u64,
    /// Bytes of the new packs.
    pub bytes_written: u64,
    /// Other objects that are gone: of the index, sessions, fences, heads, layouts.
    pub objects_deleted: u64,
    /// Whether more is to go, which was left for the next pass so that this one needs little room.
    pub is_cut: bool,
}

impl<'a> Custodian<'a> {
    /// Takes up the work where this node has left it. Fails when another node is custodian, and when the store lists what
    /// was there once.
    pub fn new(
        look: Inspection<'a>,
        identity: Arc<WriterIdentity>,
        pool: Arc<CpuPool>,
        store: &'a mut dyn NoteStore,
    ) -> Result<Self, VaultError> {
        let vault = look.vault().clone();
        vault.may_be_written()?;
        let notes = store.load()?;
        let term = vault.trust().custodian.term;
        let reader = ChunkReader::of_many_runs(vault.clone());
        let mut custodian = Self { look, vault, reader, identity, term, pool, store, notes };
        custodian.check_office()?;
        custodian.vault.check_listings(&custodian.identity, custodian.look.now())?;
        custodian.put_layout_again()?;
        Ok(custodian)
    }

    /// One pass, or the rest of one: what was committed is decided, what nothing needs goes.
    pub fn collect(&mut self) -> Result<Pass, VaultError> {
        self.pass(Scope::All)
    }

    /// The same without a look for what nothing needs. For who is about to thin: much more can go afterwards, and what
    /// was moved before would be moved once more.
    pub fn accept(&mut self) -> Result<Pass, VaultError> {
        self.pass(Scope::Decisions)
    }

    /// Clears away what puts have left in the store that were broken off at least so long ago; how many.
    pub fn clear_unfinished(&self, age: Duration) -> Result<u64, VaultError> {
        self.vault.clear_unfinished(age)
    }

    fn pass(&mut self, scope: Scope) -> Result<Pass, VaultError> {
        for _ in 0..DAMAGES_MAX {
            match self.pass_once(scope) {
                // It goes on like one that has died there, with a local index that was read from the vault again.
                Err(VaultError::LocalIndex(_)) => {}
                outcome => return outcome,
            }
        }
        self.pass_once(scope)
    }

    fn pass_once(&mut self, scope: Scope) -> Result<Pass, VaultError> {
        self.put_layout_again()?;
        let mut done = Collected::default();
        let pass = match self.unfinished()? {
            Some(pass) => pass,
            None => match self.announce(scope, &mut done)? {
                Some(pass) => pass,
                None => return Ok(Pass::Idle),
            },
        };
        done.number = pass.number;
        tracing::debug!(number = %done.number, "announced");
        let sessions = self.look.list_sessions()?;
        let commits = self.wait_for(&sessions, &pass)?;
        if !commits.is_empty() {
            return Ok(Pass::Waits(Waiting { commits, packs: pass.doomed.len() }));
        }
        let fences = self.look.list_fences()?;
        let decided = self.decide(&pass, &sessions, &fences, &mut done)?;
        let inventory = self.renew(&pass, &decided, &mut done)?;
        tracing::debug!("listed anew");
        self.delete(&pass, &decided, &sessions, &fences, &inventory, &mut done)?;
        self.delete_other_records(&pass)?;
        self.notes.finished = pass.number;
        self.note()?;
        self.vault.refresh_index(Some(&self.identity.node))?;
        tracing::debug!("the pass is over");
        Ok(Pass::Done(done))
    }

    /// That this node is custodian still, as `trust/` says now. Asked before each batch of deletes; what makes a
    /// take-over safe is that the old custodian's credentials were revoked.
    fn check_office(&self) -> Result<(), VaultError> {
        let grown = match self.vault.trust_is_as_opened()? {
            true => None,
            false => Some(self.vault.trust_now()?),
        };
        let trust = grown.as_ref().unwrap_or(&self.vault.trust);
        let custodian = &trust.newest.custodian;
        let is_own = trust.custodians.include(self.term, &self.identity.signer.public());
        if custodian.term != self.term || custodian.node != self.identity.node || !is_own {
            let (node, place) = (self.identity.node.clone(), self.vault.place());
            let custodian = match custodian.node == node {
                true => format!("{node} with another key"),
                false => custodian.node.clone(),
            };
            return Err(VaultError::NotCustodian { node, custodian, place });
        }
        // Whom an older list does not know would be taken for nobody.
        if trust.newest.n != self.vault.trust().n {
            return Err(self
                .look
                .refused("trust/ has changed since this process opened the vault; start it again"));
        }
        Ok(())
    }

    fn note(&mut self) -> Result<(), VaultError> {
        self.store.save(&self.notes)
    }
}

impl fmt::Debug for Custodian<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custodian")
            .field("vault", &self.vault)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}
