//! Fences: the end of sessions that are dead or have failed (docs/format.md, section 10).

use backstay_core::collection::CollectionNumber;
use backstay_core::id::SessionId;
use backstay_core::units::Timestamp;

use super::settled::KnownSession;
use super::{Vault, WriterIdentity};
use crate::commit_object::{FenceObject, SessionKind, SessionObject, SessionState};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::store::{Folder, Listed};

impl Vault {
    /// Commits that this process has left open since it was asked last, because the store did not take their fences, to be
    /// fenced. Looks into the vault only when there are any.
    pub fn left_open(&self, writer: &WriterIdentity) -> Result<Vec<SessionObject>, VaultError> {
        if !writer.living.take_left_open(self.id()) {
            return Ok(Vec::new());
        }
        self.open_beside_living(writer).inspect_err(|_| writer.living.put_left_open(self.id()))
    }

    /// The commits that are open in this node's name, but for those that are under way in this process. Only for the one
    /// process that may write for the node: they are those of the dead.
    pub fn open_beside_living(&self, writer: &WriterIdentity) -> Result<Vec<SessionObject>, VaultError> {
        self.open_beside_living_in(&self.list(&sessions())?, writer)
    }

    /// The same in a vault that was opened just now, as it was seen then: what the dead have left was there.
    pub fn open_beside_living_at_first(
        &self,
        writer: &WriterIdentity,
    ) -> Result<Vec<SessionObject>, VaultError> {
        self.open_beside_living_in(&self.list_at_first(&sessions())?, writer)
    }

    fn open_beside_living_in(
        &self,
        listed: &[Listed],
        writer: &WriterIdentity,
    ) -> Result<Vec<SessionObject>, VaultError> {
        let mut open = self.dead_sessions_in(listed, writer)?;
        open.retain(|open| !writer.living.include(&open.session));
        // One that was under way when it was read may be over by now, and well.
        let mut dead = Vec::new();
        for session in open.iter().map(|open| open.session) {
            match self.session(&Named::Session(session).to_name(), session) {
                Ok(session) if is_open_commit(&session.object) => dead.push(session.object.clone()),
                Ok(_) => {}
                Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "left out"),
            }
        }
        Ok(dead)
    }

    /// The commits that are open in this node's name, as those that it has left open when it died, to be fenced. For who
    /// holds the lock on the node's state and has begun nothing. Sessions of readers are
    /// left alone: they may be those of other processes, which need no lock.
    pub fn dead_sessions(&self, writer: &WriterIdentity) -> Result<Vec<SessionObject>, VaultError> {
        self.dead_sessions_in(&self.list(&sessions())?, writer)
    }

    fn dead_sessions_in(
        &self,
        listed: &[Listed],
        writer: &WriterIdentity,
    ) -> Result<Vec<SessionObject>, VaultError> {
        self.saw_sessions(listed);
        let is_open = |listed: &&Listed| match listed.named {
            Named::Session(id) => !self.knows_ended(id) && self.kept_session(id).is_none(),
            _ => false,
        };
        let mut dead = Vec::new();
        self.get_each(listed.iter().filter(is_open), |listed, object| {
            let Named::Session(id) = listed.named else { return Ok(()) };
            let session = object.map_err(VaultError::from);
            match session.and_then(|object| self.session_read(&listed.name, id, &object)) {
                Ok(session) if self.is_of(&session, writer) && is_open_commit(&session.object) => {
                    dead.push(session.object);
                }
                Ok(_) => {}
                Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                // A session that cannot be read protects nothing of ours; the custodian deals with it.
                Err(error) => tracing::warn!(%error, "left out"),
            }
            Ok(())
        })?;
        if !dead.is_empty() {
            let listed = self.list(&Folder::new(&[&"fences"]))?;
            dead.retain(|dead| listed.iter().all(|listed| listed.named != Named::Fence(dead.session)));
        }
        Ok(dead)
    }

    /// Fences one of these.
    pub fn fence_dead_session(
        &self,
        writer: &WriterIdentity,
        dead: &SessionObject,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        self.fence(writer, dead, now, "its node died while it was open")
    }

    /// Ends a session for all sources that it names.
    pub(super) fn fence(
        &self,
        writer: &WriterIdentity,
        session: &SessionObject,
        time: Timestamp,
        reason: &str,
    ) -> Result<(), VaultError> {
        self.may_be_written()?;
        let fence = FenceObject {
            session: session.session,
            time,
            reason: reason.to_owned(),
            collection: session.collection,
            sources: session.sources.clone(),
        };
        self.put_value(&writer.signer, EnvelopeKind::Fence, &Named::Fence(session.session), &fence)
    }

    /// Ends a session of which nothing is known but its name.
    pub(super) fn fence_damaged(
        &self,
        writer: &WriterIdentity,
        session: SessionId,
        collection: CollectionNumber,
        time: Timestamp,
    ) -> Result<(), VaultError> {
        let reason = "its session object is damaged".to_owned();
        let fence = FenceObject { session, time, reason, collection, sources: Vec::new() };
        self.put_value(&writer.signer, EnvelopeKind::Fence, &Named::Fence(session), &fence)
    }

    /// Reads a fence.
    pub(super) fn fence_object(&self, listed: &Listed) -> Result<FenceObject, VaultError> {
        let (fence, _): (FenceObject, _) =
            self.get_value(&listed.name, &listed.named, EnvelopeKind::Fence)?;
        match listed.named == Named::Fence(fence.session) {
            true => Ok(fence),
            false => Err(self.damaged(&listed.name, Malformed::Field("session"))),
        }
    }

    /// Whether there is a fence, whatever it holds.
    pub(super) fn is_fenced(&self, session: SessionId) -> Result<bool, VaultError> {
        match self.get(&Named::Fence(session).to_name()) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// By the node's name: it may have another key by now.
    fn is_of(&self, session: &KnownSession, writer: &WriterIdentity) -> bool {
        self.trust().node(&session.signer).is_some_and(|node| node.name == writer.node)
    }
}

fn sessions() -> Folder {
    Folder::new(&[&"ledger", &"sessions"])
}

fn is_open_commit(session: &SessionObject) -> bool {
    session.state == SessionState::Open && session.kind == SessionKind::Writer
}
