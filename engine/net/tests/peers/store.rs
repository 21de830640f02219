//! The space at another node is a store like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay_core::config::RateLimit;
use backstay_core::id::{BranchId, JournalId, PackId, SourceId};
use backstay_core::units::ByteRate;
use backstay_net::hold::Rights;
use backstay_net::link::PeerStore;
use backstay_testkit::conformance::{append_conforms, store_conforms};
use backstay_testkit::random::Random;
use backstay_vault::name::Named;
use backstay_vault::store::{DirStore, Folder, Pace, Store};
use bytes::Bytes;

use crate::fleet::{Fleet, Holder};

#[tokio::test(flavor = "multi_thread")]
async fn the_space_at_another_node_passes_the_suite_of_every_store() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    let number = AtomicU32::new(0);
    let make = || {
        let name = format!("node{}", number.fetch_add(1, Ordering::Relaxed));
        holder.hold(&name, &folder.path().join(&name), Rights::All);
        fleet.caller(&name).store(&holder)
    };
    store_conforms(make).await;
    append_conforms(make).await;
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_holders_folder_and_there_for_the_next_holder() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let content = Bytes::from(Random::new(1).bytes(5 << 20));
    let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    let caller = fleet.caller("nullstone");
    caller.store(&holder).put(&name, content.clone()).await.expect("put");
    holder.stop().await;
    let kept = DirStore::new(folder.path()).get(&name).await.expect("is there");
    assert!(kept == content);
    let again = Holder::start(&fleet, "millstone");
    again.hold("nullstone", folder.path(), Rights::Write);
    assert!(caller.store(&again).get(&name).await.expect("get") == content);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_many_pages_is_listed_whole() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let behind = DirStore::new(folder.path());
    for n in 0..1500u32 {
        let name = Named::Pack(PackId::new(*blake3::hash(&n.to_le_bytes()).as_bytes())).to_name();
        let path = folder.path().join(name.as_str());
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        std::fs::write(path, vec![0; n as usize % 10]).expect("writes");
    }
    let packs = Folder::new(&[&"packs"]);
    let listed = fleet.caller("nullstone").store(&holder).list(&packs).await.expect("lists");
    assert_eq!(listed.len(), 1500);
    assert_eq!(listed, behind.list(&packs).await.expect("lists"));
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_rate_holds_for_all_requests_together() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let caller = fleet.caller("nullstone");
    let rate = Some(ByteRate(2 << 20));
    let limit = RateLimit { up: rate, down: rate, window: None };
    let pace = Arc::new(Pace::new(Some(limit), || 0));
    let store = Arc::new(PeerStore::new(caller.link(&holder), caller.name.clone(), pace));
    let began = std::time::Instant::now();
    let mut puts = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let store = Arc::clone(&store);
        puts.spawn(async move {
            let content = Bytes::from(Random::new(seed).bytes(1 << 20));
            let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
            store.put(&name, content).await.map(|()| name)
        });
    }
    let mut names = Vec::new();
    while let Some(put) = puts.join_next().await {
        names.push(put.expect("no panic").expect("put"));
    }
    // 4 MiB at 2 MiB/s, less what goes at once at first. No upper limit: the machine may be slow.
    assert!(began.elapsed() >= Duration::from_millis(1600), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    for name in &names {
        store.get(name).await.expect("get");
    }
    assert!(began.elapsed() >= Duration::from_millis(1600), "{:?}", began.elapsed());
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_does_not_wait_for_the_limit_of_the_rate() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let caller = fleet.caller("nullstone");
    let limit = RateLimit { up: Some(ByteRate(256 << 10)), down: None, window: None };
    let pace = Arc::new(Pace::new(Some(limit), || 0));
    let store = Arc::new(PeerStore::new(caller.link(&holder), caller.name.clone(), pace));
    let bulk = tokio::spawn({
        let store = Arc::clone(&store);
        let content = Bytes::from(Random::new(1).bytes(1 << 20));
        let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
        async move { store.put(&name, content).await }
    });
    let (source, branch) = (SourceId::new([1; 16]), BranchId::new([2; 16]));
    let journal = Named::Journal(source, branch, 5, JournalId::new([3; 16])).to_name();
    for part in 0..4 {
        let content = Bytes::from(Random::new(part).bytes(512 << 10));
        store.append(&journal, part * (512 << 10), content).await.expect("appends");
    }
    assert!(!bulk.is_finished(), "the limit holds for the rest");
    bulk.await.expect("no panic").expect("it comes to its end all the same");
    holder.stop().await;
}
