//! What a commit does about collections: their records are written by hand, before and in the middle of it
//! (docs/format.md, sections 6 and 10).

use std::sync::Arc;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{ObjectHash, PackId, SessionId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::clear::{Custodian, TrustObject};
use backstay_vault::commit_object::{FenceObject, GcRecord, SessionKind, SessionObject, SessionState};
use backstay_vault::envelope::EnvelopeKind;
use backstay_vault::error::VaultError;
use backstay_vault::index_object::{IndexAuthor, IndexObject};
use backstay_vault::keys::Signer;
use backstay_vault::malformed::{decode_cbor, encode_cbor};
use backstay_vault::name::Named;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::Vault;

const SOURCE: &str = "static.files";

/// Commits are opened so often when a collection begins each time.
const STARTS: u64 = 5;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn number(n: u64) -> CollectionNumber {
    CollectionNumber::new(n)
}

/// A vault whose store has planned faults.
struct Scene {
    fixture: VaultFixture,
    memory: Arc<MemStore>,
    store: Arc<FaultStore<Arc<MemStore>>>,
    vault: Arc<Vault>,
    state: State,
}

impl Scene {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let memory = Arc::new(MemStore::new());
        let store = Arc::new(FaultStore::new(Arc::clone(&memory)));
        let vault = fixture.create(store.clone()).expect("create");
        let mut random = Random::new(1);
        let state = (0..10u8).map(|n| (vec![n], random.bytes(1000))).collect();
        Self { fixture, memory, store, vault, state }
    }

    fn put(&self, object: forge::Object) {
        self.fixture.put(&*self.memory, object);
    }

    fn record(&self, record: &GcRecord) -> forge::Object {
        forge::gc(self.fixture.ring(), self.fixture.signer(), record)
    }

    /// A collection that dooms nothing.
    fn collection(&self, n: u64) -> forge::Object {
        self.record(&forge::gc_record(n, vec![]))
    }

    fn sessions(&self) -> Vec<SessionObject> {
        let payloads = self.fixture.payloads(&*self.memory, "ledger/sessions", EnvelopeKind::Session);
        payloads.iter().map(|payload| decode_cbor(payload).expect("a session")).collect()
    }

    fn fences(&self) -> Vec<FenceObject> {
        let payloads = self.fixture.payloads(&*self.memory, "fences", EnvelopeKind::Fence);
        payloads.iter().map(|payload| decode_cbor(payload).expect("a fence")).collect()
    }

    fn index_objects(&self) -> Vec<IndexObject> {
        let payloads = self.fixture.payloads(&*self.memory, "index", EnvelopeKind::Index);
        payloads.iter().map(|payload| IndexObject::decode(payload).expect("an index object")).collect()
    }

    fn packs(&self) -> Vec<PackId> {
        self.index_objects().iter().flat_map(|index| index.packs.iter().map(|pack| pack.id)).collect()
    }

    fn capture(&self, source: &str, seconds: i64) -> Result<u64, VaultError> {
        let captured = self.fixture.capture(&self.vault, source, at(seconds), &self.state)?;
        let read = read_back(&self.vault, source, captured.link.point).expect("reads");
        assert!(read.state == self.state);
        Ok(captured.totals.new_chunks)
    }

    /// Writes everything into one index object of the custodian, and takes those of the writers away, as the end of a
    /// collection does.
    fn take_over_index(&self, collection: u64, custodian: &Signer) -> ObjectHash {
        let index = self.index_objects().pop().expect("one commit");
        let custodians = IndexObject {
            author: IndexAuthor::Custodian { term: 1 },
            collection: number(collection),
            ..index
        };
        for object in self.fixture.objects(&*self.memory, "index") {
            self.fixture.block_on(self.memory.delete(&object.name)).expect("delete");
        }
        let session = SessionId::new([0xcc; 16]);
        let object = forge::index(self.fixture.ring(), custodian, session, &custodians);
        let hash = object.hash();
        self.put(object);
        hash
    }
}

