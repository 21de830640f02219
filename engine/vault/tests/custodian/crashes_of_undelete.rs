//! Bringing back that dies at any of its requests: nothing is lost that counts, and running it again ends it.

use std::sync::Arc;

use backstay_core::clock::ManualClock;
use backstay_testkit::crash::{CrashStore, Landing, crash_everywhere};
use backstay_testkit::kind::kinds;
use backstay_vault::error::VaultError;
use backstay_vault::store::Store;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Undeleted};

use crate::scene::{Scene, at, last, verify};
use crate::undelete::dropped;

/// Most passes until nothing more is to be done.
const PASSES_MAX: usize = 8;

/// A process of the custodian's.
fn with_custodian<T>(
    scene: &Scene,
    store: Arc<dyn Store>,
    notes: &mut MemoryNotes,
    work: impl FnOnce(&mut Custodian<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let vault = scene.fixture.open(store)?;
    let clock = ManualClock::new(at(20_000));
    let (identity, pool) = (scene.fixture.writer().clone(), scene.fixture.pool().clone());
    let look = Inspection::new(vault, kinds(), &clock);
    work(&mut Custodian::new(look, identity, pool, notes)?)
}

fn undelete(
    scene: &Scene,
    store: Arc<dyn Store>,
    notes: &mut MemoryNotes,
) -> Result<Vec<Undeleted>, VaultError> {
    with_custodian(scene, store, notes, |custodian| custodian.undelete(&|_, _| true, Some("back")))
}

/// What prunes do afterwards, until they come to rest.
fn prune(scene: &Scene, store: Arc<dyn Store>, notes: &mut MemoryNotes) -> Result<(), VaultError> {
    with_custodian(scene, store, notes, |custodian| {
        for _ in 0..PASSES_MAX {
            let is_idle = custodian.collect()? == Pass::Idle;
            let thinned = custodian.thin(&|_| Some(last(2)))?;
            assert_eq!(thinned.points_dropped, 0, "what came back is held");
            if is_idle {
                return Ok(());
            }
        }
        panic!("a custodian comes to rest");
    })
}

fn crash_everywhere_in_an_undelete(make: impl Fn(&Scene, u64, Landing) -> CrashStore) {
    let (scene, gone) = dropped(6);
    let trash = scene.memory.trashed();
    let all = scene.states.iter().chain(&gone).map(|(key, state)| (*key, state.clone())).collect();
    let crashes = crash_everywhere(
        |at, landing| make(&scene, at, landing).with_trash(trash.clone()),
        |store, story| {
            let mut notes = scene.notes.clone();
            let outcome = undelete(&scene, store.clone(), &mut notes);
            let left = Arc::new(store.after_crash());
            verify(&scene.fixture, left.clone(), &scene.states, story);
            if !store.has_crashed() {
                let back = outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
                assert_eq!(back.len(), gone.len(), "{story}: {back:?}");
            }
            let again = || undelete(&scene, left.clone(), &mut notes);
            let back = store.next_process(&scene.fixture, &left, again);
            let back = back.unwrap_or_else(|error| panic!("{story}: {error}"));
            assert!(back.iter().all(|point| point.failure.is_none()), "{story}: {back:?}");
            verify(&scene.fixture, left.clone(), &all, &format!("{story}, brought back"));
            prune(&scene, left.clone(), &mut notes).unwrap_or_else(|error| panic!("{story}: {error}"));
            verify(&scene.fixture, left.clone(), &all, &format!("{story}, pruned"));
        },
    );
    assert!(crashes > 60, "it has more requests than {crashes} crashes make");
}

#[test]
fn a_crash_at_any_change_of_an_undelete_loses_nothing_and_the_next_one_completes_it() {
    crash_everywhere_in_an_undelete(|scene, at, landing| {
        CrashStore::at_change(scene.memory.objects(), at, landing, at)
    });
}

#[test]
#[ignore = "long: half a minute; a crash at a read leaves what one at the next change leaves"]
fn a_crash_at_any_request_of_an_undelete_loses_nothing_and_the_next_one_completes_it() {
    crash_everywhere_in_an_undelete(|scene, at, landing| {
        CrashStore::new(scene.memory.objects(), at, landing, at)
    });
}

/// The next process may be that of a prune.
#[test]
fn a_prune_after_a_crash_of_an_undelete_keeps_what_counts() {
    let (scene, _) = dropped(7);
    let trash = scene.memory.trashed();
    crash_everywhere(
        |at, landing| {
            CrashStore::at_change(scene.memory.objects(), at, landing, at).with_trash(trash.clone())
        },
        |store, story| {
            let mut notes = scene.notes.clone();
            let outcome = undelete(&scene, store.clone(), &mut notes);
            assert!(store.has_crashed() || outcome.is_ok(), "{story}");
            let left = Arc::new(store.after_crash());
            store.land_late(&scene.fixture, &left);
            prune(&scene, left.clone(), &mut notes).unwrap_or_else(|error| panic!("{story}: {error}"));
            verify(&scene.fixture, left, &scene.states, &format!("{story}, pruned"));
        },
    );
}
