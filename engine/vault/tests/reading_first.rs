//! Vaults whose requests cost money (docs/format.md, section 10, "Reading first"): how few requests a capture takes there, and
//! that what was read before the session was there still has to hold when it is.

use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::collection::CollectionNumber;
use backstay_core::id::PackId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, Style, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::commit_object::{BadList, GcRecord};
use backstay_vault::error::VaultError;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Counted, MemStore, Operation, RequestCounts, Store, StoreErrorKind};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Session, Vault};
use backstay_vault::write::ChunkWriter;

const SOURCE: &str = "static.files";

/// A vault that counts what it is asked, and in which something may happen meanwhile.
struct Scene {
    fixture: VaultFixture,
    memory: Arc<MemStore>,
    store: Arc<FaultStore<Arc<MemStore>>>,
    counts: Arc<RequestCounts>,
    vault: Arc<Vault>,
}

impl Scene {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let memory = Arc::new(MemStore::new().with_costly_requests());
        fixture.create(memory.clone()).expect("create");
        let store = Arc::new(FaultStore::new(memory.clone()));
        let counts = Arc::new(RequestCounts::default());
        let counted = Counted::new(Arc::clone(&store), counts.clone());
        let vault = fixture.open(Arc::new(counted)).expect("open");
        Self { fixture, memory, store, counts, vault }
    }

    fn capture(&self, seconds: i64, state: &State) -> Result<Captured, VaultError> {
        self.fixture.capture(&self.vault, SOURCE, Timestamp::from_seconds(seconds), state)
    }

    /// How many requests the work takes: puts, gets, lists.
    fn requests(&self, work: impl FnOnce()) -> [u64; 3] {
        // That there is no fence is an answer like any other.
        let of = |of| self.counts.succeeded(of) + self.counts.failed(of);
        let count = || [Operation::Put, Operation::Get, Operation::List].map(of);
        let before = count();
        work();
        let after = count();
        [0, 1, 2].map(|of| after[of] - before[of])
    }

    fn collection(&self, number: u64) -> forge::Object {
        self.collection_of(number, Vec::new())
    }

    fn collection_of(&self, number: u64, packs: Vec<PackId>) -> forge::Object {
        forge::gc(self.fixture.ring(), self.fixture.signer(), &forge::gc_record(number, packs))
    }

    fn packs(&self) -> Vec<PackId> {
        let named = self.names("packs/").into_iter().map(|name| ObjectName::parse(&name).expect("a name").1);
        let pack = |named| match named {
            Named::Pack(pack) => Some(pack),
            _ => None,
        };
        named.filter_map(pack).collect()
    }

    fn names(&self, below: &str) -> Vec<String> {
        self.memory.objects().into_keys().filter(|name| name.starts_with(below)).collect()
    }

    fn state_of(&self, captured: &Captured) -> State {
        read_back(&self.vault, SOURCE, captured.link.point).expect("reads").state
    }
}

fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..20u8).map(|n| (vec![b'a' + n], random.bytes(500))).collect()
}

#[test]
fn a_commit_takes_two_listings_one_get_and_its_puts() {
    let scene = Scene::new();
    let first = scene.capture(10, &state(1)).expect("captures");
    let requests = scene.requests(|| drop(scene.capture(20, &state(2)).expect("captures")));
    // Session, two packs, index, point, head, and the session once more.
    assert_eq!(requests, [7, 1, 2]);
    assert!(scene.state_of(&first) == state(1));
    assert!(scene.vault.check().expect("checks").is_good());
}

#[test]
fn a_source_that_has_not_changed_costs_its_head() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    let head = || scene.fixture.commit_head(&scene.vault, SOURCE, Timestamp::from_seconds(20)).expect("puts");
    assert_eq!(scene.requests(head), [1, 0, 0]);
    let sessions = scene.names("ledger/sessions/").len();
    assert_eq!((sessions, scene.names("heads/").len()), (1, 2));
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("reads");
    assert_eq!(catalogue.durable_until(scene.vault.id()), Some(Timestamp::from_seconds(20)));
}

