//! A holder gives so much room and no more, says so early, and never fills its disk.

use backstay_core::id::{BranchId, JournalId, PackId, SourceId};
use backstay_core::units::ByteSize;
use backstay_net::hold::{Rights, RoomLimits};
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Store, StoreErrorKind};
use bytes::Bytes;

use crate::fleet::{Fleet, Holder};

fn pack(seed: u64, bytes: usize) -> (ObjectName, Bytes) {
    let content = Bytes::from(Random::new(seed).bytes(bytes));
    (Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name(), content)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_told_before_the_payload_goes_and_holds_for_what_was_there_before() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let limits = RoomLimits { quota: Some(ByteSize(8 << 20)), ..RoomLimits::default() };
    let caller = fleet.caller("nullstone");
    for round in 0..2 {
        let holder = Holder::start(&fleet, if round == 0 { "cobblestone" } else { "millstone" });
        holder.hold_within("nullstone", folder.path(), Rights::Write, limits);
        let store = caller.store(&holder);
        if round == 0 {
            let (name, content) = pack(1, 6 << 20);
            store.put(&name, content).await.expect("fits");
        }
        let (name, content) = pack(2, 3 << 20);
        let error = store.put(&name, content).await.expect_err("does not fit");
        assert_eq!(error.kind, StoreErrorKind::Quota, "{error}");
        assert!(error.to_string().contains("8MiB") && error.to_string().contains("quota"), "{error}");
        holder.stop().await;
    }
    let left = std::fs::read_dir(folder.path().join("unfinished")).expect("is there").count();
    assert_eq!(left, 0, "nothing of what was refused is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_at_the_same_time_do_not_exceed_together_what_each_may() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    let limits = RoomLimits { quota: Some(ByteSize(8 << 20)), ..RoomLimits::default() };
    holder.hold_within("nullstone", folder.path(), Rights::Write, limits);
    let store = std::sync::Arc::new(fleet.caller("nullstone").store(&holder));
    let mut puts = tokio::task::JoinSet::new();
    for seed in 0..12 {
        let store = std::sync::Arc::clone(&store);
        puts.spawn(async move {
            let (name, content) = pack(seed, 1 << 20);
            store.put(&name, content).await
        });
    }
    let mut done = 0;
    while let Some(put) = puts.join_next().await {
        match put.expect("no panic") {
            Ok(()) => done += 1,
            Err(error) => assert_eq!(error.kind, StoreErrorKind::Quota, "{error}"),
        }
    }
    assert_eq!(done, 8);
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_keeps_what_it_shall_keep_free() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    let limits = RoomLimits { floor: Some(ByteSize(1 << 60)), ..RoomLimits::default() };
    holder.hold_within("nullstone", folder.path(), Rights::Write, limits);
    let (name, content) = pack(1, 100);
    let error =
        fleet.caller("nullstone").store(&holder).put(&name, content).await.expect_err("no disk has that");
    assert_eq!(error.kind, StoreErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("of its disk free"), "{error}");
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_logs_is_there_for_what_is_appended_and_no_more() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    let (quota, wal_reserve) = (Some(ByteSize(4 << 20)), Some(ByteSize(2 << 20)));
    let limits = RoomLimits { quota, wal_reserve, ..RoomLimits::default() };
    holder.hold_within("nullstone", folder.path(), Rights::Write, limits);
    let store = fleet.caller("nullstone").store(&holder);
    let (name, content) = pack(1, 2 << 20);
    store.put(&name, content).await.expect("fits");
    let (name, content) = pack(2, 4096);
    assert_eq!(
        store.put(&name, content).await.expect_err("the rest is for logs").kind,
        StoreErrorKind::Quota
    );
    let (source, branch) = (SourceId::new([1; 16]), BranchId::new([2; 16]));
    let journal = Named::Journal(source, branch, 5, JournalId::new([3; 16])).to_name();
    for part in 0..4 {
        let content = Bytes::from(Random::new(part).bytes(512 << 10));
        store.append(&journal, part * (512 << 10), content).await.expect("fits into the reserve");
    }
    let error = store.append(&journal, 2 << 20, Bytes::from_static(b"more")).await.expect_err("it is full");
    assert_eq!(error.kind, StoreErrorKind::Quota, "{error}");
    holder.stop().await;
}
