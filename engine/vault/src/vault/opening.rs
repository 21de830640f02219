//! The opening of a session (docs/format.md, section 10): at once, or, by who has read first, when something is to be put that
//! needs one. Shared by the session and by whoever writes chunks for it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, SessionId, SourceId};
use backstay_core::units::Timestamp;

use super::living::Life;
use super::{Catalogue, PointObject, Vault, WriterIdentity};
use crate::collections::Collections;
use crate::commit_object::{SessionKind, SessionObject, SessionState};
use crate::error::VaultError;
use crate::keys::random_bytes;

/// On which point of a catalogue a commit builds; it must be settled.
pub(super) type ChooseParent<'c> = dyn Fn(&Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> + 'c;

/// The same for one of several sources.
type ChooseOf<'c> = dyn Fn(usize, &Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> + 'c;

/// How often another parent is chosen because the one before was thinned away or is no longer the newest.
const PARENT_TRIES_MAX: usize = 5;

/// How often another session is opened because a collection began meanwhile.
pub(super) const STARTS_MAX: usize = 5;

/// Chunks that may be counted on before the session is there. Who counts on more opens it.
const PRESUMED_MAX: usize = 1 << 18;

/// A session that is there, or will be.
#[derive(Debug)]
pub(super) struct Opening {
    vault: Arc<Vault>,
    writer: Arc<WriterIdentity>,
    /// Whether the session is there, and nothing has to be looked at any more.
    is_open: AtomicBool,
    /// Held while the store is asked.
    inner: Mutex<Inner>,
    /// Never held for long: every thread that writes chunks asks.
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Inner {
    /// Names the sources of the foundations, in their order.
    object: SessionObject,
    life: Life,
    /// At least one; with the first the session was begun.
    foundations: Vec<Foundation>,
    stage: Stage,
}

/// On what a commit builds in one source.
#[derive(Debug, Clone)]
struct Foundation {
    source: SourceId,
    parent: Option<Arc<PointObject>>,
}

/// What may be counted on.
#[derive(Debug)]
struct Counted {
    collections: Arc<Collections>,
    /// Chunks that were counted on before the session was there; none are noted any more when it is.
    presumed: Option<HashSet<ChunkId>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of it is in the store. All was read when the collection of the session was the newest.
    Planned,
    /// It is there, and what may be counted on was looked at after it was.
    Open,
    /// It could not be opened.
    Failed,
}

impl Counted {
    fn is_of(&self, collections: &Arc<Collections>) -> bool {
        Arc::ptr_eq(&self.collections, collections)
    }
}

impl Opening {
    /// A session that nobody has seen yet, with what was read when its collection, the newest then, had been listed.
    pub(super) fn planned(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source: SourceId,
        parent: Option<Arc<PointObject>>,
        collections: Arc<Collections>,
        now: Timestamp,
    ) -> Self {
        let object = session_object(writer, vec![source], collections.newest(), now);
        let life = writer.living.begin(vault.id(), object.session);
        let foundations = vec![Foundation { source, parent }];
        let inner = Mutex::new(Inner { object, life, foundations, stage: Stage::Planned });
        let counted = Mutex::new(Counted { collections, presumed: Some(HashSet::new()) });
        let (vault, writer, is_open) = (Arc::clone(vault), Arc::clone(writer), AtomicBool::new(false));
        Self { vault, writer, is_open, inner, counted }
    }

    /// Takes in the plan of another commit of the same writer, of which nothing was put: one session will do for both. Not if they
    /// have not read the same; then each is as before.
    pub(super) fn take_in(&self, other: &Self) -> bool {
        let (mut inner, mut others) = (self.inner(), other.inner());
        let is_same_vault =
            Arc::ptr_eq(&self.vault, &other.vault) && Arc::ptr_eq(&self.writer, &other.writer);
        if !is_same_vault || inner.stage != Stage::Planned || others.stage != Stage::Planned {
            return false;
        }
        if others.object.sources.iter().any(|source| inner.object.sources.contains(source)) {
            return false;
        }
        let (mut counted, mut counted_there) = (self.counted(), other.counted());
        if !counted.is_of(&counted_there.collections) {
            return false;
        }
        let Counted { presumed: Some(presumed), .. } = &mut *counted else { return false };
        let Counted { presumed: Some(of_other), .. } = &mut *counted_there else { return false };
        if presumed.len() + of_other.len() > PRESUMED_MAX {
            return false;
        }
        presumed.extend(of_other.drain());
        inner.object.sources.append(&mut others.object.sources);
        inner.foundations.append(&mut others.foundations);
        others.stage = Stage::Failed;
        others.life.has_ended();
        true
    }

    /// The session, as it was put last.
    pub(super) fn object(&self) -> SessionObject {
        self.inner().object.clone()
    }

