//! What a process remembers of a vault whose requests cost money: the points of the sources that it writes, and the collections
//! that there were before it read them. A commit that goes by it has to find no newer one after its session was put
//! (docs/format.md, section 10, "Reading first").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backstay_core::id::{ObjectHash, SessionId, SourceId};
use backstay_core::point::Head;

use super::catalogue::CatalogueParts;
use super::{Catalogue, PointObject, Vault};
use crate::collections::Collections;
use crate::commit_object::SessionObject;
use crate::error::VaultError;
use crate::store::Folder;

/// What was read longer ago is read again, also when no collection has begun: others may have put points.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// How often it is read, because a collection began meanwhile.
const READS_MAX: usize = 5;

/// Empty where nothing was read, and after a collection.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    read_at: Instant,
    /// The node for which chunks count as present.
    writer: String,
    collections: Arc<Collections>,
    sources: HashMap<SourceId, CatalogueParts>,
    /// How often this process has committed anything since.
    commits: u64,
    /// The last session that it has ended since, of the same collection: nothing but a later one takes it away.
    own_last: Option<SessionId>,
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault {
    /// What this node's writer may go by that reads first: the records of `gc/`, and an index that was read after them. Asks the
    /// store only where nothing is remembered.
    pub(super) fn read_first(&self, writer: &str) -> Result<Arc<Collections>, VaultError> {
        if let Some(known) = &*self.memory.known()
            && known.writer == writer
            && known.read_at.elapsed() < KNOWN_FOR
        {
            return Ok(Arc::clone(&known.collections));
        }
        for _ in 0..READS_MAX {
            let read_at = Instant::now();
            let records = self.list_at_first(&Folder::new(&[&"ledger", &"gc"]))?;
            let Some(collections) = self.collections_in(&records)? else { continue };
            if !self.were_known(&records) {
                self.first_look.forget();
            }
            self.remember_records(&records);
            self.refresh_index_at_first(Some(writer))?;
            let (writer, sources) = (writer.to_owned(), HashMap::new());
            let (collections, commits) = (Arc::new(collections), 0);
            let known = Known {
                read_at,
                writer,
                collections: Arc::clone(&collections),
                sources,
                commits,
                own_last: None,
            };
            *self.memory.known() = Some(known);
            return Ok(collections);
        }
        Err(VaultError::Collecting { place: self.place() })
    }

    /// What the vault holds of a source: where requests cost, as it was read for this writer, and as this process has written
    /// since. Whoever commits by it looks again (see [`Session::plan`](super::Session::plan)).
    pub fn known_catalogue(&self, source: SourceId, writer: &str) -> Result<Catalogue, VaultError> {
        match self.requests_cost() {
            true => Ok(self.catalogue_read_first(source, writer)?.0),
            false => self.catalogue(source),
        }
    }

    /// The same with the records that were there before it was read.
    pub(super) fn catalogue_read_first(
        &self,
        source: SourceId,
        writer: &str,
    ) -> Result<(Catalogue, Arc<Collections>), VaultError> {
        let collections = self.read_first(writer)?;
        let is_same = |known: &&mut Known| Arc::ptr_eq(&known.collections, &collections);
        let mut commits = 0;
        if let Some(known) = self.memory.known().as_mut().filter(is_same) {
            if let Some(parts) = known.sources.get(&source) {
                return Ok((self.catalogue_of(source, parts.clone(), Vec::new()), collections));
            }
            commits = known.commits;
        }
        let (parts, left_out) = self.read_catalogue(source, &mut |folder| self.list_at_first(folder))?;
        // What is damaged is looked at again each time. And who has committed meanwhile could not add to what is not remembered yet.
        if left_out.is_empty()
            && let Some(known) = self.memory.known().as_mut().filter(is_same)
            && known.commits == commits
        {
            known.sources.insert(source, parts.clone());
        }
        Ok((self.catalogue_of(source, parts, left_out), collections))
    }

    /// Adds what this process has committed to what is remembered of the source.
    pub(super) fn learn(
        &self,
        source: SourceId,
        point: Option<PointObject>,
        head: Option<(ObjectHash, Head)>,
    ) {
        if let Some(known) = self.memory.known().as_mut() {
            known.commits += 1;
            if let Some(parts) = known.sources.get_mut(&source) {
                parts.add(point, head);
            }
        }
    }

    /// A session of this process has ended: it is listed until a collection has begun after its own.
    pub(super) fn remember_ended(&self, session: &SessionObject) {
        if let Some(known) = self.memory.known().as_mut()
            && known.collections.newest() == session.collection
        {
            known.own_last = Some(session.session);
        }
    }

    /// The last one that has, since all was read.
    pub(super) fn own_last_session(&self) -> Option<SessionId> {
        self.memory.known().as_ref()?.own_last
    }

    /// Has everything read anew before the next commit: a collection has begun, or something is not as it was.
    pub fn forget(&self) {
        self.first_look.forget();
        *self.memory.known() = None;
    }
}
