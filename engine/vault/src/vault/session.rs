//! Sessions: one commit each (docs/format.md, section 10). Owns the order in which things become
//! durable, and the answer to "was it acknowledged?".

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::id::{ChunkId, ObjectHash, PackId, PointId, SessionId, SourceId};
use backstay_core::point::{Head, Partial, PointCommon, PointLink, VaultPart};
use backstay_core::run::PartRef;
use backstay_core::units::Timestamp;
use minicbor::{Decode, Encode};

use super::catalogue::{POINT_PURPOSE, PointPayload};
use super::{Catalogue, Vault};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index_object::{INDEX_ENTRIES_MAX, INDEX_PACKS_MAX, IndexAuthor, IndexObject};
use crate::keys::{Signer, random_bytes};
use crate::malformed::encode_cbor;
use crate::name::Named;
use crate::store::Folder;
use crate::write::Written;

/// How often another parent is chosen because the one before was thinned away or is no longer the newest.
const PARENT_TRIES_MAX: usize = 5;

/// Who writes.
#[derive(Debug)]
pub struct WriterIdentity {
    /// The node's name, as in `trust/`.
    pub node: String,
    /// Its signing key.
    pub signer: Signer,
}

/// `sessions/<session>`.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
pub(super) struct SessionObject {
    #[n(0)]
    session: SessionId,
    #[n(1)]
    node: String,
    #[n(2)]
    counter: u64,
    #[n(3)]
    pub(super) state: SessionState,
    #[n(4)]
    start: Timestamp,
    #[n(5)]
    pins: Vec<PointId>,
    #[n(6)]
    sources: Vec<SourceId>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum SessionState {
    #[n(0)]
    Open,
    #[n(1)]
    Acknowledged,
    #[n(2)]
    GivenUp,
}

/// `fences/<session>`.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct FenceObject {
    #[n(0)]
    session: SessionId,
    #[n(1)]
    time: Timestamp,
    #[n(2)]
    reason: String,
}

/// `gc/<n>`.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct GcObject {
    #[n(0)]
    n: u64,
    #[n(1)]
    term: u64,
    #[n(2)]
    packs: Vec<PackId>,
}

/// What a writer of a session may count on.
#[derive(Debug, Clone)]
pub struct WriterView {
    vault: Arc<Vault>,
    doomed: Arc<HashSet<PackId>>,
}

impl WriterView {
    /// Whether the vault has the chunk and will keep it at least until the session ends.
    pub fn has(&self, id: &ChunkId) -> bool {
        self.vault.writer_has(id, &self.doomed)
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }
}

/// A point to be committed.
#[derive(Debug, Clone)]
pub struct PointDraft {
    /// What is the same in every vault.
    pub common: PointCommon,
    /// The point that the run edits.
    pub parent: Option<PointLink>,
    /// Parts of the run, in order of key.
    pub run: Vec<PartRef>,
    /// The newest head of the source that the session saw.
    pub previous_head: Option<ObjectHash>,
    /// For a capture that is not finished.
    pub partial: Option<Partial>,
}

/// A head to be committed, with the newest point of its source.
#[derive(Debug, Clone)]
pub struct HeadDraft {
    /// The source.
    pub source: SourceId,
    /// Rises with every head of the source.
    pub sequence: u64,
    /// Start of the capture.
    pub time: Timestamp,
    /// Sequence and link of the newest point; the one committed with it, if there is one.
    pub newest: Option<(u64, PointLink)>,
    /// The head before.
    pub previous: Option<ObjectHash>,
}

/// What a commit has made durable.
#[derive(Debug)]
pub struct Acknowledged {
    /// The points, in the order of the drafts.
    pub points: Vec<PointLink>,
}

/// What a commit has put: index objects and points.
type Put = (Vec<(ObjectHash, IndexObject)>, Vec<PointLink>);

/// An open commit on one vault.
#[derive(Debug)]
pub struct Session {
    writer: Arc<WriterIdentity>,
    object: SessionObject,
    view: WriterView,
}

