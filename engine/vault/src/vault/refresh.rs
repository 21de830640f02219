//! Keeping the index current with the store's listing, and deciding whom to believe.

use std::collections::HashSet;
use std::path::Path;
use std::sync::PoisonError;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, SessionId, SignerKey};

use super::Vault;
use crate::collections::Collections;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::{Belief, DAMAGES_MAX, IndexFolder, IndexLimits, IndexOrigin, Location, Standing};
use crate::index_object::{IndexAuthor, IndexObject};
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed};

impl Vault {
    /// Keeps what of the index does not fit in memory in this folder, and takes up what lies there. It is a cache: nothing
    /// in it counts before [`Vault::refresh_index`] has found its object in the listing, and it may be removed whenever
    /// no process uses it. To be called once, right after opening; without it, all is in memory.
    pub fn keep_index_in(&self, folder: &Path, wanted: IndexFolder, limits: IndexLimits) {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.index_mut().keep_in(folder, self.id(), wanted, limits);
    }

    /// Lists `index/` and takes in what is new; what is no longer listed is forgotten. `writer` is the name of
    /// the node for which chunks shall count as present; `None` leaves that as it is.
    ///
    /// What comes is there before what has gone is taken away: readers never miss a chunk that was moved.
    pub fn refresh_index(&self, writer: Option<&str>) -> Result<(), VaultError> {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.index_mut().drop_damaged();
        // Before the listing: what this process commits meanwhile is not missed in it.
        let (before, of) = {
            let index = self.index();
            (index.objects(), index.writer().map(str::to_owned))
        };
        let listed = self.list(&Folder::new(&[&"index"]))?;
        let writer = writer.map(str::to_owned).or_else(|| of.clone());
        let present: HashSet<(SessionId, ObjectHash)> = listed.iter().filter_map(of_index).collect();
        let (mut stays, mut goes) = (Vec::new(), Vec::new());
        for (object, standing) in before {
            let IndexOrigin { hash, session, .. } = object.origin;
            let is_known = writer == of && standing != Standing::Gone;
            match present.contains(&(session, hash)) {
                false => goes.push((hash, Standing::Gone)),
                true if is_known => {}
                // It was gone or on disk, or is looked at for another writer: it is judged like one that was just read.
                true => {
                    match self.belief_in(object.origin, object.author, object.collection, writer.as_deref()) {
                        Ok(belief) => stays.push((hash, Standing::Listed(belief))),
                        Err(error @ VaultError::Untrusted { .. }) => {
                            tracing::warn!(%error, "left out");
                            goes.push((hash, Standing::Gone));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        self.index_mut().settle(writer.as_deref(), &stays);
        for (object, origin) in listed.iter().filter_map(|object| Some((object, of_index(object)?))) {
            // By itself: nobody shall wait for the index while an object is read.
            let is_known = self.index().knows(&origin.1);
            if is_known {
                continue;
            }
            if let Some((content, origin, belief)) = self.judged(object, origin, writer.as_deref())? {
                self.index_mut().add(origin, &content, belief);
                self.merge_segments();
            }
        }
        self.index_mut().settle(writer.as_deref(), &goes);
        self.index_mut().keep_what_is_worth_it();
        self.merge_segments();
        Ok(())
    }

    /// Merges files of the local index while captures and restores go on with those that there are.
    fn merge_segments(&self) {
        loop {
            let Some(merge) = self.index_mut().due_merge() else { break };
            let outcome = merge.run();
            self.index_mut().put_merged(outcome);
        }
    }

    /// Every place of a chunk that the index knows.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Location>, VaultError> {
        let mut tries = 0;
        loop {
            let places = self.index().places(id);
            match places {
                Ok(places) => return Ok(places),
                // Each time fewer files are left that can be damaged.
                Err(_) if tries < DAMAGES_MAX => self.refresh_index(None)?,
                Err(error) => return Err(error.into()),
            }
            tries += 1;
        }
    }

    /// Takes in an index object that this process has just written and whose session is acknowledged.
    pub(super) fn believe(&self, origin: IndexOrigin, content: &IndexObject) {
        self.index_mut().add(origin, content, Belief::Writers);
    }

    /// Whether a writer may count on a chunk.
    pub(super) fn writer_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.index().writer_has(id, collections)
    }

    /// Whether who copies sealed records may count on a chunk, whichever key has sealed it.
    pub(super) fn copier_has(&self, id: &ChunkId, collections: &Collections) -> bool {
        self.index().copier_has(id, collections)
    }

    /// Reads an index object and decides who may believe it; `None` when it is gone, or no good.
    fn judged(
        &self,
        object: &Listed,
        (session, hash): (SessionId, ObjectHash),
        writer: Option<&str>,
    ) -> Result<Option<(IndexObject, IndexOrigin, Belief)>, VaultError> {
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
        let origin = IndexOrigin { hash, session, signer };
        let belief = self.belief_in(origin, content.author, content.collection, writer)?;
        Ok(Some((content, origin, belief)))
    }

    /// Who may believe an object that was once read and is listed now. Asks `trust/` and the session as they are now:
    /// neither is taken from the local index.
    fn belief_in(
        &self,
        origin: IndexOrigin,
        author: IndexAuthor,
        written: CollectionNumber,
        writer: Option<&str>,
    ) -> Result<Belief, VaultError> {
        let IndexOrigin { hash, session, signer } = origin;
        self.check_author(&Named::Index(session, hash).to_name(), author, signer)?;
        match author {
            IndexAuthor::Custodian { .. } => Ok(Belief::IfVouchedFor { written }),
            IndexAuthor::Session if self.is_key_of(&signer, writer) => self.belief_in_own(session, signer),
            IndexAuthor::Session => Ok(Belief::ReadersOnly),
        }
    }

    /// Reads one index object, of a node that is trusted or of the custodian of its term, and says who signed it.
    pub(super) fn read_index_object(
        &self,
        name: &ObjectName,
        named: &Named,
    ) -> Result<(IndexObject, SignerKey), VaultError> {
        let opened = self.get_envelope(name, named, EnvelopeKind::Index)?;
        let content = IndexObject::decode(&opened.payload).map_err(|cause| self.damaged(name, cause))?;
        self.check_author(name, content.author, opened.signer)?;
        Ok((content, opened.signer))
    }

    /// That the signer is a node that is trusted, or the custodian of the term.
    fn check_author(
        &self,
        name: &ObjectName,
        author: IndexAuthor,
        signer: SignerKey,
    ) -> Result<(), VaultError> {
        match author {
            IndexAuthor::Session => self.trusted_node(name, signer).map(drop),
            IndexAuthor::Custodian { term } => self.check_custodian(name, term, signer),
        }
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

fn of_index(listed: &Listed) -> Option<(SessionId, ObjectHash)> {
    match listed.named {
        Named::Index(session, hash) => Some((session, hash)),
        _ => None,
    }
}
