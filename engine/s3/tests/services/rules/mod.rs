//! What a bucket keeps, and what is said of one that cannot be used.

mod crashes;
mod faults;
mod provider;

use std::sync::Arc;

use backstay_testkit::conformance::store_conforms;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Folder, Operation, Retried, RetryPolicy, Store, StoreErrorKind};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::bucket::{Bucket, Settings};
pub(crate) use crashes::*;
pub(crate) use faults::*;
pub(crate) use provider::*;

pub(crate) fn a_bucket_is_a_store(bucket: &Bucket) {
    bucket.block_on(store_conforms(|| Retried::new(bucket.store(), RetryPolicy::default())));
}

/// More than are in one page of a listing, or in one request to delete.
const MANY: u64 = 1010;

pub(crate) fn what_takes_several_pages_is_listed_whole_and_in_order_and_deleted_by_few_requests(
    bucket: &Bucket,
) {
    let store = bucket.store();
    let mut names: Vec<ObjectName> =
        (0..MANY).map(|n| Named::Trust(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2).to_name()).collect();
    bucket.block_on(async {
        let mut puts = JoinSet::new();
        for name in names.clone() {
            let store = store.clone();
            puts.spawn(async move { store.put(&name, Bytes::from_static(b"x")).await });
        }
        while let Some(put) = puts.join_next().await {
            put.expect("no panic").expect("put");
        }
        names.sort();
        let trust = Folder::new(&[&"trust"]);
        let listed = store.list(&trust).await.expect("list");
        assert!(listed.iter().map(|listed| &listed.name).eq(&names), "{} of {MANY}", listed.len());
        store.delete_all(&names).await.expect("delete");
        assert_eq!(store.list(&trust).await.expect("list"), []);
    });
    let requests = |operation| (bucket.counts.succeeded(operation), bucket.counts.failed(operation));
    assert_eq!(requests(Operation::List), (3, 0), "of the full folder two pages, of the empty one one");
    assert_eq!(requests(Operation::Delete), (2, 0), "a thousand of a request");
}

/// By what the service counts the benchmark compares two programs.
pub(crate) fn the_service_counts_the_requests_that_the_store_tells(bucket: &Bucket) {
    let (store, before) = (bucket.store(), bucket.requests().expect("it counts"));
    let name = Named::Trust(1).to_name();
    bucket.block_on(async {
        let large = Bytes::from(vec![1; 100 << 20]);
        store.put(&Named::Trust(2).to_name(), large).await.expect("put in parts");
        for _ in 0..10 {
            store.put(&name, Bytes::from_static(b"x")).await.expect("put");
            store.get(&name).await.expect("get");
        }
        store.list(&Folder::new(&[&"trust"])).await.expect("list");
        store.delete(&name).await.expect("delete");
        store.get(&name).await.expect_err("it is gone");
    });
    let all = [Operation::Put, Operation::Get, Operation::List, Operation::Delete].into_iter();
    let told: u64 = all.map(|all| bucket.counts.succeeded(all) + bucket.counts.failed(all)).sum();
    assert_eq!(bucket.requests().expect("it counts") - before, told);
}

pub(crate) fn what_is_wrong_with_keys_and_bucket_is_said_with_what_to_do(bucket: &Bucket) {
    refuses(bucket, |settings| settings.bucket = "nothing-here".into(), "make it");
    refuses(bucket, |settings| settings.id = "GK000000000000000000000000".into(), "[secret]");
    refuses(bucket, |settings| settings.secret = "00".repeat(32), "[secret]");
}

pub(crate) fn a_wrong_region_is_said_with_what_to_do(bucket: &Bucket) {
    refuses(bucket, |settings| settings.region = "mars-north-1".into(), "region");
}

/// With this changed it is refused, in words that say what to do.
fn refuses(bucket: &Bucket, change: fn(&mut Settings), words: &str) {
    let store: Arc<dyn Store> = Arc::new(bucket.store_with(change));
    let error = bucket.block_on(store.list(&Folder::new(&[&"format"]))).expect_err(words);
    assert_eq!(error.kind, StoreErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}
