//! What a probe finds out of real services. Where one of them learns something new, what is expected here changes, and what the
//! documentation says of it.

use backstay_s3::{Checksums, ConditionalPut, Listing, ObjectLock, Permission, Provider, Versioning};
use backstay_testkit::faulty_proxy::{Fault, FaultyProxy};

use crate::bucket::Bucket;

pub(crate) fn garage_overwrites_whatever_the_condition_and_has_neither_versions_nor_locks(bucket: &Bucket) {
    let found = bucket.block_on(bucket.store().probe(OBJECT)).expect("it answers");
    println!("{found:?}");
    assert_eq!(found, Provider { conditional_put: ConditionalPut::Ignored, ..plain(&found) });
    assert!(found.requests <= 10, "{}", found.requests);
}

pub(crate) fn s3s_fs_has_neither_versions_nor_locks(bucket: &Bucket) {
    let found = bucket.block_on(bucket.store().probe(OBJECT)).expect("it answers");
    println!("{found:?}");
    let (conditional_put, checksums) = (found.conditional_put, found.checksums);
    assert_eq!(found, Provider { conditional_put, checksums, ..plain(&found) });
    assert!(found.requests <= 10, "{}", found.requests);
}

/// As which the probes here put something.
const OBJECT: [u8; 16] = [7; 16];

/// A service that keeps no history.
fn plain(found: &Provider) -> Provider {
    Provider {
        conditional_put: ConditionalPut::Honoured,
        versions: Versioning::Off,
        object_lock: ObjectLock::Off,
        checksums: Checksums::Verified,
        listing: Listing::AtOnce,
        puts: Permission::Allowed,
        deletes: Permission::Allowed,
        version_deletes: Permission::Unknown,
        custodian_deletes: None,
        custodian_version_deletes: None,
        left: 0,
        requests: found.requests,
    }
}

pub(crate) fn a_probe_of_which_requests_go_wrong_finds_the_same_or_fails(bucket: &Bucket) {
    let expected = bucket.block_on(bucket.store().probe(OBJECT)).expect("it answers");
    let proxy = bucket.block_on(FaultyProxy::start(bucket.access.address, 11));
    println!("seed 11");
    let store = bucket.store_behind(&proxy);
    proxy.fail(20, &[Fault::SlowDown, Fault::TooMany, Fault::Failed, Fault::CutBefore, Fault::CutAfter]);
    let mut found = 0;
    for _ in 0..10 {
        if let Ok(other) = bucket.block_on(store.probe(OBJECT)) {
            let requests = expected.requests;
            assert_eq!(Provider { requests, ..other }, expected, "{:?}", proxy.made());
            found += 1;
        }
    }
    assert!(found > 5, "{found} of 10 came to their end: {:?}", proxy.made());
    assert!(proxy.made().len() > 3, "{:?}", proxy.made());
}
