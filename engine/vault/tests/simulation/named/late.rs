//! Objects that land long after whoever has put them, and a commit that is late itself.

use std::sync::Arc;
use std::time::Duration;

use backstay_testkit::capture::Style;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::forge::Object;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Operation, Store, StoreErrorKind};
use backstay_vault::vault::{MemoryNotes, Pass};

use super::{OTHER, Pair, SOURCE, state};

impl Pair {
    fn pass(&self, notes: &mut MemoryNotes) -> Pass {
        let store: Arc<dyn Store> = self.memory.clone();
        let pass = self.with_custodian(&self.custodian, store, notes, |custodian| custodian.collect());
        pass.expect("collects")
    }

    fn objects(&self, folder: &str) -> Vec<Object> {
        self.custodian.objects(&*self.memory, folder)
    }

    fn has(&self, name: &ObjectName) -> bool {
        self.memory.objects().contains_key(name.as_str())
    }
}

#[test]
fn a_commit_that_a_pass_has_given_up_is_told_so_by_its_fence_alone() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    let vault = pair.other.open(pair.memory.clone()).expect("opens");
    let open = pair.other.open_capture(std::slice::from_ref(&vault), SOURCE, pair.now()).expect("opens");
    let mut notes = MemoryNotes::default();
    let mut looks = 0;
    // A day of the custodian's time; the number of collections is the next one only.
    while !matches!(pair.pass(&mut notes), Pass::Done(_)) {
        pair.clock.advance(Duration::from_secs(3600));
        looks += 1;
        assert!(looks < 40, "a pass gives up who does not move");
    }
    let outcome = open.commit(&state(2), &Style::default()).pop().expect("one target");
    assert!(matches!(outcome, Err(VaultError::Fenced { .. })), "decided against, and yet: {outcome:?}");
    pair.verify_and_check();
}

#[test]
fn an_index_object_of_a_fenced_session_that_lands_late_is_not_counted_on_by_its_own_node() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.custodian, OTHER, state(1));
    // It dies when its index object is there and its point is not.
    let store = Arc::new(FaultStore::new(pair.memory.clone()));
    store.fail(Trigger::on(Operation::Put).below("points/"), StoreErrorKind::Denied);
    let before = pair.objects("index");
    let vault = pair.other.open(store).expect("opens");
    pair.other.capture(&vault, SOURCE, pair.now(), &state(2)).expect_err("its point is not put");
    let mut late = pair.objects("index");
    late.retain(|object| before.iter().all(|known| known.name != object.name));
    assert_eq!(late.len(), 1);
    let mut notes = MemoryNotes::default();
    // Until its pack is gone, and the record that said so.
    for n in 0..3 {
        pair.capture(|pair| &pair.custodian, OTHER, state(10 + n));
        pair.pass(&mut notes);
    }
    assert!(late.iter().all(|object| !pair.has(&object.name)), "a pass takes away what it has decided");
    late.into_iter().for_each(|object| pair.custodian.put(&*pair.memory, object));
    pair.capture(|pair| &pair.other, SOURCE, state(2));
    pair.verify();
    pair.capture(|pair| &pair.custodian, OTHER, state(20));
    pair.pass(&mut notes);
    pair.verify_and_check();
}

#[test]
fn an_index_object_of_a_custodian_that_lands_late_is_not_vouched_for() {
    let mut pair = Pair::new();
    let first = pair.capture(|pair| &pair.other, SOURCE, state(1));
    let mut notes = MemoryNotes::default();
    pair.pass(&mut notes);
    // What the custodian has listed is what lands once more when all of it is gone.
    let late = pair.objects("index");
    pair.capture(|pair| &pair.other, SOURCE, state(2));
    pair.forget(&first);
    for n in 0..3 {
        pair.care(1, &mut notes).expect("collects");
        pair.capture(|pair| &pair.custodian, OTHER, state(10 + n));
        pair.pass(&mut notes);
        pair.states.retain(|(source, _), _| *source == SOURCE);
    }
    assert!(late.iter().all(|object| !pair.has(&object.name)), "all that it named was moved or is gone");
    late.into_iter().for_each(|object| pair.custodian.put(&*pair.memory, object));
    // A commit that goes on makes the next pass wait, when its record is there and nothing was deleted yet.
    let vault = pair.custodian.open(pair.memory.clone()).expect("opens");
    let open = pair.custodian.open_capture(std::slice::from_ref(&vault), OTHER, pair.now()).expect("opens");
    assert!(matches!(pair.pass(&mut notes), Pass::Waits(_)));
    let others = pair.other.open(pair.memory.clone()).expect("opens");
    let captured = pair.other.capture(&others, SOURCE, pair.now(), &state(1)).expect("captures");
    pair.states.insert((SOURCE, captured.link.point), state(1));
    pair.verify();
    open.give_up(&state(30), &Style::default(), pair.now()).expect("fences");
    pair.states.retain(|(source, _), _| *source == SOURCE);
    assert!(matches!(pair.pass(&mut notes), Pass::Done(_)));
    pair.verify_and_check();
}
