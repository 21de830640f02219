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
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed};

/// How often `index/` is listed at most to replace the index. What was committed since the last time costs duplicates.
const LISTINGS_MAX: usize = 4;

impl Vault {
    /// Lists `index/` and takes in what is new; what is no longer listed is forgotten. `writer` is the name of
    /// the node for which chunks shall count as present; `None` leaves that as it is.
    pub fn refresh_index(&self, writer: Option<&str>) -> Result<(), VaultError> {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the listing: what this process commits meanwhile is not missed in it.
        let (before, of) = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            (index.objects().copied().collect::<HashSet<_>>(), index.writer().map(str::to_owned))
        };
        let listed = self.list(&Folder::new(&[&"index"]))?;
        let writer = writer.map(str::to_owned).or_else(|| of.clone());
        let present: HashSet<ObjectHash> = listed.iter().filter_map(object_hash).collect();
        if writer != of || !before.is_subset(&present) {
            return self.replace_index(listed, &before, writer.as_deref());
        }
        for (object, hash) in hashes(&listed) {
            if !self.index.read().unwrap_or_else(PoisonError::into_inner).has_object(&hash)
                && let Some((content, belief)) = self.judged(object, writer.as_deref())?
            {
                self.index.write().unwrap_or_else(PoisonError::into_inner).add(hash, &content, belief);
            }
        }
        Ok(())
    }

    /// Puts an index of what is listed in the place of the present one: something has left the listing, or it was not
    /// judged for this writer. Both are rare: reading all again is simpler than taking entries out, and cannot leave a
    /// chunk behind that no longer exists. Until it is whole, readers have the one before.
    fn replace_index(
        &self,
        mut listed: Vec<Listed>,
        before: &HashSet<ObjectHash>,
        writer: Option<&str>,
    ) -> Result<(), VaultError> {
        let mut new = ChunkIndex::for_writer(writer);
        for _ in 0..LISTINGS_MAX {
            for (object, hash) in hashes(&listed) {
                if !new.has_object(&hash)
                    && let Some((content, belief)) = self.judged(object, writer)?
                {
                    new.add(hash, &content, belief);
                }
            }
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            if index.objects().all(|object| before.contains(object) || new.has_object(object)) {
                *index = new;
                return Ok(());
            }
            drop(index);
            // This process has committed something since the listing.
            listed = self.list(&Folder::new(&[&"index"]))?;
        }
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = new;
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

    /// Reads an index object and decides who may believe it; `None` when it is gone, or no good.
    fn judged(
        &self,
        object: &Listed,
        writer: Option<&str>,
    ) -> Result<Option<(IndexObject, Belief)>, VaultError> {
        let (content, signer) = match self.read_index_object(&object.name, &object.named) {
            // Collected between listing and reading.
            Err(VaultError::Store(error)) if error.is_not_found() => return Ok(None),
            // One bad index object costs what it alone lists; `check` reports it.
            Err(error) if error.is_of_one_object() => {
                tracing::warn!(%error, "left out");
                return Ok(None);
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
        Ok(Some((content, belief)))
    }

    /// Reads one index object, of a node that is trusted or of the custodian of its term, and says who signed it.
    pub(super) fn read_index_object(
        &self,
        name: &ObjectName,
        named: &Named,
    ) -> Result<(IndexObject, SignerKey), VaultError> {
        let opened = self.get_envelope(name, named, EnvelopeKind::Index)?;
        let content = IndexObject::decode(&opened.payload).map_err(|cause| self.damaged(name, cause))?;
        match content.author {
            IndexAuthor::Session => drop(self.trusted_node(name, opened.signer)?),
            IndexAuthor::Custodian { term } => self.check_custodian(name, term, opened.signer)?,
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
}

fn hashes(listed: &[Listed]) -> impl Iterator<Item = (&Listed, ObjectHash)> {
    listed.iter().filter_map(|object| Some((object, object_hash(object)?)))
}

fn object_hash(listed: &Listed) -> Option<ObjectHash> {
    match listed.named {
        Named::Index(_, hash) => Some(hash),
        _ => None,
    }
}
