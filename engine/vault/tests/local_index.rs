//! The index on the disk of a node: it never says what the vault does not say now, whoever has damaged or exchanged it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::ManualClock;
use backstay_core::config::{Keep, KeepRules};
use backstay_core::units::Timestamp;
use backstay_testkit::capture::{Captured, State, read_back};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::forge;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_vault::error::VaultError;
use backstay_vault::index::{IndexFolder, IndexLimits};
use backstay_vault::keys::{Secret, Signer};
use backstay_vault::store::MemStore;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Vault};

const SOURCE: &str = "static.files";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn state(seed: u64) -> State {
    let mut random = Random::new(seed);
    (0..8).map(|key| (format!("key {key}").into_bytes(), random.bytes(20 << 10))).collect()
}

struct Scene {
    index: tempfile::TempDir,
    /// Another process on the same machine.
    fixture: VaultFixture,
    memory: Arc<MemStore>,
}

impl Scene {
    fn new() -> (Self, Arc<Vault>) {
        let index = tempfile::tempdir().expect("a folder");
        let fixture = VaultFixture::new().with_index_in(index.path());
        let memory = Arc::new(MemStore::new());
        let vault = fixture.create(memory.clone()).expect("create");
        (Self { index, fixture, memory }, vault)
    }

    fn open(&self) -> Arc<Vault> {
        self.fixture.open(self.memory.clone()).expect("opens")
    }

    fn capture(&self, vault: &Arc<Vault>, source: &str, seconds: i64, state: &State) -> Captured {
        self.fixture.capture(vault, source, at(seconds), state).expect("capture")
    }

    /// Drops all points but the newest of each source, and what only they need.
    fn keep_one(&self, vault: &Arc<Vault>) {
        let (clock, mut notes) = (ManualClock::new(at(10_000)), MemoryNotes::default());
        let look = Inspection::new(vault.clone(), kinds(), &clock);
        let (identity, pool) = (self.fixture.writer().clone(), self.fixture.pool().clone());
        let mut custodian = Custodian::new(look, identity, pool, &mut notes).expect("the custodian");
        let one = Keep::Rules(KeepRules { last: Some(1), ..KeepRules::default() });
        for _ in 0..3 {
            assert!(!matches!(custodian.collect().expect("collects"), Pass::Waits(_)));
            custodian.thin(&|_| Some(one.clone())).expect("thins");
        }
        let mut passes = (0..10).map(|_| custodian.collect().expect("collects"));
        assert!(passes.any(|pass| pass == Pass::Idle), "there is an end to what goes");
    }

    fn segments(&self) -> Vec<PathBuf> {
        files_below(self.index.path()).into_iter().filter(|path| path.extension().is_some()).collect()
    }
}

