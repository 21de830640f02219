//! One rule broken at a time: what then goes wrong is what the rule is for. Where nothing goes wrong, the
//! rule buys something else, and the test says what. Each scene is one that `holds` walks with all rules
//! kept.

use crate::properties::Violation::{
    self, AcknowledgedIsLost, CountsButIsLost, DecisionChanged, ListedRunIsLost, ReaderFailed,
    SinceRepairIsLost,
};
use crate::rules::{Breach, World};
use crate::scene::{Scene, Takeover};
use crate::scenes::{
    Reads, captured_twice, copied, copied_by_two, copied_onto, damaged, given_up, inherited, interrupted,
    just_written, new_chunk, one_chunk, patient_after_a_crash, sparse_pack, thinned, two_packs, two_sources,
};
use crate::search::search;

fn breaks(scene: Scene, breach: Breach, expected: Violation) {
    match search(&World::breaking(scene, breach)) {
        Ok(searched) => panic!("{breach:?} costs nothing here: {searched:?}"),
        Err(counterexample) => {
            eprintln!("{breach:?}: {counterexample}");
            assert_eq!(counterexample.violation, expected, "{counterexample}");
        }
    }
}

fn costs_nothing(scene: Scene, breach: Breach) {
    if let Err(counterexample) = search(&World::breaking(scene, breach)) {
        panic!("{breach:?}: {counterexample}");
    }
}

// Writers.

#[test]
fn a_writer_lists_gc_before_index() {
    breaks(one_chunk(2, 2), Breach::IndexListedBeforeGc, CountsButIsLost);
}

#[test]
fn a_writer_does_not_trust_index_objects_of_other_writers() {
    breaks(one_chunk(2, 2), Breach::ForeignIndexTrusted, CountsButIsLost);
}

#[test]
fn a_writer_does_not_trust_its_own_sessions_that_were_not_acknowledged() {
    breaks(captured_twice(2).first_node_crashes(1), Breach::UnacknowledgedIndexTrusted, CountsButIsLost);
}

#[test]
fn a_writer_looks_for_its_fence() {
    breaks(one_chunk(2, 2), Breach::FenceNotChecked, AcknowledgedIsLost);
}

#[test]
fn a_writer_reads_the_layout_again_when_its_pin_is_durable() {
    breaks(thinned(1, Reads::Nothing).custodian_crashes(1), Breach::LayoutNotReadAgain, CountsButIsLost);
    breaks(interrupted(), Breach::LayoutNotReadAgain, CountsButIsLost);
}

#[test]
fn a_parent_is_accepted_or_of_an_ended_session() {
    breaks(inherited().first_node_crashes(1), Breach::UnsettledPointPinned, CountsButIsLost);
}

#[test]
fn a_crashed_session_is_fenced_and_never_ended() {
    breaks(captured_twice(2).first_node_crashes(1), Breach::CrashedSessionEnded, CountsButIsLost);
}

/// A node's own fence saves the custodian the day of grace, no more.
#[test]
fn a_crashed_session_may_be_left_to_expire() {
    costs_nothing(captured_twice(2).first_node_crashes(1), Breach::CrashedSessionLeftOpen);
}

#[test]
fn a_writer_that_has_read_first_looks_whether_a_collection_has_begun() {
    let scene = thinned(1, Reads::Nothing).rounds(3).numbered().reading_first();
    breaks(scene, Breach::ReadFirstNotChecked, AcknowledgedIsLost);
}

#[test]
fn what_was_thinned_goes_in_a_collection_that_was_announced_after_it() {
    let scene = thinned(1, Reads::Nothing).custodian_crashes(1).numbered().reading_first();
    breaks(scene, Breach::AnyRecordWorkedOff, CountsButIsLost);
}

#[test]
fn a_collection_goes_on_beside_no_record_that_has_landed_late() {
    breaks(patient_after_a_crash(), Breach::LateRecordWorkedOff, CountsButIsLost);
    breaks(patient_after_a_crash().reading_first(), Breach::LateRecordWorkedOff, CountsButIsLost);
}

// Copies.

#[test]
fn a_point_counts_as_copied_when_it_is_settled() {
    breaks(copied(2, 0).first_node_crashes(1), Breach::UnsettledCopyPassedOver, AcknowledgedIsLost);
    breaks(copied_by_two(1), Breach::UnsettledCopyPassedOver, AcknowledgedIsLost);
}

#[test]
fn a_copier_reads_the_layout_again_when_its_pin_is_durable() {
    breaks(copied_onto(1), Breach::LayoutNotReadAgain, CountsButIsLost);
}

