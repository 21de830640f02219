//! Damage in a store that keeps what is replaced or deleted: nothing is lost of what has its hash in its name, a check says so all
//! the same, and a repair puts it back.

use std::sync::Arc;

use backstay_testkit::random::Random;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{MemStore, Store, VERSIONS_MAX};
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::matrix::look_into;
use crate::repair::{readable, repair};
use crate::sample::{Damage, Sample};

/// Objects whose names end with the hash of their contents, and that a repair looks at.
const HASHED: [&str; 8] = ["bad", "heads", "index", "layout", "ledger/gc", "packs", "points", "proofs"];

/// What puts something else in the place of what was there.
const REPLACING: [Damage; 4] = [Damage::Truncated, Damage::Flipped, Damage::Swapped, Damage::Zeroed];

/// Does to a store by puts and deletes what turns these objects into those.
fn turn(store: &MemStore, sample: &Sample, to: &crate::sample::Objects) {
    let io = Runtime::new().expect("a runtime");
    for (text, content) in to.iter().filter(|(name, content)| sample.objects.get(*name) != Some(content)) {
        io.block_on(store.put(&name(text), content.clone())).expect("a put into memory");
    }
    for text in sample.objects.keys().filter(|name| !to.contains_key(*name)) {
        io.block_on(store.delete(&name(text))).expect("a delete in memory");
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("the name of an object").0
}

fn versioned(sample: &Sample) -> Arc<MemStore> {
    Arc::new(MemStore::with_objects(sample.objects.clone()).with_versions())
}

#[test]
fn what_was_replaced_is_read_as_it_was_and_put_back_by_a_repair() {
    let sample = Sample::new();
    let mut tried = 0;
    for (name, folder) in sample.names().filter(|(_, folder)| HASHED.contains(folder)) {
        for damage in REPLACING {
            for objects in sample.damaged(name, folder, damage) {
                let story = format!("{name} {damage:?}");
                let store = versioned(&sample);
                turn(&store, &sample, &objects);
                let seen = look_into(&sample, store.clone(), &story);
                assert!(seen.lost.is_empty(), "{story}: {seen:?}");
                repair(&sample, store.clone(), &mut sample.notes.clone(), &[])
                    .unwrap_or_else(|error| panic!("{story}: {error}"));
                let seen = look_into(&sample, store.clone(), &story);
                assert!(seen.lost.is_empty() && seen.named.is_empty(), "{story}: {seen:?}");
                assert!(seen.named_by_data.is_empty(), "{story}: {seen:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn packs_that_were_deleted_are_read_as_they_were_and_a_check_names_them() {
    let sample = Sample::new();
    let store = versioned(&sample);
    let mut without = sample.objects.clone();
    without.retain(|name, _| !name.starts_with("packs/"));
    turn(&store, &sample, &without);
    let seen = look_into(&sample, store.clone(), "all packs are deleted");
    assert!(seen.lost.is_empty(), "{seen:?}");
    assert!(!seen.named.is_empty(), "a check says so");
    let repaired = repair(&sample, store.clone(), &mut sample.notes.clone(), &[]).expect("is mended");
    assert!(repaired.losses.is_empty(), "{repaired:?}");
    let seen = look_into(&sample, store, "repaired");
    assert!(seen.lost.is_empty() && seen.named.is_empty() && seen.named_by_data.is_empty(), "{seen:?}");
}

#[test]
fn a_check_names_what_is_read_from_an_older_version() {
    let sample = Sample::new();
    let mut named = 0;
    for (name, folder) in sample.names().filter(|(_, folder)| ["index", "points"].contains(folder)) {
        let objects = sample.damaged(name, folder, Damage::Flipped).remove(0);
        let store = versioned(&sample);
        turn(&store, &sample, &objects);
        let seen = look_into(&sample, store, name);
        assert!(seen.named.iter().any(|found| found.starts_with(name)), "{name}: {seen:?}");
        named += 1;
    }
    assert!(named >= 4, "{named}");
}

#[test]
fn so_many_versions_are_looked_at_and_no_more() {
    let (sample, mut random) = (Sample::new(), Random::new(1));
    let pack = sample.objects.keys().find(|name| name.starts_with("packs/")).expect("a pack");
    let io = Runtime::new().expect("a runtime");
    let lost_after = |puts: usize, random: &mut Random| {
        let store = versioned(&sample);
        for _ in 0..puts {
            let other = Bytes::from(random.bytes(sample.objects[pack].len()));
            io.block_on(store.put(&name(pack), other)).expect("a put into memory");
        }
        sample.points.len() - readable(&sample, &store).len()
    };
    // One of the puts is there now, and no older version.
    assert_eq!(lost_after(VERSIONS_MAX, &mut random), 0);
    assert!(lost_after(VERSIONS_MAX + 1, &mut random) > 0);
}
