//! A custodian that dies at any of its changes and is replaced by another node, whose credentials are the only ones left.

use std::sync::Arc;

use backstay_testkit::crash::{CrashStore, Landing};
use backstay_vault::store::Store;
use backstay_vault::vault::MemoryNotes;

use super::{OTHER, Pair, SOURCE, care, state};

#[test]
fn a_take_over_at_any_step_of_a_custodian_loses_nothing_whatever_of_its_last_lands() {
    let mut pair = Pair::new();
    for n in 0..4 {
        let points = [
            pair.capture(|pair| &pair.other, SOURCE, state(n)),
            pair.capture(|pair| &pair.custodian, OTHER, state(n % 2)),
        ];
        // Both custodians keep the last two of each.
        if n < 2 {
            points.iter().for_each(|point| pair.forget(point));
        }
    }
    let first = pair.memory.objects();
    for crash_at in 1..1000 {
        for landing in Landing::ALL {
            let story = format!("crash at change {crash_at}, {landing:?}");
            let store = Arc::new(CrashStore::at_change(first.clone(), crash_at, landing, crash_at));
            let mut notes = MemoryNotes::default();
            let outcome = pair.with_custodian(&pair.custodian, store.clone(), &mut notes, |old| care(old, 2));
            if !store.has_crashed() {
                outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
                assert!(crash_at > 20, "the work has more than {crash_at} changes");
                return;
            }
            pair.memory = Arc::new(store.after_crash());
            let vault = pair.other.open(pair.memory.clone()).unwrap_or_else(|e| panic!("{story}: {e}"));
            let term = vault.take_custody(pair.custodian.admin(), pair.other.node());
            assert_eq!(term.unwrap_or_else(|e| panic!("{story}: {e}")), 2, "{story}");
            let mut late = store.late_changes();
            // Half of the stories: only when the new one has begun.
            let mut land = |pair: &Pair| {
                for late in late.drain(..) {
                    pair.custodian.block_on(late.land(&*pair.memory)).expect("memory takes it");
                }
            };
            if crash_at % 2 == 0 {
                land(&pair);
            }
            // What the old one had noted stays with it.
            let mut notes = MemoryNotes::default();
            let store: Arc<dyn Store> = pair.memory.clone();
            let begun = pair.with_custodian(&pair.other, store.clone(), &mut notes, |new| new.collect());
            begun.unwrap_or_else(|error| panic!("{story}: {error}"));
            land(&pair);
            let cared = pair.with_custodian(&pair.other, store, &mut notes, |new| care(new, 2));
            cared.unwrap_or_else(|error| panic!("{story}: {error}"));
            pair.verify_and_check();
        }
    }
    panic!("the work does not end");
}
