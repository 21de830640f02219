//! A process that dies at any request of a workload, on either side of it: what was acknowledged is there, what
//! counts is whole, and the next process goes on without repair (docs/format.md, section 10).

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::BTreeMap;

use backstay_testkit::crash::{CrashStore, Landing, Workload, crash_while_made};
use backstay_testkit::fixture::VaultFixture;

/// More requests than any workload has: a run without a crash must come before.
const REQUESTS_MAX: u64 = 2000;

/// Crashes at every request in turn, and lets what is in flight land in every way.
fn crash_everywhere(seed: u64) {
    println!("seed {seed}");
    let workload = Workload::new(seed);
    for crash_at in 1..REQUESTS_MAX {
        for landing in Landing::ALL {
            let crashed = workload.crash_once(crash_at, landing, |death| {
                let store =
                    CrashStore::new(workload.empty_vault().clone(), death.at, death.landing, death.seed);
                // With every other seed writers read first and open their sessions last.
                if seed.is_multiple_of(2) { store.with_costly_requests() } else { store }
            });
            if !crashed {
                assert!(crash_at > 40, "the workload has more than {crash_at} requests");
                println!("seed {seed}: {} requests", crash_at - 1);
                return;
            }
        }
    }
    panic!("seed {seed}: the workload does not end");
}

#[test]
fn a_crash_at_any_request_loses_nothing_acknowledged_and_needs_no_repair() {
    for seed in [1, 2, 3, 4] {
        crash_everywhere(seed);
    }
}

#[test]
fn a_crash_while_a_vault_is_made_leaves_one_that_works_or_none() {
    let fixture = VaultFixture::new();
    for crash_at in 1..100 {
        for landing in Landing::ALL {
            let store = CrashStore::new(BTreeMap::new(), crash_at, landing, crash_at);
            if !crash_while_made(&fixture, store, &format!("crash at {crash_at}, {landing:?}")) {
                assert!(crash_at > 3, "it takes more than {crash_at} requests");
                return;
            }
        }
    }
    panic!("making a vault does not end");
}

#[test]
#[ignore = "long: about a minute for every ten seeds; BACKSTAY_SEEDS sets how many (100)"]
fn crashes_of_many_workloads() {
    let seeds = std::env::var("BACKSTAY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    for seed in 1000..1000 + seeds {
        crash_everywhere(seed);
    }
}