    /// Whether the session is there.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// What may be counted on.
    pub(super) fn collections(&self) -> Arc<Collections> {
        Arc::clone(&self.counted().collections)
    }

    /// Whether the vault has a chunk that will stay. Before the session is there, that has to hold when it is.
    pub(super) fn may_count_on(&self, chunk: &ChunkId) -> bool {
        let collections = self.collections();
        let has = self.vault.writer_has(chunk, &collections);
        if self.is_open() && self.counted().is_of(&collections) {
            return has;
        }
        let mut counted = self.counted();
        if !counted.is_of(&collections) {
            // It was opened anew meanwhile.
            return self.vault.writer_has(chunk, &counted.collections);
        }
        match &mut counted.presumed {
            Some(presumed) if has && (presumed.len() < PRESUMED_MAX || presumed.contains(chunk)) => {
                presumed.insert(*chunk);
                true
            }
            // Uploaded once more rather than remembered.
            Some(_) => false,
            None => has,
        }
    }

    /// Puts the session, if it is not there, and makes sure that what was read before still holds.
    ///
    /// # Errors
    /// Also when the parent or a chunk that was counted on has gone since.
    pub(super) fn make_sure(&self) -> Result<(), VaultError> {
        let mut inner = self.inner();
        match inner.stage {
            Stage::Open => return Ok(()),
            Stage::Failed => return Err(VaultError::GivenUp),
            Stage::Planned => inner.stage = Stage::Failed,
        }
        self.open_last(&mut inner)?;
        self.has_opened(&mut inner);
        Ok(())
    }

    /// Opens it at once, with the parent pinned that `choose` chooses, also when the session is there. What the vault holds of the
    /// source then; `None` when a collection has begun since the session was made: it may not know of it.
    pub(super) fn open_first(&self, choose: &ChooseParent<'_>) -> Result<Option<Catalogue>, VaultError> {
        let inner = &mut *self.inner();
        inner.stage = Stage::Failed;
        let catalogue = self.pin_parents(inner, &|_, catalogue| choose(catalogue))?.pop();
        let Some(collections) = self.look_around(inner)? else { return Ok(None) };
        *self.counted() = Counted { collections, presumed: None };
        self.has_opened(inner);
        Ok(catalogue)
    }

    /// Overwrites the session as ended.
    pub(super) fn end(&self) -> Result<SessionObject, VaultError> {
        let mut inner = self.inner();
        self.put(&mut inner, SessionState::Acknowledged)?;
        inner.life.has_ended();
        Ok(inner.object.clone())
    }

    /// Fences the session. One that was never put is over.
    pub(super) fn fence(&self, now: Timestamp, reason: &str) -> Result<(), VaultError> {
        let mut inner = self.inner();
        // A pack that is still on its way shall not put it now.
        inner.stage = Stage::Failed;
        self.fence_inner(&mut inner, now, reason)
    }

    /// The session is over without anything more to be put: it is fenced, or was never there.
    pub(super) fn is_over(&self) {
        let mut inner = self.inner();
        inner.stage = Stage::Failed;
        inner.life.has_ended();
    }

    /// The point on which the session builds in the source with which it was begun; it is pinned when the session is there.
    pub(super) fn parent(&self) -> Option<Arc<PointObject>> {
        self.inner().foundations.first()?.parent.clone()
    }

    fn has_opened(&self, inner: &mut Inner) {
        inner.stage = Stage::Open;
        self.is_open.store(true, Ordering::Release);
    }

    /// What was read before the session was there holds while no collection has begun since: those to come wait for it.
    fn open_last(&self, inner: &mut Inner) -> Result<(), VaultError> {
        inner.pin();
        self.put(inner, SessionState::Open)?;
        let ledger = self.vault.ledger()?;
        if !ledger.has_session(inner.object.session) {
            return Err(VaultError::OldListing { place: self.vault.place() });
        }
        let is_as_read = ledger.newest == inner.object.collection;
        if is_as_read && self.vault.own_last_session().is_none_or(|last| ledger.has_session(last)) {
            self.counted().presumed = None;
            return Ok(());
        }
        // What is not listed any more may have gone with all the rest.
        match self.vault.is_still_there()? {
            true => self.open_anew(inner),
            false => Err(VaultError::NoVault { place: self.vault.place() }),
        }
    }

