//! What a node may do at another one: nothing by which its own history could be undone, and nothing in the space of others.

use backstay_core::id::{BranchId, JournalId, ObjectHash, PackId, PointId, SessionId, SourceId};
use backstay_net::hold::Rights;
use backstay_net::link::PeerStore;
use backstay_testkit::random::Random;
use backstay_vault::envelope::{self, EnvelopeKind};
use backstay_vault::keys::{Bundle, KeyRing, Secret, Signer};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Store, StoreError, StoreErrorKind};
use backstay_wire::peer::{NewestThere, ProofThere, Standing};
use bytes::Bytes;
use tempfile::TempDir;

use crate::fleet::{Caller, Fleet, Holder, node};

struct Held {
    fleet: Fleet,
    holder: Holder,
    caller: Caller,
    store: PeerStore,
    folder: TempDir,
    /// Keys of some domain: the holder has none of them.
    ring: KeyRing,
}

fn held() -> Held {
    let ring = KeyRing::new(&Bundle::generate());
    let fleet = Fleet::of_domain(ring.domain());
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", &folder.path().join("nullstone"), Rights::Write);
    let caller = fleet.caller("nullstone");
    let store = caller.store(&holder);
    Held { fleet, holder, caller, store, folder, ring }
}

fn refused(outcome: Result<(), StoreError>, words: &str) {
    let error = outcome.expect_err("it is refused");
    assert_eq!(error.kind, StoreErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn pack(seed: u64) -> (ObjectName, Bytes) {
    let content = Bytes::from(Random::new(seed).bytes(9000));
    (Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name(), content)
}

fn session(held: &Held, by: &str, id: u8, text: &[u8]) -> (ObjectName, Bytes) {
    let name = Named::Session(SessionId::new([id; 16])).to_name();
    let content = held
        .fleet
        .sign(by, |signer| envelope::seal(&held.ring, signer, EnvelopeKind::Session, name.stem(), text));
    (name, content)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_neither_replaced_nor_deleted_by_its_writer() {
    let held = held();
    let (name, content) = pack(1);
    held.store.put(&name, content.clone()).await.expect("put");
    held.store.put(&name, content.clone()).await.expect("the same again is done already");
    refused(held.store.delete(&name).await, "retention is the holder's");
    let damaged = Bytes::from_static(b"something else");
    let other = held.store.put(&name, damaged).await.expect_err("its name says what it is");
    assert!(other.to_string().contains("not the one that was announced"), "{other}");
    assert_eq!(held.store.get(&name).await.expect("is there"), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_grows_and_what_is_in_it_stays() {
    let held = held();
    let branch = BranchId::new([2; 16]);
    let name = Named::Journal(SourceId::new([1; 16]), branch, 5, JournalId::new([3; 16])).to_name();
    held.store.append(&name, 0, Bytes::from_static(b"first")).await.expect("appends");
    held.store.append(&name, 5, Bytes::from_static(b"second")).await.expect("appends");
    refused(held.store.put(&name, Bytes::from_static(b"other")).await, "by appending");
    refused(held.store.delete(&name).await, "retention is the holder's");
    let other = held.store.append(&name, 3, Bytes::from_static(b"xx")).await.expect_err("other bytes");
    assert_eq!(other.kind, StoreErrorKind::Conflict, "{other}");
    let (pack, content) = pack(1);
    refused(held.store.append(&pack, 0, content).await, "objects of no other kind are");
    assert_eq!(held.store.get(&name).await.expect("is there"), "firstsecond");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_holders_is_written_by_nobody_else() {
    let held = held();
    let (source, hash) = (SourceId::new([1; 16]), *blake3::hash(b"x").as_bytes());
    let hash = ObjectHash::new(hash);
    for named in [Named::Layout(source, 1, hash), Named::Bad(1, hash)] {
        let name = named.to_name();
        refused(held.store.put(&name, Bytes::from_static(b"x")).await, "are the holder's");
        refused(held.store.delete(&name).await, "are the holder's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_renewed_and_deleted_by_whoever_has_signed_them() {
    let held = held();
    held.fleet.enrol("millstone");
    let (name, first) = session(&held, "nullstone", 1, b"begun");
    let (_, second) = session(&held, "nullstone", 1, b"ended");
    held.store.put(&name, first).await.expect("put");
    held.store.put(&name, second.clone()).await.expect("renewed");
    assert_eq!(held.store.get(&name).await.expect("get"), second);
    let (_, of_another) = session(&held, "millstone", 1, b"forged");
    refused(held.store.put(&name, of_another.clone()).await, "only what the node that asks has signed");
    refused(held.store.put(&name, Bytes::from_static(b"no envelope")).await, "has signed");
    held.store.delete(&name).await.expect("its own");
    // One that the holder itself has left there, as its custodian.
    let path = held.folder.path().join("nullstone").join(name.as_str());
    std::fs::write(&path, &of_another).expect("writes");
    refused(held.store.delete(&name).await, "has signed");
    let (_, third) = session(&held, "nullstone", 1, b"again");
    refused(held.store.put(&name, third).await, "has signed");
    assert_eq!(std::fs::read(&path).expect("is there"), of_another);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_comes_late_undoes_nothing() {
    let held = held();
    // A second store knows nothing of what the first has put, as a process that begins anew.
    let other = held.caller.store(&held.holder);
    let (name, first) = session(&held, "nullstone", 1, b"1");
    let (_, second) = session(&held, "nullstone", 1, b"2");
    let (_, third) = session(&held, "nullstone", 1, b"3");
    held.store.put(&name, first).await.expect("put");
    other.put(&name, second).await.expect("renewed by the other");
    held.store.put(&name, third.clone()).await.expect("what is there is looked at, and renewed");
    assert_eq!(other.get(&name).await.expect("get"), third);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_with_their_holders() {
    let held = held();
    let name = Named::Key("nullstone".to_owned()).to_name();
    for content in ["one", "two", "two"] {
        held.store.put(&name, Bytes::from(content)).await.expect("put");
        assert_eq!(held.store.get(&name).await.expect("get"), content);
    }
    held.store.delete(&name).await.expect("gone");
    held.store.delete(&name).await.expect("is gone already");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_admin_says_what_a_vault_is_and_who_may_write_to_it() {
    use backstay_vault::clear::{ClearKind, Custodian, TrustObject, sign};
    let held = held();
    let trust = |n, previous: Option<&Bytes>| TrustObject {
        n,
        previous: previous.map(|object| ObjectHash::new(*blake3::hash(object).as_bytes())),
        nodes: Vec::new(),
        custodian: Custodian { node: "cobblestone".to_owned(), term: 1, signer: None },
    };
    let [one, two, three] = [1, 2, 3].map(|n| Named::Trust(n).to_name());
    let admin = &held.fleet.admin;
    let forged = sign(&Signer::from_seed(&Secret::random()), ClearKind::Trust, &trust(1, None));
    refused(held.store.put(&one, forged).await, "only what the admin of the fleet");
    let first = sign(admin, ClearKind::Trust, &trust(1, None));
    held.store.put(&one, first.clone()).await.expect("put");
    refused(held.store.delete(&one).await, "neither replaced nor deleted");
    // What the admin has signed for another place would make the vault unreadable there.
    refused(held.store.put(&two, first.clone()).await, "for this place");
    let of_another = sign(admin, ClearKind::Trust, &trust(2, Some(&Bytes::from_static(b"another"))));
    refused(held.store.put(&two, of_another).await, "for this place");
    let second = sign(admin, ClearKind::Trust, &trust(2, Some(&first)));
    refused(
        held.store.put(&three, sign(admin, ClearKind::Trust, &trust(3, Some(&second)))).await,
        "for this place",
    );
    held.store.put(&two, second).await.expect("it follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_another_domain_is_not_begun() {
    use backstay_core::id::{DomainId, VaultId};
    use backstay_vault::clear::{ClearKind, FormatObject, sign};
    let held = held();
    let format = |domain| FormatObject {
        vault: VaultId::new([1; 16]),
        domain,
        reader: 0,
        writer: 0,
        features: Vec::new(),
        created: crate::fleet::NOW,
    };
    let name = Named::Format(1).to_name();
    let other = sign(&held.fleet.admin, ClearKind::Format, &format(DomainId::new([9; 16])));
    refused(held.store.put(&name, other).await, "for this place");
    let own = sign(&held.fleet.admin, ClearKind::Format, &format(held.fleet.domain));
    refused(held.store.put(&Named::Format(2).to_name(), own.clone()).await, "for this place");
    held.store.put(&name, own).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ends_a_session_of_the_same_node_only() {
    let held = held();
    held.fleet.enrol("millstone");
    let fence = |id: u8| {
        let name = Named::Fence(SessionId::new([id; 16])).to_name();
        let content = held.fleet.sign("nullstone", |signer| {
            envelope::seal(&held.ring, signer, EnvelopeKind::Fence, name.stem(), b"ended")
        });
        (name, content)
    };
    let (name, content) = fence(1);
    refused(held.store.put(&name, content.clone()).await, "no such session");
    let (session_name, session_content) = session(&held, "nullstone", 1, b"begun");
    held.store.put(&session_name, session_content).await.expect("put");
    held.store.put(&name, content).await.expect("of its own");
    // One of the holder's, as its custodian has it when it mends something.
    let (session_name, of_holder) = session(&held, "millstone", 2, b"begun");
    let path = held.folder.path().join("nullstone").join(session_name.as_str());
    std::fs::write(path, of_holder).expect("writes");
    let (name, content) = fence(2);
    refused(held.store.put(&name, content).await, "has signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_another_node_is_not_even_read() {
    let held = held();
    let (name, content) = pack(3);
    held.store.put(&name, content).await.expect("put");
    let other = held.fleet.caller("millstone");
    held.holder.hold("millstone", &held.folder.path().join("millstone"), Rights::Write);
    let store = other.store_of(&node("nullstone"), &held.holder);
    for outcome in [
        store.get(&name).await.map(|_| ()),
        store.put(&name, Bytes::from_static(b"x")).await,
        store.delete(&name).await,
        store.list(&backstay_vault::store::Folder::new(&[&"packs"])).await.map(|_| ()),
    ] {
        refused(outcome, "the space of nullstone is not that of millstone");
    }
    assert!(other.store(&held.holder).get(&name).await.expect_err("it has none").is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_damaged_at_the_holder_is_put_again_by_its_writer() {
    let held = held();
    let (name, content) = pack(5);
    held.store.put(&name, content.clone()).await.expect("put");
    let path = held.folder.path().join("nullstone").join(name.as_str());
    std::fs::write(&path, b"damaged").expect("writes");
    held.store.put(&name, content.clone()).await.expect("put again");
    assert_eq!(std::fs::read(&path).expect("is there"), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_has_the_name_of_its_content() {
    let held = held();
    let content = Bytes::from_static(b"a point, sealed");
    let hash = ObjectHash::new(*blake3::hash(&content).as_bytes());
    let name = Named::Point(SourceId::new([1; 16]), PointId::new([2; 16]), hash).to_name();
    held.store.put(&name, content.clone()).await.expect("put");
    assert_eq!(held.store.get(&name).await.expect("get"), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_source_was_copied_on_is_told_to_its_node_alone() {
    let held = held();
    let source = SourceId::new([7; 16]);
    let standing = Standing {
        until_nanos: Some(42),
        newest: Some(NewestThere { id: [9; 16].into(), time_nanos: 41, number: 12 }),
        proofs: vec![ProofThere { level: 2, end_nanos: 40, took_nanos: 3, failures: 1 }],
        problem: Some("the bucket is full".to_owned()),
    };
    held.holder.spaces.standing.lock().expect("no panic").clone_from(&standing);
    assert_eq!(held.store.standing("nas", source).await.expect("told"), standing);
    refused(held.store.standing("tape", source).await.map(drop), "nothing is copied on to tape");
    held.holder.hold("cobblestone-2", &held.folder.path().join("other"), Rights::Write);
    let other = held.fleet.caller("cobblestone-2");
    let store = other.store_of(&node("nullstone"), &held.holder);
    refused(store.standing("nas", source).await.map(drop), "is not that of");
}
