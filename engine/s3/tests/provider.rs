//! What a probe finds out of providers that differ, and what it leaves behind. Providers as they are set by a stand-in: the real
//! ones are asked in `services`.

use std::sync::Arc;

use backstay_s3::{
    Checksums, ConditionalPut, Credentials, Listing, LockMode, ObjectLock, Permission, Place, Provider,
    S3Store, Versioning,
};
use backstay_testkit::bucket_stand_in::{BUCKET, BucketStandIn, Rights, Settings, Taken};
use backstay_vault::name::Named;
use backstay_vault::store::{Operation, Pace, RequestCounts, Store, Stretch, VERSIONS_MAX};
use bytes::Bytes;

/// A store in the bucket of the stand-in, by a key of this name.
fn store(service: &BucketStandIn, key: &str, counts: &Arc<RequestCounts>) -> S3Store {
    let place = Place {
        bucket: BUCKET.to_owned(),
        endpoint: Some(service.endpoint()),
        region: None,
        prefix: "home/".to_owned(),
    };
    let counts = Arc::clone(counts) as Arc<_>;
    S3Store::new(place, credentials(key), Arc::new(Pace::unlimited()), counts)
}

fn credentials(key: &str) -> Credentials {
    Credentials::of_key(key.to_owned(), "secret".to_owned())
}

async fn probed(service: &BucketStandIn, key: &str) -> Provider {
    store(service, key, &Arc::default()).probe(OBJECT).await.expect("a provider that answers")
}

