//! Objects written by hand, after docs/format.md and not with the vault's own writers: what another version, a
//! custodian, another node or an intruder would put. That the vault reads them shows that it keeps to the
//! document.

use backstay_core::id::{ObjectHash, PackId, PointId, SessionId, SourceId};
use backstay_core::layout::Layout;
use backstay_core::units::Timestamp;
use backstay_vault::clear::{self, ClearKind, FormatObject, TrustObject};
use backstay_vault::envelope::{EnvelopeKind, seal};
use backstay_vault::keys::{KeyRing, Signer};
use backstay_vault::malformed::encode_cbor;
use backstay_vault::name::{Named, ObjectName};
use bytes::Bytes;
use minicbor::{Decode, Encode};

/// An object: its name and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The name.
    pub name: ObjectName,
    /// The bytes.
    pub content: Bytes,
}

/// `sessions/<session>` (section 10).
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
pub struct SessionCbor {
    /// Its name.
    #[n(0)]
    pub session: SessionId,
    /// Whose it is.
    #[n(1)]
    pub node: String,
    /// Rises with each overwrite.
    #[n(2)]
    pub counter: u64,
    /// 0 open, 1 ended and acknowledged, 2 ended and given up.
    #[n(3)]
    pub state: u32,
    /// When it began.
    #[n(4)]
    pub start: Timestamp,
    /// Points that must not go.
    #[n(5)]
    pub pins: Vec<PointId>,
    /// Its sources.
    #[n(6)]
    pub sources: Vec<SourceId>,
}

#[derive(Encode)]
#[cbor(map)]
struct FenceCbor {
    #[n(0)]
    session: SessionId,
    #[n(1)]
    time: Timestamp,
    #[n(2)]
    reason: String,
}

#[derive(Encode)]
#[cbor(map)]
struct GcCbor {
    #[n(0)]
    n: u64,
    #[n(1)]
    term: u64,
    #[n(2)]
    packs: Vec<PackId>,
}

/// Any payload in an envelope whose name carries no hash.
pub fn envelope(
    ring: &KeyRing,
    signer: &Signer,
    kind: EnvelopeKind,
    named: &Named,
    payload: &[u8],
) -> Object {
    let name = named.to_name();
    let content = seal(ring, signer, kind, name.stem(), payload);
    Object { name, content }
}

/// Any payload in an envelope whose name ends with its hash.
pub fn hashed_envelope(
    ring: &KeyRing,
    signer: &Signer,
    kind: EnvelopeKind,
    payload: &[u8],
    named: impl Fn(ObjectHash) -> Named,
) -> Object {
    let stem = named(ObjectHash::new([0; 32])).to_name();
    let content = seal(ring, signer, kind, stem.stem(), payload);
    let name = named(ObjectHash::new(*blake3::hash(&content).as_bytes())).to_name();
    Object { name, content }
}

/// A layout of a source (section 9).
pub fn layout(ring: &KeyRing, signer: &Signer, source: SourceId, layout: &Layout) -> Object {
    let generation = layout.generation;
    hashed_envelope(ring, signer, EnvelopeKind::Layout, &encode_cbor(layout), |hash| {
        Named::Layout(source, generation, hash)
    })
}

/// The intent to delete packs (section 10).
pub fn gc(ring: &KeyRing, signer: &Signer, n: u64, packs: Vec<PackId>) -> Object {
    let payload = encode_cbor(&GcCbor { n, term: 1, packs });
    envelope(ring, signer, EnvelopeKind::Gc, &Named::Gc(n), &payload)
}

/// The end of a session (section 10).
pub fn fence(ring: &KeyRing, signer: &Signer, session: SessionId) -> Object {
    let payload = encode_cbor(&FenceCbor { session, time: Timestamp::EPOCH, reason: "a test".into() });
    envelope(ring, signer, EnvelopeKind::Fence, &Named::Fence(session), &payload)
}

/// A session (section 10).
pub fn session(ring: &KeyRing, signer: &Signer, session: &SessionCbor) -> Object {
    envelope(ring, signer, EnvelopeKind::Session, &Named::Session(session.session), &encode_cbor(session))
}

/// `format/<n>` (section 3).
pub fn format(admin: &Signer, n: u64, format: &FormatObject) -> Object {
    Object { name: Named::Format(n).to_name(), content: clear::sign(admin, ClearKind::Format, format) }
}

/// `trust/<n>` (section 3).
pub fn trust(admin: &Signer, trust: &TrustObject) -> Object {
    Object { name: Named::Trust(trust.n).to_name(), content: clear::sign(admin, ClearKind::Trust, trust) }
}
