//! Sessions: one commit each (docs/format.md, section 10). Owns the order in which things become
//! durable, and the answer to "was it acknowledged?".

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::id::{ChunkId, ObjectHash, PointId, SourceId};
use backstay_core::point::PointLink;
use backstay_core::units::Timestamp;

use super::living::Living;
use super::opening::{ChooseParent, Opening, STARTS_MAX};
use super::settled::KnownSession;
use super::{Catalogue, HeadDraft, PointDraft, PointObject, Vault};
use crate::collections::Collections;
use crate::commit_object::{SessionObject, SessionState};
use crate::error::VaultError;
use crate::index::IndexOrigin;
use crate::index_object::IndexObject;
use crate::keys::Signer;
use crate::write::Written;

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
    basis: Basis,
}

#[derive(Debug, Clone)]
enum Basis {
    /// What was read in a session, or before it.
    Session(Arc<Opening>),
    /// What a custodian has read between two passes.
    Custodian(Arc<Collections>),
}

impl WriterView {
    /// What a custodian may count on between two passes: only it deletes.
    pub(super) fn of_custodian(vault: Arc<Vault>, collections: Collections) -> Self {
        Self { vault, basis: Basis::Custodian(Arc::new(collections)) }
    }

    /// Whether the vault has the chunk, sealed by no compromised key, and will keep it at least until the session ends.
    pub fn has(&self, id: &ChunkId) -> bool {
        match &self.basis {
            Basis::Session(opening) => opening.may_count_on(id),
            Basis::Custodian(collections) => self.vault.writer_has(id, collections),
        }
    }

    /// The same with whatever key. Of a session that is there.
    pub(super) fn has_in_any_seal(&self, id: &ChunkId) -> bool {
        self.vault.copier_has(id, &self.collections())
    }

    /// Chunks that points of the vault need and that are lost: whoever has their contents is to store them again.
    pub fn lost(&self) -> Result<HashSet<ChunkId>, VaultError> {
        match self.collections().bad() {
            Some(_) => self.vault.lost_chunks(),
            None => Ok(HashSet::new()),
        }
    }

    /// Before anything is put. Blocks for a few requests where the session is not there yet.
    pub(crate) fn make_sure(&self) -> Result<(), VaultError> {
        match &self.basis {
            Basis::Session(opening) => opening.make_sure(),
            Basis::Custodian(_) => Ok(()),
        }
    }

    /// Whether [`WriterView::make_sure`] has nothing to do any more.
    pub(crate) fn is_sure(&self) -> bool {
        match &self.basis {
            Basis::Session(opening) => opening.is_open(),
            Basis::Custodian(_) => true,
        }
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    fn collections(&self) -> Arc<Collections> {
        match &self.basis {
            Basis::Session(opening) => opening.collections(),
            Basis::Custodian(collections) => Arc::clone(collections),
        }
    }
}

/// What a commit has made durable.
#[derive(Debug)]
pub struct Acknowledged {
    /// The points, in the order of the drafts.
    pub points: Vec<PointLink>,
}

/// What a commit has put: index objects and points.
type Put = (Vec<(ObjectHash, IndexObject)>, Vec<PointLink>);

/// A commit on one vault that is under way.
#[derive(Debug)]
pub struct Session {
    pub(super) writer: Arc<WriterIdentity>,
    vault: Arc<Vault>,
    parent: Option<Arc<PointObject>>,
    opening: Arc<Opening>,
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

    /// Begins a session: where requests cost it is planned, else opened. It is opened, too, where an unfinished capture has left
    /// something: what goes on from that counts on it, and nothing but an open session keeps it.
    pub fn begin(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
    ) -> Result<(Self, Catalogue), VaultError> {
        // What is captured is the writer's own, unlike what is copied.
        vault.may_be_authored(writer, source_name)?;
        if vault.requests_cost() {
            let (session, catalogue) = Self::plan(vault, writer, source_name, now)?;
            if catalogue.partial_points().is_empty() {
                return Ok((session, catalogue));
            }
            session.opening.is_over();
        }
        Self::open(vault, writer, source_name, now)
    }