// Readers.

#[test]
fn a_reader_pins_its_point() {
    breaks(thinned(0, Reads::Dropped), Breach::ReaderDoesNotPin, ReaderFailed);
}

/// On a read-only store there are no pins: a reader of a point that is kept finishes nevertheless.
#[test]
fn a_reader_of_a_kept_point_needs_no_pin() {
    costs_nothing(thinned(0, Reads::Head).custodian_crashes(2), Breach::ReaderDoesNotPin);
    costs_nothing(thinned(1, Reads::Head), Breach::ReaderDoesNotPin);
}

#[test]
fn a_reader_pins_only_what_is_settled() {
    breaks(just_written(), Breach::UnsettledPointPinned, ReaderFailed);
}

#[test]
fn a_custodian_keeps_what_readers_pin() {
    breaks(thinned(0, Reads::Dropped), Breach::PinsIgnored, ReaderFailed);
}

// Thinning.

#[test]
fn a_point_is_dropped_before_sessions_are_listed() {
    breaks(thinned(1, Reads::Nothing), Breach::DroppedWhileDeciding, CountsButIsLost);
    breaks(thinned(0, Reads::Dropped), Breach::DroppedWhileDeciding, ReaderFailed);
}

#[test]
fn runs_stay_in_the_layout_until_sessions_were_waited_for() {
    breaks(thinned(1, Reads::Nothing), Breach::RunsLeaveWithTheirPoint, CountsButIsLost);
    breaks(thinned(0, Reads::Dropped), Breach::RunsLeaveWithTheirPoint, ReaderFailed);
}

#[test]
fn a_thinning_is_durable_before_anything_goes() {
    breaks(thinned(0, Reads::Head), Breach::ThinnedBeforeLayout, CountsButIsLost);
}

// Bringing back.

#[test]
fn what_comes_back_is_proved_before_it_counts() {
    breaks(given_up().undeleted(1), Breach::UndeletedUnproved, CountsButIsLost);
}

#[test]
fn what_comes_back_is_proved_by_packs_that_are_there() {
    let scene = given_up().custodian_crashes(1).undeleted(1).numbered().late_custodian();
    breaks(scene, Breach::UndeletedProvedByIndex, CountsButIsLost);
}

#[test]
fn what_comes_back_is_listed_before_it_counts() {
    breaks(given_up().undeleted(1), Breach::UndeletedNotListed, CountsButIsLost);
}

#[test]
fn a_point_that_was_decided_against_does_not_come_back() {
    breaks(given_up().custodian_crashes(1).undeleted(1), Breach::RefusedBroughtBack, DecisionChanged);
}

/// A pass that goes on marks again, and what was accepted meanwhile it moves: that nothing is brought back before it has
/// ended only keeps the two apart.
#[test]
fn points_may_be_brought_back_when_a_collection_has_not_ended() {
    costs_nothing(given_up().undeleted(1).custodian_crashes(1), Breach::UndeletedDuringPass);
    costs_nothing(
        given_up().rounds(1).undeleted(1).custodian_crashes(1).numbered(),
        Breach::UndeletedDuringPass,
    );
}

/// What came back is moved out of packs that the record before dooms, because a crash would leave both records.
#[test]
fn a_pack_that_came_back_may_stay_where_it_is() {
    costs_nothing(given_up().undeleted(1).numbered(), Breach::UndeletedNotMoved);
}

// Repair.

#[test]
fn index_objects_that_name_what_is_not_there_go() {
    breaks(damaged(1).rounds(1), Breach::VoidIndexKept, SinceRepairIsLost);
}

#[test]
fn writers_index_objects_that_name_what_is_not_there_go() {
    breaks(
        captured_twice(1).numbered().damages(1).rounds(1),
        Breach::VoidWritersIndexKept,
        SinceRepairIsLost,
    );
}

#[test]
fn a_repair_puts_a_gc_record_before_index_objects_go() {
    let scene = new_chunk(2).rounds(1).custodian_crashes(1).numbered().late_custodian().damages(1);
    breaks(scene, Breach::VoidIndexGoesUnannounced, SinceRepairIsLost);
}

#[test]
fn a_collection_puts_a_gc_record_before_index_objects_go_that_name_what_is_lost() {
    let scene = new_chunk(2).rounds(1).custodian_crashes(1).numbered().late_custodian().damages(1);
    breaks(scene, Breach::VoidIndexCollectedUnannounced, SinceRepairIsLost);
}

#[test]
fn what_void_index_objects_name_besides_is_listed_anew() {
    breaks(damaged(1).rounds(1), Breach::VoidIndexNotTakenOver, CountsButIsLost);
}

