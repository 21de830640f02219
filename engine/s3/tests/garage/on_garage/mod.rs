//! What a bucket keeps, and what is said of one that cannot be used.

mod faults;

use std::sync::Arc;

use backstay_testkit::conformance::store_conforms;
use backstay_vault::store::{Retried, RetryPolicy, Store, StoreErrorKind};

use crate::bucket::Bucket;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Garage: cargo xtask test s3"]
async fn a_bucket_is_a_store() {
    let bucket = Bucket::start();
    store_conforms(|| Retried::new(bucket.store(), RetryPolicy::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Garage: cargo xtask test s3"]
async fn what_is_wrong_with_keys_bucket_and_region_is_said_with_what_to_do() {
    let bucket = Bucket::start();
    let wrong = |change: fn(&mut crate::bucket::Settings)| bucket.store_with(change);
    for (store, words) in [
        (wrong(|settings| settings.bucket = "nothing-here".into()), "make it"),
        (wrong(|settings| settings.id = "GK000000000000000000000000".into()), "[secret]"),
        (wrong(|settings| settings.secret = "00".repeat(32)), "[secret]"),
        (wrong(|settings| settings.region = "mars-north-1".into()), "region"),
    ] {
        let store: Arc<dyn Store> = Arc::new(store);
        let error = store.list(&backstay_vault::store::Folder::new(&[&"format"])).await.expect_err(words);
        assert_eq!(error.kind, StoreErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
