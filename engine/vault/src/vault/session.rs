//! Sessions: one commit each (docs/format.md, section 10). Owns the order in which things become
//! durable, and the answer to "was it acknowledged?".

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::id::{ChunkId, ObjectHash, PointId, SessionId, SourceId};
use backstay_core::point::PointLink;
use backstay_core::units::Timestamp;

use super::living::{Life, Living};
use super::settled::KnownSession;
use super::{Catalogue, HeadDraft, PointDraft, PointObject, Vault};
use crate::collections::Collections;
use crate::commit_object::{SessionKind, SessionObject, SessionState};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::IndexOrigin;
use crate::index_object::IndexObject;
use crate::keys::{Signer, random_bytes};
use crate::name::Named;
use crate::write::Written;

/// How often another parent is chosen because the one before was thinned away or is no longer the newest.
const PARENT_TRIES_MAX: usize = 5;

/// How often a commit is opened because a collection began meanwhile.
const STARTS_MAX: usize = 5;

/// Who writes.
#[derive(Debug)]
pub struct WriterIdentity {
    /// The node's name, as in `trust/`.
    pub node: String,
    /// Its signing key.
    pub signer: Signer,
    pub(super) living: Living,
}

impl WriterIdentity {
    /// A process that writes for this node, and has begun nothing yet.
    pub fn new(node: String, signer: Signer) -> Self {
        Self { node, signer, living: Living::default() }
    }
}

/// What a writer of a session may count on.
#[derive(Debug, Clone)]
pub struct WriterView {
    vault: Arc<Vault>,
    collections: Arc<Collections>,
}

impl WriterView {
    /// What a custodian may count on between two passes: only it deletes.
    pub(super) fn of_custodian(vault: Arc<Vault>, collections: Collections) -> Self {
        Self { vault, collections: Arc::new(collections) }
    }

    /// Whether the vault has the chunk, sealed by no compromised key, and will keep it at least until the session ends.
    pub fn has(&self, id: &ChunkId) -> bool {
        self.vault.writer_has(id, &self.collections)
    }

    /// The same with whatever key.
    pub(super) fn has_in_any_seal(&self, id: &ChunkId) -> bool {
        self.vault.copier_has(id, &self.collections)
    }

    /// Chunks that points of the vault need and that are lost: whoever has their contents is to store them again.
    pub fn lost(&self) -> Result<HashSet<ChunkId>, VaultError> {
        match self.collections.bad() {
            Some(_) => self.vault.lost_chunks(),
            None => Ok(HashSet::new()),
        }
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }
}

/// What a commit has made durable.
#[derive(Debug)]
pub struct Acknowledged {
    /// The points, in the order of the drafts.
    pub points: Vec<PointLink>,
}

/// On which point of a catalogue a commit builds; it must be settled.
pub(super) type ChooseParent<'c> = dyn Fn(&Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> + 'c;

/// What a commit has put: index objects and points.
type Put = (Vec<(ObjectHash, IndexObject)>, Vec<PointLink>);

/// An open commit on one vault.
#[derive(Debug)]
pub struct Session {
    pub(super) writer: Arc<WriterIdentity>,
    pub(super) object: SessionObject,
    parent: Option<Arc<PointObject>>,
    view: WriterView,
    life: Life,
}

impl Session {
    /// Opens a session for a capture of `source`: puts it with the parent pinned, makes sure that this is still the
    /// parent to choose, lists `gc/` and then `index/`. Returns what the vault holds of the source as well. Begins
    /// again, a few times, when a collection begins meanwhile.
    pub fn open(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
    ) -> Result<(Self, Catalogue), VaultError> {
        Self::open_on(vault, writer, source_name, now, &|catalogue| vault.parent(catalogue))
    }

    /// The same for what builds on another point than the newest: `choose` says on which.
    pub(super) fn open_on(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
        choose: &ChooseParent<'_>,
    ) -> Result<(Self, Catalogue), VaultError> {
        vault.may_be_written()?;
        let allowed =
            vault.trust().node(&writer.signer.public()).is_some_and(|node| node.may_write(source_name));
        if !allowed {
            let (node, place) = (writer.node.clone(), vault.place());
            return Err(VaultError::MayNotWrite { node, source_name: source_name.to_owned(), place });
        }
        let source = vault.ring().source_id(source_name);
        for _ in 0..STARTS_MAX {
            let mut session = Self::new(vault, writer, source, now)?;
            match session.begin(source, choose) {
                Ok(Some(catalogue)) => return Ok((session, catalogue)),
                Ok(None) => session.fence(now, "a collection began while it was opened")?,
                Err(error) => return Err(session.fail(error, now)),
            }
        }
        Err(VaultError::Collecting { place: vault.place() })
    }

    /// The point on which the capture builds; it is pinned while the session is open.
    pub fn parent(&self) -> Option<&Arc<PointObject>> {
        self.parent.as_ref()
    }

    /// The points that are pinned while the session is open: the parent.
    pub fn pins(&self) -> &[PointId] {
        &self.object.pins
    }

    /// What may be counted on while the session is open.
    pub fn view(&self) -> WriterView {
        self.view.clone()
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.view.vault
    }

