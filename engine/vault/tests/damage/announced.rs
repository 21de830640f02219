//! What a repair tells those who write meanwhile, and what it sees of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backstay_core::clock::ManualClock;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Operation, Store, StoreErrorKind};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, RepairMeans, Repaired, Vault};

use crate::sample::FILES;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..6).map(|key| (vec![key], random.bytes(3000))).collect()
}

/// A vault of two points, whose entries are all listed by its custodian.
fn collected() -> (VaultFixture, Arc<MemStore>) {
    let (fixture, memory) = (VaultFixture::new(), Arc::new(MemStore::new()));
    let vault = fixture.create(memory.clone()).expect("create");
    for n in 1..3 {
        fixture.capture(&vault, FILES, at(1000 * n), &state(n as u64)).expect("captures");
    }
    let pass = with_custodian(&fixture, &vault, |custodian| custodian.collect());
    pass.expect("collects");
    (fixture, memory)
}

fn with_custodian<T>(
    fixture: &VaultFixture,
    vault: &Arc<Vault>,
    work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    with_custodian_of(fixture, vault, &mut MemoryNotes::default(), work)
}

/// The same who knows what he has done before.
fn with_custodian_of<T>(
    fixture: &VaultFixture,
    vault: &Arc<Vault>,
    notes: &mut MemoryNotes,
    work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let clock = ManualClock::new(at(4000));
    let look = Inspection::new(vault.clone(), kinds(), &clock);
    work(&mut Custodian::new(look, fixture.writer().clone(), fixture.pool().clone(), notes)?)
}

fn repair(fixture: &VaultFixture, store: Arc<dyn Store>) -> Result<Repaired, VaultError> {
    let vault = fixture.open(store)?;
    with_custodian(fixture, &vault, |custodian| custodian.repair(&RepairMeans::default()))
}

/// The vault without one of its packs, for each of them.
fn without_a_pack(memory: &MemStore) -> Vec<Arc<MemStore>> {
    let objects = memory.objects();
    let packs = objects.keys().filter(|name| name.starts_with("packs/"));
    let damaged = packs.map(|gone| {
        let left = objects.iter().filter(|(name, _)| *name != gone);
        Arc::new(MemStore::with_objects(
            left.map(|(name, content)| (name.clone(), content.clone())).collect(),
        ))
    });
    damaged.collect()
}

/// How many lost chunks a writer that begins now is told of.
fn told(fixture: &VaultFixture, store: Arc<dyn Store>) -> usize {
    let vault = fixture.open(store).expect("opens");
    let open = fixture.open_capture(std::slice::from_ref(&vault), FILES, at(5000)).expect("opens");
    let lost = open.targets()[0].0.view().lost().expect("lists").len();
    open.give_up(&State::default(), &Style::default(), at(5001)).expect("fences");
    lost
}

#[test]
fn an_index_object_of_a_custodian_that_lands_after_a_repair_and_names_a_lost_pack_is_not_counted_on() {
    let (fixture, memory) = collected();
    // Packs that nothing needs, so that there is nothing to announce when they are lost.
    let other = Arc::new(MemStore::new());
    let stranger = fixture.create(other.clone()).expect("create");
    fixture.capture(&stranger, FILES, at(1), &state(9)).expect("captures");
    let packs = fixture.objects(&*other, "packs");
    packs.iter().cloned().for_each(|pack| fixture.put(&*memory, pack));
    repair(&fixture, memory.clone()).expect("lists them");
    let before = fixture.objects(&*memory, "index");
    for pack in &packs {
        fixture.block_on(memory.delete(&pack.name)).expect("deletes");
    }
    let repaired = repair(&fixture, memory.clone()).expect("repairs");
    assert_eq!(repaired.chunks_lost, 0);
    let left = memory.objects();
    let mut late = before.into_iter().filter(|object| !left.contains_key(object.name.as_str())).peekable();
    assert!(late.peek().is_some(), "an object that names the packs is taken away");
    late.for_each(|object| fixture.put(&*memory, object));
    let vault = fixture.open(memory.clone()).expect("opens");
    let captured = fixture.capture(&vault, FILES, at(5000), &state(9)).expect("captures");
    let fresh = fixture.open(memory).expect("opens");
    assert!(read_back(&fresh, FILES, captured.link.point).expect("reads").state == state(9));
}

