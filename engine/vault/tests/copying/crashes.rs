//! A copy that dies at any of its requests: the vault is whole, what was there before is there, and the next copy ends
//! what the first has begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_testkit::capture::State;
use backstay_testkit::crash::{CrashStore, crash_everywhere};
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::store::{MemStore, Store};
use backstay_vault::vault::{Copied, CopyLimits};
use bytes::Bytes;

use crate::scene::{DUMP, FILES, Scene, States, at};

type Objects = BTreeMap<String, Bytes>;

/// What a node does that copies: it opens the vault, ends what it has left there, and copies.
fn copy(scene: &Scene, store: Arc<dyn Store>) -> Result<Copied, VaultError> {
    let to = scene.fixture.open(store)?;
    scene.fixture.fence_dead_sessions(&to, at(11_000))?;
    scene.copy_into(&to, &|_| true)
}

/// The copy after one that broke off.
fn copy_again(scene: &Scene, left: &Arc<MemStore>, story: &str) -> Copied {
    let again = || copy(scene, left.clone()).unwrap_or_else(|error| panic!("{story}: {error}"));
    let copied = again();
    if copied.failures.is_empty() {
        return copied;
    }
    // What was put by the commit that broke off may still be decided against; a pass decides.
    let is_open = |why: &String| why.contains("a commit that has not ended");
    assert!(copied.failures.iter().all(|(.., why)| is_open(why)), "{story}: {:?}", copied.failures);
    let to = scene.fixture.open(left.clone()).unwrap_or_else(|error| panic!("{story}: {error}"));
    scene.with_custodian(&to, |custodian| custodian.collect());
    again()
}

/// A vault into which something was copied before, and one from which more is to be copied: some runs have to be merged,
/// and one source is new.
fn scene() -> (Scene, Objects, States) {
    let mut scene = Scene::new();
    let mut random = Random::new(7);
    scene.line(FILES, 2, &mut random);
    scene.copy().expect("copies");
    let to = scene.to.clone();
    scene.capture(&to, FILES, 1500, &State::from([(vec![5], random.bytes(9000))]));
    let (there, before) = (scene.to_store.objects(), scene.states.clone());
    scene.line(FILES, 4, &mut random);
    scene.thin(2);
    scene.line(DUMP, 2, &mut random);
    (scene, there, before)
}

#[test]
fn a_crash_at_any_request_of_a_copy_loses_nothing_and_the_next_copy_completes_it() {
    // In few commits, and in one for each stretch.
    for bytes in [CopyLimits::default().bytes, 1] {
        crash_a_copy_everywhere(bytes);
    }
}

fn crash_a_copy_everywhere(bytes: u64) {
    let (mut scene, there, before) = scene();
    scene.limits.bytes = bytes;
    let wanted = scene.states.keys().filter(|key| !before.contains_key(key)).count() as u64;
    let crashes = crash_everywhere(
        |at, landing| CrashStore::new(there.clone(), at, landing, at),
        |store, story| {
            let outcome = copy(&scene, store.clone());
            let left = Arc::new(store.after_crash());
            scene.verify_in(left.clone(), &before, story);
            if !store.has_crashed() {
                let copied = outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
                assert_eq!((copied.points, copied.failures), (wanted, vec![]), "{story}");
                return;
            }
            let copied = store.next_process(&scene.fixture, &left, || copy_again(&scene, &left, story));
            assert_eq!((copied.points + copied.already, copied.failures), (wanted, vec![]), "{story}");
            let all = before.iter().chain(&scene.states).map(|(key, state)| (*key, state.clone())).collect();
            scene.verify_in(left.clone(), &all, &format!("{story}, copied again"));
        },
    );
    assert!(crashes > 200, "a copy has more requests than {crashes} crashes make");
}