impl Session {
    /// Opens a session for a capture of `source`: puts it with the newest point pinned, makes sure that the point
    /// is still there, lists `gc/` and then `index/`. Returns what the vault holds of the source as well.
    pub fn open(
        vault: &Arc<Vault>,
        writer: &Arc<WriterIdentity>,
        source_name: &str,
        now: Timestamp,
    ) -> Result<(Self, Catalogue), VaultError> {
        vault.may_be_written()?;
        let allowed =
            vault.trust().node(&writer.signer.public()).is_some_and(|node| node.may_write(source_name));
        if !allowed {
            let (node, place) = (writer.node.clone(), vault.place());
            return Err(VaultError::MayNotWrite { node, source_name: source_name.to_owned(), place });
        }
        let source = vault.ring().source_id(source_name);
        let object = SessionObject {
            session: SessionId::new(random_bytes()),
            node: writer.node.clone(),
            counter: 0,
            state: SessionState::Open,
            start: now,
            pins: Vec::new(),
            sources: vec![source],
        };
        let view = WriterView { vault: Arc::clone(vault), doomed: Arc::default() };
        let mut session = Self { writer: Arc::clone(writer), object, view };
        match session.begin(source) {
            Ok(catalogue) => Ok((session, catalogue)),
            Err(error) => Err(session.fail(error)),
        }
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

    /// Commits what was written: index, points, heads, each durable before the next, and then asks for the
    /// fence. Only when this returns `Ok` is anything acknowledged.
    pub fn commit(
        mut self,
        written: Written,
        points: &[PointDraft],
        heads: &[HeadDraft],
    ) -> Result<Acknowledged, VaultError> {
        let (index, links) = match self.put_all(written, points, heads) {
            Ok(put) => put,
            Err(error) => return Err(self.fail(error)),
        };
        for (hash, content) in &index {
            self.vault().believe(*hash, content);
        }
        // Acknowledged already: if this fails, the session is fenced at the next start.
        if let Err(error) = self.put_session(SessionState::Acknowledged) {
            tracing::warn!(%error, "the session stays open");
        }
        Ok(Acknowledged { points: links })
    }

    /// Gives the session up; nothing of it was acknowledged. Puts that were sent may still land, so it is
    /// fenced and not ended.
    pub fn give_up(self, now: Timestamp) -> Result<(), VaultError> {
        self.vault().fence(&self.writer, self.object.session, now, "given up by its node")
    }

    fn begin(&mut self, source: SourceId) -> Result<Catalogue, VaultError> {
        let catalogue = self.pin_newest(source)?;
        self.view.doomed = Arc::new(self.vault().doomed_packs()?);
        self.vault().refresh_index(Some(&self.writer.node))?;
        Ok(catalogue)
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
        match self.is_fenced()? {
            true => Err(VaultError::Fenced { session: self.object.session }),
            false => Ok((index, links)),
        }
    }

    /// Fences a session that has failed, so that no collection waits a day for it. When that fails too, the
    /// next start of the node does it.
    fn fail(&self, error: VaultError) -> VaultError {
        let fenced = match error {
            VaultError::Fenced { .. } => Ok(()),
            _ => {
                self.vault().fence(&self.writer, self.object.session, self.object.start, "its commit failed")
            }
        };
        if let Err(error) = fenced {
            tracing::warn!(%error, "the session stays open");
        }
        error
    }

    fn pin_newest(&mut self, source: SourceId) -> Result<Catalogue, VaultError> {
        let vault = Arc::clone(self.vault());
        let mut newest = vault.catalogue(source)?.newest().map(|point| point.link);
        for _ in 0..PARENT_TRIES_MAX {
            self.object.pins = newest.iter().map(|link| link.point).collect();
            self.put_session(SessionState::Open)?;
            let catalogue = vault.catalogue(source)?;
            let now_newest = catalogue.newest().map(|point| point.link);
            // Also one that has come meanwhile: the parent of what is written is the point that is pinned.
            if now_newest == newest {
                return Ok(catalogue);
            }
            newest = now_newest;
        }
        Err(VaultError::Unsettled { source_id: source, place: vault.place() })
    }

    fn put_session(&mut self, state: SessionState) -> Result<(), VaultError> {
        self.object.counter += 1;
        self.object.state = state;
        let named = Named::Session(self.object.session);
        self.vault().put_value(&self.writer.signer, EnvelopeKind::Session, &named, &self.object)
    }

    fn put_index(&self, written: Written) -> Result<Vec<(ObjectHash, IndexObject)>, VaultError> {
        let mut objects = Vec::new();
        let mut packs = written.packs;
        while !packs.is_empty() {
            let mut entries = 0;
            let fitting = packs
                .iter()
                .take(INDEX_PACKS_MAX)
                .take_while(|(_, records)| {
                    entries += records.len();
                    entries <= INDEX_ENTRIES_MAX
                })
                .count();
            let rest = packs.split_off(fitting.max(1));
            let object = IndexObject::of_packs(IndexAuthor::Session, &packs);
            let session = self.object.session;
            let hash = self.vault().put_hashed(
                &self.writer.signer,
                EnvelopeKind::Index,
                &object.encode(),
                |hash| Named::Index(session, hash),
            )?;
            objects.push((hash, object));
            packs = rest;
        }
        Ok(objects)
    }

    fn put_point(&self, draft: &PointDraft) -> Result<PointLink, VaultError> {
        let common = encode_cbor(&draft.common);
        let message = [POINT_PURPOSE, self.vault().ring().domain().as_bytes(), &common].concat();
        let payload = PointPayload {
            common,
            signer: self.writer.signer.public(),
            signature: self.writer.signer.sign(&message).to_vec(),
            vault_part: VaultPart {
                vault: self.vault().id(),
                parent: draft.parent,
                run: draft.run.clone(),
                previous_head: draft.previous_head,
                session: self.object.session,
                partial: draft.partial.clone(),
            },
        };
        let (source, point) = (draft.common.source, draft.common.id);
        let name = |hash| Named::Point(source, point, hash);
        let object = self.vault().put_hashed(
            &self.writer.signer,
            EnvelopeKind::Point,
            &encode_cbor(&payload),
            name,
        )?;
        Ok(PointLink { point, object })
    }

    fn put_head(&self, draft: &HeadDraft, committed: Option<(u64, PointLink)>) -> Result<(), VaultError> {
        let newest = committed.or(draft.newest).map(|(sequence, link)| backstay_core::point::HeadTarget {
            vault: self.vault().id(),
            sequence,
            point: link.point,
            object: link.object,
            time: draft.time,
        });
        let head = Head {
            source: draft.source,
            sequence: draft.sequence,
            time: draft.time,
            targets: newest.into_iter().collect(),
            previous: draft.previous,
        };
        let name = |hash| Named::Head(draft.source, draft.sequence, hash);
        self.vault().put_hashed(&self.writer.signer, EnvelopeKind::Head, &encode_cbor(&head), name)?;
        Ok(())
    }

    fn is_fenced(&self) -> Result<bool, VaultError> {
        match self.vault().get(&Named::Fence(self.object.session).to_name()) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Vault {
    /// Fences the open sessions that this node has left behind when it died. Called once at start, under the
    /// lock on the node's state, before any session is opened. Returns how many.
    pub fn fence_dead_sessions(&self, writer: &WriterIdentity, now: Timestamp) -> Result<usize, VaultError> {
        let fenced: HashSet<SessionId> = self
            .list(&Folder::new(&[&"fences"]))?
            .iter()
            .filter_map(|listed| match listed.named {
                Named::Fence(session) => Some(session),
                _ => None,
            })
            .collect();
        let mut dead = 0;
        for listed in self.list(&Folder::new(&[&"sessions"]))? {
            let Named::Session(id) = listed.named else { continue };
            if fenced.contains(&id) {
                continue;
            }
            match self.get_value::<SessionObject>(&listed.name, &listed.named, EnvelopeKind::Session) {
                Ok((object, node)) if node.name == writer.node && object.state == SessionState::Open => {
                    self.fence(writer, id, now, "its node died while it was open")?;
                    dead += 1;
                }
                Ok(_) => {}
                Err(VaultError::Store(error)) if !error.is_not_found() => return Err(error.into()),
                // A session that cannot be read protects nothing of ours; the custodian deals with it.
                Err(error) => tracing::warn!(%error, "left out"),
            }
        }
        Ok(dead)
    }

    fn fence(
        &self,
        writer: &WriterIdentity,
        session: SessionId,
        time: Timestamp,
        reason: &str,
    ) -> Result<(), VaultError> {
        let fence = FenceObject { session, time, reason: reason.to_owned() };
        self.put_value(&writer.signer, EnvelopeKind::Fence, &Named::Fence(session), &fence)
    }

    /// The packs that a collection is about to delete.
    fn doomed_packs(&self) -> Result<HashSet<PackId>, VaultError> {
        let mut doomed = HashSet::new();
        for listed in self.list(&Folder::new(&[&"gc"]))? {
            match self.get_value::<GcObject>(&listed.name, &listed.named, EnvelopeKind::Gc) {
                Ok((gc, _)) => doomed.extend(gc.packs),
                // The collection has ended between listing and reading; what it deleted has left the index.
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(doomed)
    }
}