#[test]
fn session_point_and_index_carry_the_number_of_the_newest_collection() {
    let scene = Scene::new();
    scene.capture("before.files", 10).expect("capture");
    scene.put(scene.collection(6));
    scene.put(scene.collection(7));
    let other: State = State::from([(b"other".to_vec(), Random::new(2).bytes(500))]);
    scene.fixture.capture(&scene.vault, SOURCE, at(20), &other).expect("capture");
    let mut numbers: Vec<_> = scene.sessions().iter().map(|session| session.collection).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [number(0), number(7)]);
    let mut numbers: Vec<_> = scene.index_objects().iter().map(|index| index.collection).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [number(0), number(7)]);
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(catalogue.points()[0].vault_part.collection, number(7));
}

#[test]
fn a_commit_during_which_a_collection_begins_is_opened_anew_and_the_old_session_fenced() {
    let scene = Scene::new();
    scene.store.meanwhile(Trigger::on(Operation::Put).below("ledger/sessions/"), vec![scene.collection(1)]);
    scene.capture(SOURCE, 10).expect("capture");
    let sessions = scene.sessions();
    let ended = sessions.iter().find(|session| session.state == SessionState::Acknowledged);
    assert_eq!((sessions.len(), ended.expect("the second").collection), (2, number(1)));
    let fences = scene.fences();
    let left = sessions.iter().find(|session| session.state == SessionState::Open).expect("the first");
    assert_eq!(fences.len(), 1);
    assert_eq!((fences[0].session, fences[0].collection), (left.session, number(0)));
    assert_eq!(fences[0].sources, [scene.fixture.source(SOURCE)], "a fence says for which sources it is one");
}

#[test]
fn a_record_that_goes_before_it_is_read_counts_as_a_collection_that_begins() {
    let scene = Scene::new();
    // The other one has the same number: what was read does not tell that one is missing.
    scene.put(scene.collection(1));
    scene.put(scene.collection(1));
    scene.store.fail(Trigger::on(Operation::Get).below("ledger/gc/"), StoreErrorKind::NotFound);
    scene.capture(SOURCE, 10).expect("capture");
    assert_eq!((scene.sessions().len(), scene.fences().len()), (2, 1));
}

