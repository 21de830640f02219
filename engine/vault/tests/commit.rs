//! Commits: what becomes durable, what is uploaded, what is believed, what is acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;

use backstay_core::id::{PackId, SessionId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Counted, MemStore, Operation, RequestCounts, Store, StoreErrorKind};

const SOURCE: &str = "static.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Values of 0 to 40 000 bytes: none, one or several chunks each.
fn sample(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..30u32)
        .map(|n| {
            let length = random.below(40_000);
            (format!("directory/{n:04}").into_bytes(), random.bytes(length))
        })
        .collect()
}

fn edited(state: &State) -> State {
    let mut state = state.clone();
    state.insert(b"directory/0003".to_vec(), b"changed".to_vec());
    state.insert(b"new".to_vec(), b"added".to_vec());
    state.remove(b"directory/0007".as_slice());
    state
}

fn names(store: &MemStore, folder: &str) -> BTreeSet<String> {
    store.objects().into_keys().filter(|name| name.starts_with(folder)).collect()
}

fn packs(store: &MemStore) -> BTreeSet<PackId> {
    let name = |name: &String| match ObjectName::parse(name)?.1 {
        Named::Pack(id) => Some(id),
        _ => None,
    };
    store.objects().keys().filter_map(name).collect()
}

fn sessions(store: &MemStore) -> BTreeSet<SessionId> {
    let name = |name: &String| match ObjectName::parse(name)?.1 {
        Named::Session(id) => Some(id),
        _ => None,
    };
    store.objects().keys().filter_map(name).collect()
}

/// A store whose faults are planned, above memory.
fn faulty() -> (Arc<MemStore>, Arc<FaultStore<Arc<MemStore>>>) {
    let memory = Arc::new(MemStore::new());
    (Arc::clone(&memory), Arc::new(FaultStore::new(memory)))
}

#[test]
fn points_and_their_edits_read_back_in_another_process() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let first = sample(1);
    let second = edited(&first);
    let style = Style { part_entries: 7, ..Style::default() };
    let base = fixture.capture_in_style(&vault, SOURCE, at(10), &first, &style).expect("base");
    let edit = fixture.capture_in_style(&vault, SOURCE, at(20), &second, &style).expect("edit");

    let reopened = fixture.open(store).expect("open");
    let catalogue = reopened.catalogue(fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(catalogue.points().iter().map(|p| p.link).collect::<Vec<_>>(), [base.link, edit.link]);
    assert_eq!(catalogue.points()[0].vault_part.run.len(), 5, "30 entries in parts of 7");
    let entries: u64 = catalogue.points()[1].vault_part.run.iter().map(|part| part.entries).sum();
    assert_eq!(entries, 3, "an edit has what changed, and a tombstone");
    for (captured, state) in [(&base, &first), (&edit, &second)] {
        let read = read_back(&reopened, SOURCE, captured.link.point).expect("reads");
        assert!(read.state == *state, "the state is what was captured");
        assert_eq!(read.digest, captured.common.digest, "and so is its digest");
    }
    assert_ne!(base.common.digest, edit.common.digest);
    assert_eq!(reopened.sources().expect("sources"), [fixture.source(SOURCE)]);
}

#[test]
fn an_unchanged_capture_uploads_no_data() {
    let fixture = VaultFixture::new();
    let memory = Arc::new(MemStore::new());
    fixture.create(memory.clone()).expect("create");
    let state = sample(2);
    let first =
        fixture.capture(&fixture.open(memory.clone()).expect("open"), SOURCE, at(10), &state).expect("base");
    assert!(first.totals.new_chunks > 30, "{:?}", first.totals);
    let before = memory.objects().len();

    let counts = Arc::new(RequestCounts::default());
    let vault = fixture.open(Arc::new(Counted::new(memory.clone(), counts.clone()))).expect("open");
    let second = fixture.capture(&vault, SOURCE, at(20), &state).expect("again");
    assert_eq!(second.totals.new_chunks, 0);
    assert_eq!(second.totals.plain_bytes, state.values().map(|v| v.len() as u64).sum::<u64>());
    assert_eq!(counts.succeeded(Operation::Put), 4, "session, point, head, end of session");
    assert_eq!(memory.objects().len(), before + 3);
    assert_eq!(second.common.digest, first.common.digest);
    assert!(read_back(&vault, SOURCE, second.link.point).expect("reads").state == state);
}

#[test]
fn chunks_are_shared_between_sources() {
    let fixture = VaultFixture::new();
    let vault = fixture.create(Arc::new(MemStore::new())).expect("create");
    let state = sample(3);
    fixture.capture(&vault, "one.files", at(10), &state).expect("one");
    let other = fixture.capture(&vault, "other.files", at(20), &state).expect("other");
    assert_eq!(other.totals.new_chunks, 0, "payload and blocks are the same");
    assert!(read_back(&vault, "other.files", other.link.point).expect("reads").state == state);
}

