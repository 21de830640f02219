//! Listing of `ledger/`: which sessions there are, what collections are about to delete, and how many there were (docs/format.md,
//! section 10).

use std::collections::HashSet;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::SessionId;

use super::Vault;
use crate::collections::Collections;
use crate::commit_object::GcRecord;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::store::{Folder, Listed};

/// What one listing of the whole ledger has shown.
#[derive(Debug)]
pub(super) struct Ledger {
    sessions: HashSet<SessionId>,
    /// Number of the newest collection.
    pub(super) newest: CollectionNumber,
}

impl Ledger {
    pub(super) fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains(&session)
    }
}

impl Vault {
    /// Lists sessions and records of collections at once.
    pub(super) fn ledger(&self) -> Result<Ledger, VaultError> {
        let mut ledger = Ledger { sessions: HashSet::new(), newest: CollectionNumber::NONE };
        for listed in self.list(&Folder::new(&[&"ledger"]))? {
            match listed.named {
                Named::Session(session) => drop(ledger.sessions.insert(session)),
                Named::Gc(number, _) => ledger.newest = ledger.newest.max(number),
                _ => {}
            }
        }
        Ok(ledger)
    }

    /// Lists the records of collections, in the order of their numbers.
    pub(super) fn list_records(&self) -> Result<Vec<Listed>, VaultError> {
        Ok(self.list(&Folder::new(&[&"ledger", &"gc"]))?)
    }

    /// Number of the newest collection, as the names say.
    pub(super) fn newest_collection(&self) -> Result<CollectionNumber, VaultError> {
        Ok(newest_of(&self.list_records()?))
    }

    /// The same for who reads in a vault that was opened just now: an older number keeps more.
    pub(super) fn newest_collection_at_first(&self) -> Result<CollectionNumber, VaultError> {
        Ok(newest_of(&self.list_at_first(&Folder::new(&[&"ledger", &"gc"]))?))
    }

    /// What all records say. `None` when one was gone before it was read: then another collection has begun. A record
    /// that cannot be read is an error: without it nothing can be counted on.
    pub(super) fn collections(&self) -> Result<Option<Collections>, VaultError> {
        self.collections_in(&self.list_records()?)
    }

    /// The same of these records, which are all that are listed.
    pub(super) fn collections_in(&self, records: &[Listed]) -> Result<Option<Collections>, VaultError> {
        let mut collections = Collections::default();
        for listed in records {
            match self.gc_record(listed) {
                Ok(record) => collections.add(record),
                Err(VaultError::Store(error)) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(collections))
    }

    /// Reads one record; it must be of the custodian of its term.
    pub(super) fn gc_record(&self, listed: &Listed) -> Result<GcRecord, VaultError> {
        let term = |record: &GcRecord| record.term;
        let record = self.get_decision(listed, EnvelopeKind::Gc, term)?;
        match number(listed) == Some(record.number) {
            true => Ok(record),
            false => Err(self.damaged(&listed.name, Malformed::Field("number"))),
        }
    }
}

/// Number of the newest of these records.
pub(super) fn newest_of(listed: &[Listed]) -> CollectionNumber {
    listed.iter().filter_map(number).max().unwrap_or(CollectionNumber::NONE)
}

fn number(listed: &Listed) -> Option<CollectionNumber> {
    match listed.named {
        Named::Gc(number, _) => Some(number),
        _ => None,
    }
}
