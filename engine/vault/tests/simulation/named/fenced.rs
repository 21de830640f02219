//! A session that is given up for dead between its point and its acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use backstay_testkit::capture::Style;
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_testkit::forge;
use backstay_vault::error::VaultError;
use backstay_vault::name::Named;
use backstay_vault::store::Operation;
use backstay_vault::vault::MemoryNotes;

use super::{Pair, SOURCE, state};

#[test]
fn a_session_fenced_between_its_point_and_its_acknowledgement_is_told_so_and_its_point_may_stay() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    let store = Arc::new(FaultStore::new(pair.memory.clone()));
    let vault = pair.other.open(store.clone()).expect("opens");
    let open = pair.other.open_capture(std::slice::from_ref(&vault), SOURCE, pair.now()).expect("opens");
    let names = pair.memory.objects();
    let session = names.keys().rev().find(|name| name.starts_with("ledger/sessions/"));
    let sessions: Vec<_> = names.keys().filter(|name| name.starts_with("ledger/sessions/")).collect();
    assert!(session.is_some() && sessions.len() == 2, "{sessions:?}");
    let fences = sessions.iter().filter_map(|name| {
        let (_, named) = backstay_vault::name::ObjectName::parse(name)?;
        let Named::Session(id) = named else { return None };
        Some(forge::fence(pair.custodian.ring(), pair.custodian.signer(), id))
    });
    // One of them is of the commit that has ended, to which a fence does nothing.
    store.meanwhile(Trigger::on(Operation::Put).below("heads/"), fences.collect());
    let outcome = open.commit(&state(2), &Style::default()).pop().expect("one target");
    assert!(matches!(outcome, Err(VaultError::Fenced { .. })), "{outcome:?}");
    // Nobody was told that it is safe; it was seen all the same, and what is seen is accepted whole.
    pair.clock.advance(Duration::from_secs(3600));
    let mut notes = MemoryNotes::default();
    pair.care(5, &mut notes).expect("collects");
    pair.verify_and_check();
    let captured = pair.other.capture(&vault, SOURCE, pair.now(), &state(2)).expect("captures again");
    pair.states.insert((SOURCE, captured.link.point), state(2));
    pair.care(5, &mut notes).expect("collects");
    pair.verify_and_check();
}