#[test]
fn what_is_there_is_listed_anew_before_void_index_objects_go() {
    breaks(damaged(1).rounds(1), Breach::VoidIndexDeletedFirst, CountsButIsLost);
}

#[test]
fn a_gc_record_says_that_there_is_a_list_of_what_is_lost() {
    breaks(damaged(1).rounds(1), Breach::LostNotAnnounced, SinceRepairIsLost);
}

#[test]
fn a_list_of_what_is_lost_may_be_there_and_not_announced() {
    breaks(damaged(1).rounds(1).custodian_crashes(1), Breach::LostListTakenForAnnounced, SinceRepairIsLost);
}

#[test]
fn every_gc_record_says_that_there_is_a_list_of_what_is_lost() {
    breaks(damaged(2), Breach::LostNotSaidAgain, SinceRepairIsLost);
}

#[test]
fn a_writer_looks_at_the_list_of_what_is_lost() {
    breaks(damaged(1).rounds(1), Breach::LostIgnored, SinceRepairIsLost);
}

#[test]
fn a_damaged_gc_record_goes_when_another_is_there() {
    breaks(damaged(2).custodian_crashes(1), Breach::DamagedGcDeletedFirst, AcknowledgedIsLost);
}

// Waiting and deciding.

#[test]
fn sessions_are_listed_after_the_gc_record_is_written() {
    breaks(one_chunk(2, 2), Breach::SessionsListedBeforeGc, CountsButIsLost);
}

#[test]
fn sessions_are_waited_for() {
    breaks(one_chunk(2, 2), Breach::SessionsNotWaitedFor, CountsButIsLost);
}

#[test]
fn fences_are_listed_before_points() {
    breaks(captured_twice(2).first_node_crashes(1), Breach::FencesListedAfterPoints, AcknowledgedIsLost);
}

#[test]
fn fenced_sessions_are_decided() {
    breaks(one_chunk(2, 2), Breach::FencedNotDecided, CountsButIsLost);
}

#[test]
fn a_point_of_a_fenced_session_is_accepted_if_it_is_seen() {
    breaks(one_chunk(1, 2).custodian_crashes(2), Breach::FencedRefused, AcknowledgedIsLost);
}

#[test]
fn sessions_name_their_sources_and_are_decided_for_those_without_a_layout() {
    breaks(two_sources().custodian_crashes(1), Breach::UnseenSourcesNotDecided, CountsButIsLost);
}

#[test]
fn a_decision_is_final() {
    breaks(one_chunk(1, 2).custodian_crashes(2), Breach::DecisionNotFinal, CountsButIsLost);
}

#[test]
fn a_layout_under_way_in_a_crash_is_put_again() {
    let scene = thinned(0, Reads::Dropped).custodian_crashes(1).numbered().late_custodian();
    breaks(scene, Breach::LayoutNotPutAgain, CountsButIsLost);
    let scene = one_chunk(1, 2).rounds(3).custodian_crashes(1).numbered().late_custodian();
    breaks(scene, Breach::LayoutNotPutAgain, DecisionChanged);
}

#[test]
fn layouts_of_a_new_term_come_after_all_of_the_former() {
    let scene = thinned(0, Reads::Dropped).numbered().late_custodian().takeover(Takeover::AfterRevocation);
    breaks(scene, Breach::TermNotAboveGeneration, CountsButIsLost);
}

// Numbered collections.

#[test]
fn a_session_opens_within_one_collection() {
    let scene = one_chunk(1, 3).rounds(3).numbered();
    breaks(scene, Breach::CollectionNotCheckedAtStart, AcknowledgedIsLost);
}

#[test]
fn a_session_is_acknowledged_within_two_collections() {
    breaks(one_chunk(1, 3).rounds(3).numbered(), Breach::CollectionNotCheckedAtEnd, AcknowledgedIsLost);
}

#[test]
fn a_fence_outlives_the_next_collection() {
    breaks(one_chunk(1, 3).rounds(3).numbered(), Breach::FenceDeletedAtOnce, AcknowledgedIsLost);
}

#[test]
fn decided_sessions_are_not_forgotten_without_a_floor() {
    breaks(one_chunk(1, 3).rounds(3).numbered(), Breach::DecidedForgotten, AcknowledgedIsLost);
}

#[test]
fn the_floor_is_the_collection_that_the_pass_began_with() {
    let scene = sparse_pack(1).copying_first().custodian_crashes(1).numbered().late_custodian();
    breaks(scene, Breach::FloorTooHigh, AcknowledgedIsLost);
}

