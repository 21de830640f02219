//! Objects that grow: what was acknowledged is there after any loss of power, whatever came after it.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backstay_core::id::{BranchId, JournalId, SourceId};
use backstay_testkit::power::{Forgets, LossyDisk, Model, Record};
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{DirStore, Store};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::after::new_folder;

/// Rounds of appends.
const ROUNDS: usize = 12;

/// Appends to one object at the same time.
const AT_ONCE: usize = 4;

/// Names that are varied one by one, and images that chance makes, at each moment.
const VARIED: usize = 4;

/// So much of this object was acknowledged.
type Note = (ObjectName, usize);

fn object(number: u8) -> ObjectName {
    let branch = BranchId::new([number; 16]);
    Named::Journal(SourceId::new([1; 16]), branch, 7, JournalId::new([number; 16])).to_name()
}

/// Appends to two objects, several parts of each at once and in any order, some of them twice.
async fn append_all(
    store: &DirStore,
    disk: &LossyDisk<Note>,
    random: &mut Random,
) -> BTreeMap<ObjectName, Bytes> {
    let contents: BTreeMap<ObjectName, Bytes> =
        [0, 1].into_iter().map(|number| (object(number), Bytes::from(random.bytes(60_000)))).collect();
    let mut ends = BTreeMap::from([(object(0), 0), (object(1), 0)]);
    for _ in 0..ROUNDS {
        let mut appends = JoinSet::new();
        for (name, content) in &contents {
            let mut parts = Vec::new();
            for _ in 0..AT_ONCE {
                let start = ends[name];
                let end = start + 1 + random.below(1200);
                parts.push((start, content.slice(start..end)));
                ends.insert(name.clone(), end);
            }
            let again = parts[random.below(AT_ONCE)].clone();
            parts.push(again);
            random.shuffle(&mut parts);
            for (start, part) in parts {
                let (store, name) = (store.clone(), name.clone());
                appends.spawn(async move { store.append(&name, start as u64, part).await });
            }
        }
        while let Some(appended) = appends.join_next().await {
            appended.expect("no panic").expect("is appended");
        }
        for (name, end) in &ends {
            disk.note((name.clone(), *end));
        }
    }
    contents
}

/// What is missing after some loss of power, if anything is.
async fn first_missing(seed: u64, forgets: Forgets) -> Option<String> {
    println!("BACKSTAY_POWER_SEED={seed}");
    let (folder, mut random) = (new_folder().expect("a folder"), Random::new(seed));
    let disk = Arc::new(LossyDisk::<Note>::new(folder.path(), forgets).expect("a disk"));
    let store = DirStore::on(disk.clone(), folder.path().join("vault"), None);
    let contents = append_all(&store, &disk, &mut random).await;
    let (mut model, mut acknowledged) = (Model::new(), BTreeMap::new());
    for record in disk.records() {
        match record {
            Record::Step(step) => model.apply(&step),
            Record::Note((name, end)) => _ = acknowledged.insert(name, end),
        }
        for image in model.images(VARIED, VARIED, &mut random) {
            for (name, end) in &acknowledged {
                let there = image.files.get(&Path::new("vault").join(name.as_str()));
                if there.is_none_or(|there| there.get(..*end) != Some(&contents[name][..*end])) {
                    return Some(format!("{name} lacks some of its first {end} bytes"));
                }
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_and_acknowledged_is_there_after_any_loss_of_power() {
    for seed in 1..=5 {
        assert_eq!(first_missing(seed, Forgets::Nothing).await, None, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_to_sync_is_found_out() {
    for forgets in [Forgets::Files, Forgets::Folders] {
        assert!(first_missing(1, forgets).await.is_some(), "{forgets:?}");
    }
}
