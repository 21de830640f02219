//! Restores from stores whose requests cost: how few they take, that not much is read in vain, and what becomes of damage and of
//! packs that go away meanwhile.

#[expect(dead_code, reason = "other tests use the rest of it")]
mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstay_core::config::{Keep, KeepRules};
use backstay_files::capture::PartLimits;
use backstay_files::keys::PathKey;
use backstay_files::place::Existing;
use backstay_files::restore::{RestoreProgress, RestoreReport, RestoreRequest, Selection, restore};
use backstay_testkit::forwarded::{Forwarded, Overrides};
use backstay_testkit::random::Random;
use backstay_vault::name::ObjectName;
use backstay_vault::store::{
    Counted, MemStore, Operation, RequestObserver, Store, StoreError, StoreErrorKind, Stretch,
};
use backstay_vault::vault::{MemoryNotes, Pass, Reading};
use bytes::Bytes;

use scene::{Found, SOURCE, Scene, found_below};

/// Objects by their names.
type Objects = BTreeMap<String, Bytes>;

/// Stretches of packs that were asked for, and their bytes.
#[derive(Debug, Default)]
struct Stretches(Mutex<Vec<u64>>);

impl RequestObserver for Stretches {
    fn observe(&self, operation: Operation, _: Option<&StoreError>, _: Duration, payload_bytes: u64) {
        if operation == Operation::GetRange {
            self.0.lock().expect("not poisoned").push(payload_bytes);
        }
    }
}

