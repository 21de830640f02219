//! A store that serves last month's listings to one process, while everything else is as it is now: a cache before it, or
//! a replica that does not follow. It breaks what a store promises. Nothing that was acknowledged may go by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_testkit::capture::read_back;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Listed, MemStore, Store, StoreError, Stretch};
use backstay_vault::vault::MemoryNotes;
use bytes::Bytes;

use super::{OTHER, Pair, SOURCE, care, state};

/// From a moment on it lists what was there then.
#[derive(Debug)]
struct Stale {
    now: Arc<MemStore>,
    once: Mutex<Option<BTreeMap<String, Bytes>>>,
}

impl Stale {
    /// One that does not yet stand still.
    fn over(now: &Arc<MemStore>) -> Arc<Self> {
        Arc::new(Self { now: now.clone(), once: Mutex::default() })
    }

    fn of(now: &Arc<MemStore>) -> Arc<Self> {
        let stale = Self::over(now);
        stale.stand_still();
        stale
    }

    fn stand_still(&self) {
        *self.once.lock().expect("no panic while it is held") = Some(self.now.objects());
    }
}

#[async_trait]
impl Store for Stale {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        self.now.put(name, content).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.now.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.now.get_range(name, stretch).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        let once = self.once.lock().expect("no panic while it is held").clone();
        match once {
            Some(once) => MemStore::with_objects(once).list(folder).await,
            None => self.now.list(folder).await,
        }
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.now.delete(name).await
    }

    fn place(&self) -> String {
        "a store with old listings".into()
    }
}

/// A custodian that sees `stale` works as long as it is let; then one that sees the truth.
fn custodian_sees(pair: &Pair, stale: Arc<Stale>, notes: &mut MemoryNotes) {
    for _ in 0..3 {
        let outcome =
            pair.with_custodian(&pair.custodian, stale.clone(), notes, |custodian| care(custodian, 10));
        assert!(matches!(outcome, Err(VaultError::OldListing { .. })), "{outcome:?}");
        pair.verify();
    }
    pair.care(10, notes).expect("collects");
    pair.verify_and_check();
}

#[test]
fn a_custodian_with_an_old_listing_from_before_the_first_collection_takes_nothing_away() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    let stale = Stale::of(&pair.memory);
    pair.capture(|pair| &pair.other, SOURCE, state(2));
    pair.capture(|pair| &pair.custodian, OTHER, state(1));
    custodian_sees(&pair, stale, &mut MemoryNotes::default());
}

#[test]
fn a_custodian_with_an_old_listing_from_after_its_last_pass_takes_nothing_away() {
    let mut pair = Pair::new();
    let mut notes = MemoryNotes::default();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    pair.care(10, &mut notes).expect("collects");
    // Something to decide, or it would be idle.
    pair.capture(|pair| &pair.other, SOURCE, state(2));
    let stale = Stale::of(&pair.memory);
    pair.capture(|pair| &pair.other, SOURCE, state(3));
    pair.capture(|pair| &pair.custodian, OTHER, state(1));
    custodian_sees(&pair, stale, &mut notes);
}

#[test]
fn a_custodian_with_an_old_listing_from_the_middle_of_a_pass_takes_nothing_away() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    let vault = pair.other.open(pair.memory.clone()).expect("opens");
    let open = pair.other.open_capture(&[vault], OTHER, pair.now()).expect("opens");
    let mut notes = MemoryNotes::default();
    // It waits for the commit.
    let pass = pair.with_custodian(&pair.custodian, pair.memory.clone(), &mut notes, |c| c.collect());
    assert!(matches!(pass, Ok(backstay_vault::vault::Pass::Waits(_))), "{pass:?}");
    let stale = Stale::of(&pair.memory);
    let captured = open.commit(&state(2), &Default::default()).pop().expect("one").expect("commits");
    pair.states.insert((OTHER, captured.link.point), state(2));
    custodian_sees(&pair, stale, &mut notes);
}

#[test]
fn a_reader_with_an_old_listing_reads_what_was_or_is_told_that_it_is_missing() {
    let mut pair = Pair::new();
    let mut notes = MemoryNotes::default();
    let old = pair.capture(|pair| &pair.other, SOURCE, state(1));
    pair.capture(|pair| &pair.other, SOURCE, state(2));
    pair.care(10, &mut notes).expect("collects");
    let stale = Stale::of(&pair.memory);
    pair.capture(|pair| &pair.other, SOURCE, state(3));
    pair.forget(&old);
    pair.care(2, &mut notes).expect("collects");
    let reader = pair.other.open(stale).expect("opens");
    for ((source, point), state) in &pair.states {
        if let Ok(read) = read_back(&reader, source, *point) {
            assert!(read.state == *state);
        }
    }
    assert!(read_back(&reader, SOURCE, old.link.point).is_err(), "its chunks are gone");
}

/// Another node has captured a state that is gone again, by a store whose listings have stood still since. It captures the
/// same once more.
fn writer_sees(starts_anew: bool) -> (Pair, Result<(), VaultError>) {
    let mut pair = Pair::new();
    let stale = Stale::over(&pair.memory);
    let vault = pair.other.open(stale.clone()).expect("opens");
    let old = pair.other.capture(&vault, SOURCE, pair.now(), &state(1)).expect("captures");
    stale.stand_still();
    for n in 2..4 {
        pair.capture(|pair| &pair.custodian, SOURCE, state(n));
    }
    pair.forget(&old);
    pair.care(2, &mut MemoryNotes::default()).expect("collects");
    let vault = if starts_anew { pair.other.open(stale).expect("opens") } else { vault };
    let outcome = pair.other.capture(&vault, OTHER, pair.now(), &state(1));
    let outcome = outcome.map(|captured| drop(pair.states.insert((OTHER, captured.link.point), state(1))));
    (pair, outcome)
}

#[test]
fn a_writer_that_starts_on_an_old_listing_commits_nothing() {
    let (pair, outcome) = writer_sees(true);
    assert!(matches!(outcome, Err(VaultError::OldListing { .. })), "{outcome:?}");
    pair.verify_and_check();
}

#[test]
fn a_writer_whose_listing_has_stood_still_since_it_captured_commits_nothing() {
    let (pair, outcome) = writer_sees(false);
    assert!(matches!(outcome, Err(VaultError::OldListing { .. })), "{outcome:?}");
    pair.verify_and_check();
}
