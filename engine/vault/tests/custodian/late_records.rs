//! Records of collections that land long after the custodian that has put them is dead: whoever began before has not seen what
//! they doom.

use std::sync::Arc;

use backstay_core::id::PackId;
use backstay_testkit::capture::{State, Style};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::forge;
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::Operation;
use backstay_vault::vault::Pass;

use crate::scene::{SOURCE, Scene, at, last, sample};

const OTHER: &str = "other.files";

/// A vault whose passes have only decided so far, and a state of which its packs hold more than points need.
fn at_rest(random: &mut Random) -> (Scene, State) {
    let mut scene = Scene::new();
    let before: State = (0..20u8).map(|key| (vec![key], random.bytes(10_000))).collect();
    scene.capture(SOURCE, 1000, &before);
    let mut state = before.clone();
    state.insert(vec![0], random.bytes(10_000));
    scene.capture(SOURCE, 1010, &state);
    let decide = |scene: &mut Scene| scene.with_custodian(|custodian| custodian.accept()).expect("accepts");
    decide(&mut scene);
    scene.thin(&last(1));
    while decide(&mut scene) != Pass::Idle {}
    (scene, before)
}

/// The record of the first collection once more, as if it had been under way until now: it dooms all that is there.
fn first_record(scene: &Scene) -> forge::Object {
    let pack = |name: String| match ObjectName::parse(&name) {
        Some((_, Named::Pack(pack))) => pack,
        other => panic!("{other:?}"),
    };
    let packs: Vec<PackId> = scene.names("packs/").into_iter().map(pack).collect();
    record(scene, 1, packs)
}

fn record(scene: &Scene, number: u64, packs: Vec<PackId>) -> forge::Object {
    let fixture = &scene.fixture;
    forge::gc(fixture.ring(), fixture.signer(), &forge::gc_record(number, packs))
}

#[test]
fn a_commit_that_began_before_an_older_record_landed_is_waited_for() {
    let (mut scene, state) = at_rest(&mut Random::new(1));
    let fixture = scene.fixture.clone();
    let process = fixture.open(scene.memory.clone()).expect("opens");
    let open = fixture.open_capture(&[process], OTHER, at(1100)).expect("opens");
    let late = first_record(&scene);
    fixture.put(&*scene.memory, late.clone());
    let pass = scene.pass().expect("collects");
    assert!(matches!(pass, Pass::Waits(_)), "{pass:?}");
    let captured = open.commit(&state, &Style::default()).pop().expect("one").expect("is acknowledged");
    assert!(captured.totals.new_plain_bytes < 10_000, "it counts on what is there: {:?}", captured.totals);
    scene.states.insert((OTHER, captured.link.point), state);
    scene.collect();
    assert!(!scene.names("ledger/gc/").contains(&late.name.to_string()));
    scene.verify();
}

#[test]
fn a_pass_that_waits_when_an_older_record_lands_waits_for_whoever_began_since() {
    let mut random = Random::new(2);
    let (mut scene, state) = at_rest(&mut random);
    let fixture = scene.fixture.clone();
    let vaults = [fixture.open(scene.memory.clone()).expect("opens")];
    let before = fixture.open_capture(&vaults, SOURCE, at(1100)).expect("opens");
    // So that there is something to decide.
    scene.capture("third.files", 1105, &sample(&mut random, 3));
    let pass = scene.pass().expect("collects");
    assert!(matches!(pass, Pass::Waits(_)), "{pass:?}");
    let since = fixture.open_capture(&vaults, OTHER, at(1110)).expect("opens");
    fixture.put(&*scene.memory, first_record(&scene));
    let small = sample(&mut random, 3);
    let captured = before.commit(&small, &Style::default()).pop().expect("one").expect("is acknowledged");
    scene.states.insert((SOURCE, captured.link.point), small);
    let pass = scene.pass().expect("collects");
    assert!(matches!(pass, Pass::Waits(_)), "{pass:?}");
    let captured = since.commit(&state, &Style::default()).pop().expect("one").expect("is acknowledged");
    scene.states.insert((OTHER, captured.link.point), state);
    scene.collect();
    scene.verify();
}

#[test]
fn of_records_of_one_number_that_of_the_pass_stays() {
    let (mut scene, state) = at_rest(&mut Random::new(3));
    scene.capture(OTHER, 1100, &state);
    let newest = scene.names("ledger/gc/").pop().expect("that of the last pass");
    let Some((_, Named::Gc(number, _))) = ObjectName::parse(&newest) else { panic!("{newest}") };
    let late: Vec<_> = (0..8).map(|n| record(&scene, number.get() + 1, vec![PackId::new([n; 32])])).collect();
    let store = Arc::new(FaultStore::new(scene.memory.clone()));
    store.meanwhile(Trigger::on(Operation::Put).below("layout/"), late.clone());
    scene.vault = scene.fixture.open(store).expect("opens");
    assert_eq!(scene.collect().number.get(), number.get() + 1);
    let left = scene.names("ledger/gc/");
    assert!(left.len() == 1 && late.iter().all(|late| late.name.as_str() != left[0]), "{left:?}");
    assert!(scene.is_idle());
    scene.verify();
}