/// Lets go of the folder of the index. What an upload or a thread of the pool still holds of the vault ends soon.
fn close(vault: Arc<Vault>) {
    for _ in 0..500 {
        if Arc::strong_count(&vault) == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("somebody keeps the vault open");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn contents(files: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
    files.iter().map(|path| (path.clone(), fs::read(path).expect("reads"))).collect()
}

#[test]
fn a_stale_cached_index_never_makes_a_writer_believe_that_a_deleted_chunk_exists() {
    let (scene, vault) = Scene::new();
    let (old, new) = (state(1), state(2));
    scene.capture(&vault, SOURCE, 100, &old);
    close(vault);
    let vault = scene.open();
    let stale = contents(&scene.segments());
    assert!(!stale.is_empty());
    // What was kept is believed while it is true.
    let again = scene.capture(&vault, "other.files", 110, &old);
    assert!(again.totals.new_chunks < 5, "{:?}", again.totals);
    for source in [SOURCE, "other.files"] {
        scene.capture(&vault, source, 120, &new);
    }
    scene.keep_one(&vault);
    close(vault);
    // The node's disk comes back from a copy of before.
    scene.segments().iter().for_each(|path| fs::remove_file(path).expect("removes"));
    stale.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("writes"));
    let vault = scene.open();
    let again = scene.capture(&vault, "third.files", 20_000, &old);
    assert!(again.totals.new_chunks >= 8, "all of it is stored again: {:?}", again.totals);
    let point = again.link.point;
    let fresh = VaultFixture::open(&scene.fixture, scene.memory.clone()).expect("another process");
    assert!(read_back(&fresh, "third.files", point).expect("reads").state == old);
    assert!(fresh.check().expect("checks").is_good());
}

#[test]
fn a_collection_while_the_node_was_away_takes_from_its_kept_index_what_it_deletes() {
    let (scene, vault) = Scene::new();
    let (old, new) = (state(3), state(4));
    scene.capture(&vault, SOURCE, 100, &old);
    close(vault);
    close(scene.open());
    let kept = contents(&scene.segments());
    // Another machine has the same keys, and an index of its own.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let vault = scene.open();
    scene.capture(&vault, SOURCE, 120, &new);
    scene.keep_one(&vault);
    close(vault);
    fs::rename(scene.index.path(), elsewhere.path().join("away")).expect("moves");
    fs::create_dir_all(kept[0].0.parent().expect("a folder")).expect("makes");
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("writes"));
    let vault = scene.open();
    let totals = vault.totals();
    close(vault);
    fs::remove_dir_all(scene.index.path()).expect("removes");
    let plain = scene.open();
    assert_eq!(totals.packs, plain.totals().packs, "the same as read from the vault alone");
    assert_eq!(totals.data_pack_bytes, plain.totals().data_pack_bytes);
}

#[test]
fn a_damaged_cached_index_is_made_anew_and_nobody_notices() {
    let (scene, vault) = Scene::new();
    let state = state(5);
    let point = scene.capture(&vault, SOURCE, 100, &state).link.point;
    close(vault);
    close(scene.open());
    let file = scene.segments().remove(0);
    let whole = fs::read(&file).expect("reads");
    for place in (0..whole.len()).step_by(59) {
        scene.segments().iter().for_each(|path| fs::remove_file(path).expect("removes"));
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&file, damaged).expect("writes");
        let vault = scene.open();
        assert!(read_back(&vault, SOURCE, point).expect("reads").state == state, "byte {place}");
        let again = scene.capture(&vault, "other.files", 200 + place as i64, &state);
        assert!(read_back(&scene.open(), "other.files", again.link.point).expect("reads").state == state);
        assert!(vault.check().expect("checks").is_good(), "byte {place}");
        close(vault);
    }
}

#[test]
fn a_custodian_whose_index_breaks_between_two_passes_collects_all_the_same() {
    let (scene, vault) = Scene::new();
    for n in 0..4 {
        scene.capture(&vault, SOURCE, 100 + n, &state(10 + n as u64));
    }
    vault.refresh_index(None).expect("writes them out");
    assert!(!scene.segments().is_empty());
    for path in scene.segments() {
        let mut bytes = fs::read(&path).expect("reads");
        bytes[4096 + 3] ^= 1;
        fs::write(path, bytes).expect("writes");
    }
    scene.keep_one(&vault);
    let newest = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue").points()[0].link.point;
    assert!(read_back(&scene.open(), SOURCE, newest).expect("reads").state == state(13));
}

#[test]
fn a_cached_index_of_one_vault_says_nothing_about_another() {
    let (scene, vault) = Scene::new();
    let state = state(6);
    scene.capture(&vault, SOURCE, 100, &state);
    close(vault);
    close(scene.open());
    let other = Arc::new(MemStore::new());
    let second = scene.fixture.create(other.clone()).expect("create");
    let id = second.id().to_string();
    drop(second);
    for path in scene.segments() {
        let name = path.file_name().expect("a name");
        fs::copy(&path, scene.index.path().join(&id).join(name)).expect("copies");
    }
    let second = scene.fixture.open(other).expect("opens");
    assert_eq!(second.totals().chunks, 0);
    let captured = scene.capture(&second, SOURCE, 100, &state);
    assert!(captured.totals.new_chunks >= 8);
}

