//! How often the store is asked: listings are as many for many sources as for one.

use std::sync::Arc;

use backstay_testkit::random::Random;
use backstay_vault::store::{Counted, MemStore, Operation, RequestCounts};
use backstay_vault::vault::Pass;

use crate::scene::{Scene, edit, sample};

/// What a prune takes that decides on what was committed and frees nothing: a pass, a look at what is to be dropped, and one at what
/// is to go.
const LISTINGS: u64 = 52;

/// A prune of a vault with so many sources, which have each committed twice since the last one: listings.
fn listings_of_a_prune(sources: &[&'static str]) -> u64 {
    let mut scene = Scene::on(MemStore::new().with_costly_requests());
    let counts = Arc::new(RequestCounts::default());
    let counted = Counted::new(scene.memory.clone(), counts.clone());
    scene.vault = scene.fixture.open(Arc::new(counted)).expect("opens");
    let mut random = Random::new(1);
    for source in sources {
        let mut state = sample(&mut random, 3);
        for n in 0..2 {
            scene.capture(source, 1000 + n, &state);
            edit(&mut state, &mut random);
        }
    }
    let before = counts.succeeded(Operation::List);
    scene
        .with_custodian(|custodian| {
            assert!(matches!(custodian.accept()?, Pass::Done(_)));
            custodian.thin(&|_| None)?;
            custodian.collect().map(drop)
        })
        .expect("prunes");
    let taken = counts.succeeded(Operation::List) - before;
    scene.verify();
    taken
}

#[test]
fn a_prune_takes_as_many_listings_for_eight_sources_as_for_one() {
    let all = ["a.files", "b.files", "c.files", "d.files", "e.files", "f.files", "g.files", "h.files"];
    let taken = [&all[..1], &all].map(listings_of_a_prune);
    assert_eq!(taken, [LISTINGS; 2]);
}