#[test]
fn a_custodians_index_object_counts_only_if_the_newest_gc_record_vouches_for_it() {
    let scene = || patient_after_a_crash().rounds(3);
    breaks(scene(), Breach::AnyCustodianIndexTrusted, CountsButIsLost);
    breaks(scene(), Breach::IndexVouchedUnseen, CountsButIsLost);
}

/// The same with no gc record to vouch: the core alone does not stand a custodian's late PUT.
#[test]
fn a_late_index_object_of_a_custodian_loses_data_without_numbered_collections() {
    let world = World::keeping_all_rules(one_chunk(1, 2).custodian_crashes(1).late_custodian());
    let found = search(&world).err().map(|counterexample| counterexample.violation);
    assert_eq!(found, Some(CountsButIsLost));
}

#[test]
fn gc_records_have_names_of_their_own() {
    let scene = given_up().custodian_crashes(1).numbered().late_custodian();
    breaks(scene, Breach::GcOverwritten, CountsButIsLost);
}

// Deleting.

#[test]
fn a_collection_marks_again_before_it_deletes() {
    breaks(one_chunk(2, 2), Breach::NotMarkedAgain, CountsButIsLost);
    breaks(sparse_pack(1).copying_first(), Breach::NotMarkedAgain, CountsButIsLost);
}

#[test]
fn the_new_index_has_every_entry_of_packs_that_stay() {
    breaks(two_packs(), Breach::UnneededEntriesLeftOut, CountsButIsLost);
}

#[test]
fn packs_are_listed_after_the_index_objects_that_name_them() {
    breaks(one_chunk(1, 2).numbered(), Breach::PacksListedBeforeIndex, CountsButIsLost);
}

#[test]
fn entries_of_others_are_taken_over_before_their_index_objects_go() {
    breaks(captured_twice(2).first_node_crashes(1), Breach::EntriesNotTakenOver, CountsButIsLost);
}

#[test]
fn the_new_index_is_durable_before_the_old_goes() {
    breaks(sparse_pack(1).copying_first(), Breach::IndexDeletedBeforeNew, CountsButIsLost);
}

#[test]
fn writers_index_objects_that_name_doomed_packs_go() {
    breaks(captured_twice(2).first_node_crashes(1), Breach::WritersIndexKept, CountsButIsLost);
}

#[test]
fn the_gc_record_goes_after_the_index_objects() {
    breaks(one_chunk(1, 2).custodian_crashes(2), Breach::GcDeletedBeforeIndex, CountsButIsLost);
}

/// While the gc record is there nobody counts on a doomed pack: index before packs only spares readers a
/// failed request.
#[test]
fn packs_may_go_before_the_index_objects() {
    costs_nothing(two_packs().custodian_crashes(1), Breach::PacksDeletedBeforeIndex);
    costs_nothing(sparse_pack(1).copying_first().custodian_crashes(2), Breach::PacksDeletedBeforeIndex);
    costs_nothing(captured_twice(2).first_node_crashes(1), Breach::PacksDeletedBeforeIndex);
}

// Take-over.

/// Reading `trust/` before each batch of deletes does not stop a custodian that falls asleep after it.
#[test]
fn only_revocation_stops_the_former_custodian() {
    for (scene, expected) in [
        (one_chunk(1, 2).takeover(Takeover::WithoutRevocation), CountsButIsLost),
        (one_chunk(1, 2).numbered().late_custodian().takeover(Takeover::WithoutRevocation), CountsButIsLost),
        (given_up().numbered().late_custodian().takeover(Takeover::WithoutRevocation), DecisionChanged),
    ] {
        let found = search(&World::keeping_all_rules(scene)).err().map(|found| found.violation);
        assert_eq!(found, Some(expected));
    }
}

/// Without revocation it makes a loss less likely: there is a shorter way to one when it is left out.
#[test]
fn reading_trust_again_stops_a_custodian_that_is_awake() {
    breaks(one_chunk(1, 2).takeover(Takeover::WithoutRevocation), Breach::TrustNotReread, CountsButIsLost);
    let scene = given_up().numbered().late_custodian().takeover(Takeover::WithoutRevocation);
    breaks(scene, Breach::TrustNotReread, ListedRunIsLost);
}

#[test]
fn after_revocation_nothing_hangs_on_reading_trust_again() {
    costs_nothing(one_chunk(1, 2).takeover(Takeover::AfterRevocation), Breach::TrustNotReread);
    costs_nothing(sparse_pack(1).takeover(Takeover::AfterRevocation), Breach::TrustNotReread);
}