fn rights(of: &[(&'static str, Rights)]) -> Settings {
    Settings { rights: of.iter().copied().collect(), ..Settings::default() }
}

/// As which the probes here put something.
const OBJECT: [u8; 16] = [7; 16];

const MAY_ALL: Rights = Rights { put: true, delete: true, delete_versions: true, ask: true };

#[tokio::test]
async fn a_provider_that_does_everything_is_known_by_few_requests_and_left_as_it_was() {
    let service = BucketStandIn::start(Settings::default()).await;
    let counts = Arc::<RequestCounts>::default();
    let found = store(&service, "all", &counts).probe(OBJECT).await.expect("it answers");
    let expected = Provider {
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
        requests: 9,
    };
    assert_eq!(found, expected);
    assert_eq!(service.keys(), Vec::<String>::new());
    let all = service.take_requests();
    assert_eq!(all.len(), 9, "{all:?}");
    let below = |request: &String| request.ends_with(' ') || request.contains(" home/probe/");
    assert!(all.iter().all(below), "nothing is written elsewhere: {all:?}");
    // Those that were refused on purpose are told as refused.
    assert_eq!((counts.succeeded(Operation::Put), counts.failed(Operation::Put)), (1, 2));
}

#[tokio::test]
async fn conditional_puts_and_checksums_are_told_apart_as_providers_take_them() {
    for (conditional, checksums, tells, expected) in [
        (Taken::Ignored, Taken::Acted, true, (ConditionalPut::Ignored, Checksums::Verified)),
        (Taken::Refused, Taken::Acted, true, (ConditionalPut::Refused, Checksums::Verified)),
        (Taken::Acted, Taken::Ignored, false, (ConditionalPut::Honoured, Checksums::Ignored)),
        (Taken::Acted, Taken::Ignored, true, (ConditionalPut::Honoured, Checksums::Kept)),
        (Taken::Ignored, Taken::Refused, false, (ConditionalPut::Unknown, Checksums::Refused)),
        (Taken::Refused, Taken::Refused, false, (ConditionalPut::Unknown, Checksums::Refused)),
    ] {
        let settings = Settings {
            conditional_put: conditional,
            checksums,
            tells_checksums: tells,
            ..Settings::default()
        };
        let service = BucketStandIn::start(settings).await;
        let found = probed(&service, "all").await;
        assert_eq!((found.conditional_put, found.checksums), expected, "{conditional:?} {checksums:?}");
        assert_eq!(service.keys(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn versions_are_found_and_none_is_left_where_the_key_may_delete_them() {
    let service = BucketStandIn::start(Settings { versions: true, ..Settings::default() }).await;
    let found = probed(&service, "all").await;
    assert_eq!((found.versions, found.version_deletes), (Versioning::On, Permission::Allowed));
    assert_eq!((found.left, service.versions_below("")), (0, 0));
}

#[tokio::test]
async fn a_key_that_may_not_delete_versions_is_known_by_that_and_what_stays_is_told() {
    let key = Rights { delete_versions: false, ..MAY_ALL };
    let service = BucketStandIn::start(Settings { versions: true, ..rights(&[("node", key)]) }).await;
    let found = probed(&service, "node").await;
    assert_eq!((found.deletes, found.version_deletes), (Permission::Allowed, Permission::Denied));
    assert_eq!(found.left as usize, service.versions_below("home/probe/"));
    assert!(found.left > 0);
}

#[tokio::test]
async fn what_a_key_may_not_ask_is_unknown_and_versions_show_all_the_same() {
    let settings = rights(&[("node", Rights::WRITER)]);
    let service = BucketStandIn::start(settings.clone()).await;
    let found = probed(&service, "node").await;
    assert_eq!((found.versions, found.object_lock), (Versioning::Unknown, ObjectLock::Unknown));
    assert_eq!((found.puts, found.deletes, found.left), (Permission::Allowed, Permission::Denied, 1));
    assert_eq!(found.listing, Listing::AtOnce);
    let service = BucketStandIn::start(Settings { versions: true, ..settings }).await;
    let found = probed(&service, "node").await;
    assert_eq!((found.versions, found.version_deletes), (Versioning::On, Permission::Denied));
}

#[tokio::test]
async fn where_nothing_may_be_deleted_one_object_is_left_however_often_it_is_found_out() {
    for conditional in [Taken::Acted, Taken::Ignored, Taken::Refused] {
        let settings = Settings { conditional_put: conditional, ..rights(&[("node", Rights::WRITER)]) };
        let service = BucketStandIn::start(settings).await;
        let first = probed(&service, "node").await;
        for _ in 0..3 {
            assert_eq!(probed(&service, "node").await.listing, Listing::AtOnce, "{conditional:?}");
        }
        let found = probed(&service, "node").await;
        assert_eq!((service.keys().len(), found.left), (1, 1), "{conditional:?}");
        let requests = first.requests;
        assert_eq!(Provider { requests, ..found }, first, "what is there already is no hindrance");
        // Also where it was there before.
        service.list_the_past(true);
        assert_eq!(probed(&service, "node").await.listing, Listing::Stale, "{conditional:?}");
        // Whoever gets the right to later takes it away.
        service.list_the_past(false);
        assert_eq!(probed(&service, "all").await.left, 0);
        assert_eq!(service.keys(), Vec::<String>::new(), "{conditional:?}");
    }
}

#[tokio::test]
async fn versions_that_stay_are_of_one_object_are_told_and_go_when_a_key_may_delete_them() {
    let key = Rights { delete_versions: false, ..MAY_ALL };
    let service = BucketStandIn::start(Settings { versions: true, ..rights(&[("node", key)]) }).await;
    let first = probed(&service, "node").await;
    let each = service.versions_below("home/probe/");
    assert_eq!((first.left as usize, each), (2, 2), "what was put, and the mark of its deletion");
    let second = probed(&service, "node").await;
    assert_eq!((second.left as usize, service.versions_below("home/probe/")), (2 * each, 2 * each));
    let name = format!("home/probe/{}", "07".repeat(16));
    assert_eq!(service.versions_below(&name), 2 * each, "all of the same object");
    assert_eq!(probed(&service, "all").await.left, 0);
    assert_eq!(service.versions_below(""), 0);
}

#[tokio::test]
async fn whether_versions_and_locks_are_as_they_were_is_asked_without_a_put() {
    let key = Rights { delete_versions: false, ..MAY_ALL };
    let service = BucketStandIn::start(Settings { versions: true, ..rights(&[("node", key)]) }).await;
    let known = probed(&service, "node").await;
    service.take_requests();
    let store = store(&service, "node", &Arc::default());
    assert!(store.is_still(&known).await.expect("it answers"));
    let asked = service.take_requests();
    assert!(asked.len() == 2 && asked.iter().all(|request| request.starts_with("GET")), "{asked:?}");
    service.set(|settings| settings.lock = Some((30, "COMPLIANCE")));
    assert!(!store.is_still(&known).await.expect("it answers"));
    service.set(|settings| (settings.lock, settings.versions) = (None, false));
    assert!(!store.is_still(&known).await.expect("it answers"));
    // What a key may not ask any more has not changed for that.
    service.set(|settings| settings.rights.extend([("node", Rights::WRITER)]));
    assert!(store.is_still(&known).await.expect("it answers"));
}

#[tokio::test]
async fn a_key_that_may_only_read_is_told_so_and_puts_nothing() {
    let key = Rights { put: false, delete: false, delete_versions: false, ask: true };
    let service = BucketStandIn::start(rights(&[("reader", key)])).await;
    let found = probed(&service, "reader").await;
    assert_eq!((found.puts, found.deletes), (Permission::Denied, Permission::Unknown));
    assert_eq!((found.versions, found.left), (Versioning::Off, 0));
    assert_eq!(service.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lock_of_all_objects_is_found_with_its_days_and_who_can_end_it() {
    for (mode, expected) in [("COMPLIANCE", LockMode::Compliance), ("GOVERNANCE", LockMode::Governance)] {
        let settings = Settings { versions: true, lock: Some((30, mode)), ..Settings::default() };
        let service = BucketStandIn::start(settings).await;
        let found = probed(&service, "all").await;
        assert_eq!(found.object_lock, ObjectLock::ByDefault { days: 30, mode: expected });
        // The marks of deletion are not locked, and what is, stays.
        assert_eq!(found.version_deletes, Permission::Allowed);
        assert_eq!(found.left as usize, service.versions_below("home/probe/"));
    }
}

#[tokio::test]
async fn listings_of_the_past_are_noticed() {
    let service = BucketStandIn::start(Settings::default()).await;
    service.list_the_past(true);
    assert_eq!(probed(&service, "all").await.listing, Listing::Stale);
}

#[tokio::test]
async fn the_custodians_own_key_deletes_and_the_writers_is_not_asked_to() {
    let service = BucketStandIn::start(rights(&[("node", Rights::WRITER)])).await;
    let apart = store(&service, "node", &Arc::default()).deleting_by(credentials("custodian"));
    let found = apart.probe(OBJECT).await.expect("it answers");
    assert_eq!((found.deletes, found.custodian_deletes), (Permission::Denied, Some(Permission::Allowed)));
    assert_eq!((found.left, service.keys().len()), (0, 0));
    // Two keys of the same rights are no better than one.
    let alike = store(&service, "one", &Arc::default()).deleting_by(credentials("two"));
    let found = alike.probe(OBJECT).await.expect("it answers");
    assert_eq!((found.deletes, found.custodian_deletes), (Permission::Allowed, Some(Permission::Allowed)));
    let neither = store(&service, "custodian", &Arc::default()).deleting_by(credentials("node"));
    let found = neither.probe(OBJECT).await.expect("it answers");
    assert_eq!((found.deletes, found.custodian_deletes), (Permission::Allowed, Some(Permission::Denied)));
}

#[tokio::test]
async fn what_earlier_probes_have_left_goes_with_the_next_and_nothing_else_does() {
    let service = BucketStandIn::start(Settings::default()).await;
    let old = format!("home/probe/{}", "a1".repeat(16));
    let others =
        ["home/packs/old", "probe/of another", "home/probe", "home/probe/packs/00/a vault", "home/probe/old"];
    for key in others.into_iter().chain([old.as_str()]) {
        service.put_long_ago(key, b"x");
    }
    let under_way = format!("home/probe/{}", "b2".repeat(16));
    service.spoil(&under_way, Some(bytes::Bytes::from_static(b"x")));
    probed(&service, "all").await;
    let mut left: Vec<&str> = others.into_iter().chain([under_way.as_str()]).collect();
    left.sort_unstable();
    assert_eq!(service.keys(), left);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_and_no_finding() {
    let service = BucketStandIn::start(Settings::default()).await;
    let place = Place {
        bucket: "elsewhere".to_owned(),
        endpoint: Some(service.endpoint()),
        region: None,
        prefix: String::new(),
    };
    let store =
        S3Store::new(place, credentials("all"), Arc::new(Pace::unlimited()), Arc::<RequestCounts>::default());
    let error = store.probe(OBJECT).await.expect_err("there is no such bucket");
    assert!(error.to_string().contains("the bucket is not there"), "{error}");
}

#[tokio::test]
async fn what_was_replaced_or_deleted_is_read_by_its_version_newest_first() {
    use backstay_core::id::PackId;
    use backstay_vault::name::Named;
    use backstay_vault::store::Stretch;
    use bytes::Bytes;

    let service = BucketStandIn::start(Settings { versions: true, ..Settings::default() }).await;
    let store = store(&service, "all", &Arc::default());
    let name = Named::Pack(PackId::new([7; 32])).to_name();
    for content in ["the first", "the second one", "now"] {
        store.put(&name, Bytes::from(content)).await.expect("is put");
    }
    let bytes = |of: &[backstay_vault::store::Version]| of.iter().map(|v| v.bytes).collect::<Vec<_>>();
    let versions = store.versions(&name).await.expect("are listed");
    assert_eq!(bytes(&versions), [14, 9]);
    let read = store.get_version(&name, &versions[1], Stretch { offset: 4, length: 5 }).await;
    assert_eq!(read.expect("is read"), "first");
    let beyond = store.get_version(&name, &versions[1], Stretch { offset: 4, length: 6 }).await;
    assert!(beyond.is_err());
    store.delete(&name).await.expect("is deleted");
    assert!(store.get(&name).await.expect_err("deleted").is_not_found());
    assert_eq!(bytes(&store.versions(&name).await.expect("are listed")), [3, 14, 9]);
}

#[tokio::test]
async fn a_bucket_that_locks_by_default_gets_checksums_once_it_has_asked_for_them() {
    let settings = Settings { versions: true, lock: Some((30, "COMPLIANCE")), ..Settings::default() };
    let service = BucketStandIn::start(settings).await;
    let counts = Arc::<RequestCounts>::default();
    let store = store(&service, "all", &counts);
    let name = |n: u64| Named::Format(n).to_name();
    for n in 0..3 {
        store.put(&name(n), Bytes::from(vec![n as u8; 100])).await.expect("is put");
        assert_eq!(store.get(&name(n)).await.expect("is there"), vec![n as u8; 100]);
    }
    assert_eq!((counts.succeeded(Operation::Put), counts.failed(Operation::Put)), (3, 1));
}

#[tokio::test]
async fn as_many_versions_are_told_as_are_looked_at_page_by_page_and_marks_are_none() {
    let service = BucketStandIn::start(Settings { versions: true, ..Settings::default() }).await;
    let store = store(&service, "all", &Arc::default());
    let name = Named::Format(1).to_name();
    store.put(&name, Bytes::from_static(b"first")).await.expect("is put");
    let key = format!("home/{name}");
    let told = |n: usize| {
        for _ in 0..n {
            service.spoil(&key, None);
            service.spoil(&key, Some(Bytes::from_static(b"another")));
        }
        store.versions(&name)
    };
    assert_eq!(told(0).await.expect("are told").len(), 0);
    let versions = told(VERSIONS_MAX).await.expect("are told");
    assert_eq!(versions.len(), VERSIONS_MAX);
    let first = versions.last().expect("some");
    let all = Stretch { offset: 0, length: first.bytes };
    assert_eq!(store.get_version(&name, first, all).await.expect("is kept"), "first");
    let versions = told(1).await.expect("are told");
    assert!(versions.len() == VERSIONS_MAX && versions.iter().all(|version| version.bytes == 7));
}
