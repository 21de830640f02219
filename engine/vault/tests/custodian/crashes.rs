//! A custodian that dies at any of its requests: what was acknowledged is there, and the next one goes on.

use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_testkit::crash::{CrashStore, crash_everywhere};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::Store;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass};

use crate::scene::{SOURCE, Scene, at, edit, last, sample, verify};

/// A pass, a thinning, a pass.
fn care(scene: &Scene, store: Arc<dyn Store>, notes: &mut MemoryNotes) -> Result<u32, VaultError> {
    let vault = scene.fixture.open(store)?;
    let clock = ManualClock::new(at(5000));
    let (identity, pool) = (scene.fixture.writer().clone(), scene.fixture.pool().clone());
    let look = Inspection::new(vault, kinds(), &clock);
    let mut custodian = Custodian::new(look, identity, pool, notes)?;
    let keep = last(2);
    let mut passes = 0;
    while custodian.collect()? != Pass::Idle || passes < 2 {
        custodian.thin(&|_| Some(keep.clone()))?;
        passes += 1;
        assert!(passes < 20, "a custodian comes to rest");
    }
    Ok(passes)
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
    let first = scene.memory.objects();
    let kept: Vec<_> = {
        let mut points: Vec<_> = scene.states.clone().into_iter().collect();
        let catalogue = scene.vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue");
        let newest: Vec<_> = catalogue.points()[2..].iter().map(|point| point.link.point).collect();
        points.retain(|((_, point), _)| newest.contains(point));
        points
    };
    let kept = kept.into_iter().collect();
    let crashes = crash_everywhere(
        |at, landing| CrashStore::at_change(first.clone(), at, landing, at),
        |store, story| {
            let mut notes = MemoryNotes::default();
            let outcome = care(&scene, store.clone(), &mut notes);
            if !store.has_crashed() {
                outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
                return;
            }
            let left = Arc::new(store.after_crash());
            verify(&scene.fixture, left.clone(), &kept, story);
            for late in store.late_changes() {
                scene.fixture.block_on(late.land(&*left)).expect("lands");
            }
            care(&scene, left.clone(), &mut notes).unwrap_or_else(|error| panic!("{story}: {error}"));
            verify(&scene.fixture, left.clone(), &kept, &format!("{story}, gone on"));
            let objects = left.objects();
            let points = objects.keys().filter(|name| name.starts_with("points/")).count();
            assert_eq!(points, 2, "{story}: what is dropped goes in the end");
        },
    );
    println!("{crashes} crashes");
    assert!(crashes > 90, "the work has more changes than {crashes} crashes make");
}
