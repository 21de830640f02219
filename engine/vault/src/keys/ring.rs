//! The key ring: a bundle made ready for use. Derives the key of each record, envelope and footer, and
//! names chunks and sources (docs/format.md, sections 1, 4, 5).

use std::collections::{HashMap, HashSet};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use backstay_core::id::{ChunkId, DomainId, KeyId, SignerKey, SourceId};

use super::bundle::{Bundle, Epoch};
use super::secret::Secret;
use crate::chunk::ChunkClass;

/// A key that the ring does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is sealed with key {0}, which this key bundle does not hold: wrong key, or a bundle from before a key rotation"
)]
pub struct MissingKey(pub KeyId);

/// The keys of a domain, ready for use.
#[derive(Debug)]
pub struct KeyRing {
    domain: DomainId,
    admin: SignerKey,
    id: Option<Secret>,
    cut: Option<Secret>,
    meta_id: Secret,
    data: HashMap<KeyId, Secret>,
    meta: HashMap<KeyId, Secret>,
    data_current: Option<KeyId>,
    meta_current: KeyId,
    compromised: HashSet<KeyId>,
}

impl KeyRing {
    /// The ring of a bundle that [`Bundle::from_json`] or [`Bundle::generate`] made.
    pub fn new(bundle: &Bundle) -> Self {
        let epochs = |list: &[Epoch]| list.iter().map(|e| (e.key_id, e.key.clone())).collect();
        Self {
            domain: bundle.domain,
            admin: bundle.admin,
            id: bundle.id.clone(),
            cut: bundle.cut.clone(),
            meta_id: bundle.meta_id.clone(),
            data: epochs(&bundle.data),
            meta: epochs(&bundle.meta),
            data_current: bundle.data.last().map(|e| e.key_id),
            meta_current: bundle.meta.last().map(|e| e.key_id).expect("a bundle has a meta key"),
            compromised: bundle.compromised.iter().copied().collect(),
        }
    }

    /// Whether it has all epochs and marks of a bundle, and what is in use there is in use here.
    pub fn has_all_of(&self, bundle: &Bundle) -> bool {
        bundle.data.iter().all(|epoch| self.data.contains_key(&epoch.key_id))
            && bundle.meta.iter().all(|epoch| self.meta.contains_key(&epoch.key_id))
            && bundle.compromised.iter().all(|key| self.compromised.contains(key))
            && bundle.data.last().map(|epoch| epoch.key_id) == self.data_current
            && bundle.meta.last().is_some_and(|epoch| epoch.key_id == self.meta_current)
    }

    /// The domain.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// The key that signs `format/` and `trust/`.
    pub fn admin(&self) -> SignerKey {
        self.admin
    }

    /// Names a chunk. `None` when the ring is a custodian's and the chunk is data.
    pub fn chunk_id(&self, class: ChunkClass, plain: &[u8]) -> Option<ChunkId> {
        let key = match class {
            ChunkClass::Data => self.id.as_ref()?,
            ChunkClass::Meta => &self.meta_id,
        };
        Some(ChunkId::new(*blake3::keyed_hash(key.as_bytes(), plain).as_bytes()))
    }

    /// Names a source of the fleet by its `SERVICE.KIND`.
    pub fn source_id(&self, name: &str) -> SourceId {
        let hash = self.meta_hash(b"source\0", name.as_bytes());
        SourceId::from_slice(&hash[..16]).expect("16 of 32 bytes")
    }

    /// A keyed hash under `meta_id` of `purpose` ‖ `message`.
    pub fn meta_hash(&self, purpose: &[u8], message: &[u8]) -> [u8; 32] {
        keyed(&self.meta_id, &[purpose, message])
    }

    /// The key that chooses boundaries; `None` in a custodian's ring.
    pub fn cut_key(&self) -> Option<&Secret> {
        self.cut.as_ref()
    }

    /// Whether it is of a holder who reads contents, as far as it has the epochs. A custodian's has no keys for any.
    pub(crate) fn reads_contents(&self) -> bool {
        self.data_current.is_some()
    }

    /// Epochs that somebody else may have: a writer counts on nothing that they have sealed.
    pub(crate) fn compromised(&self) -> &HashSet<KeyId> {
        &self.compromised
    }

    /// Whether somebody else may have this epoch.
    pub(crate) fn is_compromised(&self, key_id: &KeyId) -> bool {
        self.compromised.contains(key_id)
    }

    /// The epoch that seals new chunks of this class.
    pub(crate) fn sealing_epoch(&self, class: ChunkClass) -> Option<KeyId> {
        match class {
            ChunkClass::Data => self.data_current,
            ChunkClass::Meta => Some(self.meta_current),
        }
    }

    /// The epoch that seals new envelopes and footers.
    pub(crate) fn meta_epoch(&self) -> KeyId {
        self.meta_current
    }

    /// The key of a record.
    pub(crate) fn record_key(
        &self,
        class: ChunkClass,
        key_id: KeyId,
        id: &ChunkId,
    ) -> Result<LessSafeKey, MissingKey> {
        let epochs = match class {
            ChunkClass::Data => &self.data,
            ChunkClass::Meta => &self.meta,
        };
        let epoch = epochs.get(&key_id).ok_or(MissingKey(key_id))?;
        Ok(aead_key(keyed(epoch, &[b"backstay record 0\0", id.as_bytes()])))
    }

    /// The key of an envelope or footer: `purpose` ‖ `which` under a meta epoch.
    pub(crate) fn meta_key(
        &self,
        key_id: KeyId,
        purpose: &[u8],
        which: &[u8],
    ) -> Result<LessSafeKey, MissingKey> {
        let epoch = self.meta.get(&key_id).ok_or(MissingKey(key_id))?;
        Ok(aead_key(keyed(epoch, &[purpose, which])))
    }
}

fn keyed(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn aead_key(key: [u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("AES-256 keys have 32 bytes"))
}
