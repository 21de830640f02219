//! Whether listings are those of now. A store promises that; a cache before it, or a replica that does not follow, breaks
//! the promise without a word. A custodian that takes last month's listing for today's decides against all that was
//! committed since, and a writer counts on chunks that are gone.

use std::sync::atomic::Ordering;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::SessionId;
use backstay_core::units::Timestamp;

use super::{Vault, WriterIdentity};
use crate::commit_object::{SessionKind, SessionObject, SessionState};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::keys::random_bytes;
use crate::name::Named;
use crate::store::Folder;

impl Vault {
    /// That a session is listed which was just put.
    ///
    /// # Errors
    /// Also when the store lists what was there once. Nothing is to be done by such a listing.
    pub(super) fn check_listed(&self, session: SessionId) -> Result<(), VaultError> {
        let listed = self.list(&Folder::new(&[&"ledger", &"sessions"]))?;
        match listed.iter().any(|listed| listed.named == Named::Session(session)) {
            true => Ok(()),
            false => Err(VaultError::OldListing { place: self.place() }),
        }
    }

    /// Puts something and wants to see it listed: the session of a reader that has ended. Should it stay because this
    /// process dies, it means nothing and goes with the next pass.
    pub(super) fn check_listings(&self, who: &WriterIdentity, now: Timestamp) -> Result<(), VaultError> {
        let object = SessionObject {
            session: SessionId::new(random_bytes()),
            node: who.node.clone(),
            counter: 1,
            state: SessionState::Acknowledged,
            start: now,
            pins: Vec::new(),
            sources: Vec::new(),
            kind: SessionKind::Reader,
            collection: CollectionNumber::NONE,
        };
        let named = Named::Session(object.session);
        if self.requests_cost() && !self.may_delete.load(Ordering::Relaxed) {
            // Who may not delete is told so before anything is put that would stay.
            self.delete_noting(&named)?;
        }
        self.put_value(&who.signer, EnvelopeKind::Session, &named, &object)?;
        let listed = self.check_listed(object.session);
        self.delete_noting(&named)?;
        listed
    }

    /// Deletes, and notes whether it could.
    fn delete_noting(&self, named: &Named) -> Result<(), VaultError> {
        let deleted = self.io().block_on(self.store().delete(&named.to_name()));
        self.may_delete.store(deleted.is_ok(), Ordering::Relaxed);
        Ok(deleted?)
    }
}