#[test]
fn a_look_at_the_vault_does_not_make_its_chunks_strange_to_a_writer() {
    let fixture = VaultFixture::new();
    let memory = Arc::new(MemStore::new());
    fixture.create(memory.clone()).expect("create");
    let state = sample(4);
    fixture.capture(&fixture.open(memory.clone()).expect("open"), SOURCE, at(10), &state).expect("base");
    let vault = fixture.open(memory).expect("open");
    assert!(vault.check().expect("check").is_good());
    let again = fixture.capture(&vault, SOURCE, at(20), &state).expect("again");
    assert_eq!(again.totals.new_chunks, 0);
    assert!(vault.check().expect("check").is_good());
    let third = fixture.capture(&vault, SOURCE, at(30), &state).expect("again");
    assert_eq!(third.totals.new_chunks, 0);
}

#[test]
fn an_unchanged_source_costs_a_head_and_no_point() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let base = fixture.capture(&vault, SOURCE, at(10), &sample(5)).expect("base");
    let before = store.objects().len();
    fixture.commit_head(&vault, SOURCE, at(99)).expect("head");
    assert_eq!(store.objects().len(), before + 2, "session and head");
    let catalogue = vault.catalogue(fixture.source(SOURCE)).expect("catalogue");
    assert_eq!(catalogue.points().len(), 1);
    let (_, head) = catalogue.head.expect("a head");
    assert_eq!((head.time, head.targets[0].point), (at(99), base.link.point));
    assert_eq!(head.targets[0].time, at(99));
    assert!(head.previous.is_some() && head.sequence > base.common.sequence);
}

#[test]
fn a_partial_point_is_hidden_and_its_parts_are_taken_over() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(6);
    let partial = Style { part_entries: 5, stop_at: Some(b"directory/0019".to_vec()), ..Style::default() };
    fixture.capture_in_style(&vault, SOURCE, at(10), &state, &partial).expect("partial");
    let catalogue = vault.catalogue(fixture.source(SOURCE)).expect("catalogue");
    assert_eq!((catalogue.points().len(), catalogue.partial_points().len()), (0, 1));
    assert!(catalogue.head.is_none());
    let parts = catalogue.partial_points()[0].vault_part.run.clone();

    let reopened = fixture.open(store).expect("open");
    let style = Style { part_entries: 5, ..Style::default() };
    let whole = fixture.capture_in_style(&reopened, SOURCE, at(20), &state, &style).expect("whole");
    let catalogue = reopened.catalogue(fixture.source(SOURCE)).expect("catalogue");
    let run = &catalogue.point(whole.link.point).expect("counts").vault_part.run;
    assert_eq!((parts.len(), run.len()), (4, 6));
    assert_eq!(run[..4], parts);
    let read = read_back(&reopened, SOURCE, whole.link.point).expect("reads");
    assert!(read.state == state);
    assert_eq!(read.digest, whole.common.digest);
}

#[test]
fn one_read_feeds_several_vaults_and_one_that_fails_does_not_hold_up_the_others() {
    let fixture = VaultFixture::new();
    let (_, failing) = faulty();
    let stores: [Arc<MemStore>; 2] = Default::default();
    let vaults = vec![
        fixture.create(stores[0].clone()).expect("create"),
        fixture.create(failing.clone()).expect("create"),
        fixture.create(stores[1].clone()).expect("create"),
    ];
    let state = sample(7);
    failing.fail(Trigger::on(Operation::Put).below("packs/").always(), StoreErrorKind::NoSpace);
    let open = fixture.open_capture(&vaults, SOURCE, at(10)).expect("sessions");
    let mut outcomes = open.commit(&state, &Style::default());
    let error = outcomes.remove(1).expect_err("full");
    assert_eq!(error.class(), "no_space");
    assert!(error.to_string().contains("free space"), "{error}");
    let points: Vec<_> = outcomes.into_iter().map(|o| o.expect("the others complete").link.point).collect();
    assert_eq!(points[0], points[1], "one point id in all vaults");
    for (vault, point) in [(&vaults[0], points[0]), (&vaults[2], points[1])] {
        assert!(read_back(vault, SOURCE, point).expect("reads").state == state);
    }
    assert!(vaults[1].catalogue(fixture.source(SOURCE)).expect("catalogue").points().is_empty());

    failing.heal();
    fixture.capture(&vaults[1], SOURCE, at(20), &state).expect("afresh from its own cursor");
    assert!(vaults[1].check().expect("check").is_good());
}

