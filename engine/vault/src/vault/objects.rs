//! Reading and writing of enveloped objects: hash in the name, signature, trust, and only then the
//! contents.

use std::sync::atomic::Ordering;

use backstay_core::id::{ObjectHash, SignerKey};
use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::Vault;
use crate::clear::TrustedNode;
use crate::commit_object::{SessionObject, SessionState};
use crate::envelope::{self, EnvelopeKind, Opened};
use crate::error::VaultError;
use crate::keys::Signer;
use crate::malformed::{Malformed, decode_cbor, encode_cbor};
use crate::name::{Named, ObjectName};
use crate::store::Listed;

impl Vault {
    /// The envelope that was read under this name. Its signature is good; whether the signer may write such an object is for the
    /// caller to ask.
    pub(super) fn envelope_in(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
        object: &[u8],
    ) -> Result<Opened, VaultError> {
        let older;
        let object = match named.content_hash().filter(|hash| hash_of(object) != *hash) {
            None => object,
            Some(hash) => {
                older = self.older_object(name, hash)?;
                older.as_deref().ok_or_else(|| self.damaged(name, Malformed::Hash))?
            }
        };
        envelope::open(&self.ring, kind, name.stem(), object).map_err(|cause| {
            // What a node has sealed that is trusted is no damage, and its hash is that of its name.
            let is_newer = matches!(cause, Malformed::Key(_))
                && envelope::check_signature(self.ring.domain(), kind, name.stem(), object)
                    .is_ok_and(|signer| self.trust.newest.node(&signer).is_some());
            self.has_met_newer.fetch_or(is_newer, Ordering::Relaxed);
            self.damaged(name, cause)
        })
    }

    /// The node that signs so now.
    pub(super) fn trusted_node(
        &self,
        name: &ObjectName,
        signer: SignerKey,
    ) -> Result<&TrustedNode, VaultError> {
        self.trust.newest.node(&signer).ok_or_else(|| self.untrusted(name, signer))
    }

    /// That the signer is or was custodian in this term. What it has written then stands until its successor writes,
    /// also when the node is gone.
    pub(super) fn check_custodian(
        &self,
        name: &ObjectName,
        term: u64,
        signer: SignerKey,
    ) -> Result<(), VaultError> {
        match self.trust.custodians.include(term, &signer) {
            true => Ok(()),
            false => {
                let is_newer = term > self.trust.newest.custodian.term;
                self.has_met_newer.fetch_or(is_newer, Ordering::Relaxed);
                Err(self.untrusted(name, signer))
            }
        }
    }

    /// Reads an envelope of a node whose payload is one CBOR value.
    pub(super) fn get_value<T: for<'b> Decode<'b, ()>>(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
    ) -> Result<(T, &TrustedNode), VaultError> {
        self.value_in(name, named, kind, &self.get(name)?)
    }

    /// The same of what was read under this name.
    pub(super) fn value_in<T: for<'b> Decode<'b, ()>>(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
        object: &[u8],
    ) -> Result<(T, &TrustedNode), VaultError> {
        let opened = self.envelope_in(name, named, kind, object)?;
        let node = self.trusted_node(name, opened.signer)?;
        let value = decode_cbor(&opened.payload).map_err(|cause| self.damaged(name, cause))?;
        Ok((value, node))
    }

    /// Reads an envelope of the custodian of the term that its payload, one CBOR value, carries.
    pub(super) fn get_decision<T: for<'b> Decode<'b, ()>>(
        &self,
        listed: &Listed,
        kind: EnvelopeKind,
        term: impl Fn(&T) -> u64,
    ) -> Result<T, VaultError> {
        let (name, object) = (&listed.name, self.get_listed(listed)?);
        let opened = self.envelope_in(name, &listed.named, kind, &object)?;
        let value = decode_cbor(&opened.payload).map_err(|cause| self.damaged(name, cause))?;
        self.check_custodian(name, term(&value), opened.signer)?;
        Ok(value)
    }

    /// Seals a CBOR value under a name that its hash does not occur in, and puts it.
    pub(super) fn put_value<T: Encode<()>>(
        &self,
        signer: &Signer,
        kind: EnvelopeKind,
        named: &Named,
        value: &T,
    ) -> Result<(), VaultError> {
        let name = named.to_name();
        let object = envelope::seal(&self.ring, signer, kind, name.stem(), &encode_cbor(value));
        self.put_envelope(&name, object)
    }

    /// Puts a session; one that ends so is kept for the processes to come.
    pub(super) fn put_session(&self, signer: &Signer, session: &SessionObject) -> Result<(), VaultError> {
        let name = Named::Session(session.session).to_name();
        let payload = encode_cbor(session);
        let object = envelope::seal(&self.ring, signer, EnvelopeKind::Session, name.stem(), &payload);
        self.put_envelope(&name, object.clone())?;
        if session.state != SessionState::Open {
            self.keep_session(session.session, &object);
        }
        Ok(())
    }

    /// Seals a payload under a name that ends with its hash, and puts it. `name_with` makes the name
    /// from the hash; its stem must not depend on it.
    pub(super) fn put_hashed(
        &self,
        signer: &Signer,
        kind: EnvelopeKind,
        payload: &[u8],
        name_with: impl Fn(ObjectHash) -> Named,
    ) -> Result<ObjectHash, VaultError> {
        let stem = name_with(ObjectHash::new([0; 32])).to_name();
        let object = envelope::seal(&self.ring, signer, kind, stem.stem(), payload);
        let hash = hash_of(&object);
        let named = name_with(hash);
        self.put_envelope(&named.to_name(), object.clone())?;
        self.keep(&named, &object);
        Ok(hash)
    }

    /// Puts an envelope, unless it is one that no reader would take.
    pub(super) fn put_envelope(&self, name: &ObjectName, object: Bytes) -> Result<(), VaultError> {
        match envelope::is_within_bounds(&object) {
            true => Ok(self.put(name, object)?),
            false => Err(VaultError::TooLarge { object: name.to_string(), bytes: object.len() }),
        }
    }

    pub(super) fn damaged(&self, name: &ObjectName, cause: Malformed) -> VaultError {
        VaultError::Damaged { object: name.to_string(), place: self.place(), cause }
    }

    fn untrusted(&self, name: &ObjectName, signer: SignerKey) -> VaultError {
        VaultError::Untrusted { object: name.to_string(), place: self.place(), signer }
    }
}

pub(super) fn hash_of(object: &[u8]) -> ObjectHash {
    ObjectHash::new(*blake3::hash(object).as_bytes())
}
