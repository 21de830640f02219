//! Payloads of envelopes, sealed and signed by a trusted node, met as the vault meets them: in a listing.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use backstay_core::collection::CollectionNumber;
use backstay_core::config::{Verify, VerifyLevel};
use backstay_core::id::{ObjectHash, PointId, SessionId, SourceId, VaultId};
use backstay_core::proof::ProofHistory;
use backstay_core::units::{ByteSize, Span, Timestamp};
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::forge::{self, Object, hashed_envelope};
use backstay_vault::clear::FormatObject;
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::name::Named;
use backstay_vault::store::MemStore;
use backstay_vault::vault::{Session, Vault};
use bytes::Bytes;

use crate::keys::{FIXTURE, RING};

/// The source of which every vault here has one point.
pub const SOURCE: &str = "static.files";

static SAMPLE: LazyLock<Sample> = LazyLock::new(Sample::new);

/// A vault with one point. Its id is always the same, so that kept inputs can speak of it.
struct Sample {
    objects: BTreeMap<String, Bytes>,
    source: SourceId,
}

impl Sample {
    fn new() -> Self {
        let store = Arc::new(MemStore::new());
        let vault = FIXTURE.create(store.clone()).expect("create");
        let format = FormatObject { vault: VaultId::new([0x11; 16]), ..vault.format().clone() };
        FIXTURE.put(&*store, forge::format(FIXTURE.admin(), 2, &format));
        let vault = FIXTURE.open(store.clone()).expect("open");
        let state = State::from([(b"key".to_vec(), b"value".to_vec())]);
        FIXTURE.capture(&vault, SOURCE, Timestamp::from_seconds(1), &state).expect("capture");
        Self { objects: store.objects(), source: FIXTURE.source(SOURCE) }
    }

    /// The vault, and one object more.
    fn with(&self, object: Object) -> Arc<Vault> {
        let mut objects = self.objects.clone();
        objects.insert(object.name.to_string(), object.content);
        FIXTURE
            .open(Arc::new(MemStore::with_objects(objects)))
            .expect("one object does not keep a vault from opening")
    }
}

/// The vault that the targets add an object to.
pub fn sample_vault() -> Arc<Vault> {
    FIXTURE.open(Arc::new(MemStore::with_objects(SAMPLE.objects.clone()))).expect("nothing is wrong with it")
}

fn hashed(kind: EnvelopeKind, payload: &[u8], named: impl Fn(ObjectHash) -> Named) -> Arc<Vault> {
    SAMPLE.with(hashed_envelope(&RING, FIXTURE.signer(), kind, payload, named))
}

/// Lists, checks and reads what is listed.
fn look(vault: &Arc<Vault>) {
    let catalogue =
        vault.catalogue(SAMPLE.source).expect("one object does not keep a source from being listed");
    for point in catalogue.points() {
        let _ = read_back(vault, SOURCE, point.link.point);
    }
    vault.check().expect("nor from being checked");
}

/// A point. `data` is the length of the common part (u16), the common part, and the vault's part; the common part is
/// signed. The point's id and source are those that it claims, where it claims any.
pub fn sealed_point(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let (common, vault_part) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let message = [b"backstay point 0\0".as_slice(), RING.domain().as_bytes(), common].concat();
    let mut payload = vec![0xa4, 0, 0x59];
    payload.extend_from_slice(&(common.len() as u16).to_be_bytes());
    payload.extend_from_slice(common);
    payload.extend_from_slice(&[1, 0x58, 32]);
    payload.extend_from_slice(FIXTURE.signer().public().as_bytes());
    payload.extend_from_slice(&[2, 0x58, 64]);
    payload.extend_from_slice(&FIXTURE.signer().sign(&message));
    payload.push(3);
    payload.extend_from_slice(vault_part);
    // The id is the first field: a1 or more, key 0, 16 bytes.
    let claimed = common.get(3..19).and_then(PointId::from_slice).unwrap_or(PointId::new([0; 16]));
    look(&hashed(EnvelopeKind::Point, &payload, |hash| Named::Point(SAMPLE.source, claimed, hash)));
}

/// A layout.
pub fn sealed_layout(data: &[u8]) {
    look(&hashed(EnvelopeKind::Layout, data, |hash| Named::Layout(SAMPLE.source, 1, hash)));
}

/// A head.
pub fn sealed_head(data: &[u8]) {
    look(&hashed(EnvelopeKind::Head, data, |hash| Named::Head(SAMPLE.source, 9, hash)));
}

/// A proof.
pub fn sealed_proof(data: &[u8]) {
    let vault = hashed(EnvelopeKind::Proof, data, |hash| Named::Proof(SAMPLE.source, 9, hash));
    let proofs = vault
        .proofs(SAMPLE.source, Timestamp::from_seconds(2))
        .expect("one that cannot be read proves nothing");
    let history = ProofHistory::new(proofs, Timestamp::from_seconds(2));
    let verify = Verify {
        every: Span::new(Duration::from_secs(60)),
        level: VerifyLevel::Restore,
        budget_per_day: Some(ByteSize(1000)),
    };
    let _ = history.due(&verify, 10, Timestamp::from_seconds(2));
}

/// An index object.
pub fn sealed_index(data: &[u8]) {
    look(&hashed(EnvelopeKind::Index, data, |hash| Named::Index(SessionId::new([1; 16]), hash)));
}

/// A session, a fence, an intent to collect or a list of what is lost, by the first byte. The names of the first two have
/// no hash.
pub fn sealed_commit(data: &[u8]) {
    let Some((which, payload)) = data.split_first() else { return };
    let session = SessionId::new([1; 16]);
    let named = |hash| match which % 4 {
        0 => Named::Session(session),
        1 => Named::Fence(session),
        2 => Named::Gc(CollectionNumber::new(1), hash),
        _ => Named::Bad(1, hash),
    };
    let kinds = [EnvelopeKind::Session, EnvelopeKind::Fence, EnvelopeKind::Gc, EnvelopeKind::Bad];
    let kind = kinds[usize::from(which % 4)];
    let vault = hashed(kind, payload, named);
    let now = Timestamp::from_seconds(2);
    FIXTURE.fence_dead_sessions(&vault, now).expect("a session that cannot be read is left to the custodian");
    // An intent that cannot be read is an error: nothing could be counted on.
    let _ = Session::open(&vault, FIXTURE.writer(), SOURCE, now);
    vault.lost_chunks().expect("one that cannot be read says nothing");
    vault.check().expect("checks");
}