#[test]
fn what_a_node_has_written_counts_for_nobody_once_it_is_not_trusted_also_from_a_cache() {
    let (scene, vault) = Scene::new();
    scene.capture(&vault, SOURCE, 100, &state(8));
    close(vault);
    let vault = scene.open();
    assert!(vault.totals().packs > 0);
    let (before, mut trust) = (scene.fixture.objects(&*scene.memory, "trust"), vault.trust().clone());
    close(vault);
    (trust.n, trust.previous) = (2, Some(before[0].hash()));
    trust.nodes[0].signer = Signer::from_seed(&Secret::random()).public();
    scene.fixture.put(&*scene.memory, forge::trust(scene.fixture.admin(), &trust));
    let vault = scene.open();
    assert_eq!(vault.totals().packs, 0);
}

#[test]
fn a_full_disk_under_the_index_fails_no_capture_and_no_pass() {
    let (scene, vault) = Scene::new();
    fs::remove_dir_all(scene.index.path()).expect("removes");
    for n in 0..4 {
        scene.capture(&vault, SOURCE, 100 + n, &state(20 + n as u64));
    }
    scene.keep_one(&vault);
    let point = vault.catalogue(scene.fixture.source(SOURCE)).expect("catalogue").points()[0].link.point;
    assert!(read_back(&vault, SOURCE, point).expect("reads").state == state(23));
}

#[test]
fn an_own_commit_that_was_not_acknowledged_is_not_believed_after_a_restart() -> Result<(), VaultError> {
    let (scene, vault) = Scene::new();
    let state = state(7);
    let open = scene.fixture.open_capture(std::slice::from_ref(&vault), SOURCE, at(100))?;
    drop(open);
    scene.capture(&vault, SOURCE, 110, &state);
    // Its session stays open, as after a crash between the head and the acknowledgement.
    let sessions: Vec<_> =
        scene.memory.objects().into_iter().filter(|(name, _)| name.starts_with("ledger/sessions/")).collect();
    close(vault);
    close(scene.open());
    for (name, _) in &sessions {
        let (name, _) = backstay_vault::name::ObjectName::parse(name).expect("a name");
        use backstay_vault::store::Store;
        scene.fixture.block_on(scene.memory.delete(&name)).expect("deletes");
    }
    let vault = scene.open();
    let again = scene.capture(&vault, "other.files", 120, &state);
    assert!(again.totals.new_chunks >= 8, "nothing says that it was acknowledged: {:?}", again.totals);
    Ok(())
}

#[test]
fn a_process_that_opens_a_vault_again_takes_its_folder_along() {
    let (folder, fixture) = (tempfile::tempdir().expect("a folder"), VaultFixture::new());
    let memory = Arc::new(MemStore::new());
    let first = fixture.create(memory.clone()).expect("create");
    let limits = IndexLimits { table_entries_max: 4, worth_entries: 1, worth_objects: 1 };
    first.keep_index_in(folder.path(), IndexFolder::Own, limits);
    fixture.capture(&first, SOURCE, at(10), &state(1)).expect("capture");
    first.refresh_index(None).expect("refreshes");
    let files = files_below(folder.path());
    assert!(files.len() > 1, "{files:?}");
    // Somebody goes on with the vault as it was.
    first.leave_index_folder();
    let second = fixture.open(memory.clone()).expect("opens");
    second.keep_index_in(folder.path(), IndexFolder::Own, limits);
    second.refresh_index(None).expect("refreshes");
    let files = contents(&files_below(folder.path()));
    fixture.capture(&first, SOURCE, at(20), &state(2)).expect("capture");
    first.refresh_index(None).expect("refreshes");
    assert!(contents(&files_below(folder.path())) == files, "who has let go of it changes nothing there");
    // What comes now is merged with what lies there, or lies beside it.
    fixture.capture(&second, SOURCE, at(30), &state(3)).expect("capture");
    second.refresh_index(None).expect("refreshes");
    assert!(contents(&files_below(folder.path())) != files, "it is written on");
}
