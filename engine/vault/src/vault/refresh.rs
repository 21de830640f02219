//! Keeping the index current with the store's listing, and deciding whom to believe.

use std::collections::HashSet;
use std::sync::PoisonError;

use backstay_core::id::{ChunkId, ObjectHash, SessionId, SignerKey};

use super::Vault;
use crate::collections::Collections;
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
    pub(super) fn writer_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).writer_has(id, collections)
    }

    fn take_in(&self, object: &Listed, hash: ObjectHash, writer: Option<&str>) -> Result<(), VaultError> {
        let (content, signer) = match self.read_index_object(object) {
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
            (_, IndexAuthor::Custodian { .. }) => Belief::IfVouchedFor { written: content.collection },
            (Named::Index(session, _), IndexAuthor::Session) if self.is_key_of(&signer, writer) => {
                self.belief_in_own(*session, signer)?
            }
            _ => Belief::ReadersOnly,
        };
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(hash, &content, belief);
        Ok(())
    }

    /// Reads one index object, of a node that is trusted or of the custodian of its term, and says who signed it.
    pub(super) fn read_index_object(&self, object: &Listed) -> Result<(IndexObject, SignerKey), VaultError> {
        let opened = self.get_envelope(&object.name, &object.named, EnvelopeKind::Index)?;
        let content =
            IndexObject::decode(&opened.payload).map_err(|cause| self.damaged(&object.name, cause))?;
        match content.author {
            IndexAuthor::Session => drop(self.trusted_node(&object.name, opened.signer)?),
            IndexAuthor::Custodian { term } => self.check_custodian(&object.name, term, opened.signer)?,
        }
        Ok((content, opened.signer))
    }

    fn is_key_of(&self, signer: &SignerKey, writer: Option<&str>) -> bool {
        self.trust().node(signer).is_some_and(|node| Some(node.name.as_str()) == writer)
    }

    /// An own session counts when it was acknowledged.
    fn belief_in_own(&self, session: SessionId, signer: SignerKey) -> Result<Belief, VaultError> {
        let acknowledged = self.acknowledged_session(session)?;
        Ok(match acknowledged.is_some_and(|session| session.signer == signer) {
            true => Belief::Writers,
            false => Belief::ReadersOnly,
        })
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
