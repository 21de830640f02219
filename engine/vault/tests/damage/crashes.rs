//! A repair that dies at any of its changes: what could be read can be read, and running it again ends where it would
//! have ended.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::BTreeSet;
use std::sync::Arc;

use backstay_core::id::PointId;
use backstay_testkit::crash::{Arrival, CrashStore, crash_everywhere};
use backstay_testkit::random::Random;
use backstay_vault::store::MemStore;
use backstay_vault::vault::{MemoryNotes, Vault};

use crate::repair::{comes_to_rest, readable, repair};
use crate::sample::{DUMP, Damage, FILES, Objects, Sample};

/// Vaults of the normal test.
const SEEDS: u64 = 6;

/// Vaults of the long one, unless BACKSTAY_SEEDS says otherwise.
const LONG_SEEDS: u64 = 200;

/// Most objects that are damaged at once.
const DAMAGED_MAX: usize = 6;

/// What of a vault has to be the same, whatever way it was repaired.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// Points whose states are read as they were captured.
    readable: BTreeSet<PointId>,
    /// Points that count.
    counting: BTreeSet<PointId>,
    /// Whether a check finds nothing.
    is_good: bool,
    /// Whether collections go on.
    comes_to_rest: bool,
}

fn end(sample: &Sample, store: &Arc<MemStore>, notes: &mut MemoryNotes, story: &str) -> End {
    let vault = sample.fixture.open(store.clone()).unwrap_or_else(|error| panic!("{story}: {error}"));
    let report = vault.check().unwrap_or_else(|error| panic!("{story}: {error}"));
    let (is_good, counting) = (report.is_good(), counting(sample, &vault, story));
    let rest = comes_to_rest(sample, &vault, notes).unwrap_or_else(|error| panic!("{story}: {error}"));
    End { readable: readable(sample, store), counting, is_good, comes_to_rest: rest }
}

fn counting(sample: &Sample, vault: &Arc<Vault>, story: &str) -> BTreeSet<PointId> {
    let mut counting = BTreeSet::new();
    for source in [FILES, DUMP] {
        let catalogue = vault.catalogue(sample.fixture.source(source));
        let catalogue = catalogue.unwrap_or_else(|error| panic!("{story}: {error}"));
        counting.extend(catalogue.points().iter().map(|point| point.link.point));
    }
    counting
}

/// Damages some objects at once; never what a repair refuses to work without.
fn wreck(sample: &Sample, random: &mut Random) -> (Objects, String) {
    let names: Vec<(&str, &str)> =
        sample.names().filter(|(_, folder)| !["format", "trust"].contains(folder)).collect();
    let mut objects = sample.objects.clone();
    let mut story = String::new();
    for _ in 0..1 + random.below(DAMAGED_MAX) {
        let (name, folder) = random.choose(&names);
        let damage = random.choose(&Damage::ALL);
        let variants = sample.damaged(name, folder, damage);
        if variants.is_empty() {
            continue;
        }
        let variant = &variants[random.below(variants.len())];
        // What this one has changed.
        objects.retain(|name, _| variant.contains_key(name));
        let changed = variant.iter().filter(|(name, content)| sample.objects.get(*name) != Some(content));
        objects.extend(changed.map(|(name, content)| (name.clone(), content.clone())));
        story += &format!("{name} {damage:?}, ");
    }
    (objects, story)
}

fn without_crash(sample: &Sample, wrecked: &Objects, story: &str) -> End {
    let (store, mut notes) = (Arc::new(MemStore::with_objects(wrecked.clone())), sample.notes.clone());
    let repaired = repair(sample, store.clone(), &mut notes, &[]);
    repaired.unwrap_or_else(|error| panic!("{story}: {error}"));
    end(sample, &store, &mut notes, story)
}

/// Dies everywhere while the vault of this seed is repaired; how many crashes that were.
fn crash_everywhere_in_a_repair(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let sample = if seed.is_multiple_of(2) { Sample::thinned() } else { Sample::new() };
    let (wrecked, damages) = wreck(&sample, &mut random);
    let story = format!("BACKSTAY_REPAIR_SEED={seed}: {damages}");
    println!("{story}");
    let before = readable(&sample, &Arc::new(MemStore::with_objects(wrecked.clone())));
    let whole = without_crash(&sample, &wrecked, &story);
    assert!(whole.readable.is_superset(&before), "{story}: {whole:?}");
    crash_everywhere(
        |at, landing| CrashStore::at_change(wrecked.clone(), at, landing, seed ^ at),
        |store, crash| {
            let story = format!("{story}{crash}");
            let mut notes = sample.notes.clone();
            let outcome = repair(&sample, store.clone(), &mut notes, &[]);
            if !store.has_crashed() {
                outcome.unwrap_or_else(|error| panic!("{story}: no crash, and yet {error}"));
            }
            let left = Arc::new(store.after_crash());
            let after = readable(&sample, &left);
            assert!(after.is_superset(&before), "{story}: {} of {}", after.len(), before.len());
            let mut again = || {
                let repaired = repair(&sample, left.clone(), &mut notes, &[]);
                repaired.unwrap_or_else(|error| panic!("{story}: {error}"))
            };
            let mut repaired = store.next_process(&sample.fixture, &left, &mut again);
            // What arrives after a repair, and speaks of what that one has taken away, is for another.
            if store.late_arrives() == Some(Arrival::After) {
                let after = readable(&sample, &left);
                assert!(after.is_superset(&before), "{story}: {} of {}", after.len(), before.len());
                repaired = again();
            }
            let seen = end(&sample, &left, &mut notes, &story);
            assert_eq!(seen, whole, "{story}: {repaired:#?}");
        },
    )
}

#[test]
fn a_crash_at_any_change_of_a_repair_loses_nothing_and_the_next_one_ends_where_it_would_have() {
    let crashes: u64 = (0..SEEDS).map(crash_everywhere_in_a_repair).sum();
    println!("{crashes} crashes");
    assert!(crashes > 100, "repairs have more changes than {crashes} crashes make");
}

#[test]
fn one_seed_of_a_repair() {
    let crashes = crash_everywhere_in_a_repair(number("BACKSTAY_REPAIR_SEED").unwrap_or(SEEDS));
    println!("{crashes} crashes");
}

#[test]
#[ignore = "long: some minutes; BACKSTAY_SEEDS sets how many (200)"]
fn crashes_of_many_repairs() {
    let seeds = 1000..1000 + number("BACKSTAY_SEEDS").unwrap_or(LONG_SEEDS);
    println!("{} crashes", seeds.map(crash_everywhere_in_a_repair).sum::<u64>());
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