    /// The same for what builds on another point than the newest: `choose` says on which.
    pub(super) fn open_on(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
        choose: &ChooseParent<'_>,
    ) -> Result<(Self, Catalogue), VaultError> {
        let source = vault.source_to_write(writer, source_name)?;
        for _ in 0..STARTS_MAX {
            let collections = Arc::new(Collections::newest_is(vault.newest_collection()?));
            let opening = Arc::new(Opening::planned(vault, writer, source, None, collections, now));
            let outcome = opening.open_first(choose);
            let session = Self::of(vault, writer, opening);
            match outcome {
                Ok(Some(catalogue)) => return Ok((session, catalogue)),
                Ok(None) => session.opening.fence(now, "a collection began while it was opened")?,
                Err(error) => return Err(session.fail(error, now)),
            }
        }
        Err(VaultError::Collecting { place: vault.place() })
    }

    /// The same for a vault whose requests cost: reads first, or goes by what was read not long ago, and puts the session
    /// when something is to be put that needs one. Then it looks whether a collection has begun, and if so, whether what was read
    /// still holds. When nothing but a head is committed there is no session.
    pub fn plan(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
    ) -> Result<(Self, Catalogue), VaultError> {
        let source = vault.source_to_write(writer, source_name)?;
        let (mut catalogue, collections) = vault.catalogue_read_first(source, &writer.node)?;
        if let Some(error) = catalogue.take_damaged_layout() {
            return Err(error);
        }
        let parent = vault.parent(&catalogue)?;
        let opening = Opening::planned(vault, writer, source, parent, collections, now);
        Ok((Self::of(vault, writer, Arc::new(opening)), catalogue))
    }

    fn of(vault: &Arc<Vault>, writer: &Arc<WriterIdentity>, opening: Arc<Opening>) -> Self {
        let (vault, writer, parent) = (Arc::clone(vault), Arc::clone(writer), opening.parent());
        Self { writer, vault, parent, opening }
    }

    /// The point on which the capture builds; it is pinned while the session is open.
    pub fn parent(&self) -> Option<&Arc<PointObject>> {
        self.parent.as_ref()
    }

    /// The points that are pinned while the session is open: the parents.
    pub fn pins(&self) -> Vec<PointId> {
        self.opening.object().pins
    }

