//! Commits that go together (docs/format.md, section 10, "Group commit"): what they share, and that each of them is acknowledged or
//! not as if it were alone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::collection::CollectionNumber;
use backstay_core::digest::StateDigest;
use backstay_core::id::PackId;
use backstay_core::point::Facts;
use backstay_core::run::{Change, Entry};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Awaited, Captured, State, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_testkit::rows::RowKind;
use backstay_vault::error::VaultError;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Counted, MemStore, Operation, RequestCounts, Store, StoreErrorKind};
use backstay_vault::table::PartWriter;
use backstay_vault::targets::{CaptureSource, CapturedState, TargetResult, Targets, WaitWatch, WithOthers};
use backstay_vault::vault::{GROUP_MEMBERS_MAX, Vault};

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
        let vault = fixture.open(Arc::new(Counted::new(Arc::clone(&store), counts.clone()))).expect("open");
        Self { fixture, memory, store, counts, vault }
    }

    fn capture(&self, source: usize, seconds: i64) -> Captured {
        let at = Timestamp::from_seconds(seconds);
        self.fixture.capture(&self.vault, &name(source), at, &state(source, seconds)).expect("captures")
    }

    /// A capture that waits for others.
    fn begin(&self, source: usize, seconds: i64) -> Awaited {
        self.begin_with(source, seconds, &state(source, seconds))
    }

    fn begin_with(&self, source: usize, seconds: i64, state: &State) -> Awaited {
        let (vaults, at) = (std::slice::from_ref(&self.vault), Timestamp::from_seconds(seconds));
        let open = self.fixture.open_capture(vaults, &name(source), at).expect("begins");
        open.commit_with_others(state, RowKind::default(), LONG).expect("writes")
    }

    fn nobody_else_comes(&self) {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_seconds(99)));
        self.vault.close_group(&clock);
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

    fn collection(&self, number: u64, packs: Vec<PackId>) -> forge::Object {
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

    fn points_of(&self, source: usize) -> usize {
        self.vault.catalogue(self.fixture.source(&name(source))).expect("reads").points().len()
    }

    fn holds(&self, source: usize, captured: &Captured, expected: &State) {
        // As somebody sees it who has not written it.
        let vault = self.fixture.open(Arc::clone(&self.memory) as Arc<_>).expect("opens");
        let point = captured.link.point;
        assert!(
            read_back(&vault, &name(source), point).expect("reads").state == *expected,
            "source {source}"
        );
    }
}

/// Nobody waits for so long: groups are closed before.
const LONG: Duration = Duration::from_secs(3600);

fn name(source: usize) -> String {
    format!("service{source}.files")
}

fn state(source: usize, seconds: i64) -> State {
    let mut random = Random::new(source as u64 * 1000 + seconds as u64);
    (0..20u8).map(|n| (vec![b'a' + n], random.bytes(500))).collect()
}

#[test]
fn commits_that_go_together_take_the_requests_of_one_and_a_point_and_a_head_for_each() {
    let scene = Scene::new();
    for source in 0..5 {
        scene.capture(source, 10);
    }
    let mut captured = Vec::new();
    let requests = scene.requests(|| {
        let waiting: Vec<Awaited> = (0..5).map(|source| scene.begin(source, 20)).collect();
        scene.nobody_else_comes();
        captured.extend(waiting.into_iter().map(|waiting| waiting.wait().expect("commits")));
    });
    // The session twice, two packs, one index; five points and heads.
    assert_eq!(requests, [15, 1, 2]);
    for (source, captured) in captured.iter().enumerate() {
        scene.holds(source, captured, &state(source, 20));
    }
    assert!(scene.vault.check().expect("checks").is_good());
    // And what comes after builds on them.
    let after = scene.requests(|| drop(scene.capture(3, 30)));
    assert_eq!((after, scene.points_of(3)), ([7, 1, 2], 3));
}

#[test]
fn what_several_have_sealed_is_stored_once() {
    let scene = Scene::new();
    let same = state(7, 7);
    let waiting: Vec<Awaited> = (0..3).map(|source| scene.begin_with(source, 10, &same)).collect();
    scene.nobody_else_comes();
    for (source, waiting) in waiting.into_iter().enumerate() {
        let captured = waiting.wait().expect("commits");
        scene.holds(source, &captured, &same);
    }
    // Twenty of data. The tables refer to points of different sources, and differ or do not.
    let check = scene.vault.check().expect("checks");
    assert!(check.is_good());
    let (index, packs) = (scene.vault.totals(), scene.packs().len());
    assert_eq!(packs, 2);
    assert!((21..=20 + 3 * 3).contains(&index.chunks), "{index:?}");
}