    /// Commits what was written: index, points, heads, each durable before the next, and then asks whether all of
    /// that came in time. Only when this returns `Ok` is anything acknowledged.
    pub fn commit(
        mut self,
        written: Written,
        points: &[PointDraft],
        heads: &[HeadDraft],
        clock: &dyn Clock,
    ) -> Result<Acknowledged, VaultError> {
        let (index, links) = match self.put_all(written, points, heads) {
            Ok(put) => put,
            Err(error) => return Err(self.fail(error, clock.now())),
        };
        let (session, signer) = (self.object.session, self.writer.signer.public());
        for (hash, content) in &index {
            self.vault().believe(IndexOrigin { hash: *hash, session, signer }, content);
        }
        // Acknowledged already: if this fails, the session is fenced later.
        match self.put(SessionState::Acknowledged) {
            Ok(()) => self.life.has_ended(),
            Err(error) => tracing::warn!(%error, "the session stays open"),
        }
        let session = KnownSession { object: self.object, signer };
        self.view.vault.remember_acknowledged(Arc::new(session));
        Ok(Acknowledged { points: links })
    }

    /// Gives the session up; nothing of it was acknowledged. Puts that were sent may still land, so it is
    /// fenced and not ended.
    pub fn give_up(self, now: Timestamp) -> Result<(), VaultError> {
        self.fence(now, "given up by its node")
    }

    /// A session that nobody has seen yet. Collections are counted before it is put.
    fn new(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source: SourceId,
        now: Timestamp,
    ) -> Result<Self, VaultError> {
        let object = SessionObject {
            session: SessionId::new(random_bytes()),
            node: writer.node.clone(),
            counter: 0,
            state: SessionState::Open,
            start: now,
            pins: Vec::new(),
            sources: vec![source],
            kind: SessionKind::Writer,
            collection: vault.newest_collection()?,
        };
        let view = WriterView { vault: Arc::clone(vault), collections: Arc::default() };
        let life = writer.living.begin(vault.id(), object.session);
        Ok(Self { writer: Arc::clone(writer), object, parent: None, view, life })
    }

    /// `None` when a collection has begun since this session was made: it may not know of the session.
    fn begin(
        &mut self,
        source: SourceId,
        choose: &ChooseParent<'_>,
    ) -> Result<Option<Catalogue>, VaultError> {
        let catalogue = self.pin_parent(source, choose)?;
        self.vault().check_listed(self.object.session)?;
        let collections = self.vault().collections()?;
        let Some(collections) = collections.filter(|listed| listed.newest() == self.object.collection) else {
            return Ok(None);
        };
        self.view.collections = Arc::new(collections);
        self.vault().refresh_index(Some(&self.writer.node))?;
        Ok(Some(catalogue))
    }

    /// Index, points and heads, in this order, and then the question whether all of that came too late.
    fn put_all(
        &self,
        written: Written,
        points: &[PointDraft],
        heads: &[HeadDraft],
    ) -> Result<Put, VaultError> {
        let index = self.put_index(written)?;
        let links = points.iter().map(|draft| self.put_point(draft)).collect::<Result<Vec<_>, _>>()?;
        for head in heads {
            let committed = points.iter().zip(&links).find(|(p, _)| p.common.source == head.source);
            self.put_head(head, committed.map(|(point, link)| (point.common.sequence, *link)))?;
        }
        self.check_in_time()?;
        Ok((index, links))
    }

    /// First the fence, then `gc/`: two collections later a fence may be gone again.
    fn check_in_time(&self) -> Result<(), VaultError> {
        let session = self.object.session;
        if self.vault().is_fenced(session)? {
            return Err(VaultError::Fenced { session });
        }
        match self.object.collection.may_acknowledge(self.vault().newest_collection()?) {
            true => Ok(()),
            false => Err(VaultError::Overtaken { session, place: self.vault().place() }),
        }
    }

    /// Fences a session that has failed, so that no collection waits a day for it. When that fails too, it is left open,
    /// for [`Vault::left_open`] to find.
    fn fail(&self, error: VaultError, now: Timestamp) -> VaultError {
        let fenced = match error {
            VaultError::Fenced { .. } => {
                self.life.has_ended();
                Ok(())
            }
            _ => self.fence(now, "its commit failed"),
        };
        if let Err(error) = fenced {
            tracing::warn!(%error, "the session stays open");
        }
        error
    }

    fn fence(&self, now: Timestamp, reason: &str) -> Result<(), VaultError> {
        self.vault().fence(&self.writer, &self.object, now, reason)?;
        self.life.has_ended();
        Ok(())
    }

    /// Puts the session with its parent pinned, until that is the parent to choose also after it was put.
    fn pin_parent(&mut self, source: SourceId, choose: &ChooseParent<'_>) -> Result<Catalogue, VaultError> {
        let vault = Arc::clone(self.vault());
        let link = |point: &Option<Arc<PointObject>>| point.as_ref().map(|point| point.link);
        self.parent = choose(&vault.catalogue(source)?)?;
        for _ in 0..PARENT_TRIES_MAX {
            self.object.pins = self.parent.iter().map(|point| point.link.point).collect();
            self.put(SessionState::Open)?;
            let mut catalogue = vault.catalogue(source)?;
            // An older layout would say what no longer holds: what it drops may be gone.
            if let Some(error) = catalogue.take_damaged_layout() {
                return Err(error);
            }
            // Also one that has come meanwhile: the parent of what is written is the point that is pinned.
            let parent = choose(&catalogue)?;
            if link(&parent) == link(&self.parent) {
                return Ok(catalogue);
            }
            self.parent = parent;
        }
        Err(VaultError::Unsettled { source_id: source, place: vault.place() })
    }

    fn put(&mut self, state: SessionState) -> Result<(), VaultError> {
        self.object.counter += 1;
        self.object.state = state;
        let named = Named::Session(self.object.session);
        self.vault().put_value(&self.writer.signer, EnvelopeKind::Session, &named, &self.object)
    }
}
