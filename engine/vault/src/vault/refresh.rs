//! Keeping the index current with the store's listing, and deciding whom to believe.

use std::collections::HashSet;
use std::sync::PoisonError;

use backstay_core::id::{ObjectHash, PackId, SessionId};

use super::Vault;
use super::session::{SessionObject, SessionState};
use crate::clear::TrustedNode;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::{Belief, ChunkIndex};
use crate::index_object::{IndexAuthor, IndexObject};
use crate::name::Named;
use crate::store::{Folder, Listed};

impl Vault {
    /// Lists `index/` and takes in what is new; what is no longer listed is forgotten. `writer` is the name of
    /// the node for which chunks shall count as present; `None` leaves that as it is.
    pub fn refresh_index(&self, writer: Option<&str>) -> Result<(), VaultError> {
        let listed = self.list(&Folder::new(&[&"index"]))?;
        let present: HashSet<ObjectHash> = listed.iter().filter_map(object_hash).collect();
        let writer = self.prepare(&present, writer);
        for object in &listed {
            let Some(hash) = object_hash(object) else { continue };
            if !self.index.read().unwrap_or_else(PoisonError::into_inner).has_object(&hash) {
                self.take_in(object, hash, writer.as_deref())?;
            }
        }
        Ok(())
    }

    /// Takes in an index object that this process has just written and whose session is acknowledged.
    pub(super) fn believe(&self, hash: ObjectHash, content: &IndexObject) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(hash, content, Belief::Writers);
    }

    /// Whether a writer may count on a chunk.
    pub(super) fn writer_has(&self, id: &backstay_core::id::ChunkId, doomed: &HashSet<PackId>) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).writer_has(id, doomed)
    }

    fn take_in(&self, object: &Listed, hash: ObjectHash, writer: Option<&str>) -> Result<(), VaultError> {
        let (content, node) = match self.read_index_object(object) {
            // Collected between listing and reading.
            Err(VaultError::Store(error)) if error.is_not_found() => return Ok(()),
            // One bad index object costs what it alone lists; `check` reports it.
            Err(error @ (VaultError::Damaged { .. } | VaultError::Untrusted { .. })) => {
                tracing::warn!(%error, "left out");
                return Ok(());
            }
            read => read?,
        };
        let belief = match (&object.named, content.author) {
            (_, IndexAuthor::Custodian { .. }) if node.name == self.trust.custodian.node => Belief::Writers,
            (Named::Index(session, _), IndexAuthor::Session) if Some(node.name.as_str()) == writer => {
                self.belief_in_own(session)?
            }
            _ => Belief::ReadersOnly,
        };
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(hash, &content, belief);
        Ok(())
    }

    /// Reads one index object and says whose it is.
    pub(super) fn read_index_object(
        &self,
        object: &Listed,
    ) -> Result<(IndexObject, &TrustedNode), VaultError> {
        let trusted = self.get_envelope(&object.name, &object.named, EnvelopeKind::Index)?;
        let content =
            IndexObject::decode(&trusted.payload).map_err(|cause| self.damaged(&object.name, cause))?;
        Ok((content, trusted.node))
    }

    /// An own session counts when it was acknowledged. One that a custodian has cleared away is decided, and
    /// what it wrote stands in the custodian's index.
    fn belief_in_own(&self, session: &SessionId) -> Result<Belief, VaultError> {
        let named = Named::Session(*session);
        match self.get_value::<SessionObject>(&named.to_name(), &named, EnvelopeKind::Session) {
            Ok((object, _)) if object.state == SessionState::Acknowledged => Ok(Belief::Writers),
            Ok(_) => Ok(Belief::ReadersOnly),
            Err(VaultError::Store(error)) if !error.is_not_found() => Err(error.into()),
            Err(_) => Ok(Belief::ReadersOnly),
        }
    }

    /// Begins the index anew when something has left the listing, or when it was not judged for this writer.
    /// Both are rare: reading it again is simpler than taking entries out, and cannot leave a chunk behind that
    /// no longer exists. Returns the writer for whom it is judged.
    fn prepare(&self, present: &HashSet<ObjectHash>, writer: Option<&str>) -> Option<String> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.or(index.writer()).map(str::to_owned);
        if index.writer() != writer.as_deref() || index.objects().any(|object| !present.contains(object)) {
            *index = ChunkIndex::for_writer(writer.as_deref());
        }
        writer
    }
}

fn object_hash(listed: &Listed) -> Option<ObjectHash> {
    match listed.named {
        Named::Index(_, hash) => Some(hash),
        _ => None,
    }
}
