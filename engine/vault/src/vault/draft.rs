//! What is to be committed, and how it is put: index objects, points and heads (docs/format.md, sections 6 and 8).
//! Their order is the session's.

use backstay_core::id::{ObjectHash, SignerKey, SourceId};
use backstay_core::point::{Head, HeadTarget, Partial, PointCommon, PointLink, VaultPart};
use backstay_core::run::{PartRef, check_parts};
use backstay_core::units::Timestamp;

use super::points::{POINT_PURPOSE, PointPayload};
use super::{PointObject, Session};
use crate::commit_object::SessionObject;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::index_object::{INDEX_ENTRIES_MAX, INDEX_PACKS_MAX, IndexAuthor, IndexObject};
use crate::malformed::encode_cbor;
use crate::name::Named;
use crate::write::Written;

/// Most vaults beside its own of which a head speaks.
const OTHERS_MAX: usize = 63;

/// A point to be committed.
#[derive(Debug, Clone)]
pub struct PointDraft {
    /// What is the same in every vault.
    pub common: PointCommon,
    /// The point that the run edits.
    pub parent: Option<PointLink>,
    /// Parts of the run, in order of key.
    pub run: Vec<PartRef>,
    /// The newest head of the source that the session saw.
    pub previous_head: Option<ObjectHash>,
    /// For a capture that is not finished.
    pub partial: Option<Partial>,
    /// For a point that is copied from another vault.
    pub original: Option<Original>,
}

/// What a copy keeps of a point: what its node has signed, to the byte, and its place in time.
#[derive(Debug, Clone)]
pub struct Original {
    /// The common part.
    pub common: Vec<u8>,
    /// Who has signed it.
    pub signer: SignerKey,
    /// The signature.
    pub signature: Vec<u8>,
    /// The time by which retention judges it.
    pub retention_time: Option<Timestamp>,
}

/// A head to be committed, with the newest point of its source.
#[derive(Debug, Clone)]
pub struct HeadDraft {
    /// The source.
    pub source: SourceId,
    /// Rises with every head of the source.
    pub sequence: u64,
    /// Start of the capture.
    pub time: Timestamp,
    /// Sequence and link of the newest point; the one committed with it, if there is one.
    pub newest: Option<(u64, PointLink)>,
    /// The head before.
    pub previous: Option<ObjectHash>,
    /// What the writer knows of other vaults.
    pub others: Vec<HeadTarget>,
}

impl Session {
    pub(super) fn put_index(
        &self,
        session: &SessionObject,
        written: Written,
    ) -> Result<Vec<(ObjectHash, IndexObject)>, VaultError> {
        let mut objects = Vec::new();
        let mut packs = written.packs;
        while !packs.is_empty() {
            let mut entries = 0;
            let fitting = packs
                .iter()
                .take(INDEX_PACKS_MAX)
                .take_while(|(_, records)| {
                    entries += records.len();
                    entries <= INDEX_ENTRIES_MAX
                })
                .count();
            let rest = packs.split_off(fitting.max(1));
            let object = IndexObject::of_packs(IndexAuthor::Session, session.collection, &packs);
            let session = session.session;
            let hash = self.vault().put_hashed(
                &self.writer.signer,
                EnvelopeKind::Index,
                &object.encode(),
                |hash| Named::Index(session, hash),
            )?;
            objects.push((hash, object));
            packs = rest;
        }
        Ok(objects)
    }

    pub(super) fn put_point(
        &self,
        session: &SessionObject,
        draft: &PointDraft,
    ) -> Result<PointObject, VaultError> {
        let keeps = draft.partial.iter().flat_map(|partial| &partial.keeps);
        let parts: Vec<PartRef> = draft.run.iter().chain(keeps).cloned().collect();
        if let Err(error) = check_parts(&parts) {
            return Err(VaultError::Table(format!(
                "a point that nobody could read was not put, {error}; capture again"
            )));
        }
        let (common, signer, signature) = match &draft.original {
            Some(original) => (original.common.clone(), original.signer, original.signature.clone()),
            None => {
                let common = encode_cbor(&draft.common);
                let message = [POINT_PURPOSE, self.vault().ring().domain().as_bytes(), &common].concat();
                let signature = self.writer.signer.sign(&message).to_vec();
                (common, self.writer.signer.public(), signature)
            }
        };
        let payload = PointPayload {
            common,
            signer,
            signature,
            vault_part: VaultPart {
                vault: self.vault().id(),
                parent: draft.parent,
                run: draft.run.clone(),
                previous_head: draft.previous_head,
                session: session.session,
                partial: draft.partial.clone(),
                collection: session.collection,
                retention_time: draft.original.as_ref().and_then(|original| original.retention_time),
            },
        };
        let (source, point) = (draft.common.source, draft.common.id);
        let name = |hash| Named::Point(source, point, hash);
        let object = self.vault().put_hashed(
            &self.writer.signer,
            EnvelopeKind::Point,
            &encode_cbor(&payload),
            name,
        )?;
        Ok(PointObject {
            link: PointLink { point, object },
            common: draft.common.clone(),
            vault_part: payload.vault_part,
            author: signer,
            put_by: self.writer.signer.public(),
        })
    }

    pub(super) fn put_head(
        &self,
        draft: &HeadDraft,
        committed: Option<(u64, PointLink)>,
    ) -> Result<(ObjectHash, Head), VaultError> {
        let newest = committed.or(draft.newest).map(|(sequence, link)| HeadTarget {
            vault: self.vault().id(),
            sequence,
            point: link.point,
            object: link.object,
            time: draft.time,
        });
        let own = self.vault().id();
        let others = draft.others.iter().filter(|target| target.vault != own).cloned();
        let head = Head {
            source: draft.source,
            sequence: draft.sequence,
            time: draft.time,
            targets: newest.into_iter().chain(others.take(OTHERS_MAX)).collect(),
            previous: draft.previous,
        };
        let name = |hash| Named::Head(draft.source, draft.sequence, hash);
        let hash =
            self.vault().put_hashed(&self.writer.signer, EnvelopeKind::Head, &encode_cbor(&head), name)?;
        Ok((hash, head))
    }
}