#[test]
fn what_this_process_has_committed_is_the_parent_of_what_comes_next() {
    let scene = Scene::new();
    let points: Vec<Captured> =
        (1..5).map(|n| scene.capture(10 * n, &state(n as u64)).expect("captures")).collect();
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("reads");
    let parents: Vec<_> = catalogue.points().iter().map(|point| point.vault_part.parent).collect();
    let before = points.iter().map(|captured| Some(captured.link));
    assert_eq!(parents, [None].into_iter().chain(before.take(3)).collect::<Vec<_>>());
}

#[test]
fn a_collection_that_began_since_is_found_and_what_was_read_still_holds() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    scene.fixture.put(&*scene.memory, scene.collection(1));
    let captured = scene.capture(20, &state(2)).expect("captures");
    assert!(scene.state_of(&captured) == state(2));
    // That of the collection before is fenced, since it may be waited for.
    assert_eq!((scene.names("ledger/sessions/").len(), scene.names("fences/").len()), (3, 1));
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("reads");
    let newest = catalogue.newest().expect("it counts");
    assert_eq!(newest.vault_part.collection, CollectionNumber::new(1));
    let requests = scene.requests(|| drop(scene.capture(30, &state(3)).expect("captures")));
    assert!(requests[2] > 2, "all is read anew, once");
    assert_eq!(scene.requests(|| drop(scene.capture(40, &state(4)).expect("captures"))), [7, 1, 2]);
}

#[test]
fn chunks_that_went_since_are_not_counted_on() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    // The same contents under other names: nothing of them has to be uploaded.
    let moved: State =
        state(1).into_iter().map(|(key, value)| ([b"moved ", &key[..]].concat(), value)).collect();
    let session = Trigger::on(Operation::Put).below("ledger/sessions/");
    scene.store.meanwhile(session, vec![scene.collection_of(1, scene.packs())]);
    let refused = scene.capture(20, &moved).expect_err("what it counted on is about to go");
    assert!(matches!(refused, VaultError::Collecting { .. }), "{refused}");
    let captured = scene.capture(30, &moved).expect("captures again");
    assert!(captured.totals.new_chunks > 20, "all is uploaded again: {:?}", captured.totals);
    assert!(scene.state_of(&captured) == moved);
}

#[test]
fn a_list_of_what_is_lost_that_came_since_has_the_capture_begin_anew() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    let (ring, signer) = (scene.fixture.ring(), scene.fixture.signer());
    let list = BadList { number: 1, term: 1, time: Timestamp::from_seconds(15), lost: Vec::new() };
    let record = GcRecord { bad: Some(1), ..forge::gc_record(1, Vec::new()) };
    let session = Trigger::on(Operation::Put).below("ledger/sessions/");
    scene.store.meanwhile(session, vec![forge::bad(ring, signer, &list), forge::gc(ring, signer, &record)]);
    let refused = scene.capture(20, &state(2)).expect_err("it did not look for what is lost");
    assert!(matches!(refused, VaultError::Collecting { .. }), "{refused}");
    let captured = scene.capture(30, &state(2)).expect("captures again");
    assert!(scene.state_of(&captured) == state(2));
}

#[test]
fn where_an_unfinished_capture_has_left_something_the_session_is_there_from_the_beginning() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    let (vaults, at) = (std::slice::from_ref(&scene.vault), Timestamp::from_seconds(20));
    let sessions = || scene.names("ledger/sessions/").len();
    let style = Style { stop_at: Some(b"j".to_vec()), ..Style::default() };
    scene.fixture.capture_in_style(&scene.vault, SOURCE, at, &state(2), &style).expect("captures a part");
    assert_eq!(sessions(), 2);
    let open = scene.fixture.open_capture(vaults, SOURCE, at).expect("begins");
    assert_eq!(sessions(), 3, "nothing else keeps what it goes on from");
    let captured = open.commit(&state(2), &Style::default()).pop().expect("one target").expect("captures");
    assert!(scene.state_of(&captured) == state(2));
    scene.fixture.open_capture(vaults, "other.files", at).expect("begins");
    assert_eq!(sessions(), 3, "of another source there is nothing to keep");
}

