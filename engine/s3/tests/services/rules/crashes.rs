//! Processes that die at a change of a vault in a bucket: what was acknowledged is there, what counts is whole, and the next process
//! goes on without repair, as in any store (`crash.rs` of the vault's tests).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use backstay_testkit::crash::{Death, DyingStore, Landing, Workload, crash_while_made};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::seed;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Retried, RetryPolicy, Store};
use bytes::Bytes;

use crate::bucket::Bucket;

/// How many processes live and die at the same time: they wait for answers most of it.
const AT_ONCE: usize = 16;

/// At each change once, and what is in flight lands in each way in turn.
pub(crate) fn a_crash_at_any_change_loses_nothing_acknowledged_and_needs_no_repair(bucket: &Bucket) {
    crash_everywhere(bucket, |seed, at| vec![Landing::ALL[(seed.wrapping_add(at) % 3) as usize]]);
}

/// At each change as often as there are ways in which it may land.
pub(crate) fn a_crash_at_any_change_that_lands_in_any_way_loses_nothing_acknowledged(bucket: &Bucket) {
    crash_everywhere(bucket, |_, _| Landing::ALL.to_vec());
}

/// Many processes live and die in the bucket, at each change of a workload one for each of these landings.
fn crash_everywhere(bucket: &Bucket, landings: impl Fn(u64, u64) -> Vec<Landing>) {
    let seed = seed();
    println!("BACKSTAY_TEST_SEED={seed}");
    let workload = Workload::new(seed);
    let changes = changes_of(&workload, bucket);
    let deaths =
        (1..=changes).flat_map(|at| landings(seed, at).into_iter().map(move |landing| (at, landing)));
    let deaths: Vec<(u64, Landing)> = deaths.collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(at, landing)) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let make = |death| dying(bucket, workload.fixture(), workload.empty_vault(), death);
                    assert!(workload.crash_once(at, landing, make), "seed {seed}: it has {changes} changes");
                }
            });
        }
    });
    println!("{} deaths at {changes} changes", deaths.len());
}

/// How many changes a life has that ends by itself.
fn changes_of(workload: &Workload, bucket: &Bucket) -> u64 {
    let (death, landing) = (Death { at: 0, landing: Landing::Lost, seed: 0 }, Landing::Lost);
    let store = Arc::new(dying(bucket, workload.fixture(), workload.empty_vault(), death));
    assert!(!workload.crash_once(death.at, landing, |_| Arc::clone(&store)), "nothing ends it");
    let changes = store.changes();
    assert!(changes > 20, "the workload has more than {changes} changes");
    changes
}

pub(crate) fn a_crash_while_a_vault_is_made_leaves_one_that_works_or_none(bucket: &Bucket) {
    let fixture = VaultFixture::new();
    for at in 1..100 {
        for landing in Landing::ALL {
            let store = dying(bucket, &fixture, &BTreeMap::new(), Death { at, landing, seed: at });
            if !crash_while_made(&fixture, store, &format!("crash at {at}, {landing:?}")) {
                assert!(at > 3, "it takes more than {at} changes");
                return;
            }
        }
    }
    panic!("making a vault does not end");
}

/// A store in the bucket that holds these objects, under a process that dies.
fn dying(
    bucket: &Bucket,
    fixture: &VaultFixture,
    objects: &BTreeMap<String, Bytes>,
    death: Death,
) -> DyingStore {
    // As the daemon asks.
    let [store, next] =
        bucket.store_of_two().map(|store| Arc::new(Retried::new(store, RetryPolicy::default())));
    fixture.block_on(async {
        for (name, content) in objects {
            let (name, _) = ObjectName::parse(name).expect("the name of an object");
            store.put(&name, content.clone()).await.expect("put");
        }
    });
    DyingStore::new(store, next, death)
}
