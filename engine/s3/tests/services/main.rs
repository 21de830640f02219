//! Stores and vaults in buckets of real services, by different people, and what goes wrong with them: what one service does is no
//! rule of all.
//!
//! All of it wants what `cargo xtask test s3` builds.

#![expect(
    clippy::print_stdout,
    reason = "a seed is printed so that a failure can be replayed, and what was measured"
)]

mod bucket;
mod rules;

/// Tries each of these rules in a bucket of a service.
macro_rules! tests_on {
    ($service:ident: $($rule:ident)*) => { $(
        #[test]
        #[ignore = "needs services with buckets: cargo xtask test s3"]
        fn $rule() {
            crate::rules::$rule(&crate::bucket::Bucket::on(crate::bucket::Service::$service));
        }
    )* };
}

mod on_garage {
    tests_on! { Garage:
        a_bucket_is_a_store
        a_bucket_is_a_store_also_where_a_third_of_requests_go_wrong
        a_crash_at_any_change_loses_nothing_acknowledged_and_needs_no_repair
        a_crash_while_a_vault_is_made_leaves_one_that_works_or_none
        a_flipped_bit_is_an_error_and_never_contents
        a_wrong_region_is_said_with_what_to_do
        a_probe_of_which_requests_go_wrong_finds_the_same_or_fails
        captures_and_restores_come_to_their_end_where_a_third_of_requests_go_wrong
        garage_overwrites_whatever_the_condition_and_has_neither_versions_nor_locks
        the_service_counts_the_requests_that_the_store_tells
        what_an_upload_in_parts_leaves_that_was_broken_off_is_cleared_away
        what_goes_in_parts_is_whole_where_a_third_of_requests_go_wrong
        what_is_wrong_with_keys_and_bucket_is_said_with_what_to_do
        what_takes_several_pages_is_listed_whole_and_in_order_and_deleted_by_few_requests
    }
}

mod on_s3s_fs {
    // It answers to any region, lists no uploads that have not ended, and walks over all of its bucket for each listing, which is too
    // slow for the many vaults of crashes at any change.
    tests_on! { S3sFs:
        a_bucket_is_a_store
        a_bucket_is_a_store_also_where_a_third_of_requests_go_wrong
        a_crash_while_a_vault_is_made_leaves_one_that_works_or_none
        a_flipped_bit_is_an_error_and_never_contents
        a_service_that_lists_no_uploads_is_asked_for_them_in_vain
        captures_and_restores_come_to_their_end_where_a_third_of_requests_go_wrong
        s3s_fs_has_neither_versions_nor_locks
        what_goes_in_parts_is_whole_where_a_third_of_requests_go_wrong
        what_is_wrong_with_keys_and_bucket_is_said_with_what_to_do
        what_takes_several_pages_is_listed_whole_and_in_order_and_deleted_by_few_requests
    }
}

/// What takes minutes: of the group `long`.
mod long_in_buckets {
    tests_on! { Garage: a_crash_at_any_change_that_lands_in_any_way_loses_nothing_acknowledged }
}
