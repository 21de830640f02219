//! A store that hangs in an upload holds up what is captured to it, and nothing else; one that is slow gets no pack that
//! nobody could read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::digest::StateDigest;
use backstay_core::point::Facts;
use backstay_core::run::{Change, Entry};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::name::ObjectName;
use backstay_vault::pack::PACK_BYTES_MAX;
use backstay_vault::store::{MemStore, Store, StoreError};
use backstay_vault::table::PartWriter;
use backstay_vault::targets::{CaptureSource, CapturedState, Targets};
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass};
use bytes::Bytes;
use tokio::sync::Semaphore;

/// Takes packs only as far as it is let.
#[derive(Debug)]
struct Hanging {
    inner: MemStore,
    packs: Semaphore,
    waiting: Semaphore,
}

#[async_trait]
impl Overrides for Hanging {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        if name.as_str().starts_with("packs/") {
            self.waiting.add_permits(1);
            self.packs.acquire().await.expect("never closed").forget();
        }
        self.inner.put(name, content).await
    }
}

/// A store that lets this many packs through.
fn letting(packs: usize) -> Arc<Forwarded<Hanging>> {
    let (inner, waiting) = (MemStore::new(), Semaphore::new(0));
    Arc::new(Forwarded(Hanging { inner, packs: Semaphore::new(packs), waiting }))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn state(random: &mut Random, mebibytes: usize) -> State {
    (0..mebibytes).map(|key| (format!("{key:04}").into_bytes(), random.bytes(1 << 20))).collect()
}

#[test]
fn a_store_that_hangs_in_an_upload_takes_no_thread_from_others() {
    let fixture = VaultFixture::new();
    let hanging = letting(0);
    let stuck = fixture.create(hanging.clone()).expect("create");
    let other = fixture.create(Arc::new(MemStore::new())).expect("create");
    let mut random = Random::new(1);
    // More than two packs, so that all that can wait does.
    let (large, small) = (state(&mut random, 100), state(&mut random, 80));
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            let open = fixture.open_capture(std::slice::from_ref(&stuck), "large.files", at(10))?;
            open.commit(&large, &Style::default()).pop().expect("one target")
        });
        fixture.block_on(async {
            hanging.0.waiting.acquire().await.expect("never closed").forget();
            // What can get stuck gets stuck.
            tokio::time::sleep(Duration::from_millis(300)).await;
        });
        fixture.capture(&other, "small.files", at(20), &small).expect("is captured meanwhile");
        assert!(!capture.is_finished(), "it hangs still");
        hanging.0.packs.add_permits(1000);
        capture.join().expect("no panic").expect("captured at last");
    });
    assert!(stuck.check().expect("checks").is_good() && other.check().expect("checks").is_good());
}

#[test]
fn a_store_that_hangs_does_not_keep_back_what_others_have() {
    let fixture = VaultFixture::new();
    let hanging = letting(0);
    let stuck = fixture.create(hanging.clone()).expect("create");
    let other = fixture.create(Arc::new(MemStore::new())).expect("create");
    let clock = ManualClock::new(at(10));
    let (name, kind) = ("data.files".to_owned(), "files");
    let source = CaptureSource {
        name,
        kind,
        facts: Facts::default(),
        holds: Vec::new(),
        seen: Vec::new(),
        numbered_after: 0,
    };
    let vaults = vec![stuck, other.clone()];
    let (targets, _) = Targets::open(vaults, fixture.writer().clone(), source, None, &clock).expect("opens");
    let chunks = targets.chunk_writer(fixture.pool()).expect("two open targets");
    let mut chunks = chunks.with_patience(Duration::from_millis(100));
    let mut part = PartWriter::new();
    let entry = Entry { key: b"key", change: Change::Put(b"value"), replaced: None };
    part.push(fixture.ring(), &mut chunks, &entry).expect("pushes");
    let parts = [part.finish(&mut chunks).expect("writes").expect("has an entry")];
    let state = CapturedState {
        digest: StateDigest::empty(),
        entries: 1,
        bytes: 0,
        defects: vec![],
        start: at(10),
        whole_until: None,
    };
    let (_, results, _) = targets.commit_final(chunks, Some(&parts), &state, &clock);
    assert!(matches!(&results[0], Err(VaultError::Stalled { .. })), "{results:?}");
    assert!(matches!(&results[1], Ok(Some(_))), "{results:?}");
    let catalogue = other.catalogue(fixture.source("data.files")).expect("reads");
    assert_eq!(catalogue.points().len(), 1);
    hanging.0.packs.add_permits(1000);
}

