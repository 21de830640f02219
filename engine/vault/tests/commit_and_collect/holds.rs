//! Scenes with all rules kept: whatever happens in whatever order, every acknowledged point counts until
//! retention drops it, every point that counts can be restored, readers finish, decisions are final, and
//! garbage goes in the end.

use crate::rules::World;
use crate::scene::{Scene, Takeover};
use crate::scenes::{
    Reads, captured_twice, copied, copied_by_two, copied_onto, damaged, given_up, inherited, interrupted,
    just_written, new_chunk, one_chunk, patient_after_a_crash, sparse_pack, thinned, two_packs, two_sources,
};
use crate::search::search;

/// Walks the scene; it must be one in which something happens.
fn holds(scene: Scene) {
    let world = World::keeping_all_rules(scene);
    match search(&world) {
        Ok(searched) => {
            let writes = !world.scene.writers().is_empty();
            assert!(searched.ends > 0 && searched.deleted_a_pack, "{searched:?}");
            assert_eq!(searched.acknowledged, writes, "{searched:?}");
            eprintln!("{searched:?}");
        }
        Err(counterexample) => panic!("{counterexample}"),
    }
}

// The core: decisions kept for ever, the gc record gone at the end of its collection.

#[test]
fn two_writers_and_two_collections_share_a_chunk() {
    holds(one_chunk(2, 2));
}

#[test]
fn two_writers_share_a_chunk_while_the_custodian_crashes() {
    holds(one_chunk(2, 2).rounds(1).custodian_crashes(1));
}

#[test]
fn a_custodian_may_crash_twice() {
    holds(one_chunk(1, 2).custodian_crashes(2));
}

#[test]
fn live_chunks_of_sparse_packs_are_rescued() {
    holds(sparse_pack(1).custodian_crashes(2));
    holds(sparse_pack(2).rounds(1).custodian_crashes(1));
}

#[test]
fn live_chunks_of_sparse_packs_may_be_copied_first() {
    holds(sparse_pack(1).copying_first().custodian_crashes(2));
    holds(sparse_pack(2).copying_first().rounds(1).custodian_crashes(1));
}

#[test]
fn any_part_of_the_garbage_may_be_collected() {
    holds(two_packs().custodian_crashes(1));
    holds(sparse_pack(1).picky_custodian().stale_writers().custodian_crashes(1));
}

#[test]
fn a_point_is_thinned_out_while_a_writer_may_choose_it_as_parent() {
    holds(thinned(1, Reads::Nothing).custodian_crashes(1));
}

#[test]
fn a_reader_of_the_dropped_point_finishes() {
    holds(thinned(0, Reads::Dropped).custodian_crashes(2));
    holds(thinned(1, Reads::Dropped));
}

#[test]
fn a_reader_of_another_point_finishes_though_runs_are_merged_under_it() {
    holds(thinned(0, Reads::Head).custodian_crashes(2));
    holds(thinned(1, Reads::Head));
}

#[test]
fn an_interrupted_capture_goes_on_from_its_partial_point() {
    holds(interrupted());
    holds(interrupted().rounds(1).first_node_crashes(1));
}

#[test]
fn a_node_counts_on_its_own_acknowledged_sessions_also_after_a_crash() {
    holds(captured_twice(2).first_node_crashes(1));
}

#[test]
fn what_a_dropped_point_needed_may_be_captured_again() {
    holds(given_up().custodian_crashes(2));
}

#[test]
fn one_session_commits_to_two_sources_without_layouts() {
    holds(two_sources().custodian_crashes(1).first_node_crashes(1));
}

#[test]
fn another_node_goes_on_from_what_the_last_one_left() {
    holds(inherited().first_node_crashes(1));
}

#[test]
fn a_point_just_written_is_read() {
    holds(just_written().first_node_crashes(1).custodian_crashes(1));
}

#[test]
fn a_second_custodian_takes_over_after_revocation() {
    holds(one_chunk(1, 2).takeover(Takeover::AfterRevocation));
    holds(sparse_pack(1).takeover(Takeover::AfterRevocation));
}