impl Stretches {
    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

fn costly(objects: Objects) -> MemStore {
    MemStore::with_objects(objects).with_costly_requests()
}

fn packs(objects: &Objects) -> BTreeSet<String> {
    objects.keys().filter(|name| name.starts_with("packs/")).cloned().collect()
}

/// Restores the newest point from a store; what came of it, and what is there.
fn restored(
    scene: &Scene,
    store: impl Store + 'static,
    selection: &Selection,
) -> (RestoreReport, Vec<Found>) {
    let vault = scene.fixture.open(Arc::new(store)).expect("opens");
    let catalogue = vault.catalogue(scene.fixture.source(SOURCE)).expect("a catalogue");
    let point = catalogue.points().last().expect("a point");
    let reading = Reading::begin(&vault, &catalogue, point.link, None, &scene.clock).expect("reads");
    let destination = scene.folder.path().join("restored");
    let (existing, progress) = (Existing::Refuse, Arc::new(RestoreProgress::default()));
    let request = RestoreRequest { reading: &reading, point, selection, destination: &destination, existing };
    let report = restore(&request, scene.fixture.pool(), &progress).expect("restores");
    let found = found_below(&destination);
    fs::remove_dir_all(&destination).expect("removed");
    (report, found)
}

/// A tree of large and small files of 44 MiB, captured.
fn one_capture(random: &mut Random) -> Scene {
    let scene = Scene::new();
    for n in 0..20 {
        scene.write(&format!("large/{n}"), random.bytes(2 << 20));
    }
    for n in 0..1200 {
        let bytes = 1 + random.below(7000);
        scene.write(&format!("small/{}/{n}", n % 40), random.bytes(bytes));
    }
    scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
    scene
}

/// The same, and a second capture in which some have changed.
fn two_captures() -> Scene {
    let mut random = Random::new(7);
    let scene = one_capture(&mut random);
    for n in (0..1200).step_by(25) {
        scene.write(&format!("small/{}/{n}", n % 40), random.bytes(3000));
    }
    scene.write("large/3", random.bytes(2 << 20));
    scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
    scene
}

#[test]
fn each_pack_is_asked_for_once_where_requests_cost() {
    let scene = two_captures();
    let objects = scene.store.objects();
    let seen = Arc::new(Stretches::default());
    let (report, found) =
        restored(&scene, Counted::new(costly(objects.clone()), seen.clone()), &Selection::all());
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(found == scene.found(), "it is another tree");
    let stretches = seen.take();
    // Rows and contents of two captures, and the contents of the first in two packs or more.
    assert!(packs(&objects).len() >= 5, "{:?}", packs(&objects));
    assert_eq!(stretches.len(), packs(&objects).len(), "{stretches:?}");
    let whole: usize = packs(&objects).iter().map(|pack| objects[pack].len()).sum();
    assert!(stretches.iter().sum::<u64>() <= whole as u64, "{stretches:?} of {whole}");
}

#[test]
fn a_small_file_is_restored_without_reading_much_else() {
    let scene = two_captures();
    let (objects, seen) = (scene.store.objects(), Arc::new(Stretches::default()));
    let path = ["small", "7", "7"].map(str::as_bytes);
    let selection = Selection::paths(vec![PathKey::from_components(path).expect("a path")]);
    let (report, found) = restored(&scene, Counted::new(costly(objects), seen.clone()), &selection);
    assert_eq!((report.problems.len(), found.len()), (0, 1));
    assert!(scene.found().iter().any(|(path, _, bytes)| path.ends_with("7/7") && *bytes == found[0].2));
    // The rows of two runs, twice, and the group of small files in which it is.
    let stretches = seen.take();
    assert!(stretches.len() <= 20 && stretches.iter().sum::<u64>() <= 1 << 20, "{stretches:?}");
}

#[test]
fn what_is_damaged_in_a_pack_that_is_read_whole_is_named_and_hides_nothing_else() {
    // Of one capture, so that everything in its packs is wanted.
    let scene = one_capture(&mut Random::new(7));
    let expected = scene.found();
    let objects = scene.store.objects();
    let large = packs(&objects).into_iter().max_by_key(|pack| objects[pack].len()).expect("a pack");
    let flipped = |content: &Bytes| {
        let mut bytes = content.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let cut = |content: &Bytes| content[..content.len() - (3 << 20)].to_vec();
    for (what, damage) in [("flipped", &flipped as &dyn Fn(&Bytes) -> Vec<u8>), ("cut short", &cut)] {
        let mut objects = objects.clone();
        let damaged = damage(&objects[&large]);
        objects.insert(large.clone(), damaged.into());
        let (report, found) = restored(&scene, costly(objects), &Selection::all());
        let wrong: Vec<&Found> = expected.iter().filter(|file| !found.contains(file)).collect();
        // The damage is in one record, or in the last ones: of one large file or a few, or of groups of small ones.
        assert!(!wrong.is_empty() && wrong.len() < expected.len() / 2, "{what}: {} files", wrong.len());
        assert_eq!(report.problems.len(), wrong.len(), "{what}: {:?}", report.problems);
        for (path, ..) in wrong {
            let named = |problem: &String| problem.contains(&*path.to_string_lossy());
            assert!(report.problems.iter().any(named), "{what}: {} is not named", path.display());
        }
    }
}

/// A vault that a custodian changes at the moment at which a certain pack is asked for.
#[derive(Debug)]
struct Collected {
    before: MemStore,
    after: MemStore,
    /// Which one is there now.
    is_over: AtomicBool,
    pack: String,
}

#[async_trait]
impl Overrides for Collected {
    fn below(&self) -> &dyn Store {
        match self.is_over.load(Ordering::SeqCst) {
            false => &self.before,
            true => &self.after,
        }
    }

    async fn get_range(&self, name: &ObjectName, stretch: Stretch) -> Result<Bytes, StoreError> {
        if name.as_str() == self.pack {
            self.is_over.store(true, Ordering::SeqCst);
        }
        self.below().get_range(name, stretch).await
    }
}

#[test]
fn what_a_collection_has_moved_meanwhile_is_read_where_it_is_now() {
    let (scene, mut random) = (Scene::new(), Random::new(11));
    for n in 0..20 {
        scene.write(&format!("folder/{n:02}"), random.bytes(1 << 20));
    }
    scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
    (0..15).for_each(|n| scene.write(&format!("folder/{n:02}"), random.bytes(1 << 20)));
    scene.capture(scene.store.clone(), PartLimits::default()).expect("captures");
    let before = scene.store.objects();
    let after = Arc::new(MemStore::with_objects(before.clone()));
    let mut notes = MemoryNotes::default();
    let newest = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
    Scene::with_custodian(&scene.fixture, after.clone(), &mut notes, |custodian| {
        custodian.accept()?;
        custodian.thin(&|_| Some(newest.clone()))?;
        while let Pass::Done(_) = custodian.collect()? {}
        Ok(())
    })
    .expect("collects");
    let gone: Vec<String> = packs(&before).difference(&packs(&after.objects())).cloned().collect();
    let pack = gone.into_iter().max_by_key(|pack| before[pack].len()).expect("a pack that went");
    assert!(before[&pack].len() > 10 << 20, "the pack of the first capture");
    let store = Collected {
        before: costly(before),
        after: costly(after.objects()),
        is_over: AtomicBool::new(false),
        pack: pack.clone(),
    };
    let (report, found) = restored(&scene, Forwarded(store), &Selection::all());
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(found == scene.found(), "it is another tree");
    let error = scene.fixture.block_on(after.get(&ObjectName::parse(&pack).expect("a name").0));
    assert_eq!(error.expect_err("gone").kind, StoreErrorKind::NotFound);
}
