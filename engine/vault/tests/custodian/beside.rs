//! Captures that end beside a pass, in the custodian's own process: both go by the same index.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::clock::ManualClock;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::store::{MemStore, Operation};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes};

use crate::scene::{SOURCE, at, last, sample, verify};

#[test]
fn a_capture_that_ends_while_packs_are_listed_keeps_its_entries() {
    let fixture = Arc::new(VaultFixture::new());
    let store = Arc::new(FaultStore::new(MemStore::new()));
    let vault = fixture.create(store.clone()).expect("create");
    let clock = Arc::new(ManualClock::new(at(1000)));
    let states = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let capture = {
        let (fixture, vault, clock, states) = (fixture.clone(), vault.clone(), clock.clone(), states.clone());
        move || {
            let now = clock.advance(Duration::from_secs(60));
            let state = sample(&mut Random::new(now.as_seconds_f64() as u64), 3);
            let captured = fixture.capture(&vault, SOURCE, now, &state).expect("captures");
            states.lock().expect("whole").insert((SOURCE, captured.link.point), state);
        }
    };
    (0..4).for_each(|_| capture());
    let mut notes = MemoryNotes::default();
    for _ in 0..3 {
        let look = Inspection::new(vault.clone(), kinds(), &*clock);
        let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
        let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("custodian");
        custodian.thin(&|_| Some(last(2))).expect("thins");
        let known = vault.catalogue(fixture.source(SOURCE)).expect("catalogue");
        states.lock().expect("whole").retain(|(_, point), _| known.point(*point).is_some());
        store.then(Trigger::on(Operation::List).below("packs").always(), capture.clone());
        custodian.collect().expect("collects");
        store.heal();
        verify(&fixture, store.clone(), &states.lock().expect("whole"), "beside a pass");
    }
}