// Numbered collections: what is old enough is decided by its number, and sessions, fences and lists of them
// go.

#[test]
fn numbered_collections_forget_what_they_decided() {
    holds(one_chunk(1, 3).rounds(3).numbered());
    holds(one_chunk(1, 2).custodian_crashes(2).numbered());
    holds(one_chunk(2, 1).numbered());
}

#[test]
fn numbered_collections_rescue() {
    holds(sparse_pack(1).copying_first().custodian_crashes(1).numbered());
    holds(two_packs().custodian_crashes(1).numbered());
    holds(given_up().custodian_crashes(1).numbered());
}

#[test]
fn numbered_collections_thin() {
    holds(thinned(1, Reads::Nothing).custodian_crashes(1).numbered());
    holds(thinned(0, Reads::Dropped).rounds(3).custodian_crashes(1).numbered());
    holds(thinned(0, Reads::Head).rounds(3).custodian_crashes(1).numbered());
}

#[test]
fn numbered_collections_let_a_node_go_on_from_its_own_sessions() {
    holds(captured_twice(1).first_node_crashes(1).numbered());
    holds(interrupted().rounds(1).first_node_crashes(1).numbered());
}

#[test]
fn numbered_collections_settle_what_was_left_behind() {
    holds(two_sources().custodian_crashes(1).numbered());
    holds(inherited().first_node_crashes(1).numbered());
    holds(just_written().custodian_crashes(1).numbered());
}

// Writers read first, and open their sessions last.

#[test]
fn a_writer_may_read_before_it_opens_its_session() {
    holds(one_chunk(2, 1).rounds(1).numbered().reading_first());
    holds(one_chunk(1, 2).custodian_crashes(1).numbered().reading_first());
    holds(sparse_pack(1).rounds(1).custodian_crashes(1).numbered().reading_first());
    holds(two_sources().rounds(1).custodian_crashes(1).numbered().reading_first());
}

#[test]
fn what_a_writer_has_read_first_outlives_no_thinning() {
    holds(thinned(1, Reads::Nothing).custodian_crashes(1).numbered().reading_first());
    holds(captured_twice(1).rounds(1).first_node_crashes(1).numbered().reading_first());
    holds(copied_onto(1).rounds(1).custodian_crashes(1).reading_first());
}

#[test]
fn what_a_writer_has_read_first_outlives_no_late_put() {
    holds(one_chunk(1, 2).rounds(1).custodian_crashes(1).numbered().late_custodian().reading_first());
    holds(
        thinned(1, Reads::Nothing).rounds(1).custodian_crashes(1).numbered().late_custodian().reading_first(),
    );
    holds(
        one_chunk(1, 2)
            .rounds(1)
            .numbered()
            .late_custodian()
            .takeover(Takeover::AfterRevocation)
            .reading_first(),
    );
}

#[test]
fn what_a_writer_has_read_first_outlives_no_repair_and_no_bringing_back() {
    holds(damaged(1).rounds(1).reading_first());
    holds(thinned(1, Reads::Nothing).rounds(1).undeleted(1).numbered().reading_first());
}

// A custodian's PUT may land after its end, too.

#[test]
fn a_custodians_late_put_is_harmless() {
    holds(one_chunk(1, 2).rounds(3).custodian_crashes(1).numbered().late_custodian());
    holds(given_up().custodian_crashes(1).numbered().late_custodian());
}

#[test]
fn a_custodians_late_put_is_harmless_to_sparse_packs() {
    holds(sparse_pack(1).copying_first().custodian_crashes(1).numbered().late_custodian());
}

#[test]
fn a_custodians_late_put_is_harmless_to_thinning() {
    holds(thinned(1, Reads::Nothing).custodian_crashes(1).numbered().late_custodian());
    holds(thinned(0, Reads::Dropped).custodian_crashes(1).numbered().late_custodian());
}

