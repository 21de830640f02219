//! Objects that processes which end soon keep on local disk for each other, where requests cost.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use backstay_core::units::Timestamp;
use backstay_testkit::capture::State;
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::random::Random;
use backstay_vault::store::{Counted, MemStore, Operation, RequestCounts};
use backstay_vault::vault::{Catalogue, ObjectFolder, Vault};
use bytes::Bytes;

const SOURCE: &str = "static.files";

/// A vault of three points, and a folder for objects.
struct Scene {
    fixture: VaultFixture,
    store: Arc<MemStore>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(store: MemStore) -> Self {
        let scene = Self {
            fixture: VaultFixture::new(),
            store: Arc::new(store),
            folder: tempfile::tempdir().expect("a folder"),
        };
        scene.fixture.create(scene.store.clone()).expect("create");
        scene
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("objects")
    }

    /// A process that opens the vault; the gets that it takes to do so and to work.
    fn process(&self, usage: ObjectFolder, work: impl FnOnce(&Arc<Vault>)) -> u64 {
        let counts = Arc::new(RequestCounts::default());
        let vault = self.fixture.open(Arc::new(Counted::new(self.store.clone(), counts.clone())));
        let vault = vault.expect("open");
        vault.keep_objects_in(&self.path(), usage);
        let before = counts.succeeded(Operation::Get);
        work(&vault);
        counts.succeeded(Operation::Get) - before
    }

    fn capture(&self, usage: ObjectFolder, seconds: i64) {
        let mut random = Random::new(seconds as u64);
        let state: State = (0..20u8).map(|n| (vec![b'a' + n], random.bytes(500))).collect();
        self.process(usage, |vault| {
            self.fixture.capture(vault, SOURCE, Timestamp::from_seconds(seconds), &state).expect("captures");
        });
    }

    fn look(&self, vault: &Vault) -> Catalogue {
        vault.catalogue(self.fixture.source(SOURCE)).expect("a catalogue")
    }
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn what_earlier_processes_have_put_or_read_is_not_read_again() {
    let scene = Scene::new(MemStore::new().with_costly_requests());
    (1..=3).for_each(|n| scene.capture(ObjectFolder::FillAndTake, n));
    let gets = scene.process(ObjectFolder::Take, |vault| assert_eq!(scene.look(vault).points().len(), 3));
    assert_eq!(gets, 0, "three points and a head");
    fs::remove_dir_all(scene.path()).expect("it may be removed at any time");
    let gets = scene.process(ObjectFolder::FillAndTake, |vault| drop(scene.look(vault)));
    assert_eq!(gets, 4);
    let gets = scene.process(ObjectFolder::Take, |vault| drop(scene.look(vault)));
    assert_eq!(gets, 0);
}

#[test]
fn a_listing_says_what_there_is_and_not_the_folder() {
    let scene = Scene::new(MemStore::new().with_costly_requests());
    (1..=3).for_each(|n| scene.capture(ObjectFolder::FillAndTake, n));
    let gone = scene.store.objects().into_keys().filter(|name| name.starts_with("points/")).max();
    let left: std::collections::BTreeMap<String, Bytes> =
        scene.store.objects().into_iter().filter(|(name, _)| Some(name) != gone.as_ref()).collect();
    let store = Arc::new(MemStore::with_objects(left).with_costly_requests());
    let scene = Scene { store, ..scene };
    scene.process(ObjectFolder::Take, |vault| {
        let catalogue = scene.look(vault);
        let told = catalogue.points().len() + catalogue.broken().count();
        assert_eq!(told, 2, "one point is gone");
    });
}

#[test]
fn what_was_replaced_by_something_of_another_length_is_noticed_though_it_is_kept() {
    for folder in ["points/", "heads/"] {
        let scene = Scene::new(MemStore::new().with_costly_requests());
        (1..=2).for_each(|n| scene.capture(ObjectFolder::FillAndTake, n));
        let mut objects = scene.store.objects();
        // Of heads the newest.
        let replaced = objects.keys().rfind(|name| name.starts_with(folder)).cloned().expect("an object");
        objects.insert(replaced, Bytes::from_static(b"something else"));
        let store = Arc::new(MemStore::with_objects(objects).with_costly_requests());
        let scene = Scene { store, ..scene };
        for usage in [ObjectFolder::FillAndTake, ObjectFolder::Take, ObjectFolder::Fill] {
            scene.process(usage, |vault| {
                assert_eq!(scene.look(vault).left_out.len(), 1, "{folder} {usage:?}")
            });
        }
    }
}

#[test]
fn what_looks_for_damage_finds_it_though_a_whole_copy_is_kept() {
    let scene = Scene::new(MemStore::new().with_costly_requests());
    scene.capture(ObjectFolder::Fill, 1);
    assert!(files(&scene.path()) >= 3, "point, head and index were kept for others");
    let mut objects = scene.store.objects();
    let point = objects.keys().find(|name| name.starts_with("points/")).cloned().expect("a point");
    let bytes = objects[&point].len();
    objects.insert(point, Bytes::from(vec![0; bytes]));
    let store = Arc::new(MemStore::with_objects(objects).with_costly_requests());
    let scene = Scene { store, ..scene };
    scene.process(ObjectFolder::Fill, |vault| {
        assert_eq!(scene.look(vault).left_out.len(), 1);
        assert!(!vault.check().expect("checks").is_good());
    });
    // Who only wants to read it gets it.
    scene.process(ObjectFolder::Take, |vault| assert_eq!(scene.look(vault).points().len(), 1));
}

#[test]
fn where_requests_cost_nothing_nothing_is_kept() {
    let scene = Scene::new(MemStore::new());
    scene.capture(ObjectFolder::FillAndTake, 1);
    assert!(!scene.path().exists());
}
