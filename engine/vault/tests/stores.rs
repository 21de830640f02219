//! Every store passes the conformance suite, bare and wrapped; and what is peculiar to a directory.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use backstay_core::id::{PackId, SessionId};
use backstay_testkit::conformance::{append_conforms, store_conforms, trash_conforms};
use backstay_testkit::crash::{CrashStore, Death, DyingStore, Landing};
use backstay_testkit::fault::{FaultStore, Trigger};
use backstay_vault::buffer::BufferPool;
use backstay_vault::name::Named;
use backstay_vault::store::{
    Counted, DirStore, Disk, Folder, MemStore, Operation, RequestCounts, Retried, RetryPolicy, Store,
    StoreErrorKind, SystemDisk, Writing,
};
use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

/// Makes stores in folders of their own below `root`.
fn directories(root: &TempDir) -> impl Fn() -> DirStore {
    let made = Cell::new(0);
    move || {
        made.set(made.get() + 1);
        DirStore::new(root.path().join(made.get().to_string()))
    }
}

fn quick() -> RetryPolicy {
    RetryPolicy { tries: 4, first_pause: Duration::ZERO, longest_pause: Duration::ZERO }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let root = tempfile::tempdir().expect("a temporary folder");
    store_conforms(directories(&root)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_can_append_and_so_can_what_is_around_it() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let around = tempfile::tempdir().expect("a temporary folder");
    let make = directories(&around);
    let wrapped = || Retried::new(Counted::new(make(), Arc::new(RequestCounts::default())), quick());
    tokio::join!(append_conforms(directories(&root)), append_conforms(wrapped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_trash_conforms_to_both_suites() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        DirStore::with_trash(root.path().join(made.get().to_string()), Duration::from_secs(3600))
    };
    store_conforms(make).await;
    trash_conforms(make).await;
    trash_conforms(|| Retried::new(Counted::new(make(), Arc::new(RequestCounts::default())), quick())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_in_the_trash_of_a_directory_for_long_enough_goes_with_the_next_batch() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = DirStore::with_trash(root.path(), Duration::from_secs(7 * 24 * 3600));
    let old = |hours: u64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        root.path().join("trash").join((now - now % 3600 - 3600 * hours).to_string())
    };
    for hours in [7 * 24 - 1, 7 * 24 + 2] {
        fs::create_dir_all(old(hours).join("packs/ab")).expect("a batch");
    }
    let name = Named::Pack(PackId::new([0xab; 32])).to_name();
    store.put(&name, Bytes::from_static(b"x")).await.expect("puts");
    store.delete(&name).await.expect("deletes");
    assert_eq!([7 * 24 - 1, 7 * 24 + 2].map(|hours| old(hours).exists()), [true, false]);
    assert_eq!(store.trash().await.expect("lists").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_what_goes_past_the_page_cache_and_what_does_not() {
    // In the build folder: temporary folders may lie in memory, which has no other way.
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let store = DirStore::new(root.path());
    let pool = BufferPool::new(1);
    let mut seed = 1u64;
    for (length, begins) in [(1 << 20, 0), ((1 << 20) + 4096, 0), ((1 << 20) + 1, 0), (2 << 20, 1), (4096, 0)]
    {
        let mut buffer = pool.take(length + begins);
        buffer.as_mut().fill_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        let content = buffer.freeze().slice(begins..);
        let name = Named::Pack(PackId::new(*blake3::hash(&content).as_bytes())).to_name();
        store.put(&name, content.clone()).await.expect("puts");
        assert_eq!(store.get(&name).await.expect("gets"), content, "{length} from {begins}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    store_conforms(MemStore::new).await;
    let costly = || MemStore::new().with_costly_requests();
    store_conforms(costly).await;
    let counted = || Counted::new(costly(), Arc::new(RequestCounts::default()));
    store_conforms(|| Retried::new(counted(), quick())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_could_crash_but_does_not_conforms() {
    store_conforms(|| CrashStore::new(Default::default(), 0, Landing::Lost, 1)).await;
    let death = Death { at: 0, landing: Landing::Lost, seed: 1 };
    store_conforms(|| {
        let store = Arc::new(MemStore::new());
        DyingStore::new(store.clone(), store, death)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observed_directory_conforms_and_its_requests_are_counted() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let make = directories(&root);
    let counts = Arc::new(RequestCounts::default());
    store_conforms(|| Counted::new(make(), counts.clone())).await;
    for operation in [Operation::Put, Operation::Get, Operation::GetRange, Operation::List, Operation::Delete]
    {
        assert!(counts.succeeded(operation) > 0, "{operation:?}");
    }
    assert!(counts.failed(Operation::Get) >= 10 && counts.failed(Operation::Put) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_store_conforms_although_every_kind_of_request_fails_now_and_then() {
    store_conforms(|| {
        let faulty = FaultStore::new(MemStore::new());
        for operation in
            [Operation::Put, Operation::Get, Operation::GetRange, Operation::List, Operation::Delete]
        {
            faulty.fail(Trigger::on(operation).times(2), StoreErrorKind::Transient);
            faulty.lose_answer(Trigger::on(operation).after(3).times(3), StoreErrorKind::Transient);
        }
        Retried::new(faulty, quick())
    })
    .await;
}

#[tokio::test]
async fn retrying_ends_after_the_tries_and_leaves_lasting_faults_alone() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let counts = Arc::new(RequestCounts::default());
    let store = Retried::new(Counted::new(Arc::clone(&faulty), counts.clone()), quick());
    faulty.fail(Trigger::on(Operation::Put).always(), StoreErrorKind::Transient);
    let name = Named::Trust(1).to_name();
    let error = store.put(&name, Bytes::new()).await.expect_err("always fails");
    assert_eq!((error.kind, counts.failed(Operation::Put)), (StoreErrorKind::Transient, 4));
    faulty.heal();
    faulty.fail(Trigger::on(Operation::Put).always(), StoreErrorKind::NoSpace);
    let error = store.put(&name, Bytes::new()).await.expect_err("full");
    assert_eq!((error.kind, counts.failed(Operation::Put)), (StoreErrorKind::NoSpace, 5));
    assert!(error.to_string().contains("free space"), "says what to do: {error}");
}

#[tokio::test]
async fn what_is_foreign_in_a_directory_is_left_out_and_left_alone() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = DirStore::new(root.path());
    let name = Named::Trust(1).to_name();
    store.put(&name, Bytes::from_static(b"ours")).await.expect("put");
    let foreign = [
        "trust/README",
        "trust/1",
        "trust/0000000000000001.tmp",
        "trust/lost+found/0000000000000002",
        ".snapshot",
    ];
    for path in foreign {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("mkdir");
        fs::write(path, b"foreign").expect("write");
    }
    fs::create_dir(root.path().join("trust/0000000000000003")).expect("a folder with the name of an object");
    let listed = store.list(&Folder::new(&[&"trust"])).await.expect("list");
    assert_eq!(listed.into_iter().map(|l| l.name).collect::<Vec<_>>(), [name]);
    for path in foreign {
        assert_eq!(fs::read(root.path().join(path)).expect("still there"), b"foreign", "{path}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_empty_store() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = DirStore::new(root.path().join("unmounted"));
    let error = store.list(&Folder::new(&[&"trust"])).await.expect_err("no such directory");
    assert_eq!(error.kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn an_empty_directory_that_takes_the_place_of_the_store_is_not_written_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (root, away) = (folder.path().join("vault"), folder.path().join("away"));
    let (first, second) = (Named::Trust(1).to_name(), Named::Trust(2).to_name());
    let store = DirStore::new(&root);
    store.put(&first, Bytes::from_static(b"one")).await.expect("the root is made with the first object");
    assert_eq!(store.get(&first).await.expect("get"), &b"one"[..]);
    fs::rename(&root, &away).expect("unmounted");
    for made in [false, true] {
        if made {
            fs::create_dir(&root).expect("mkdir");
        }
        let error = store.put(&second, Bytes::new()).await.expect_err("not there");
        assert_eq!(error.kind, StoreErrorKind::Gone, "{error}");
        assert_eq!(store.get(&first).await.expect_err("not there").kind, StoreErrorKind::Gone);
    }
    assert_eq!(fs::read_dir(&root).expect("list").count(), 0);
    fs::remove_dir(&root).expect("rmdir");
    fs::rename(&away, &root).expect("mounted again");
    store.put(&second, Bytes::new()).await.expect("as before");
}

#[tokio::test]
async fn what_a_dead_process_left_unfinished_is_never_listed_and_goes_after_a_day() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let unfinished = root.path().join("unfinished");
    fs::create_dir(&unfinished).expect("mkdir");
    let long_ago = SystemTime::now() - Duration::from_secs(25 * 3600);
    for (name, modified) in [("1-0", SystemTime::now()), ("2-0", long_ago)] {
        let file = fs::File::create(unfinished.join(name)).expect("create");
        file.set_modified(modified).expect("set the time");
    }
    let store = DirStore::new(root.path());
    store.put(&Named::Trust(1).to_name(), Bytes::new()).await.expect("put");
    let left: Vec<_> =
        fs::read_dir(&unfinished).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(left, ["1-0"]);
    assert!(store.list(&Folder::new(&[&"unfinished"])).await.expect("list").is_empty());
}

#[tokio::test]
async fn writers_that_share_a_directory_and_nothing_else_do_not_get_into_each_others_way() {
    let root = tempfile::tempdir().expect("a temporary folder");
    // Two nodes, or one that reaches the directory by two paths.
    let stores = [DirStore::new(root.path()), DirStore::new(root.path())];
    let put = |n: u64| {
        let content = vec![n as u8; 100_000];
        let (store, name) = (stores[n as usize % 2].clone(), Named::Trust(n + 1).to_name());
        tokio::spawn(async move { store.put(&name, content.into()).await })
    };
    for put in (0..200).map(put).collect::<Vec<_>>() {
        put.await.expect("no panic").expect("put");
    }
    for n in 0..200u64 {
        let content = stores[0].get(&Named::Trust(n + 1).to_name()).await.expect("get");
        assert!(content.len() == 100_000 && content.iter().all(|byte| *byte == n as u8), "object {n}");
    }
}

#[tokio::test]
async fn a_directory_keeps_its_objects_from_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = DirStore::new(root.path());
    let name = Named::Trust(1).to_name();
    store.put(&name, Bytes::new()).await.expect("put");
    let mode = fs::metadata(root.path().join(name.as_str())).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_directory_reopened_holds_what_was_put() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let name = Named::Key("nullstone".into()).to_name();
    DirStore::new(root.path()).put(&name, Bytes::from_static(b"kept")).await.expect("put");
    assert_eq!(DirStore::new(root.path()).get(&name).await.expect("get"), &b"kept"[..]);
}

/// A disk that lacks something, or gives nothing, when it is to make a folder durable.
#[derive(Debug, Default)]
struct Unsynced(AtomicI32);

impl Disk for Unsynced {
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            0 => SystemDisk.sync_folder(path),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_durable_unless_nobody_could_make_it_so() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(Unsynced::default());
    let store = DirStore::on(disk.clone(), root.path(), None);
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    store.put(&name, Bytes::from_static(b"x")).await.expect("puts");
    let listed = async |errno: Errno| {
        disk.0.store(errno.raw_os_error(), Ordering::SeqCst);
        store.list(&Folder::new(&[&"ledger", &"sessions"])).await.map(|listed| listed.len())
    };
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        assert!(listed(errno).await.expect_err("is tried again").is_transient());
    }
    for errno in [Errno::ROFS, Errno::ACCESS, Errno::IO] {
        assert_eq!(listed(errno).await.expect("what lies there can be restored"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_far_too_long_is_not_read() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let store = DirStore::new(root.path());
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    store.put(&name, vec![0; (1 << 20) + 1].into()).await.expect("puts");
    assert_eq!(store.get(&name).await.expect_err("too long").kind, StoreErrorKind::TooLarge);
}

/// A disk that takes nothing while this folder is there.
#[derive(Debug)]
struct FullWith(PathBuf);

impl Disk for FullWith {
    fn make_file(&self, path: &Path, writing: Writing) -> io::Result<fs::File> {
        match self.0.exists() {
            true => Err(Errno::NOSPC.into()),
            false => SystemDisk.make_file(path, writing),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_trash_whose_time_is_over_makes_room() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let batch = |hours: u64| root.path().join("trash").join((now - now % 3600 - 3600 * hours).to_string());
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    for (hours, has_room) in [(7 * 24 + 2, true), (7 * 24 - 1, false)] {
        fs::create_dir_all(batch(hours)).expect("a batch");
        let disk = Arc::new(FullWith(batch(hours)));
        let store = DirStore::on(disk, root.path(), Some(Duration::from_secs(7 * 24 * 3600)));
        let put = store.put(&name, Bytes::from_static(b"x")).await;
        assert_eq!(put.is_ok(), has_room, "{put:?}");
        assert_eq!(batch(hours).exists(), !has_room);
    }
}