#[test]
fn a_custodians_late_put_is_harmless_to_sources_without_layouts() {
    holds(two_sources().custodian_crashes(1).numbered().late_custodian());
}

/// A pass that dooms nothing may lie between, so that packs are still there of which a late record says that they go.
#[test]
fn whoever_began_before_a_late_gc_record_landed_is_waited_for() {
    holds(patient_after_a_crash().rounds(3));
    holds(patient_after_a_crash().reading_first());
    holds(patient_after_a_crash().custodian_crashes(0).takeover(Takeover::AfterRevocation));
}

#[test]
fn a_revoked_custodians_late_put_is_harmless() {
    holds(one_chunk(1, 2).numbered().late_custodian().takeover(Takeover::AfterRevocation));
    holds(thinned(0, Reads::Dropped).numbered().late_custodian().takeover(Takeover::AfterRevocation));
}

// Points that retention gave up are brought back.

#[test]
fn what_was_given_up_is_brought_back() {
    holds(given_up().undeleted(1).custodian_crashes(1));
    holds(given_up().undeleted(1).numbered());
    holds(given_up().rounds(1).undeleted(1).custodian_crashes(1).numbered());
}

#[test]
fn what_was_given_up_is_brought_back_under_a_reader_and_a_writer_of_its_line() {
    holds(thinned(0, Reads::Dropped).undeleted(1).numbered());
    holds(thinned(1, Reads::Nothing).rounds(1).undeleted(1).numbered());
}

#[test]
fn a_custodians_late_put_is_harmless_to_what_is_brought_back() {
    holds(given_up().rounds(1).undeleted(1).custodian_crashes(1).numbered().late_custodian());
}

#[test]
fn what_was_given_up_is_brought_back_through_a_take_over() {
    holds(given_up().rounds(1).undeleted(1).numbered().takeover(Takeover::AfterRevocation));
}

// Points of another vault are copied.

#[test]
fn a_point_is_copied_through_crashes_of_the_copier() {
    holds(copied(2, 0).first_node_crashes(1));
    holds(copied(1, 1).first_node_crashes(1));
}

#[test]
fn two_nodes_copy_the_same_point() {
    holds(copied_by_two(1));
}

#[test]
fn a_copy_builds_on_a_point_that_may_be_dropped() {
    holds(copied_onto(2).rounds(1).first_node_crashes(1));
    holds(copied_onto(1).custodian_crashes(1));
}

// The disk takes something, and the vault is repaired.

#[test]
fn a_repair_ends_what_counts_on_a_pack_that_is_lost() {
    holds(damaged(2).rounds(1));
    holds(damaged(1));
    holds(captured_twice(1).rounds(1).numbered().damages(1));
}

#[test]
fn a_custodian_may_crash_in_a_repair() {
    holds(damaged(1).rounds(1).custodian_crashes(1));
    holds(one_chunk(1, 1).custodian_crashes(1).numbered().damages(1));
}

#[test]
fn a_custodians_late_put_is_harmless_to_a_repair() {
    holds(damaged(1).rounds(1).custodian_crashes(1).late_custodian());
}

#[test]
fn a_custodians_late_put_is_harmless_to_a_collection_that_meets_damage() {
    holds(new_chunk(2).rounds(1).custodian_crashes(1).numbered().late_custodian().damages(1));
}

#[test]
fn a_second_custodian_takes_over_in_a_repair() {
    holds(damaged(1).rounds(1).takeover(Takeover::AfterRevocation));
}

// Larger.

#[test]
#[ignore = "long: 13 million states, 1 minute"]
fn two_writers_two_collections_and_a_crash() {
    holds(one_chunk(2, 2).custodian_crashes(1));
}

#[test]
#[ignore = "long: 20 million states, 1 minute"]
fn two_writers_and_numbered_collections() {
    holds(one_chunk(2, 2).numbered());
    holds(one_chunk(2, 2).rounds(1).custodian_crashes(1).numbered());
}

