//! Reading and writing of enveloped objects: hash in the name, signature, trust, and only then the
//! contents.

use backstay_core::id::ObjectHash;
use bytes::Bytes;
use minicbor::Encode;

use super::Vault;
use crate::clear::TrustedNode;
use crate::envelope::{self, EnvelopeKind};
use crate::error::VaultError;
use crate::keys::Signer;
use crate::malformed::{Malformed, decode_cbor, encode_cbor};
use crate::name::{Named, ObjectName};

/// The payload of an envelope, and the trusted node that signed it.
#[derive(Debug)]
pub(super) struct Trusted<'a> {
    pub(super) payload: Vec<u8>,
    pub(super) node: &'a TrustedNode,
}

impl Vault {
    /// Reads an envelope by its name.
    pub(super) fn get_envelope(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
    ) -> Result<Trusted<'_>, VaultError> {
        let object = self.get(name)?;
        self.open_envelope(name, named, kind, &object)
    }

    fn open_envelope(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
        object: &[u8],
    ) -> Result<Trusted<'_>, VaultError> {
        if hash_in(named).is_some_and(|hash| hash_of(object) != hash) {
            return Err(self.damaged(name, Malformed::Hash));
        }
        let opened =
            envelope::open(&self.ring, kind, name.stem(), object).map_err(|c| self.damaged(name, c))?;
        let node = self.trust.node(&opened.signer).ok_or_else(|| VaultError::Untrusted {
            object: name.to_string(),
            place: self.place(),
            signer: opened.signer,
        })?;
        Ok(Trusted { payload: opened.payload, node })
    }

    /// Reads an envelope whose payload is one CBOR value.
    pub(super) fn get_value<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        name: &ObjectName,
        named: &Named,
        kind: EnvelopeKind,
    ) -> Result<(T, &TrustedNode), VaultError> {
        let trusted = self.get_envelope(name, named, kind)?;
        let value = decode_cbor(&trusted.payload).map_err(|cause| self.damaged(name, cause))?;
        Ok((value, trusted.node))
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
        Ok(self.put(&name, object)?)
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
        self.put(&name_with(hash).to_name(), object)?;
        Ok(hash)
    }

    pub(super) fn damaged(&self, name: &ObjectName, cause: Malformed) -> VaultError {
        VaultError::Damaged { object: name.to_string(), place: self.place(), cause }
    }
}

pub(super) fn hash_of(object: &[u8]) -> ObjectHash {
    ObjectHash::new(*blake3::hash(object).as_bytes())
}

pub(super) fn hash_of_bytes(object: &Bytes) -> ObjectHash {
    hash_of(object)
}

fn hash_in(named: &Named) -> Option<ObjectHash> {
    match named {
        Named::Index(_, hash)
        | Named::Point(_, _, hash)
        | Named::Layout(_, _, hash)
        | Named::Head(_, _, hash) => Some(*hash),
        _ => None,
    }
}