#[test]
fn when_every_vault_fails_each_says_why() {
    let fixture = VaultFixture::new();
    let faults = [faulty(), faulty()];
    let kinds = [(StoreErrorKind::ReadOnly, "read_only"), (StoreErrorKind::Denied, "denied")];
    let vaults: Vec<_> = faults.iter().map(|(_, f)| fixture.create(f.clone()).expect("create")).collect();
    for ((_, store), (kind, _)) in faults.iter().zip(kinds) {
        store.fail(Trigger::on(Operation::Put).below("packs/").always(), kind);
    }
    let open = fixture.open_capture(&vaults, SOURCE, at(10)).expect("sessions");
    let outcomes = open.commit(&sample(8), &Style::default());
    let classes: Vec<_> = outcomes.into_iter().map(|o| o.expect_err("fails").class()).collect();
    assert_eq!(classes, kinds.map(|(_, class)| class));
}

#[test]
fn a_fenced_session_acknowledges_nothing_and_its_chunks_are_not_counted_on() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(9);
    let open = fixture.open_capture(std::slice::from_ref(&vault), SOURCE, at(10)).expect("session");
    let session = sessions(&store).pop_first().expect("open");
    fixture.put(&*store, forge::fence(fixture.ring(), fixture.signer(), session));
    let error = open.commit(&state, &Style::default()).remove(0).expect_err("fenced");
    assert!(matches!(error, VaultError::Fenced { session: fenced } if fenced == session), "{error}");
    assert!(error.to_string().contains("capture again"), "{error}");
    assert!(error.is_transient());

    let before = packs(&store);
    let again = fixture.capture(&vault, SOURCE, at(20), &state).expect("start over");
    assert!(again.totals.new_chunks > 30, "what a fenced session wrote may go: it is uploaded again");
    assert!(packs(&store).is_superset(&before) && packs(&store).len() > before.len());
    assert!(read_back(&vault, SOURCE, again.link.point).expect("reads").state == state);
}

#[test]
fn a_commit_whose_fence_cannot_be_asked_for_acknowledges_nothing() {
    let fixture = VaultFixture::new();
    let (memory, store) = faulty();
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(10);
    store.fail(Trigger::on(Operation::Get).below("fences/"), StoreErrorKind::Transient);
    let error = fixture.capture(&vault, SOURCE, at(10), &state).expect_err("unknown is not absent");
    assert!(error.is_transient(), "{error}");
    assert_eq!(names(&memory, "index/").len(), 1);

    for (vault, seconds) in [(vault, 20), (fixture.open(memory).expect("open"), 30)] {
        let source = format!("other{seconds}.files");
        let again = fixture.capture(&vault, &source, at(seconds), &state).expect("again");
        let believed =
            if seconds == 20 { "the index of the failed commit" } else { "that of the one after it" };
        assert_eq!(again.totals.new_chunks > 0, seconds == 20, "counts on {believed}");
        assert!(read_back(&vault, &source, again.link.point).expect("reads").state == state);
        assert!(vault.check().expect("check").is_good());
    }
}

#[test]
fn a_node_fences_the_sessions_that_it_left_open_and_no_others() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(11);
    fixture.capture(&vault, SOURCE, at(10), &state).expect("acknowledged");
    drop(fixture.open_capture(std::slice::from_ref(&vault), SOURCE, at(20)).expect("left open"));
    assert!(names(&store, "fences/").is_empty());

    let reopened = fixture.open(store.clone()).expect("open");
    assert_eq!(fixture.fence_dead_sessions(&reopened, at(30)).expect("fences"), 1);
    assert_eq!(names(&store, "fences/").len(), 1);
    assert_eq!(fixture.fence_dead_sessions(&reopened, at(40)).expect("fences"), 0, "once is enough");
    assert_eq!(fixture.capture(&reopened, SOURCE, at(50), &state).expect("capture").totals.new_chunks, 0);
}

#[test]
fn a_head_proves_nothing_without_its_point() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    fixture.capture(&vault, SOURCE, at(10), &sample(1)).expect("first");
    let second = fixture.capture(&vault, SOURCE, at(20), &sample(2)).expect("second");
    fixture.commit_head(&vault, SOURCE, at(30)).expect("nothing new");
    let durable_until = |objects| {
        let vault = fixture.open(Arc::new(MemStore::with_objects(objects))).expect("open");
        vault.catalogue(fixture.source(SOURCE)).expect("catalogue").durable_until(vault.id())
    };
    assert_eq!(durable_until(store.objects()), Some(at(30)));
    let mut objects = store.objects();
    let lost = second.link.point.to_string();
    objects.retain(|name, _| !(name.starts_with("points/") && name.contains(&lost)));
    assert_eq!(durable_until(objects), Some(at(10)));
}

