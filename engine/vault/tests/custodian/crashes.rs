//! A custodian that dies at any of its requests: what was acknowledged is there, and the next one goes on.

#![expect(clippy::print_stdout, reason = "how many crashes there were is printed")]

use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_core::config::Keep;
use backstay_testkit::crash::{CrashStore, Landing, crash_everywhere};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::Store;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass};

use crate::scene::{SOURCE, Scene, at, edit, last, sample, verify};
use crate::splitting::rewritten;

/// Passes and thinnings until nothing is left to do; how many groups were split.
fn care(
    scene: &Scene,
    store: Arc<dyn Store>,
    notes: &mut MemoryNotes,
    keep: &Keep,
) -> Result<u64, VaultError> {
    let vault = scene.fixture.open(store)?;
    let clock = ManualClock::new(at(5000));
    let (identity, pool) = (scene.fixture.writer().clone(), scene.fixture.pool().clone());
    let look = Inspection::new(vault, kinds(), &clock);
    let mut custodian = Custodian::new(look, identity, pool, notes)?;
    let (mut passes, mut split) = (0, 0);
    while custodian.collect()? != Pass::Idle || passes < 2 {
        split += custodian.thin(&|_| Some(keep.clone()))?.groups_split;
        passes += 1;
        assert!(passes < 20, "a custodian comes to rest");
    }
    Ok(split)
}

/// Dies everywhere while the newest points of a vault are kept and the others go. Returns how many crashes there were,
/// and how many groups were split where there was none.
fn crash_everywhere_in_a_prune(
    scene: &Scene,
    count: usize,
    make: impl Fn(u64, Landing) -> CrashStore,
) -> (u64, u64) {
    let keep = last(count as u32);
    let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
    let first = catalogue.points().len() - count;
    let newest: Vec<_> = catalogue.points()[first..].iter().map(|point| point.link.point).collect();
    let mut kept = scene.states.clone();
    kept.retain(|(_, point), _| newest.contains(point));
    let mut split = 0;
    let crashes = crash_everywhere(make, |store, story| {
        let mut notes = MemoryNotes::default();
        let outcome = care(scene, store.clone(), &mut notes, &keep);
        if !store.has_crashed() {
            split = outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
            return;
        }
        let left = Arc::new(store.after_crash());
        verify(&scene.fixture, left.clone(), &kept, story);
        store.land_late(&scene.fixture, &left);
        care(scene, left.clone(), &mut notes, &keep).unwrap_or_else(|error| panic!("{story}: {error}"));
        verify(&scene.fixture, left.clone(), &kept, &format!("{story}, gone on"));
        let objects = left.objects();
        let points = objects.keys().filter(|name| name.starts_with("points/")).count();
        assert_eq!(points, count, "{story}: what is dropped goes in the end");
    });
    println!("{crashes} crashes");
    (crashes, split)
}

#[test]
fn a_crash_at_any_request_of_the_custodian_loses_nothing_and_the_next_one_goes_on() {
    let mut scene = Scene::new();
    let mut random = Random::new(1);
    let mut state = sample(&mut random, 3);
    for n in 0..4 {
        edit(&mut state, &mut random);
        scene.capture(SOURCE, 1000 + n, &state);
    }
    let objects = scene.memory.objects();
    let at_change = |at, landing| CrashStore::at_change(objects.clone(), at, landing, at);
    let (crashes, _) = crash_everywhere_in_a_prune(&scene, 2, at_change);
    assert!(crashes > 90, "the work has more changes than {crashes} crashes make");
}

#[test]
fn a_crash_at_any_change_of_a_prune_that_splits_groups_loses_nothing_and_the_next_one_goes_on() {
    let (scene, _) = rewritten(6, 10);
    let objects = scene.memory.objects();
    let at_change = |at, landing| CrashStore::at_change(objects.clone(), at, landing, at);
    let (crashes, split) = crash_everywhere_in_a_prune(&scene, 1, at_change);
    assert!(crashes > 60 && split > 0, "{crashes} crashes, {split} groups split");
}

#[test]
#[ignore = "long: half a minute; a crash at a read leaves what one at the next change leaves"]
fn a_crash_at_any_request_of_a_prune_that_splits_groups_loses_nothing_and_the_next_one_goes_on() {
    let (scene, _) = rewritten(7, 10);
    let objects = scene.memory.objects();
    let at_request = |at, landing| CrashStore::new(objects.clone(), at, landing, at);
    let (crashes, split) = crash_everywhere_in_a_prune(&scene, 1, at_request);
    assert!(crashes > 200 && split > 0, "{crashes} crashes, {split} groups split");
}
