//! Which points may be built on (docs/format.md, section 10, "Settled"). That a point counts is not enough: one whose
//! session is open or fenced may yet be decided against.

use std::sync::{Arc, PoisonError};

use backstay_core::id::{SessionId, SignerKey};
use bytes::Bytes;

use super::{Catalogue, PointObject, Vault};
use crate::commit_object::{SessionObject, SessionState};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::{Named, ObjectName};
use crate::store::{StoreError, StoreErrorKind};

/// Acknowledged sessions that are kept in memory.
const ACKNOWLEDGED_KEPT_MAX: usize = 4096;

/// Points that are tried as parents. When none of so many is settled, a capture begins anew.
const PARENTS_TRIED_MAX: usize = 64;

/// A session as it was read, and who has signed it.
#[derive(Debug)]
pub(super) struct KnownSession {
    pub(super) object: SessionObject,
    pub(super) signer: SignerKey,
}

impl KnownSession {
    /// Whether the point may be of this session: of the same writer, of a source that the session names, and begun
    /// in the same collection.
    pub(super) fn may_have_written(&self, point: &PointObject) -> bool {
        self.signer == point.put_by
            && self.object.sources.contains(&point.common.source)
            && self.object.collection == point.vault_part.collection
    }
}

impl Vault {
    /// The point on which a capture builds that begins now: the newest that counts and is settled. None where anything of
    /// that one is sealed only by compromised keys: then the source is captured in full.
    pub fn parent(self: &Arc<Self>, catalogue: &Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> {
        for point in catalogue.points().iter().rev().take(PARENTS_TRIED_MAX) {
            if self.is_settled(catalogue, point)? {
                if self.is_trusted(catalogue, point)? {
                    return Ok(Some(Arc::clone(point)));
                }
                tracing::info!(point = %point.link.point, "not built on: compromised keys have sealed it");
                return Ok(None);
            }
            tracing::info!(point = %point.link.point, "not built on: its commit has not ended");
        }
        Ok(None)
    }

    /// The newest point that counts and is settled.
    pub fn newest_settled(&self, catalogue: &Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> {
        for point in catalogue.points().iter().rev().take(PARENTS_TRIED_MAX) {
            if self.is_settled(catalogue, point)? {
                return Ok(Some(Arc::clone(point)));
            }
        }
        Ok(None)
    }

    /// Whether nothing but retention can take away a point, partial or not, that counts in this catalogue.
    pub fn is_settled(&self, catalogue: &Catalogue, point: &PointObject) -> Result<bool, VaultError> {
        if catalogue.accepts(point.link) {
            return Ok(true);
        }
        let session = self.acknowledged_session(point.vault_part.session)?;
        Ok(session.is_some_and(|session| session.may_have_written(point)))
    }

    /// Remembers a session as acknowledged. That is final; if it is one of this process, it may stay open in the store.
    pub(super) fn remember_acknowledged(&self, session: Arc<KnownSession>) {
        let mut kept = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ACKNOWLEDGED_KEPT_MAX
            && let Some(some) = kept.keys().next().copied()
        {
            kept.remove(&some);
        }
        kept.insert(session.object.session, session);
    }

    /// The session, if it has ended acknowledged. `None` as well when it cannot be read, or was cleared away: then it is
    /// decided, and what it wrote stands in the layout and in the custodian's index.
    pub(super) fn acknowledged_session(
        &self,
        id: SessionId,
    ) -> Result<Option<Arc<KnownSession>>, VaultError> {
        if let Some(known) = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Some(Arc::clone(known)));
        }
        if let Some(kept) = self.learn_kept(id) {
            return Ok(kept);
        }
        self.judge_session(id, self.get(&Named::Session(id).to_name()))
    }

    /// What is kept on local disk of a session that has ended says whether it was acknowledged; `None` when nothing is kept of it.
    pub(super) fn learn_kept(&self, id: SessionId) -> Option<Option<Arc<KnownSession>>> {
        let kept = self.kept_session(id).map(Arc::new)?;
        let is_acknowledged = kept.object.state == SessionState::Acknowledged;
        if is_acknowledged {
            self.remember_acknowledged(Arc::clone(&kept));
        }
        Some(is_acknowledged.then_some(kept))
    }

    /// Whether it is known that a session is acknowledged.
    pub(super) fn knows_acknowledged(&self, id: SessionId) -> bool {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// Whether it is known that it has ended so, in the store as well.
    pub(super) fn knows_ended(&self, id: SessionId) -> bool {
        let known = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).is_some_and(|session| session.object.state == SessionState::Acknowledged)
    }

    /// The session of which this was read, if it has ended acknowledged; then it is remembered.
    pub(super) fn judge_session(
        &self,
        id: SessionId,
        object: Result<Bytes, StoreError>,
    ) -> Result<Option<Arc<KnownSession>>, VaultError> {
        let name = Named::Session(id).to_name();
        let session =
            object.map_err(VaultError::from).and_then(|object| self.session_read(&name, id, &object));
        let session = match session {
            Ok(session) => Arc::new(session),
            Err(VaultError::Store(error))
                if !error.is_not_found() && error.kind != StoreErrorKind::TooLarge =>
            {
                return Err(error.into());
            }
            Err(error) => {
                tracing::debug!(%error, "left out");
                return Ok(None);
            }
        };
        if session.object.state != SessionState::Acknowledged {
            return Ok(None);
        }
        self.remember_acknowledged(Arc::clone(&session));
        Ok(Some(session))
    }

    /// Reads a session.
    pub(super) fn session(&self, name: &ObjectName, id: SessionId) -> Result<KnownSession, VaultError> {
        self.session_read(name, id, &self.get(name)?)
    }

    /// The session that was read from the store; one that has ended is kept for the processes to come.
    pub(super) fn session_read(
        &self,
        name: &ObjectName,
        id: SessionId,
        object: &[u8],
    ) -> Result<KnownSession, VaultError> {
        let session = self.session_in(name, id, object)?;
        if session.object.state != SessionState::Open {
            self.keep_session(id, object);
        }
        Ok(session)
    }

    /// The session that was read under this name.
    pub(super) fn session_in(
        &self,
        name: &ObjectName,
        id: SessionId,
        object: &[u8],
    ) -> Result<KnownSession, VaultError> {
        let (object, node): (SessionObject, _) =
            self.value_in(name, &Named::Session(id), EnvelopeKind::Session, object)?;
        match object.session == id {
            true => Ok(KnownSession { object, signer: node.signer }),
            false => Err(self.damaged(name, Malformed::Field("session"))),
        }
    }
}