#[test]
fn a_listing_without_the_session_that_was_just_put_is_old() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    let memory = Arc::clone(&scene.memory);
    scene.store.then(Trigger::on(Operation::Put).below("ledger/sessions/"), move || {
        let io = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for name in memory.objects().keys().filter(|name| name.starts_with("ledger/sessions/")) {
            let (name, _) = ObjectName::parse(name).expect("a name");
            io.block_on(memory.delete(&name)).expect("deletes");
        }
    });
    let refused = scene.capture(20, &state(2)).expect_err("old listings");
    assert!(matches!(refused, VaultError::OldListing { .. }), "{refused}");
    assert_eq!(scene.names("points/").len(), 1);
}

#[test]
fn whether_a_custodian_may_delete_is_tried_once_and_again_when_it_was_refused() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    let clock = ManualClock::new(Timestamp::from_seconds(20));
    let mut notes = MemoryNotes::default();
    let mut begin = || {
        let look = Inspection::new(Arc::clone(&scene.vault), kinds(), &clock);
        let (identity, pool) = (Arc::clone(scene.fixture.writer()), Arc::clone(scene.fixture.pool()));
        let begun = Custodian::new(look, identity, pool, &mut notes).map(drop);
        let (puts, deletes) =
            (scene.counts.succeeded(Operation::Put), scene.counts.succeeded(Operation::Delete));
        (begun, puts, deletes)
    };
    let (_, puts_at_first, deletes_at_first) = begin();
    let (begun, puts, deletes) = begin();
    begun.expect("begins");
    assert_eq!((puts - puts_at_first, deletes - deletes_at_first), (1, 1), "it could before");
    // The key has lost the right: what is put once more is known to have stayed.
    scene.store.fail(Trigger::on(Operation::Delete).below("ledger/").always(), StoreErrorKind::Refused);
    begin().0.expect_err("it may not delete");
    let (_, puts, _) = begin();
    assert_eq!(begin().1, puts, "nothing more is put that would stay");
    scene.store.heal();
    begin().0.expect("begins");
}

#[test]
fn a_pack_of_what_was_given_up_puts_no_session_any_more() {
    let scene = Scene::new();
    let at = Timestamp::from_seconds(10);
    let (session, _) = Session::begin(&scene.vault, scene.fixture.writer(), SOURCE, at).expect("begins");
    let (pool, ring) = (Arc::clone(scene.fixture.pool()), Arc::clone(scene.fixture.ring()));
    let writer = ChunkWriter::new(pool, ring, vec![session.view()]);
    session.give_up(at).expect("nothing is put");
    writer.put_data(vec![1; 1000].into());
    assert!(matches!(writer.flush()[..], [Err(VaultError::GivenUp)]));
    // Nobody would ever end or fence it, and all collections would wait for it.
    assert_eq!(scene.names("ledger/sessions/").len(), 0);
}

#[test]
fn a_store_that_was_emptied_is_noticed_before_anything_is_acknowledged() {
    let scene = Scene::new();
    scene.capture(10, &state(1)).expect("captures");
    for name in scene.memory.objects().keys() {
        let (name, _) = ObjectName::parse(name).expect("a name");
        scene.fixture.block_on(scene.memory.delete(&name)).expect("deletes");
    }
    // Of one that has a parent its rows are read first.
    let at = Timestamp::from_seconds(20);
    let refused = scene.fixture.capture(&scene.vault, "other.files", at, &state(2));
    let refused = refused.expect_err("there is no vault any more");
    assert!(matches!(refused, VaultError::NoVault { .. }), "{refused}");
    // But for the session by which it was noticed.
    assert_eq!(scene.memory.objects().len(), scene.names("ledger/sessions/").len());
}

#[test]
fn two_targets_of_which_requests_to_one_cost_stand_at_the_same_point() {
    let scene = Scene::new();
    let free = scene.fixture.create(Arc::new(MemStore::new())).expect("creates");
    let vaults = [Arc::clone(&scene.vault), free];
    let at = Timestamp::from_seconds(10);
    for n in 1..4 {
        let open = scene.fixture.open_capture(&vaults, SOURCE, at).expect("opens");
        open.commit(&state(n), &Style::default())
            .into_iter()
            .for_each(|captured| drop(captured.expect("captures")));
    }
    let points = vaults.map(|vault| {
        let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("reads");
        catalogue.points().iter().map(|point| point.link.point).collect::<Vec<_>>()
    });
    assert_eq!(points[0].len(), 3);
    assert_eq!(points[0], points[1]);
}