    /// Opens another session in place of this one, and looks whether all that was counted on is still there.
    fn open_anew(&self, inner: &mut Inner) -> Result<(), VaultError> {
        self.vault.forget();
        let before = inner.foundations.clone();
        let same_parent = |number: usize, catalogue: &Catalogue| match &before[number].parent {
            None => Ok(None),
            Some(parent) => match catalogue.point(parent.link.point).filter(|now| now.link == parent.link) {
                Some(now) if self.vault.is_settled(catalogue, now)? => Ok(Some(Arc::clone(now))),
                _ => Err(VaultError::CursorMoved { place: self.vault.place() }),
            },
        };
        for _ in 0..STARTS_MAX {
            let start = inner.object.start;
            self.fence_inner(inner, start, "what it had read does not hold any more")?;
            // Of the fenced one there is nothing more to say, whatever fails before the next is put.
            inner.object.counter = 0;
            let sources = inner.object.sources.clone();
            inner.object = session_object(&self.writer, sources, self.vault.newest_collection()?, start);
            inner.life = self.writer.living.begin(self.vault.id(), inner.object.session);
            self.pin_parents(inner, &same_parent)?;
            let Some(collections) = self.look_around(inner)? else { continue };
            let is_there = |chunk: &ChunkId| self.vault.writer_has(chunk, &collections);
            // There may be many: meanwhile others go on, and what they count on then is few.
            let presumed = self.counted().presumed.replace(HashSet::new()).unwrap_or_default();
            let first_are_there = presumed.iter().all(is_there);
            let mut counted = self.counted();
            let last_are_there = counted.presumed.iter().flatten().all(is_there);
            // What is known to be lost since is to be looked for in the source: that begins anew.
            let same_are_lost = counted.collections.bad() == collections.bad();
            *counted = Counted { collections, presumed: None };
            let is_good = same_are_lost && first_are_there && last_are_there;
            return if is_good { Ok(()) } else { Err(self.collecting()) };
        }
        Err(self.collecting())
    }

    fn collecting(&self) -> VaultError {
        VaultError::Collecting { place: self.vault.place() }
    }

    /// Puts the session with its parents pinned, until those are the parents to choose also after it was put. What the vault holds
    /// of the sources then.
    fn pin_parents(&self, inner: &mut Inner, choose: &ChooseOf<'_>) -> Result<Vec<Catalogue>, VaultError> {
        let mut moved = inner.foundations[0].source;
        for number in 0..inner.foundations.len() {
            let catalogue = self.vault.catalogue(inner.foundations[number].source)?;
            inner.foundations[number].parent = choose(number, &catalogue)?;
        }
        for _ in 0..PARENT_TRIES_MAX {
            inner.pin();
            self.put(inner, SessionState::Open)?;
            let mut is_same = true;
            let mut catalogues = Vec::with_capacity(inner.foundations.len());
            for (number, foundation) in inner.foundations.iter_mut().enumerate() {
                let mut catalogue = self.vault.catalogue(foundation.source)?;
                // An older layout would say what no longer holds: what it drops may be gone.
                if let Some(error) = catalogue.take_damaged_layout() {
                    return Err(error);
                }
                // Also one that has come meanwhile: the parent of what is written is the point that is pinned.
                let parent = choose(number, &catalogue)?;
                let link = |point: &Option<Arc<PointObject>>| point.as_ref().map(|point| point.link);
                if link(&parent) != link(&foundation.parent) {
                    (is_same, moved) = (false, foundation.source);
                    foundation.parent = parent;
                }
                catalogues.push(catalogue);
            }
            if is_same {
                return Ok(catalogues);
            }
        }
        Err(VaultError::Unsettled { source_id: moved, place: self.vault.place() })
    }

    /// Reads what may be counted on while the session is open; `None` when a collection has begun since the session was made.
    fn look_around(&self, inner: &Inner) -> Result<Option<Arc<Collections>>, VaultError> {
        self.vault.check_listed(inner.object.session)?;
        let collections = self.vault.collections()?;
        let Some(collections) = collections.filter(|listed| listed.newest() == inner.object.collection)
        else {
            return Ok(None);
        };
        self.vault.refresh_index(Some(&self.writer.node))?;
        Ok(Some(Arc::new(collections)))
    }

    fn put(&self, inner: &mut Inner, state: SessionState) -> Result<(), VaultError> {
        inner.object.counter += 1;
        inner.object.state = state;
        self.vault.put_session(&self.writer.signer, &inner.object)
    }

    fn fence_inner(&self, inner: &mut Inner, now: Timestamp, reason: &str) -> Result<(), VaultError> {
        if inner.object.counter > 0 {
            self.vault.fence(&self.writer, &inner.object, now, reason)?;
        }
        inner.life.has_ended();
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Has the session keep what it builds on.
    fn pin(&mut self) {
        let parents = self.foundations.iter().filter_map(|foundation| foundation.parent.as_ref());
        self.object.pins = parents.map(|point| point.link.point).collect();
    }
}

fn session_object(
    writer: &WriterIdentity,
    sources: Vec<SourceId>,
    collection: CollectionNumber,
    start: Timestamp,
) -> SessionObject {
    SessionObject {
        session: SessionId::new(random_bytes()),
        node: writer.node.clone(),
        counter: 0,
        state: SessionState::Open,
        start,
        pins: Vec::new(),
        sources,
        kind: SessionKind::Writer,
        collection,
    }
}
