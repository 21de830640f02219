//! What takes minutes.

use std::time::Duration;

use crate::concurrently::two_nodes_and_a_custodian;

#[test]
#[ignore = "long, and needs Garage: cargo xtask test long"]
fn two_nodes_and_a_custodian_share_a_bucket_for_ten_minutes() {
    two_nodes_and_a_custodian(Duration::from_secs(600));
}