#[test]
fn one_that_nobody_joins_goes_when_the_time_is_over() {
    let scene = Scene::new();
    let (wait, start) = (Duration::from_millis(300), Instant::now());
    let (vaults, at) = (std::slice::from_ref(&scene.vault), Timestamp::from_seconds(10));
    let open = scene.fixture.open_capture(vaults, &name(1), at).expect("begins");
    let awaited = open.commit_with_others(&state(1, 10), RowKind::default(), wait).expect("writes");
    // With one that would wait for longer.
    let other = scene.begin(2, 10);
    let captured = awaited.wait().expect("commits");
    assert!(start.elapsed() >= wait);
    scene.holds(1, &captured, &state(1, 10));
    let captured = other.wait().expect("commits");
    scene.holds(2, &captured, &state(2, 10));
    assert_eq!(scene.names("ledger/sessions/").len(), 1);
}

#[test]
fn a_group_that_is_full_does_not_wait() {
    let scene = Scene::new();
    let first: Vec<Awaited> = (0..GROUP_MEMBERS_MAX).map(|source| scene.begin(source, 10)).collect();
    let late = scene.begin(GROUP_MEMBERS_MAX, 10);
    first.into_iter().for_each(|waiting| drop(waiting.wait().expect("commits")));
    scene.nobody_else_comes();
    late.wait().expect("commits");
    assert_eq!(scene.names("ledger/sessions/").len(), 2);
}

#[test]
fn two_commits_of_one_source_do_not_go_by_one_session() {
    let scene = Scene::new();
    scene.capture(1, 10);
    let waiting = [scene.begin(1, 20), scene.begin(1, 30)];
    scene.nobody_else_comes();
    waiting.into_iter().for_each(|waiting| drop(waiting.wait().expect("commits")));
    assert_eq!((scene.names("ledger/sessions/").len(), scene.points_of(1)), (3, 3));
}

#[test]
fn one_that_has_read_something_else_goes_by_its_own_session() {
    let scene = Scene::new();
    scene.capture(1, 10);
    scene.capture(2, 10);
    let first = scene.begin(1, 20);
    scene.fixture.put(&*scene.memory, scene.collection(1, Vec::new()));
    scene.vault.forget();
    let second = scene.begin(2, 20);
    scene.nobody_else_comes();
    for (source, waiting) in [(1, first), (2, second)] {
        let captured = waiting.wait().expect("commits");
        scene.holds(source, &captured, &state(source, 20));
        let catalogue = scene.vault.catalogue(scene.fixture.source(&name(source))).expect("reads");
        let newest = catalogue.newest().expect("it counts");
        assert_eq!(newest.vault_part.collection, CollectionNumber::new(1));
    }
    // Two of before, the fenced one of the first with that which took its place, and that of the second.
    assert_eq!((scene.names("ledger/sessions/").len(), scene.names("fences/").len()), (5, 1));
}

#[test]
fn a_collection_that_began_since_is_found_by_all_of_them() {
    let scene = Scene::new();
    (0..3).for_each(|source| drop(scene.capture(source, 10)));
    let waiting: Vec<Awaited> = (0..3).map(|source| scene.begin(source, 20)).collect();
    scene.fixture.put(&*scene.memory, scene.collection(1, Vec::new()));
    scene.nobody_else_comes();
    for (source, waiting) in waiting.into_iter().enumerate() {
        let captured = waiting.wait().expect("commits");
        scene.holds(source, &captured, &state(source, 20));
    }
    // Three alone, the one that was fenced, and that of the group.
    assert_eq!((scene.names("ledger/sessions/").len(), scene.names("fences/").len()), (5, 1));
}

#[test]
fn what_one_of_them_counts_on_and_is_about_to_go_holds_all_of_them_back() {
    let scene = Scene::new();
    (0..2).for_each(|source| drop(scene.capture(source, 10)));
    let moved: State =
        state(1, 10).into_iter().map(|(key, value)| ([b"moved ", &key[..]].concat(), value)).collect();
    let waiting = [scene.begin(0, 20), scene.begin_with(1, 20, &moved)];
    scene.fixture.put(&*scene.memory, scene.collection(1, scene.packs()));
    scene.nobody_else_comes();
    for waiting in waiting {
        let refused = waiting.wait().expect_err("it is about to go");
        assert!(matches!(&refused, VaultError::Together(_)), "{refused}");
        assert_eq!((refused.class(), refused.is_transient()), ("collection", true));
    }
    let again = [scene.begin(0, 30), scene.begin_with(1, 30, &moved)];
    scene.nobody_else_comes();
    let [_, captured] = again.map(|waiting| waiting.wait().expect("commits"));
    scene.holds(1, &captured, &moved);
}

