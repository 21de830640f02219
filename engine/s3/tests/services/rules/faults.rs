//! A service that refuses, cuts off, stalls and lies: what is put is there in the end, and what is read is right or an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::id::{PackId, PointId};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, read_back};
use backstay_testkit::conformance::store_conforms;
use backstay_testkit::faulty_proxy::{Fault, FaultyProxy};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::{Random, seed};
use backstay_vault::name::Named;
use backstay_vault::store::{Retried, RetryPolicy, Store, StoreErrorKind};
use bytes::Bytes;
use tokio::time::timeout;

use crate::bucket::Bucket;

const SOURCE: &str = "data.files";

/// As the daemon tries, with pauses for a service on this host.
fn quick() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(50),
        ..RetryPolicy::of_service()
    }
}

/// All faults that whoever asks can notice at once.
fn noticed() -> Vec<Fault> {
    Fault::ALL.into_iter().filter(|fault| *fault != Fault::BitFlipped).collect()
}

async fn proxy(bucket: &Bucket) -> FaultyProxy {
    let seed = seed();
    println!("BACKSTAY_TEST_SEED={seed}");
    FaultyProxy::start(bucket.access.address, seed).await
}

pub(crate) fn a_bucket_is_a_store_also_where_a_third_of_requests_go_wrong(bucket: &Bucket) {
    let proxy = bucket.block_on(proxy(bucket));
    proxy.fail(30, &noticed());
    bucket.block_on(store_conforms(|| Retried::new(bucket.store_behind(&proxy), quick())));
    let made = proxy.made();
    println!("{} requests, {made:?}", proxy.requests());
    assert!(made.len() == noticed().len(), "each kind has occurred: {made:?}");
}

pub(crate) fn what_goes_in_parts_is_whole_where_a_third_of_requests_go_wrong(bucket: &Bucket) {
    let proxy = bucket.block_on(proxy(bucket));
    let store = Retried::new(bucket.store_behind(&proxy), quick());
    let content = Bytes::from(Random::new(3).bytes(100 << 20));
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    proxy.fail(30, &noticed());
    bucket.block_on(store.put(&name, content.clone())).expect("it is put");
    assert!(bucket.block_on(store.get(&name)).expect("it is read") == content);
    println!("{:?}", proxy.made());
}

pub(crate) fn what_an_upload_in_parts_leaves_that_was_broken_off_is_cleared_away(bucket: &Bucket) {
    let store = bucket.store();
    let content = Bytes::from(vec![7; 100 << 20]);
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    let clear = |age| bucket.block_on(store.clear_unfinished(age)).expect("clears");
    // As when the host dies in the middle of it: at which moment that is, differs.
    let mut cleared = 0;
    for millis in (10..400).step_by(10) {
        let put = async { timeout(Duration::from_millis(millis), store.put(&name, content.clone())).await };
        if bucket.block_on(put).is_ok() {
            break;
        }
        // What was on its way comes to its end.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(clear(Duration::from_secs(3600)), 0, "it may go on");
        cleared = clear(Duration::ZERO);
        if cleared > 0 {
            break;
        }
    }
    assert_eq!(cleared, 1);
    assert_eq!(clear(Duration::ZERO), 0);
    bucket.block_on(store.put(&name, content.clone())).expect("put");
    assert!(bucket.block_on(store.get(&name)).expect("read") == content);
}

/// Nothing but a warning may come of that: see `care.rs` of the daemon.
pub(crate) fn a_service_that_lists_no_uploads_is_asked_for_them_in_vain(bucket: &Bucket) {
    let error = bucket.block_on(bucket.store().clear_unfinished(Duration::ZERO)).expect_err("it has no list");
    assert_eq!(error.kind, StoreErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("NotImplemented"), "{error}");
}

/// Captures a line of points through the proxy, and reads each of them back.
fn points_through(fixture: &VaultFixture, bucket: &Bucket, proxy: &FaultyProxy) -> Vec<(PointId, State)> {
    let store: Arc<dyn Store> = Arc::new(Retried::new(bucket.store_behind(proxy), quick()));
    let vault = fixture.create(store).expect("made");
    let mut random = Random::new(4);
    let mut state: State = (0..6u8).map(|n| (vec![n], random.bytes(200_000))).collect();
    let mut points = Vec::new();
    for n in 0..8 {
        state.insert(vec![n % 4], random.bytes(150_000));
        let at = Timestamp::from_seconds(1000 + 10 * i64::from(n));
        let captured = fixture.capture(&vault, SOURCE, at, &state).expect("captured");
        points.push((captured.link.point, state.clone()));
    }
    points
}

pub(crate) fn captures_and_restores_come_to_their_end_where_a_third_of_requests_go_wrong(bucket: &Bucket) {
    let fixture = VaultFixture::new();
    let proxy = fixture.block_on(proxy(bucket));
    proxy.fail(30, &noticed());
    let points = points_through(&fixture, bucket, &proxy);
    let store: Arc<dyn Store> = Arc::new(Retried::new(bucket.store_again(&proxy), quick()));
    let vault = fixture.open(store).expect("opens");
    for (point, state) in &points {
        assert_eq!(read_back(&vault, SOURCE, *point).expect("read").state, *state);
    }
    println!("{} requests, {:?}", proxy.requests(), proxy.made());
}

pub(crate) fn a_flipped_bit_is_an_error_and_never_contents(bucket: &Bucket) {
    let fixture = VaultFixture::new();
    let proxy = fixture.block_on(proxy(bucket));
    let points = points_through(&fixture, bucket, &proxy);
    proxy.fail(20, &[Fault::BitFlipped]);
    let mut outcomes: BTreeMap<bool, u32> = BTreeMap::new();
    for _ in 0..30 {
        let store: Arc<dyn Store> = Arc::new(Retried::new(bucket.store_again(&proxy), quick()));
        let Ok(vault) = fixture.open(store) else {
            *outcomes.entry(false).or_default() += 1;
            continue;
        };
        for (point, state) in &points {
            let read = read_back(&vault, SOURCE, *point);
            *outcomes.entry(read.is_ok()).or_default() += 1;
            if let Ok(read) = read {
                assert_eq!(read.state, *state);
            }
        }
    }
    println!("{outcomes:?}, {:?}", proxy.made());
    assert!(proxy.made()[&Fault::BitFlipped] > 10 && outcomes[&false] > 0, "nothing was tried");
}
