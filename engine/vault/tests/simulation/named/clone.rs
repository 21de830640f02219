//! A host that comes back from yesterday's copy, and one that runs twice: the local state is old, the keys are the same.

use backstay_testkit::capture::Style;
use backstay_vault::error::VaultError;
use backstay_vault::vault::MemoryNotes;

use super::{OTHER, Pair, SOURCE, care, state};

#[test]
fn a_custodian_with_the_notes_of_yesterday_takes_nothing_away() {
    let mut pair = Pair::new();
    let mut notes = MemoryNotes::default();
    let mut yesterday = Vec::new();
    for n in 0..6 {
        pair.capture(|pair| &pair.other, SOURCE, state(n));
        pair.capture(|pair| &pair.custodian, OTHER, state(n / 2));
        yesterday.push(notes.clone());
        pair.care(3, &mut notes).expect("collects");
        let kept: Vec<_> = {
            let vault = pair.verify_counting();
            vault.into_iter().collect()
        };
        pair.states.retain(|(_, point), _| kept.contains(point));
    }
    for mut notes in yesterday {
        pair.capture(|pair| &pair.other, SOURCE, state(90));
        pair.care(10, &mut notes).expect("collects");
        pair.verify_and_check();
    }
}

#[test]
fn a_layout_that_was_pending_yesterday_changes_nothing_today() {
    let mut pair = Pair::new();
    let mut notes = MemoryNotes::default();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    pair.care(3, &mut notes).expect("collects");
    let layout = notes.layouts.values().next().expect("a copy of the layout").clone();
    let mut yesterday = notes.clone();
    yesterday.notes.layout = Some(layout);
    for n in 2..5 {
        pair.capture(|pair| &pair.other, SOURCE, state(n));
        pair.care(10, &mut notes).expect("collects");
    }
    pair.with_custodian(&pair.custodian, pair.memory.clone(), &mut yesterday, |custodian| {
        care(custodian, 10)
    })
    .expect("collects");
    pair.verify_and_check();
}

#[test]
fn a_clone_that_starts_ends_what_its_twin_has_open_and_neither_loses_anything() {
    let mut pair = Pair::new();
    pair.capture(|pair| &pair.other, SOURCE, state(1));
    let node = &pair.other;
    let vault = node.open(pair.memory.clone()).expect("opens");
    let open = node.open_capture(std::slice::from_ref(&vault), SOURCE, pair.now()).expect("opens");
    // The same keys, on another machine.
    let twin = node.open(pair.memory.clone()).expect("opens");
    assert_eq!(node.fence_dead_sessions(&twin, pair.now()).expect("fences"), 1);
    let captured = node.capture(&twin, SOURCE, pair.now(), &state(2)).expect("captures");
    let outcome = open.commit(&state(3), &Style::default()).pop().expect("one target");
    assert!(matches!(outcome, Err(VaultError::Fenced { .. })), "{outcome:?}");
    let again = node.capture(&vault, SOURCE, pair.now(), &state(3)).expect("captures");
    pair.states.insert((SOURCE, captured.link.point), state(2));
    pair.states.insert((SOURCE, again.link.point), state(3));
    pair.verify_and_check();
    pair.care(10, &mut MemoryNotes::default()).expect("collects");
    pair.verify_and_check();
}

impl Pair {
    /// What counts.
    fn verify_counting(&self) -> std::collections::BTreeSet<backstay_core::id::PointId> {
        let vault = self.other.open(self.memory.clone()).expect("opens");
        let sources = vault.sources().expect("lists");
        let catalogues = sources.into_iter().map(|source| vault.catalogue(source).expect("catalogue"));
        catalogues
            .flat_map(|catalogue| catalogue.points().iter().map(|p| p.link.point).collect::<Vec<_>>())
            .collect()
    }
}
