//! Reading of the points and heads of a source, whoever has put them (docs/format.md, section 8).

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use backstay_core::id::{ObjectHash, PointId, SignerKey, SourceId};
use backstay_core::point::{Head, PointCommon, PointLink, VaultPart};
use backstay_core::run::check_parts;
use minicbor::{Decode, Encode};

use super::catalogue::{SEQUENCE_END, judge, sort};
use super::{PointObject, Vault};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::keys::verify;
use crate::malformed::{Malformed, decode_cbor};
use crate::name::Named;
use crate::store::Listed;

pub(super) const POINT_PURPOSE: &[u8] = b"backstay point 0\0";

/// Payload of a point's envelope.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct PointPayload {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) common: Vec<u8>,
    #[n(1)]
    pub(super) signer: SignerKey,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) signature: Vec<u8>,
    #[n(3)]
    pub(super) vault_part: VaultPart,
}

impl Vault {
    pub(super) fn all_points(
        &self,
        source: SourceId,
        listed: &[Listed],
        left_out: &mut Vec<VaultError>,
    ) -> Result<Vec<Arc<PointObject>>, VaultError> {
        self.forget_points_but(source, listed);
        let (mut points, mut unknown) = (Vec::new(), Vec::new());
        for listed in listed {
            match self.known_point(source, listed) {
                Some(point) => points.push(point),
                None => unknown.push(listed),
            }
        }
        self.get_each(unknown, |listed, object| {
            let point = object.map_err(VaultError::from);
            let point = point.and_then(|object| self.point_in(source, listed, &object));
            points.extend(judge(point, left_out)?);
            Ok(())
        })?;
        sort(&mut points);
        Ok(points)
    }

    /// Lets go of points of a source that are not there any more.
    fn forget_points_but(&self, source: SourceId, listed: &[Listed]) {
        let hash = |listed: &Listed| match listed.named {
            Named::Point(_, _, hash) => Some(hash),
            _ => None,
        };
        let there: HashSet<ObjectHash> = listed.iter().filter_map(hash).collect();
        let mut kept = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|hash, point| point.common.source != source || there.contains(hash));
    }

    pub(super) fn point_object(
        &self,
        source: SourceId,
        listed: &Listed,
    ) -> Result<Arc<PointObject>, VaultError> {
        match self.known_point(source, listed) {
            Some(known) => Ok(known),
            None => self.point_in(source, listed, &self.get_listed(listed)?),
        }
    }

    fn known_point(&self, source: SourceId, listed: &Listed) -> Option<Arc<PointObject>> {
        let Named::Point(_, point, hash) = listed.named else { return None };
        let known = self.points.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).map(Arc::clone);
        // The same bytes under another name are not the same object: a name is part of what is authenticated.
        known.filter(|known| known.common.source == source && known.link.point == point)
    }

    /// The point that was read under this name; it is kept in memory.
    fn point_in(
        &self,
        source: SourceId,
        listed: &Listed,
        object: &[u8],
    ) -> Result<Arc<PointObject>, VaultError> {
        let Named::Point(_, point, hash) = listed.named else {
            return Err(self.damaged(&listed.name, Malformed::Field("name")));
        };
        let object = Arc::new(self.opened_point(source, point, hash, listed, object)?);
        let mut kept = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(hash, Arc::clone(&object));
        Ok(object)
    }

    pub(super) fn read_point(
        &self,
        source: SourceId,
        point: PointId,
        hash: ObjectHash,
        listed: &Listed,
    ) -> Result<PointObject, VaultError> {
        self.opened_point(source, point, hash, listed, &self.get(&listed.name)?)
    }

    fn opened_point(
        &self,
        source: SourceId,
        point: PointId,
        hash: ObjectHash,
        listed: &Listed,
        object: &[u8],
    ) -> Result<PointObject, VaultError> {
        let wrong = |what| self.damaged(&listed.name, Malformed::Field(what));
        let (payload, node): (PointPayload, _) =
            self.value_in(&listed.name, &listed.named, EnvelopeKind::Point, object)?;
        let message = [POINT_PURPOSE, self.ring().domain().as_bytes(), &payload.common].concat();
        verify(&payload.signer, &message, &payload.signature)
            .map_err(|cause| self.damaged(&listed.name, cause.into()))?;
        let common: PointCommon =
            decode_cbor(&payload.common).map_err(|cause| self.damaged(&listed.name, cause))?;
        let author = self.trust().node(&payload.signer).filter(|node| node.may_author(&common.source_name));
        if author.is_none() {
            let (object, place, signer) = (listed.name.to_string(), self.place(), payload.signer);
            return Err(VaultError::Untrusted { object, place, signer });
        }
        let names_itself = common.id == point && common.source == source;
        if !names_itself || self.ring().source_id(&common.source_name) != source {
            return Err(wrong("source or id"));
        }
        if common.sequence >= SEQUENCE_END {
            return Err(wrong("sequence"));
        }
        if payload.vault_part.vault != self.id() {
            return Err(wrong("vault"));
        }
        let link = PointLink { point, object: hash };
        let point = PointObject {
            link,
            common,
            vault_part: payload.vault_part,
            author: payload.signer,
            put_by: node.signer,
        };
        check_parts(&point.own_run().run.parts).map_err(|_| wrong("order of parts"))?;
        Ok(point)
    }

    /// What the node of a point has signed, as it stands in the object, the signer and the signature.
    pub(super) fn signed_common(
        &self,
        source: SourceId,
        link: PointLink,
    ) -> Result<(Vec<u8>, SignerKey, Vec<u8>), VaultError> {
        let named = Named::Point(source, link.point, link.object);
        let (payload, _): (PointPayload, _) =
            self.get_value(&named.to_name(), &named, EnvelopeKind::Point)?;
        Ok((payload.common, payload.signer, payload.signature))
    }

    pub(super) fn newest_head(
        &self,
        source: SourceId,
        listed: &[Listed],
        left_out: &mut Vec<VaultError>,
    ) -> Result<Option<(ObjectHash, Head)>, VaultError> {
        for listed in listed.iter().rev() {
            let Named::Head(_, sequence, hash) = listed.named else { continue };
            if let Some(head) = judge(self.read_head(source, sequence, listed), left_out)? {
                return Ok(Some((hash, head)));
            }
        }
        Ok(None)
    }

    pub(super) fn read_head(
        &self,
        source: SourceId,
        sequence: u64,
        listed: &Listed,
    ) -> Result<Head, VaultError> {
        let object = self.get_listed(listed)?;
        let (head, node): (Head, _) =
            self.value_in(&listed.name, &listed.named, EnvelopeKind::Head, &object)?;
        if head.source != source || head.sequence != sequence {
            return Err(self.damaged(&listed.name, Malformed::Field("source or sequence")));
        }
        if head.sequence >= SEQUENCE_END {
            return Err(self.damaged(&listed.name, Malformed::Field("sequence")));
        }
        // The name of the source is not in it; its id is enough to ask.
        if !node.writes.iter().any(|name| name == "*" || self.ring().source_id(name) == source) {
            let (object, place, signer) = (listed.name.to_string(), self.place(), node.signer);
            return Err(VaultError::Untrusted { object, place, signer });
        }
        Ok(head)
    }
}