#[test]
fn a_commit_that_cannot_be_opened_between_two_collections_says_so_after_a_few_times() {
    let scene = Scene::new();
    for start in 0..STARTS {
        let opens = Trigger::on(Operation::Put).below("ledger/sessions/");
        scene.store.meanwhile(opens, vec![scene.collection(start + 1)]);
    }
    let error = scene.capture(SOURCE, 10).expect_err("a collection each time");
    assert!(matches!(error, VaultError::Collecting { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains("two custodians"), "{error}");
    assert_eq!((scene.sessions().len() as u64, scene.fences().len() as u64), (STARTS, STARTS));
    assert!(scene.fixture.objects(&*scene.memory, "packs").is_empty(), "nothing was written");
    scene.capture(SOURCE, 20).expect("when it is quiet");
}

#[test]
fn one_collection_may_begin_during_a_commit_and_two_may_not() {
    for (newest, acknowledged) in [(4, true), (5, true), (6, false)] {
        let scene = Scene::new();
        scene.put(scene.collection(4));
        scene.store.meanwhile(Trigger::on(Operation::Put).below("points/"), vec![scene.collection(newest)]);
        let outcome = scene.capture(SOURCE, 10);
        assert_eq!(outcome.is_ok(), acknowledged, "{newest}: {outcome:?}");
        let states: Vec<_> = scene.sessions().iter().map(|session| session.state).collect();
        match outcome {
            Ok(_) => assert_eq!(states, [SessionState::Acknowledged]),
            Err(error) => {
                assert!(matches!(error, VaultError::Overtaken { .. }) && error.is_transient(), "{error}");
                assert!(error.to_string().contains("capture again"), "{error}");
                assert_eq!((states, scene.fences().len()), (vec![SessionState::Open], 1));
            }
        }
    }
}

#[test]
fn collections_are_counted_after_the_fence_was_found_absent() {
    let scene = Scene::new();
    // Between the two questions the second collection begins: its custodian may have taken the fence away.
    scene.store.meanwhile(Trigger::on(Operation::Get).below("fences/"), vec![scene.collection(2)]);
    let error = scene.capture(SOURCE, 10).expect_err("too late");
    assert!(matches!(error, VaultError::Overtaken { .. }), "{error}");
}

#[test]
fn packs_are_doomed_by_every_record_that_is_listed() {
    for numbers in [[3, 4], [4, 4]] {
        let scene = Scene::new();
        let chunks = scene.capture("first.files", 10).expect("capture");
        let packs = scene.packs();
        assert_eq!(packs.len(), 2, "payload and metadata");
        for (n, pack) in numbers.into_iter().zip(packs) {
            scene.put(scene.record(&forge::gc_record(n, vec![pack])));
        }
        assert_eq!(scene.capture("other.files", 20).expect("capture"), chunks, "records {numbers:?}");
        assert_eq!(scene.capture("third.files", 30).expect("capture"), 0, "the new ones are not doomed");
    }
}

#[test]
fn a_custodians_index_is_counted_on_while_it_is_vouched_for() {
    let vouching = |n, index| GcRecord { index: vec![index], ..forge::gc_record(n, vec![]) };
    let other = ObjectHash::new([9; 32]);
    // The number that the index object carries, the records, and whether a writer counts on it.
    type Records = fn(ObjectHash, ObjectHash, &dyn Fn(u64, ObjectHash) -> GcRecord) -> Vec<GcRecord>;
    let cases: [(u64, Records, bool); 8] = [
        (0, |_, _, _| vec![], true),
        (1, |_, _, _| vec![], false),
        (0, |_, _, _| vec![forge::gc_record(1, vec![])], false),
        (1, |_, _, _| vec![forge::gc_record(1, vec![])], true),
        (0, |index, _, vouching| vec![vouching(1, index)], true),
        (0, |_, other, vouching| vec![vouching(1, other)], false),
        (0, |index, other, vouching| vec![vouching(1, index), vouching(2, other)], false),
        (0, |index, other, vouching| vec![vouching(2, index), vouching(2, other)], true),
    ];
    for (place, (carries, records, counted_on)) in cases.into_iter().enumerate() {
        let scene = Scene::new();
        let chunks = scene.capture("first.files", 10).expect("capture");
        let index = scene.take_over_index(carries, scene.fixture.signer());
        for record in records(index, other, &vouching) {
            scene.put(scene.record(&record));
        }
        let expected = if counted_on { 0 } else { chunks };
        assert_eq!(scene.capture("other.files", 20).expect("capture"), expected, "case {place}");
        let reopened = scene.fixture.open(scene.memory.clone()).expect("open");
        let first = reopened.catalogue(scene.fixture.source("first.files")).expect("catalogue");
        let point = first.points()[0].link.point;
        assert!(read_back(&reopened, "first.files", point).expect("a reader uses it").state == scene.state);
    }
}

#[test]
fn what_was_believed_of_a_custodians_index_is_asked_again_for_each_commit() {
    let scene = Scene::new();
    let chunks = scene.capture("first.files", 10).expect("capture");
    scene.take_over_index(0, scene.fixture.signer());
    assert_eq!(scene.capture("second.files", 20).expect("capture"), 0);
    scene.put(scene.collection(1));
    assert_eq!(scene.capture("third.files", 30).expect("capture"), chunks, "in the same process");
}

#[test]
fn an_index_that_only_a_custodian_may_write_is_refused_from_others() {
    let scene = Scene::new();
    let chunks = scene.capture("first.files", 10).expect("capture");
    let index = scene.index_objects().pop().expect("one");
    let custodians = IndexObject { author: IndexAuthor::Custodian { term: 2 }, ..index };
    let session = SessionId::new([0xcc; 16]);
    let forged = forge::index(scene.fixture.ring(), scene.fixture.signer(), session, &custodians);
    for object in scene.fixture.objects(&*scene.memory, "index") {
        scene.fixture.block_on(scene.memory.delete(&object.name)).expect("delete");
    }
    scene.put(forged.clone());
    assert_eq!(scene.capture("other.files", 20).expect("capture"), chunks);
    let report = scene.vault.check().expect("check");
    assert!(report.findings.iter().any(|finding| finding.what == forged.name.as_str()), "{report:?}");
}

#[test]
fn what_a_custodian_has_written_is_read_and_counted_on_when_its_node_is_gone() {
    let scene = Scene::new();
    let former = scene.fixture.other_node("cobblestone");
    let trust = |n, nodes, custodian: &VaultFixture, term, previous| {
        let custodian = Custodian { node: custodian.writer().node.clone(), term, signer: None };
        forge::trust(scene.fixture.admin(), &TrustObject { n, previous, nodes, custodian })
    };
    let first = trust(1, vec![scene.fixture.node(), former.node()], &former, 1, None);
    let second = trust(2, vec![scene.fixture.node()], &scene.fixture, 2, Some(first.hash()));
    let chunks = scene.capture("first.files", 10).expect("capture");
    let index = scene.take_over_index(0, former.signer());
    let record = GcRecord { index: vec![index], ..forge::gc_record(1, vec![]) };
    let record = forge::gc(scene.fixture.ring(), former.signer(), &record);
    [first, second, record].into_iter().for_each(|object| scene.put(object));

    let vault = scene.fixture.open(scene.store.clone()).expect("open");
    let scene = Scene { vault, ..scene };
    let report = scene.vault.check().expect("check");
    assert!(report.is_good() && report.good_points == 1, "{report:?}");
    assert_eq!(scene.capture("other.files", 20).expect("capture"), 0, "of {chunks}");
}

#[test]
fn a_record_that_is_not_the_custodians_or_not_of_its_name_stops_every_commit() {
    let scene = Scene::new();
    let stranger = scene.fixture.other_node("cobblestone");
    let record = forge::gc_record(1, vec![]);
    let by_another = forge::gc(scene.fixture.ring(), stranger.signer(), &record);
    let of_another_term = scene.record(&GcRecord { term: 2, ..record.clone() });
    let (ring, signer) = (scene.fixture.ring(), scene.fixture.signer());
    let misnamed = forge::hashed_envelope(ring, signer, EnvelopeKind::Gc, &encode_cbor(&record), |hash| {
        Named::Gc(number(2), hash)
    });
    for object in [by_another, of_another_term, misnamed] {
        scene.put(object.clone());
        let error = scene.capture(SOURCE, 10).expect_err("nothing can be counted on");
        assert!(error.to_string().contains(object.name.as_str()), "{error}");
        let report = scene.vault.check().expect("check");
        assert!(report.findings.iter().any(|finding| finding.what == object.name.as_str()), "{report:?}");
        scene.fixture.block_on(scene.memory.delete(&object.name)).expect("delete");
    }
    scene.capture(SOURCE, 20).expect("without them");
}

#[test]
fn a_node_that_starts_fences_its_dead_commits_and_leaves_readers_alone() {
    let scene = Scene::new();
    let source = scene.fixture.source(SOURCE);
    let node = &scene.fixture.writer().node;
    let commit = SessionObject {
        collection: number(3),
        ..forge::open_session(SessionId::new([1; 16]), node, vec![source])
    };
    let reader = SessionObject {
        kind: SessionKind::Reader,
        ..forge::open_session(SessionId::new([2; 16]), node, vec![source])
    };
    for session in [&commit, &reader] {
        scene.put(forge::session(scene.fixture.ring(), scene.fixture.signer(), session));
    }
    let dead = scene.fixture.fence_dead_sessions(&scene.vault, at(9)).expect("fences");
    let fences = scene.fences();
    assert_eq!((dead, fences.len()), (1, 1));
    assert_eq!((fences[0].session, fences[0].collection), (commit.session, number(3)));
    assert_eq!(fences[0].sources, [source]);
}
