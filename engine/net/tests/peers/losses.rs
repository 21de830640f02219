//! Ways that lose, delay, reorder and break: what was acknowledged is there, and what is put again is there once.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::id::PackId;
use backstay_net::hold::Rights;
use backstay_net::link::PeerStore;
use backstay_testkit::random::Random;
use backstay_testkit::udp_relay::{UdpRelay, Weather};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{DirStore, Folder, Pace, Retried, RetryPolicy, Store};
use bytes::Bytes;

use crate::fleet::{Fleet, Holder};

fn pack(seed: u64, bytes: usize) -> (ObjectName, Bytes) {
    let content = Bytes::from(Random::new(seed).bytes(bytes));
    (Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name(), content)
}

const LONGER_THAN_A_CONNECTION_LIVES: Duration = Duration::from_secs(32);

async fn everything_arrives_in(weather: Weather) {
    let seed = 7;
    println!("seed {seed}");
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let relay = UdpRelay::start(holder.address, weather, seed).await.expect("a relay");
    let caller = fleet.caller("nullstone");
    let link = caller.link_at(&holder, relay.address());
    let store = PeerStore::new(link, caller.name.clone(), Arc::new(Pace::unlimited()));
    let mut names = Vec::new();
    for seed in 0..6 {
        let (name, content) = pack(seed, 300_000 * (1 + seed as usize % 3));
        store.put(&name, content.clone()).await.expect("put");
        assert!(store.get(&name).await.expect("get") == content);
        names.push(name);
    }
    let listed = store.list(&Folder::new(&[&"packs"])).await.expect("lists");
    names.sort();
    assert_eq!(listed.into_iter().map(|listed| listed.name).collect::<Vec<_>>(), names);
    let (passed, lost) = relay.counts();
    println!("{passed} datagrams passed, {lost} were lost");
    assert!(weather.lost_of_10_000 == 0 || lost > 0, "the way was as bad as it should be");
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_where_one_datagram_of_a_hundred_is_lost() {
    everything_arrives_in(Weather { lost_of_10_000: 100, ..Weather::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_where_one_of_twenty_is_lost() {
    everything_arrives_in(Weather { lost_of_10_000: 500, ..Weather::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_where_datagrams_take_long_and_overtake_each_other() {
    let delay = Duration::from_millis(20);
    everything_arrives_in(Weather { delay, late_of_10_000: 1000, lost_of_10_000: 20 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_cut_is_used_again_when_it_is_there_again_and_nothing_acknowledged_is_missing() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let weather = Weather { delay: Duration::from_millis(2), ..Weather::default() };
    let relay = Arc::new(UdpRelay::start(holder.address, weather, 3).await.expect("a relay"));
    let caller = fleet.caller("nullstone");
    let link = caller.link_at(&holder, relay.address());
    let policy = RetryPolicy { tries: 40, ..RetryPolicy::default() };
    let store = Retried::new(PeerStore::new(link, caller.name.clone(), Arc::new(Pace::unlimited())), policy);
    let cutting = tokio::spawn({
        let relay = Arc::clone(&relay);
        async move {
            for cut in [Duration::from_millis(700), LONGER_THAN_A_CONNECTION_LIVES] {
                tokio::time::sleep(Duration::from_secs(1)).await;
                relay.cut(true);
                tokio::time::sleep(cut).await;
                relay.cut(false);
            }
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    });
    let mut acknowledged = Vec::new();
    let mut seed = 0;
    while !cutting.is_finished() {
        let (name, content) = pack(seed, 100_000 + 400_000 * (seed as usize % 2));
        seed += 1;
        if store.put(&name, content.clone()).await.is_ok() {
            acknowledged.push((name, content));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{} of {seed} were put", acknowledged.len());
    let (name, content) = pack(seed, 200_000);
    let mut put = store.put(&name, content.clone()).await;
    for _ in 0..40 {
        if put.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        put = store.put(&name, content.clone()).await;
    }
    put.expect("the way is there again");
    acknowledged.push((name, content));
    let behind = DirStore::new(folder.path());
    for (name, content) in &acknowledged {
        assert!(behind.get(name).await.expect("was acknowledged") == *content, "{name}");
    }
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_comes_back_is_reached_again() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let own = fleet.enrol("cobblestone");
    let holder = Holder::start_with(&fleet, "cobblestone", own.clone(), ([127, 0, 0, 1], 0).into());
    holder.hold("nullstone", folder.path(), Rights::Write);
    let address = holder.address;
    let store = fleet.caller("nullstone").store(&holder);
    let (name, content) = pack(1, 400_000);
    store.put(&name, content.clone()).await.expect("put");
    holder.stop().await;
    let gone = store.get(&name).await.expect_err("nobody is there");
    assert!(gone.is_transient(), "{gone}");
    let again = Holder::start_with(&fleet, "cobblestone", own, address);
    again.hold("nullstone", folder.path(), Rights::Write);
    let mut got = store.get(&name).await;
    // It is not tried again at once after it was not reached.
    for _ in 0..40 {
        if got.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        got = store.get(&name).await;
    }
    assert!(got.expect("is reached again") == content);
    again.stop().await;
}
