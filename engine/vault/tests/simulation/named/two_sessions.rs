//! Two nodes that capture one source at the same time: each builds on the same point, and both are told that theirs is safe.

use backstay_testkit::capture::Style;
use backstay_vault::vault::MemoryNotes;

use super::{Pair, SOURCE, state};

#[test]
fn two_sessions_of_one_source_at_once_are_both_acknowledged_and_stay() {
    let mut pair = Pair::new();
    let first = pair.capture(|pair| &pair.custodian, SOURCE, state(1));
    let vaults = [&pair.custodian, &pair.other].map(|node| node.open(pair.memory.clone()).expect("opens"));
    let now = pair.now();
    let own = pair.custodian.open_capture(&vaults[..1], SOURCE, now).expect("opens");
    let others = pair.other.open_capture(&vaults[1..], SOURCE, now).expect("opens");
    for open in [&own, &others] {
        assert_eq!(open.targets()[0].0.parent().map(|parent| parent.link), Some(first.link));
    }
    let (one, two) = (state(2), state(3));
    let style = Style::default();
    for (open, state) in [(others, two), (own, one)] {
        let captured = open.commit(&state, &style).pop().expect("one target").expect("commits");
        pair.states.insert((SOURCE, captured.link.point), state);
    }
    pair.verify_and_check();
    // Whoever comes next builds on one of them, and the other stays beside it.
    pair.capture(|pair| &pair.other, SOURCE, state(4));
    let mut notes = MemoryNotes::default();
    pair.care(4, &mut notes).expect("collects");
    pair.verify_and_check();
    pair.forget(&first);
    pair.care(3, &mut notes).expect("collects");
    pair.verify_and_check();
}