    /// What may be counted on while the session is open.
    pub fn view(&self) -> WriterView {
        WriterView { vault: Arc::clone(&self.vault), basis: Basis::Session(Arc::clone(&self.opening)) }
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Has this session commit what another one was to commit; gives that back when they have not read the same.
    pub(super) fn take_in(&self, other: Self) -> Result<(), Self> {
        match self.opening.take_in(&other.opening) {
            true => Ok(()),
            false => Err(other),
        }
    }

    /// Commits what was written: index, points, heads, each durable before the next, and then asks whether all of
    /// that came in time. Only when this returns `Ok` is anything acknowledged. Heads alone need no session.
    pub fn commit(
        self,
        written: Written,
        points: &[PointDraft],
        heads: &[HeadDraft],
        clock: &dyn Clock,
    ) -> Result<Acknowledged, VaultError> {
        if written.is_empty() && points.is_empty() && !self.opening.is_open() {
            return self.commit_heads(heads, clock);
        }
        let (index, links) = match self.put_all(written, points, heads) {
            Ok(put) => put,
            Err(error) => return Err(self.fail(error, clock.now())),
        };
        let (session, signer) = (self.opening.object().session, self.writer.signer.public());
        for (hash, content) in &index {
            self.vault.believe(IndexOrigin { hash: *hash, session, signer }, content);
        }
        // Acknowledged already: if this fails, the session is fenced later.
        let state = match self.opening.end() {
            Ok(ended) => {
                self.vault.remember_ended(&ended);
                SessionState::Acknowledged
            }
            Err(error) => {
                tracing::warn!(%error, "the session stays open");
                SessionState::Open
            }
        };
        let object = SessionObject { state, ..self.opening.object() };
        self.vault.remember_acknowledged(Arc::new(KnownSession { object, signer }));
        Ok(Acknowledged { points: links })
    }

    /// Gives the session up; nothing of it was acknowledged. Puts that were sent may still land, so it is
    /// fenced and not ended.
    pub fn give_up(self, now: Timestamp) -> Result<(), VaultError> {
        self.opening.fence(now, "given up by its node")
    }

    /// What has not changed is said by a head. It counts on nothing but its point, which nothing but retention can take away.
    fn commit_heads(self, heads: &[HeadDraft], clock: &dyn Clock) -> Result<Acknowledged, VaultError> {
        for head in heads {
            match self.put_head(head, None) {
                Ok(put) => self.vault.learn(head.source, None, Some(put)),
                Err(error) => return Err(self.fail(error, clock.now())),
            }
        }
        self.opening.is_over();
        Ok(Acknowledged { points: Vec::new() })
    }

    /// Index, points and heads, in this order, and then the question whether all of that came too late.
    fn put_all(
        &self,
        written: Written,
        points: &[PointDraft],
        heads: &[HeadDraft],
    ) -> Result<Put, VaultError> {
        self.opening.make_sure()?;
        let object = self.opening.object();
        let written = written.send(&self.view())?;
        let index = self.put_index(&object, written)?;
        let put = points.iter().map(|draft| self.put_point(&object, draft));
        let put = put.collect::<Result<Vec<PointObject>, _>>()?;
        let links: Vec<PointLink> = put.iter().map(|point| point.link).collect();
        let mut put_heads = Vec::new();
        for head in heads {
            let committed = points.iter().zip(&links).find(|(p, _)| p.common.source == head.source);
            let committed = committed.map(|(point, link)| (point.common.sequence, *link));
            put_heads.push(self.put_head(head, committed)?);
        }
        self.check_in_time(&object)?;
        for point in put {
            self.vault.learn(point.common.source, Some(point), None);
        }
        for (head, put) in heads.iter().zip(put_heads) {
            self.vault.learn(head.source, None, Some(put));
        }
        Ok((index, links))
    }

    /// First the fence, then `gc/`: two collections later a fence may be gone again.
    fn check_in_time(&self, object: &SessionObject) -> Result<(), VaultError> {
        let session = object.session;
        if self.vault.is_fenced(session)? {
            return Err(VaultError::Fenced { session });
        }
        match object.collection.may_acknowledge(self.vault.newest_collection()?) {
            true => Ok(()),
            false => Err(VaultError::Overtaken { session, place: self.vault.place() }),
        }
    }

    /// Fences a session that has failed, so that no collection waits a day for it. When that fails too, it is left open,
    /// for [`Vault::left_open`] to find.
    fn fail(&self, error: VaultError, now: Timestamp) -> VaultError {
        // What was put may be there, or not; and what was remembered may be what was wrong.
        self.vault.forget();
        let fenced = match error {
            // Where there is no vault any more nobody waits for it.
            VaultError::Fenced { .. } | VaultError::NoVault { .. } => {
                self.opening.is_over();
                Ok(())
            }
            _ => self.opening.fence(now, "its commit failed"),
        };
        if let Err(error) = fenced {
            tracing::warn!(%error, "the session stays open");
        }
        error
    }
}

impl Vault {
    /// The source of this name, if the writer may write it here.
    fn source_to_write(&self, writer: &WriterIdentity, source_name: &str) -> Result<SourceId, VaultError> {
        self.may_be_written()?;
        let node = self.trust().node(&writer.signer.public());
        match node.is_some_and(|node| node.may_write(source_name)) {
            true => Ok(self.ring().source_id(source_name)),
            false => Err(self.may_not_write(writer, source_name)),
        }
    }

    /// That what the writer captures of this source would be taken for its own.
    fn may_be_authored(&self, writer: &WriterIdentity, source_name: &str) -> Result<(), VaultError> {
        let node = self.trust().node(&writer.signer.public());
        match node.is_some_and(|node| node.may_author(source_name)) {
            true => Ok(()),
            false => Err(self.may_not_write(writer, source_name)),
        }
    }

    fn may_not_write(&self, writer: &WriterIdentity, source_name: &str) -> VaultError {
        let (node, source_name) = (writer.node.clone(), source_name.to_owned());
        VaultError::MayNotWrite { node, source_name, place: self.place() }
    }
}
