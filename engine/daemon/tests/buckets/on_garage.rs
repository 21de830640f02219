//! What is in a bucket.

use std::fs;

use backstay_testkit::random::Random;

use crate::host::Host;

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn what_was_captured_to_a_bucket_is_restored_from_it_with_the_recovery_key_alone() {
    let host = Host::new();
    let mut random = Random::new(1);
    for n in 0..40 {
        host.write(&format!("file {n}"), random.bytes(1000 * n));
    }
    host.write("large", random.bytes(40 << 20));
    let refused = host.run(&["now"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("vault init offsite --recovery"), "{}", refused.errors);
    let key = host.path("recovery.key");
    host.run(&["vault", "init", "offsite", "--recovery", key.to_str().unwrap()]).good();
    host.run(&["now"]).good();
    host.write("file 3", "something else");
    host.run(&["now"]).good();
    let points = host.run(&["points", "--json"]).good().json();
    assert_eq!(points.as_array().map(Vec::len), Some(2));
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
    host.run(&["verify", "--level", "restore"]).good();
    let restored = host.path("restored");
    host.run(&["restore", "data", "--to", restored.to_str().unwrap()]).good();
    host.assert_same(&restored);
    // Another machine, with the recovery key and access to the bucket.
    fs::remove_dir_all(host.path("state")).unwrap();
    let by_key = host.path("by key");
    host.run(&["restore", "data", "--to", by_key.to_str().unwrap(), "--key-file", key.to_str().unwrap()])
        .good();
    host.assert_same(&by_key);
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn what_retention_drops_leaves_the_bucket() {
    let mut host = Host::new();
    host.policy = "keep = { last = 1 }".to_owned();
    let mut random = Random::new(2);
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    for n in 0..3 {
        host.write("changing", random.bytes(3_000_000 + n));
        host.run(&["now"]).good();
    }
    let before = host.run(&["vault", "stat", "offsite", "--json"]).good().json();
    for _ in 0..2 {
        host.run(&["vault", "prune", "offsite"]).good();
    }
    let after = host.run(&["vault", "stat", "offsite", "--json"]).good().json();
    assert_eq!((before["points"].as_u64(), after["points"].as_u64()), (Some(3), Some(1)));
    let bytes = |stat: &serde_json::Value| stat["data_pack_bytes"].as_u64().unwrap();
    assert!(bytes(&after) < bytes(&before) / 2, "{before} {after}");
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
    let restored = host.path("restored");
    host.run(&["restore", "data", "--to", restored.to_str().unwrap()]).good();
    host.assert_same(&restored);
}
