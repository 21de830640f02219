//! Envelopes: small metadata objects, sealed to their name and signed by the node that wrote them
//! (docs/format.md, section 4). What the payload says is the business of others.

use aws_lc_rs::aead::{Aad, Nonce};
use backstay_core::id::{DomainId, KeyId, SignerKey};
use bytes::Bytes;

use crate::keys::{KeyRing, Signer, random_bytes, verify};
use crate::malformed::Malformed;
use crate::take::{Take, frame};

const MAGIC: [u8; 4] = *b"BKSE";
const HEAD_BYTES: usize = 68;
const SIGNATURE_BYTES: usize = 64;
const KEY_PURPOSE: &[u8] = b"backstay envelope 0\0";
const SIGNATURE_PURPOSE: &[u8] = b"backstay envelope 0\0";

/// Greatest envelope, bytes.
pub const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// What an envelope holds; part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// `index/`.
    Index = 1,
    /// `points/`.
    Point = 2,
    /// `layout/`.
    Layout = 3,
    /// `heads/`.
    Head = 4,
    /// `sessions/`.
    Session = 5,
    /// `fences/`.
    Fence = 6,
    /// `gc/`.
    Gc = 7,
    /// `proofs/`.
    Proof = 8,
    /// `bad/`.
    Bad = 9,
}

/// An opened envelope. Whether the signer may write such an object is for the caller to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who wrote it; the signature is good.
    pub signer: SignerKey,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Seals a payload under an object's stem (its name without `-<hash>`).
pub fn seal(ring: &KeyRing, signer: &Signer, kind: EnvelopeKind, stem: &str, payload: &[u8]) -> Bytes {
    let mut object = Vec::with_capacity(HEAD_BYTES + payload.len() + 16 + SIGNATURE_BYTES);
    let nonce: [u8; 12] = random_bytes();
    let key_id = ring.meta_epoch();
    object.extend_from_slice(&frame(MAGIC, kind as u8));
    object.extend_from_slice(key_id.as_bytes());
    object.extend_from_slice(signer.public().as_bytes());
    object.extend_from_slice(&nonce);
    object.extend_from_slice(payload);
    let key = ring.meta_key(key_id, KEY_PURPOSE, stem.as_bytes()).expect("the ring holds its own epoch");
    let aad = Aad::from(associated_data(ring, &object[..HEAD_BYTES], stem));
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut object[HEAD_BYTES..])
        .expect("an envelope is far below the limit of AES-GCM");
    object.extend_from_slice(tag.as_ref());
    let signature = signer.sign(&signed_message(ring.domain(), stem, &object));
    object.extend_from_slice(&signature);
    object.into()
}

/// Whether readers take an envelope of this length.
pub fn is_within_bounds(object: &[u8]) -> bool {
    object.len() <= ENVELOPE_BYTES_MAX
}

/// Checks and opens an envelope that was found under a name with this stem.
pub fn open(ring: &KeyRing, kind: EnvelopeKind, stem: &str, object: &[u8]) -> Result<Opened, Malformed> {
    let signer = check_signature(ring.domain(), kind, stem, object)?;
    let (head, rest) = object.split_at_checked(HEAD_BYTES).ok_or(Malformed::Short)?;
    let mut fields = Take::new(&head[8..]);
    let key_id = KeyId::new(fields.array()?);
    let key = ring.meta_key(key_id, KEY_PURPOSE, stem.as_bytes())?;
    let nonce = Nonce::assume_unique_for_key(Take::new(&head[HEAD_BYTES - 12..]).array()?);
    let mut payload = rest[..rest.len() - SIGNATURE_BYTES].to_vec();
    let aad = Aad::from(associated_data(ring, head, stem));
    let length = key.open_in_place(nonce, aad, &mut payload).map_err(|_| Malformed::Sealed)?.len();
    payload.truncate(length);
    Ok(Opened { signer, payload })
}

/// Checks frame and signature without any key: what a holder can do.
pub fn check_signature(
    domain: DomainId,
    kind: EnvelopeKind,
    stem: &str,
    object: &[u8],
) -> Result<SignerKey, Malformed> {
    if object.len() > ENVELOPE_BYTES_MAX {
        return Err(Malformed::Field("size"));
    }
    let signed = object
        .len()
        .checked_sub(SIGNATURE_BYTES)
        .filter(|n| *n >= HEAD_BYTES + 16)
        .ok_or(Malformed::Short)?;
    let mut take = Take::new(object);
    take.frame(MAGIC, kind as u8)?;
    take.bytes(KeyId::LENGTH)?;
    let signer = SignerKey::new(take.array()?);
    verify(&signer, &signed_message(domain, stem, &object[..signed]), &object[signed..])?;
    Ok(signer)
}

fn associated_data(ring: &KeyRing, head: &[u8], stem: &str) -> Vec<u8> {
    [ring.domain().as_bytes().as_slice(), head, stem.as_bytes()].concat()
}

/// The signature is over a hash of the bytes, so that signing a large index does not copy it.
fn signed_message(domain: DomainId, stem: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = SIGNATURE_PURPOSE.to_vec();
    message.extend_from_slice(domain.as_bytes());
    message.extend_from_slice(&(stem.len() as u32).to_le_bytes());
    message.extend_from_slice(stem.as_bytes());
    message.extend_from_slice(blake3::hash(bytes).as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Bundle, Secret};

    fn sample() -> (KeyRing, Signer, Bytes) {
        let ring = KeyRing::new(&Bundle::generate());
        let signer = Signer::from_seed(&Secret::random());
        let object = seal(&ring, &signer, EnvelopeKind::Gc, "gc/1", b"payload");
        (ring, signer, object)
    }

    #[test]
    fn an_envelope_opens_and_names_its_signer() {
        let (ring, signer, object) = sample();
        let opened = open(&ring, EnvelopeKind::Gc, "gc/1", &object).expect("opens");
        assert_eq!(opened, Opened { signer: signer.public(), payload: b"payload".to_vec() });
        assert_eq!(check_signature(ring.domain(), EnvelopeKind::Gc, "gc/1", &object), Ok(signer.public()));
    }

    #[test]
    fn under_another_name_kind_or_domain_it_does_not_open() {
        let (ring, _, object) = sample();
        assert!(open(&ring, EnvelopeKind::Gc, "gc/2", &object).is_err());
        assert_eq!(open(&ring, EnvelopeKind::Head, "gc/1", &object), Err(Malformed::Field("kind")));
        let other = KeyRing::new(&Bundle::generate());
        assert!(open(&other, EnvelopeKind::Gc, "gc/1", &object).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (ring, _, object) = sample();
        for place in 0..object.len() {
            let mut damaged = object.to_vec();
            damaged[place] ^= 1;
            assert!(open(&ring, EnvelopeKind::Gc, "gc/1", &damaged).is_err(), "byte {place}");
            assert!(open(&ring, EnvelopeKind::Gc, "gc/1", &object[..place]).is_err(), "cut at {place}");
        }
    }
}
