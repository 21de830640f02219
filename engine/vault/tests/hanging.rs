//! A store that hangs in an upload holds up what is captured to it, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{State, Style};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{Folder, Listed, MemStore, Store, StoreError, Stretch};
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
impl Store for Hanging {
    async fn put(&self, name: &ObjectName, content: Bytes) -> Result<(), StoreError> {
        if name.as_str().starts_with("packs/") {
            self.waiting.add_permits(1);
            self.packs.acquire().await.expect("never closed").forget();
        }
        self.inner.put(name, content).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, stretch).await
    }

    async fn list(&self, folder: &Folder) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    fn place(&self) -> String {
        "a store that hangs".into()
    }
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
    let hanging =
        Arc::new(Hanging { inner: MemStore::new(), packs: Semaphore::new(0), waiting: Semaphore::new(0) });
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
            hanging.waiting.acquire().await.expect("never closed").forget();
            // What can get stuck gets stuck.
            tokio::time::sleep(Duration::from_millis(300)).await;
        });
        fixture.capture(&other, "small.files", at(20), &small).expect("is captured meanwhile");
        assert!(!capture.is_finished(), "it hangs still");
        hanging.packs.add_permits(1000);
        capture.join().expect("no panic").expect("captured at last");
    });
    assert!(stuck.check().expect("checks").is_good() && other.check().expect("checks").is_good());
}