#[test]
fn a_pack_is_counted_when_a_slow_store_has_taken_it() {
    let fixture = VaultFixture::new();
    let slow = letting(0);
    let vault = fixture.create(slow.clone()).expect("create");
    let clock = ManualClock::new(at(10));
    let (name, kind) = ("data.files".to_owned(), "files");
    let source = CaptureSource {
        name,
        kind,
        facts: Facts::default(),
        holds: Vec::new(),
        seen: Vec::new(),
        numbered_after: 0,
    };
    let (targets, _) =
        Targets::open(vec![vault], fixture.writer().clone(), source, None, &clock).expect("opens");
    let chunks = targets.chunk_writer(fixture.pool()).expect("an open target");
    let meter = chunks.meter();
    let mut random = Random::new(5);
    // One pack is full, and the next one begun.
    for _ in 0..40 {
        chunks.put_data(random.bytes(1 << 20).into());
    }
    fixture.block_on(async { slow.0.waiting.acquire().await.expect("never closed").forget() });
    assert_eq!(meter.totals().stored_packs, 0, "it is on its way");
    slow.0.packs.add_permits(1);
    let mut looks = 0;
    while meter.totals().stored_packs == 0 {
        looks += 1;
        assert!(looks < 9000, "it was never counted");
        std::thread::sleep(Duration::from_millis(10));
    }
    slow.0.packs.add_permits(1000);
    assert!(chunks.flush().iter().all(Result::is_ok));
    assert_eq!(meter.totals().stored_packs, 2);
}

#[test]
fn what_a_custodian_moves_into_a_slow_store_lies_in_packs_that_can_be_read() {
    let fixture = VaultFixture::new();
    let slow = letting(1000);
    let vault = fixture.create(slow.clone()).expect("create");
    let mut random = Random::new(2);
    let mut whole = state(&mut random, 220);
    fixture.capture(&vault, "large.files", at(10), &whole).expect("captured");
    // Of each pack about half stays, which is more than two packs in all.
    let mut n = 0;
    whole.retain(|_, _| {
        n += 1;
        n % 2 == 0
    });
    let kept = fixture.capture(&vault, "large.files", at(20), &whole).expect("captured");
    let (clock, mut notes) = (ManualClock::new(at(30)), MemoryNotes::default());
    let look = Inspection::new(vault.clone(), kinds(), &clock);
    let (identity, pool) = (fixture.writer().clone(), fixture.pool().clone());
    let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("takes office");
    let keep = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
    assert!(matches!(custodian.collect(), Ok(Pass::Done(_))));
    custodian.thin(&|_| Some(keep.clone())).expect("thins");
    // From now on no pack goes up by itself.
    slow.0.packs.forget_permits(1000);
    std::thread::scope(|scope| {
        let slow = &slow;
        let lets = scope.spawn(move || {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(300));
                slow.0.packs.add_permits(1);
            }
        });
        while !matches!(custodian.collect().expect("collects"), Pass::Idle) {}
        lets.join().expect("no panic");
    });
    let sizes: Vec<usize> = slow
        .0
        .inner
        .objects()
        .iter()
        .filter(|(name, _)| name.starts_with("packs/"))
        .map(|(_, content)| content.len())
        .collect();
    assert!(sizes.iter().all(|bytes| *bytes <= PACK_BYTES_MAX), "{sizes:?}");
    let elsewhere = fixture.open(slow.clone()).expect("opens");
    assert!(read_back(&elsewhere, "large.files", kept.link.point).expect("reads").state == whole);
    assert!(elsewhere.check().expect("checks").is_good());
}