#[test]
fn an_index_object_that_lands_after_the_pass_that_took_such_objects_away_is_not_counted_on() {
    let (fixture, memory) = collected();
    let failing = |folder: &str, loses_answer: bool| {
        let (store, trigger) = (FaultStore::new(memory.clone()), Trigger::on(Operation::Put).below(folder));
        match loses_answer {
            true => store.lose_answer(trigger, StoreErrorKind::Denied),
            false => store.fail(trigger, StoreErrorKind::Denied),
        }
        fixture.open(Arc::new(store)).expect("opens")
    };
    // Packs that an index object names, of a commit that has come to nothing: nothing needs them.
    let before = memory.objects();
    let is_new = |name: &String| !before.contains_key(name);
    fixture.capture(&failing("points", false), FILES, at(3000), &state(9)).expect_err("its point is refused");
    let packs: Vec<_> = fixture
        .objects(&*memory, "packs")
        .into_iter()
        .filter(|pack| is_new(&pack.name.to_string()))
        .collect();
    assert!(!packs.is_empty());
    // A pass that only decides lists them anew, and dies while the object is under way.
    let mut notes = MemoryNotes::default();
    let known = fixture.objects(&*memory, "index");
    let decide = |vault: &Arc<Vault>, notes: &mut MemoryNotes| {
        with_custodian_of(&fixture, vault, notes, |custodian| custodian.accept())
    };
    decide(&failing("index", true), &mut notes).expect_err("dies");
    let mut late = fixture.objects(&*memory, "index");
    late.retain(|object| known.iter().all(|known| known.name != object.name));
    assert_eq!(late.len(), 1);
    for gone in packs.iter().chain(&late) {
        fixture.block_on(memory.delete(&gone.name)).expect("deletes");
    }
    let pass = decide(&fixture.open(memory.clone()).expect("opens"), &mut notes).expect("goes on");
    assert!(matches!(pass, Pass::Done(_)), "{pass:?}");
    late.into_iter().for_each(|object| fixture.put(&*memory, object));
    let vault = fixture.open(memory.clone()).expect("opens");
    let captured = fixture.capture(&vault, FILES, at(5000), &state(9)).expect("captures");
    let fresh = fixture.open(memory.clone()).expect("opens");
    assert!(read_back(&fresh, FILES, captured.link.point).expect("reads").state == state(9));
    while decide(&fresh, &mut notes).expect("decides") != Pass::Idle {}
    assert_eq!(memory.objects().keys().filter(|name| name.starts_with("ledger/gc/")).count(), 1);
}

#[test]
fn a_list_of_what_is_lost_is_announced_by_the_repair_after_the_one_that_has_put_it_and_died() {
    let (fixture, memory) = collected();
    let mut seen = 0;
    for memory in without_a_pack(&memory) {
        let store = Arc::new(FaultStore::new(memory.clone()));
        // A first record is put before index objects go, a second one when the list is there.
        store.fail(Trigger::on(Operation::Put).below("ledger/gc/").after(1), StoreErrorKind::Denied);
        if repair(&fixture, store).is_ok() {
            continue;
        }
        let has_list = |store: &MemStore| store.objects().keys().any(|name| name.starts_with("bad/"));
        assert!(has_list(&memory), "the list comes before the record");
        assert_eq!(told(&fixture, memory.clone()), 0);
        repair(&fixture, memory.clone()).expect("repairs");
        // Where points had to go with what was lost, nothing needs it any more.
        let lost = fixture.open(memory.clone()).expect("opens").lost_chunks().expect("lists").len();
        assert_eq!(told(&fixture, memory), lost, "writers are told of the list");
        seen += usize::from(lost > 0);
    }
    assert!(seen > 0, "without some pack a point lacks contents");
}

#[test]
fn what_is_captured_while_a_repair_looks_is_not_taken_for_lost() {
    let (fixture, memory) = collected();
    let fixture = Arc::new(fixture);
    let store = Arc::new(FaultStore::new(memory.clone()));
    let others = fixture.open(memory.clone()).expect("opens");
    let (capturing, seconds) = (fixture.clone(), AtomicI64::new(5000));
    store.then(Trigger::on(Operation::List).below("packs").always(), move || {
        let now = seconds.fetch_add(1, Ordering::Relaxed);
        capturing.capture(&others, "beside.files", at(now), &state(now as u64)).expect("captures");
    });
    let repaired = repair(&fixture, store).expect("repairs");
    assert_eq!((repaired.chunks_lost, repaired.points_lost), (0, 0), "{repaired:#?}");
    let is_list = |name: &String| name.starts_with("bad/");
    assert!(!memory.objects().keys().any(is_list));
    assert!(fixture.open(memory).expect("opens").check().expect("checks").is_good());
}

#[test]
fn what_is_known_to_be_lost_stays_known_while_it_is_needed() {
    let (fixture, memory) = (VaultFixture::new(), Arc::new(MemStore::new()));
    // One process, whose index in memory holds for a while what belongs to objects that are gone.
    let vault = fixture.create(memory.clone()).expect("create");
    let names = |folder: &str| -> Vec<String> {
        memory.objects().into_keys().filter(|name| name.starts_with(folder)).collect()
    };
    let mut notes = MemoryNotes::default();
    let mut collect = || with_custodian_of(&fixture, &vault, &mut notes, |custodian| custodian.collect());
    let mut lost = String::new();
    for n in 1..8 {
        let before = names("packs/");
        fixture.capture(&vault, FILES, at(1000 + n), &state(n as u64)).expect("captures");
        let new = names("packs/").into_iter().filter(|name| !before.contains(name));
        lost = new.max_by_key(|name| memory.objects()[name].len()).expect("a pack of contents");
        collect().expect("collects");
    }
    let (name, _) = ObjectName::parse(&lost).expect("a name");
    fixture.block_on(memory.delete(&name)).expect("deletes");
    let repaired = with_custodian(&fixture, &vault, |custodian| custodian.repair(&RepairMeans::default()));
    assert_eq!(repaired.expect("repairs").chunks_lost, 6);
    for _ in 0..3 {
        collect().expect("goes on without it");
        assert_eq!(names("bad/").len(), 1);
    }
    // Who has the contents still is told, and stores them again.
    let stored = fixture.capture(&vault, "again.files", at(2000), &state(7)).expect("captures");
    assert!(stored.totals.new_chunks >= 6, "{:?}", stored.totals);
    while collect().expect("collects") != Pass::Idle {}
    assert_eq!(names("bad/"), [""; 0]);
    assert!(fixture.open(memory.clone()).expect("opens").check().expect("checks").is_good());
}
