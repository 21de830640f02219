//! Points that somebody puts who may not, or who says what is not so: they do not count, and push nothing out.

use std::sync::Arc;

use backstay_testkit::capture::Captured;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_vault::clear::TrustObject;
use backstay_vault::name::ObjectName;
use backstay_vault::store::MemStore;
use backstay_vault::vault::MemoryNotes;

use super::{Pair, SOURCE, at, state};

/// Captures in a copy of the vault in which the node is trusted, and brings over what it has put there.
fn forge_by(pair: &Pair, node: &VaultFixture, seconds: i64) -> Captured {
    let copy = Arc::new(MemStore::with_objects(pair.memory.objects()));
    let vault = pair.custodian.open(copy.clone()).expect("opens");
    let nodes = vec![pair.custodian.node(), pair.other.node(), node.node()];
    let trust = TrustObject { nodes, ..vault.trust().clone() };
    pair.custodian.put(&*copy, forge::trust(pair.custodian.admin(), &trust));
    let vault = node.open(copy.clone()).expect("opens");
    let captured = node.capture(&vault, SOURCE, at(seconds), &state(66)).expect("captures");
    for (name, content) in copy.objects() {
        let (name, _) = ObjectName::parse(&name).expect("a name");
        if !name.as_str().starts_with("trust/") {
            pair.custodian.put(&*pair.memory, forge::Object { name, content });
        }
    }
    captured
}

#[test]
fn a_point_of_a_node_that_nobody_trusts_does_not_count_and_pushes_nothing_out() {
    let mut pair = Pair::new();
    for n in 0..3 {
        pair.capture(|pair| &pair.other, SOURCE, state(n));
    }
    let stranger = pair.custodian.other_node("stranger");
    let forged = forge_by(&pair, &stranger, 1 << 33);
    let vault = pair.verify();
    let catalogue = vault.catalogue(pair.other.source(SOURCE)).expect("catalogue");
    assert!(catalogue.point(forged.link.point).is_none() && !catalogue.left_out.is_empty());
    pair.care(3, &mut MemoryNotes::default()).expect("collects");
    pair.verify();
    pair.capture(|pair| &pair.other, SOURCE, state(4));
    pair.verify();
}

#[test]
fn a_point_from_the_future_pushes_no_other_out_than_its_number_would() {
    let mut pair = Pair::new();
    for n in 0..3 {
        pair.capture(|pair| &pair.other, SOURCE, state(n));
    }
    // By a node that may write, whose clock is a century ahead.
    let vault = pair.other.open(pair.memory.clone()).expect("opens");
    let future = pair.other.capture(&vault, SOURCE, at(1 << 32), &state(3)).expect("captures");
    pair.states.insert((SOURCE, future.link.point), state(3));
    let mut notes = MemoryNotes::default();
    pair.care(4, &mut notes).expect("collects");
    pair.verify_and_check();
    // Those that come later are newer all the same.
    let oldest: Vec<_> = pair.states.keys().copied().collect();
    let newer = pair.capture(|pair| &pair.other, SOURCE, state(5));
    pair.care(1, &mut notes).expect("collects");
    pair.states.retain(|key, _| !oldest.contains(key));
    assert_eq!(pair.states.len(), 1);
    assert!(pair.states.contains_key(&(SOURCE, newer.link.point)));
    pair.verify_and_check();
}