#[test]
fn a_fence_that_came_in_time_is_one_for_all_of_them() {
    let scene = Scene::new();
    (0..2).for_each(|source| drop(scene.capture(source, 10)));
    let waiting = [scene.begin(0, 20), scene.begin(1, 20)];
    let (memory, ring) = (Arc::clone(&scene.memory), Arc::clone(scene.fixture.ring()));
    let writer = Arc::clone(scene.fixture.writer());
    scene.store.then(Trigger::on(Operation::Put).below("heads/"), move || {
        let io = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let sessions = memory.objects().into_keys().filter(|name| name.starts_with("ledger/sessions/"));
        for name in sessions {
            if let (_, Named::Session(session)) = ObjectName::parse(&name).expect("a name") {
                let forge::Object { name, content } = forge::fence(&ring, &writer.signer, session);
                io.block_on(memory.put(&name, content)).expect("puts");
            }
        }
    });
    scene.nobody_else_comes();
    for waiting in waiting {
        let refused = waiting.wait().expect_err("fenced");
        assert_eq!(refused.class(), "fenced", "{refused}");
    }
}

/// What a capture tells of its waiting; says at once that nobody else comes.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl WaitWatch for Told {
    fn waits(&self, vaults: &[Arc<Vault>], bytes: usize) {
        self.0.lock().expect("no panic").push(format!(
            "waits in {} with records: {}",
            vaults.len(),
            bytes > 0
        ));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_seconds(99)));
        vaults.iter().for_each(|vault| vault.close_group(&clock));
    }

    fn goes_on(&self) {
        self.0.lock().expect("no panic").push("goes on".to_owned());
    }
}

/// One capture to several vaults, as the daemon makes it; how each of them ended.
fn capture_to(scene: &Scene, vaults: Vec<Arc<Vault>>, told: &Arc<Told>) -> Vec<TargetResult> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(10)));
    let source = CaptureSource {
        name: name(1),
        kind: "files",
        facts: Facts::default(),
        holds: Vec::new(),
        seen: Vec::new(),
        numbered_after: 0,
    };
    let writer = Arc::clone(scene.fixture.writer());
    let (targets, _) = Targets::open(vaults, writer, source, None, &*clock).expect("opens");
    let with_others = WithOthers::new(clock.clone(), Arc::clone(told) as Arc<dyn WaitWatch>, LONG);
    let targets = targets.with_others(Some(with_others));
    let mut chunks = targets.chunk_writer(scene.fixture.pool()).expect("open targets");
    let mut part = PartWriter::new();
    let entry = Entry { key: b"key", change: Change::Put(b"value"), replaced: None };
    part.push(scene.fixture.ring(), &mut chunks, &entry).expect("pushes");
    let parts = [part.finish(&mut chunks).expect("writes").expect("has an entry")];
    let (digest, start) = (StateDigest::empty(), Timestamp::from_seconds(10));
    let state = CapturedState { digest, entries: 1, bytes: 0, defects: Vec::new(), start, whole_until: None };
    targets.commit_final(chunks, Some(&parts), &state, &*clock).1
}

#[test]
fn a_capture_waits_only_where_requests_cost_and_when_it_has_nothing_else_to_do() {
    let scene = Scene::new();
    let free = scene.fixture.create(Arc::new(MemStore::new())).expect("creates");
    let told = Arc::new(Told::default());
    let results = capture_to(&scene, vec![Arc::clone(&scene.vault), Arc::clone(&free)], &told);
    assert!(results.iter().all(|result| matches!(result, Ok(Some(_)))), "{results:?}");
    assert_eq!(*told.0.lock().expect("no panic"), ["waits in 1 with records: true", "goes on"]);
    for vault in [&scene.vault, &free] {
        assert_eq!(vault.catalogue(scene.fixture.source(&name(1))).expect("reads").points().len(), 1);
    }
    let told = Arc::new(Told::default());
    let other = scene.fixture.create(Arc::new(MemStore::new())).expect("creates");
    assert!(matches!(capture_to(&scene, vec![other], &told)[..], [Ok(Some(_))]));
    assert!(told.0.lock().expect("no panic").is_empty());
}

#[test]
fn where_the_commit_of_a_group_fails_the_other_vault_of_a_capture_has_its_point() {
    let scene = Scene::new();
    let free = scene.fixture.create(Arc::new(MemStore::new())).expect("creates");
    scene.store.fail(Trigger::on(Operation::Put).below("points/").always(), StoreErrorKind::NoSpace);
    let results = capture_to(&scene, vec![Arc::clone(&scene.vault), free], &Arc::default());
    assert!(matches!(&results[0], Err(error) if error.class() == "no_space"), "{results:?}");
    assert!(matches!(&results[1], Ok(Some(_))), "{results:?}");
}
