//! What one answer shows of a vault when it is opened, where requests cost: how few requests a process of its own takes by that, and
//! that it counts on nothing which has gone.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backstay_core::id::PackId;
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{
    Counted, GLANCE_MAX, Glance, Listed, MemStore, Operation, RequestCounts, Store, StoreError,
};
use backstay_vault::vault::{ObjectFolder, Vault};
use bytes::Bytes;

const SOURCE: &str = "static.files";
const OTHER: &str = "other.files";

/// A store whose glance shows what lies below `ledger/` as it is, and the rest as it was.
#[derive(Debug)]
struct Torn {
    memory: Arc<MemStore>,
    past: Mutex<Option<BTreeMap<String, Bytes>>>,
}

#[async_trait]
impl Overrides for Torn {
    fn below(&self) -> &dyn Store {
        &*self.memory
    }

    async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        let Some(past) = self.past.lock().expect("a lock").clone() else { return self.memory.glance().await };
        let is_of_ledger = |name: &String| name.starts_with("ledger/");
        let before = past.into_iter().filter(|(name, _)| !is_of_ledger(name));
        let now = self.memory.objects().into_iter().filter(|(name, _)| is_of_ledger(name));
        let listed = before.chain(now).filter_map(|(name, content)| {
            let (name, named) = ObjectName::parse(&name)?;
            Some(Listed { name, named, bytes: content.len() as u64 })
        });
        Ok(Some(Glance::new(listed.collect(), None)))
    }
}

/// A vault, and the folder that the processes of a node keep for each other.
struct Scene {
    fixture: VaultFixture,
    store: Arc<Forwarded<Torn>>,
    folder: tempfile::TempDir,
    seconds: Mutex<i64>,
}

impl Scene {
    fn new() -> Self {
        let fixture = VaultFixture::new();
        let memory = Arc::new(MemStore::new().with_costly_requests());
        fixture.create(memory.clone()).expect("create");
        let store = Arc::new(Forwarded(Torn { memory, past: Mutex::default() }));
        Self { fixture, store, folder: tempfile::tempdir().expect("a folder"), seconds: Mutex::new(0) }
    }

    fn memory(&self) -> &MemStore {
        &self.store.0.memory
    }

    /// A process of its own that opens the vault and captures; how many puts, gets and lists it takes.
    fn capture(&self, source: &str, state: &State) -> (Captured, [u64; 3]) {
        let counts = Arc::new(RequestCounts::default());
        let counted: Arc<dyn Store> = Arc::new(Counted::new(Arc::clone(&self.store), counts.clone()));
        let vault = Vault::open(counted, self.fixture.handle(), self.fixture.ring().clone()).expect("opens");
        let vault = Arc::new(vault);
        vault.keep_objects_in(&self.folder.path().join("objects"), ObjectFolder::FillAndTake);
        let writer = self.fixture.writer();
        vault.refresh_to_write(&writer.node).expect("reads");
        assert!(vault.open_beside_living_at_first(writer).expect("looks").is_empty());
        let seconds = {
            let mut seconds = self.seconds.lock().expect("a lock");
            *seconds += 10;
            *seconds
        };
        let captured = self.fixture.capture(&vault, source, Timestamp::from_seconds(seconds), state);
        let captured = captured.expect("captures");
        // That there is no fence is an answer like any other.
        let of = |of| counts.succeeded(of) + counts.failed(of);
        (captured, [Operation::Put, Operation::Get, Operation::List].map(of))
    }

    fn put_record(&self, number: u64) {
        let record = forge::gc_record(number, Vec::new());
        self.fixture.put(self.memory(), forge::gc(self.fixture.ring(), self.fixture.signer(), &record));
    }

    fn remove(&self, below: &[&str]) {
        for name in self.memory().objects().into_keys() {
            if below.iter().any(|folder| name.starts_with(folder)) {
                let (name, _) = ObjectName::parse(&name).expect("a name");
                self.fixture.block_on(self.memory().delete(&name)).expect("deletes");
            }
        }
    }

    fn assert_whole(&self, source: &str, captured: &Captured, state: &State) {
        let vault = self.fixture.open(self.store.0.memory.clone()).expect("opens");
        let report = vault.check().expect("checks");
        assert!(report.is_good(), "{report:#?}");
        assert!(read_back(&vault, source, captured.link.point).expect("reads").state == *state);
    }
}

fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..20u8).map(|n| (vec![b'a' + n], random.bytes(500))).collect()
}

#[test]
fn a_process_of_its_own_captures_with_three_listings() {
    let scene = Scene::new();
    // All names, the ledger once the session is there, and at the end. The format, who is trusted, and whether there is a fence.
    for n in 1..5 {
        let (captured, requests) = scene.capture(SOURCE, &state(n));
        assert_eq!(requests, [7, 3, 3], "capture {n}");
        scene.assert_whole(SOURCE, &captured, &state(n));
    }
    // Four sessions, points and index objects, and a head.
    fs::remove_dir_all(scene.folder.path().join("objects")).expect("it may be removed at any time");
    assert_eq!(scene.capture(SOURCE, &state(5)).1, [7, 3 + 3 * 4 + 1, 3]);
}

/// A session of which something else is kept than it is.
fn assert_read_again(torn: impl Fn(&[u8]) -> Vec<u8>) {
    let scene = Scene::new();
    scene.capture(SOURCE, &state(1));
    let sessions =
        scene.memory().objects().into_keys().filter_map(|name| match ObjectName::parse(&name)?.1 {
            Named::Session(session) => Some(session),
            _ => None,
        });
    for session in sessions {
        let path = scene.folder.path().join("objects").join(session.to_string());
        let whole = fs::read(&path).expect("it is kept");
        fs::write(&path, torn(&whole)).expect("writes");
    }
    assert_eq!(scene.capture(SOURCE, &state(2)).1, [7, 4, 3], "the session as well");
    assert_eq!(scene.capture(SOURCE, &state(3)).1, [7, 3, 3]);
}

#[test]
fn a_session_that_a_loss_of_power_has_torn_is_read_again() {
    assert_read_again(|whole| whole[..whole.len() / 2].to_vec());
}

#[test]
fn a_session_of_which_a_loss_of_power_has_left_zeros_is_read_again() {
    assert_read_again(|whole| vec![0; whole.len()]);
}

#[test]
fn what_is_kept_of_a_session_that_was_cleared_away_does_not_count() {
    let scene = Scene::new();
    scene.capture(SOURCE, &state(1));
    // As the custodian does when its point stands in a layout: here it does not, so that nothing says that it counts for good.
    scene.remove(&["ledger/sessions/"]);
    let (next, _) = scene.capture(SOURCE, &state(2));
    let vault = scene.fixture.open(scene.store.0.memory.clone()).expect("opens");
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    let next = catalogue.points().iter().find(|point| point.link == next.link).expect("the point");
    assert_eq!(next.vault_part.parent, None);
}

#[test]
fn after_a_collection_the_folders_are_listed_until_its_record_is_known() {
    let scene = Scene::new();
    scene.capture(SOURCE, &state(1));
    scene.put_record(1);
    // The record; after it sessions, the index, and what there is of the source.
    assert_eq!(scene.capture(SOURCE, &state(2)).1, [7, 4, 8]);
    let (captured, requests) = scene.capture(SOURCE, &state(3));
    assert_eq!(requests, [7, 4, 3]);
    scene.assert_whole(SOURCE, &captured, &state(3));
}

/// One answer may have shown the index before a collection, and what the collection has left below `ledger/` after it.
#[test]
fn what_one_answer_shows_beside_a_record_that_was_not_known_is_not_counted_on() {
    let scene = Scene::new();
    let content = state(1);
    scene.capture(SOURCE, &content);
    *scene.store.0.past.lock().expect("a lock") = Some(scene.memory().objects());
    // What a second pass leaves of it when everything was dropped.
    scene.remove(&["heads/", "index/", "packs/", "points/", "ledger/"]);
    scene.put_record(2);
    let (captured, _) = scene.capture(OTHER, &content);
    scene.assert_whole(OTHER, &captured, &content);
}

#[test]
fn of_a_large_vault_those_folders_are_listed_that_come_after_its_packs() {
    let scene = Scene::new();
    for n in 0..GLANCE_MAX {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let name = Named::Pack(PackId::new(id)).to_name();
        scene.fixture.block_on(scene.memory().put(&name, Bytes::from_static(b"no pack"))).expect("puts");
    }
    // What was trusted, and the points of the source.
    assert_eq!(scene.capture(SOURCE, &state(1)).1, [7, 3, 5]);
    assert_eq!(scene.capture(SOURCE, &state(2)).1, [7, 3, 5]);
}
