//! Objects written by hand: what another version, a custodian, another node or an intruder would put. Their payloads have
//! the vault's own shapes; that these are the document's, the golden vault shows.

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, PackId, SessionId, SourceId};
use backstay_core::layout::Layout;
use backstay_core::units::Timestamp;
use backstay_vault::clear::{self, ClearKind, FormatObject, TrustObject};
use backstay_vault::commit_object::{
    BadList, FenceObject, GcRecord, SessionKind, SessionObject, SessionState,
};
use backstay_vault::envelope::{EnvelopeKind, open, seal};
use backstay_vault::index_object::IndexObject;
use backstay_vault::keys::{KeyRing, Signer};
use backstay_vault::malformed::encode_cbor;
use backstay_vault::name::{Named, ObjectName};
use bytes::Bytes;

/// An object: its name and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The name.
    pub name: ObjectName,
    /// The bytes.
    pub content: Bytes,
}

impl Object {
    /// The hash of its bytes.
    pub fn hash(&self) -> ObjectHash {
        ObjectHash::new(*blake3::hash(&self.content).as_bytes())
    }
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
    let mut object = envelope(ring, signer, kind, &named(ObjectHash::new([0; 32])), payload);
    object.name = named(object.hash()).to_name();
    object
}

/// What an envelope says.
pub fn payload_of(ring: &KeyRing, kind: EnvelopeKind, object: &Object) -> Vec<u8> {
    let opened = open(ring, kind, object.name.stem(), &object.content);
    opened.expect("an envelope of this kind and domain").payload
}

/// A layout of a source (section 9).
pub fn layout(ring: &KeyRing, signer: &Signer, source: SourceId, layout: &Layout) -> Object {
    let generation = layout.generation;
    hashed_envelope(ring, signer, EnvelopeKind::Layout, &encode_cbor(layout), |hash| {
        Named::Layout(source, generation, hash)
    })
}

/// An index object (section 6), under the name of any session.
pub fn index(ring: &KeyRing, signer: &Signer, session: SessionId, index: &IndexObject) -> Object {
    hashed_envelope(ring, signer, EnvelopeKind::Index, &index.encode(), |hash| Named::Index(session, hash))
}

/// The intent to delete packs (section 10).
pub fn gc(ring: &KeyRing, signer: &Signer, record: &GcRecord) -> Object {
    let number = record.number;
    hashed_envelope(ring, signer, EnvelopeKind::Gc, &encode_cbor(record), |hash| Named::Gc(number, hash))
}

/// A list of what is lost.
pub fn bad(ring: &KeyRing, signer: &Signer, list: &BadList) -> Object {
    hashed_envelope(ring, signer, EnvelopeKind::Bad, &encode_cbor(list), |hash| Named::Bad(list.number, hash))
}

/// A record of the custodian of the first term that dooms these packs and vouches for nothing.
pub fn gc_record(number: u64, packs: Vec<PackId>) -> GcRecord {
    GcRecord { number: CollectionNumber::new(number), term: 1, packs, index: Vec::new(), bad: None }
}

/// The end of a session (section 10).
pub fn fence(ring: &KeyRing, signer: &Signer, session: SessionId) -> Object {
    let (time, collection) = (Timestamp::EPOCH, CollectionNumber::NONE);
    let fence = FenceObject { session, time, reason: "a test".into(), collection, sources: Vec::new() };
    envelope(ring, signer, EnvelopeKind::Fence, &Named::Fence(session), &encode_cbor(&fence))
}

/// A session (section 10).
pub fn session(ring: &KeyRing, signer: &Signer, session: &SessionObject) -> Object {
    envelope(ring, signer, EnvelopeKind::Session, &Named::Session(session.session), &encode_cbor(session))
}

/// An open commit of a node that pins nothing.
pub fn open_session(session: SessionId, node: &str, sources: Vec<SourceId>) -> SessionObject {
    SessionObject {
        session,
        node: node.into(),
        counter: 1,
        state: SessionState::Open,
        start: Timestamp::EPOCH,
        pins: Vec::new(),
        sources,
        kind: SessionKind::Writer,
        collection: CollectionNumber::NONE,
    }
}

/// `format/<n>` (section 3).
pub fn format(admin: &Signer, n: u64, format: &FormatObject) -> Object {
    Object { name: Named::Format(n).to_name(), content: clear::sign(admin, ClearKind::Format, format) }
}

/// `trust/<n>` (section 3).
pub fn trust(admin: &Signer, trust: &TrustObject) -> Object {
    Object { name: Named::Trust(trust.n).to_name(), content: clear::sign(admin, ClearKind::Trust, trust) }
}
