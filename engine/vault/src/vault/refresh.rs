//! Keeping the index current with the store's listing, and deciding whom to believe.

use std::collections::HashSet;
use std::path::Path;
use std::sync::PoisonError;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ChunkId, ObjectHash, SessionId, SignerKey};
use bytes::Bytes;

use super::Vault;
use crate::collections::Collections;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index::{Belief, DAMAGES_MAX, IndexFolder, IndexLimits, IndexOrigin, Location, Standing};
use crate::index_object::{IndexAuthor, IndexObject};
use crate::name::{Named, ObjectName};
use crate::store::{Folder, Listed, StoreError};

/// Index objects that are read before their sessions are asked for, all at once.
const READ_OBJECTS_MAX: usize = 256;

/// Entries of them: what is in memory is so many and those of one object more.
const READ_ENTRIES_MAX: usize = 1 << 19;

impl Vault {
    /// Keeps what of the index does not fit in memory in this folder, and takes up what lies there. It is a cache: nothing
    /// in it counts before [`Vault::refresh_index`] has found its object in the listing, and it may be removed whenever
    /// no process uses it. To be called once, right after opening; without it, all is in memory.
    pub fn keep_index_in(&self, folder: &Path, wanted: IndexFolder, limits: IndexLimits) {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.index_mut().keep_in(folder, self.id(), wanted, limits);
    }

    /// Lets go of that folder, for the same vault that this process is about to open again: what goes on with this one has
    /// the rest of its index in memory.
    pub fn leave_index_folder(&self) {
        self.index_mut().leave_folder();
    }

    /// Makes the index current for this node's writer. Where requests cost, what is read here is what its next commit reads first.
    pub fn refresh_to_write(&self, writer: &str) -> Result<(), VaultError> {
        if self.requests_cost() {
            match self.read_first(writer) {
                // A vault whose records are damaged has to be opened to be mended. A commit says so.
                Err(error) if error.is_of_one_object() || matches!(error, VaultError::Collecting { .. }) => {
                    tracing::warn!(%error, "nothing is remembered of it");
                }
                read => return read.map(drop),
            }
        }
        self.refresh_index(Some(writer))
    }

    /// Lists `index/` and takes in what is new; what is no longer listed is forgotten. `writer` is the name of
    /// the node for which chunks shall count as present; `None` leaves that as it is.
    ///
    /// What comes is there before what has gone is taken away: readers never miss a chunk that was moved.
    pub fn refresh_index(&self, writer: Option<&str>) -> Result<(), VaultError> {
        self.refresh_index_by(writer, || self.list(&Folder::new(&[&"index"])))
    }

    /// The same for a vault that was opened just now, as it was seen then.
    pub fn refresh_index_at_first(&self, writer: Option<&str>) -> Result<(), VaultError> {
        self.refresh_index_by(writer, || self.list_at_first(&Folder::new(&[&"index"])))
    }

    pub(super) fn refresh_index_by(
        &self,
        writer: Option<&str>,
        list: impl FnOnce() -> Result<Vec<Listed>, StoreError>,
    ) -> Result<(), VaultError> {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.index_mut().drop_damaged();
        // Before the listing: what this process commits meanwhile is not missed in it.
        let (before, of) = {
            let index = self.index();
            (index.objects(), index.writer().map(str::to_owned))
        };
        let listed = list()?;
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
        self.take_in(&listed, writer.as_deref())?;
        self.index_mut().settle(writer.as_deref(), &goes);
        self.index_mut().keep_what_is_worth_it();
        self.merge_segments();
        Ok(())
    }

    /// Reads and adds the objects that are not known yet. Nobody shall wait for the index while one is read.
    fn take_in(&self, listed: &[Listed], writer: Option<&str>) -> Result<(), VaultError> {
        let mut unknown: Vec<&Listed> = listed.iter().collect();
        {
            let index = self.index();
            unknown.retain(|listed| of_index(listed).is_some_and(|(_, hash)| !index.knows(&hash)));
        }
        let (mut read, mut entries) = (Vec::new(), 0);
        self.get_each(unknown, |listed, object| {
            if let Some((origin, content)) = self.read_one(listed, object)? {
                entries += content.entries.len();
                read.push((origin, content));
            }
            if read.len() >= READ_OBJECTS_MAX || entries >= READ_ENTRIES_MAX {
                self.add_all(std::mem::take(&mut read), writer)?;
                entries = 0;
            }
            Ok(())
        })?;
        self.add_all(read, writer)
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

    /// What was read of an index object; `None` when it is gone, or no good.
    fn read_one(
        &self,
        listed: &Listed,
        object: Result<Bytes, StoreError>,
    ) -> Result<Option<(IndexOrigin, IndexObject)>, VaultError> {
        let Some((session, hash)) = of_index(listed) else { return Ok(None) };
        let object = object.map_err(VaultError::from);
        match object.and_then(|object| self.index_object_in(&listed.name, &listed.named, &object)) {
            Ok((content, signer)) => Ok(Some((IndexOrigin { hash, session, signer }, content))),
            // Collected between listing and reading.
            Err(VaultError::Store(error)) if error.is_not_found() => Ok(None),
            // One bad index object costs what it alone lists; `check` reports it.
            Err(error) if error.is_of_one_object() => {
                tracing::warn!(%error, "left out");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Decides who may believe these objects, which were just read, and adds them.
    fn add_all(
        &self,
        objects: Vec<(IndexOrigin, IndexObject)>,
        writer: Option<&str>,
    ) -> Result<(), VaultError> {
        let asks_for_session = |(origin, content): &&(IndexOrigin, IndexObject)| {
            content.author == IndexAuthor::Session && self.is_key_of(&origin.signer, writer)
        };
        let own = objects.iter().filter(asks_for_session).map(|(origin, _)| origin.session);
        let own: HashSet<SessionId> = own.collect();
        self.learn_acknowledged(own)?;
        for (origin, content) in objects {
            let belief = self.belief_in(origin, content.author, content.collection, writer)?;
            // This process may have put it just now.
            let is_known = self.index().knows(&origin.hash);
            if !is_known {
                self.index_mut().add(origin, &content, belief);
                self.merge_segments();
            }
        }
        Ok(())
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
    pub(super) fn read_index_object(&self, listed: &Listed) -> Result<(IndexObject, SignerKey), VaultError> {
        self.index_object_in(&listed.name, &listed.named, &self.get_listed(listed)?)
    }

    /// The same of what was read under this name.
    pub(super) fn index_object_in(
        &self,
        name: &ObjectName,
        named: &Named,
        object: &[u8],
    ) -> Result<(IndexObject, SignerKey), VaultError> {
        let opened = self.envelope_in(name, named, EnvelopeKind::Index, object)?;
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