#[test]
#[ignore = "long: 9 million states"]
fn two_writers_share_sparse_packs_with_stale_knowledge() {
    holds(sparse_pack(2).rounds(1).custodian_crashes(1).stale_writers().numbered());
    holds(sparse_pack(1).rounds(3).custodian_crashes(1).picky_custodian().stale_writers().numbered());
}

#[test]
#[ignore = "long: 14 million states, 1 minute"]
fn a_writer_and_a_reader_meet_a_thinning() {
    holds(thinned(2, Reads::Nothing).custodian_crashes(1).numbered());
    holds(thinned(1, Reads::Head).picky_custodian().numbered());
    holds(thinned(1, Reads::Dropped).custodian_crashes(1).numbered());
}

#[test]
#[ignore = "long: 15 million states, 1 minute"]
fn an_interrupted_capture_and_two_collections() {
    holds(interrupted().first_node_crashes(1));
}

#[test]
#[ignore = "long: 22 million states, 1 minute"]
fn a_node_captures_twice_under_three_numbered_collections() {
    holds(captured_twice(2).first_node_crashes(1).numbered());
    holds(captured_twice(2).first_node_crashes(1).rounds(3).numbered());
}

#[test]
#[ignore = "long: 20 million states, 1 minute"]
fn late_puts_of_custodians_meet_everything_else() {
    holds(one_chunk(1, 2).custodian_crashes(2).numbered().late_custodian());
    holds(captured_twice(1).custodian_crashes(1).numbered().late_custodian());
    holds(interrupted().rounds(1).custodian_crashes(1).numbered().late_custodian());
    holds(two_packs().custodian_crashes(1).numbered().late_custodian());
    holds(inherited().custodian_crashes(1).numbered().late_custodian());
}

#[test]
#[ignore = "long: 11 million states"]
fn late_gc_records_meet_sparse_packs_second_crashes_and_second_writers() {
    let patient = |scene: Scene| scene.patient_custodian().custodian_crashes(1).numbered().late_custodian();
    holds(patient(sparse_pack(1)));
    holds(patient(one_chunk(1, 2)).rounds(3));
    holds(patient(one_chunk(2, 1)));
    holds(patient_after_a_crash().custodian_crashes(2));
    holds(patient(two_packs()));
}

#[test]
#[ignore = "long: 20 million states, 1 minute"]
fn writers_that_have_read_first_meet_everything_else() {
    holds(one_chunk(2, 2).numbered().reading_first());
    holds(thinned(2, Reads::Nothing).custodian_crashes(1).numbered().late_custodian().reading_first());
    holds(interrupted().rounds(1).custodian_crashes(1).numbered().reading_first());
    holds(inherited().custodian_crashes(1).numbered().late_custodian().reading_first());
    holds(damaged(2).rounds(1).custodian_crashes(1).reading_first());
    let taken_over = thinned(1, Reads::Nothing).numbered().late_custodian();
    holds(taken_over.takeover(Takeover::AfterRevocation).reading_first());
}

#[test]
#[ignore = "long: 6 million states"]
fn late_puts_of_a_revoked_custodian_meet_three_collections_and_a_thinning() {
    holds(one_chunk(1, 2).rounds(3).numbered().late_custodian().takeover(Takeover::AfterRevocation));
    holds(thinned(1, Reads::Nothing).numbered().late_custodian().takeover(Takeover::AfterRevocation));
}

#[test]
#[ignore = "long: 4 million states"]
fn points_are_brought_back_through_crashes_and_a_take_over() {
    holds(given_up().undeleted(1).custodian_crashes(1).numbered());
    holds(given_up().undeleted(1).numbered().takeover(Takeover::AfterRevocation));
}

#[test]
#[ignore = "long: 18 million states, 1 minute"]
fn a_repair_meets_two_attempts_and_two_collections() {
    holds(damaged(2).rounds(1).custodian_crashes(1));
    holds(damaged(2).rounds(1).takeover(Takeover::AfterRevocation));
    holds(damaged(2));
    holds(one_chunk(1, 2).custodian_crashes(1).numbered().late_custodian().damages(1));
}