#[test]
fn a_commit_that_fails_fences_its_session_so_that_nobody_waits_for_it() {
    let fixture = VaultFixture::new();
    // Of the three listings of `gc/` the first comes before there is a session.
    for (operation, below, skip) in [
        (Operation::List, "ledger/gc/", 1),
        (Operation::List, "ledger/gc/", 2),
        (Operation::Put, "index/", 0),
        (Operation::Put, "points/", 0),
        (Operation::Put, "heads/", 0),
    ] {
        let (memory, store) = faulty();
        let vault = fixture.create(store.clone()).expect("create");
        store.fail(Trigger::on(operation).below(below).after(skip), StoreErrorKind::Permanent);
        fixture.capture(&vault, SOURCE, at(10), &sample(12)).err().unwrap_or_else(|| panic!("{below} fails"));
        let fences: BTreeSet<_> =
            names(&memory, "fences/").iter().map(|name| name.replace("fences", "ledger/sessions")).collect();
        assert!(fences.len() == 1 && fences == names(&memory, "ledger/sessions/"), "{operation:?} {below}");
    }
}

#[test]
fn an_acknowledged_commit_stays_so_when_its_session_cannot_be_ended() {
    let fixture = VaultFixture::new();
    let (memory, store) = faulty();
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(13);
    // The first put of a session opens it.
    store.fail(Trigger::on(Operation::Put).below("ledger/sessions/").after(1), StoreErrorKind::Transient);
    let captured = fixture.capture(&vault, SOURCE, at(10), &state).expect("acknowledged");
    let reopened = fixture.open(memory).expect("open");
    assert_eq!(fixture.fence_dead_sessions(&reopened, at(20)).expect("fences"), 1);
    assert!(read_back(&reopened, SOURCE, captured.link.point).expect("reads").state == state);
    let again = fixture.capture(&reopened, SOURCE, at(30), &state).expect("again");
    assert!(again.totals.new_chunks > 0, "a session that was not ended is not counted on");
}

#[test]
fn packs_that_are_about_to_go_are_not_counted_on() {
    let fixture = VaultFixture::new();
    let store = Arc::new(MemStore::new());
    let vault = fixture.create(store.clone()).expect("create");
    let state = sample(14);
    fixture.capture(&vault, SOURCE, at(10), &state).expect("base");
    let doomed = packs(&store);
    let record = forge::gc_record(1, doomed.iter().copied().collect());
    fixture.put(&*store, forge::gc(fixture.ring(), fixture.signer(), &record));
    // Of another source, so that nothing of the first point is needed.
    let again = fixture.capture(&vault, "other.files", at(20), &state).expect("again");
    assert!(again.totals.new_chunks > 30, "{:?}", again.totals);
    let third = fixture.capture(&vault, "other.files", at(30), &state).expect("third");
    assert_eq!(third.totals.new_chunks, 0, "the second place is not about to go");

    for id in &doomed {
        fixture.block_on(store.delete(&Named::Pack(*id).to_name())).expect("delete");
    }
    let reopened = fixture.open(store).expect("open");
    assert!(
        read_back(&reopened, "other.files", third.link.point).expect("all is there twice").state == state
    );
}

#[test]
fn the_parent_is_the_point_that_is_pinned_also_when_another_comes_meanwhile() {
    let fixture = VaultFixture::new();
    let (memory, store) = faulty();
    let vault = fixture.create(store.clone()).expect("create");
    let states = [sample(15), sample(16), sample(17)];
    fixture.capture(&vault, SOURCE, at(10), &states[0]).expect("base");
    // Another process of the node commits a point in a copy of the store; it lands as our session opens.
    let copy = Arc::new(MemStore::with_objects(memory.objects()));
    let other = fixture
        .capture(&fixture.open(copy.clone()).expect("open"), SOURCE, at(20), &states[1])
        .expect("other");
    let objects = copy.objects().into_iter().filter(|(name, _)| !memory.objects().contains_key(name));
    let objects = objects
        .map(|(name, content)| forge::Object { name: ObjectName::parse(&name).expect("ours").0, content });
    store.meanwhile(Trigger::on(Operation::Put).below("ledger/sessions/"), objects.collect());

    let open = fixture.open_capture(std::slice::from_ref(&vault), SOURCE, at(30)).expect("session");
    let (session, catalogue) = &open.targets()[0];
    assert_eq!(catalogue.newest().map(|point| point.link), Some(other.link));
    assert_eq!(session.parent().map(|point| point.link), Some(other.link));
    assert_eq!(session.pins(), [other.link.point]);
    let third = open.commit(&states[2], &Style::default()).remove(0).expect("commit");
    assert!(read_back(&vault, SOURCE, third.link.point).expect("reads").state == states[2]);
}
