//! The suite that every store passes. What it asks is what the vault relies on (docs/format.md, section 1).

use std::sync::Arc;

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{BranchId, JournalId, ObjectHash, PackId, PointId, SessionId, SourceId};
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{APPEND_BYTES_MAX, Folder, GLANCE_MAX, Store, StoreErrorKind, Stretch, is_kept};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::random::Random;

/// Objects that are put at the same time.
const PUTS_AT_ONCE: u64 = 300;

/// The largest pack, more or less.
const LARGE_BYTES: usize = 32 << 20;

/// Runs the whole suite; every rule gets an empty store of its own from `make`.
///
/// # Panics
/// When a rule does not hold.
pub async fn store_conforms<S: Store + 'static>(make: impl Fn() -> S) {
    what_is_put_is_read_and_listed(&make()).await;
    a_folder_lists_in_order_what_is_below_it_and_nothing_else(&make()).await;
    the_last_put_stands(&make()).await;
    empty_and_large_objects_are_kept(&make()).await;
    ranges_are_exact(&make()).await;
    what_is_missing_is_named(&make()).await;
    what_is_deleted_is_gone(&make()).await;
    what_is_deleted_together_is_gone_and_the_rest_stays(&make()).await;
    many_puts_at_once_all_arrive(Arc::new(make())).await;
    puts_of_one_name_at_once_leave_one_of_them_whole(Arc::new(make())).await;
    a_glance_shows_what_is_listed(Arc::new(make())).await;
}

/// A name of every kind.
pub fn names_of_every_kind() -> Vec<ObjectName> {
    let (source, session) = (SourceId::new([0x5c; 16]), SessionId::new([0x5e; 16]));
    let hash = ObjectHash::new([0x4a; 32]);
    let named = [
        Named::Format(1),
        Named::Trust((1 << 62) - 1),
        Named::Key("nullstone-recovery_1".into()),
        Named::Pack(PackId::new([0xab; 32])),
        Named::Index(session, hash),
        Named::Point(source, PointId::new([4; 16]), hash),
        Named::Layout(source, 7, hash),
        Named::Head(source, 8, hash),
        Named::Session(session),
        Named::Fence(session),
        Named::Gc(CollectionNumber::new(3), hash),
    ];
    named.iter().map(Named::to_name).collect()
}

/// Runs the suite of a store that keeps a trash.
///
/// # Panics
/// When a rule does not hold.
pub async fn trash_conforms<S: Store + 'static>(make: impl Fn() -> S) {
    what_is_deleted_can_be_brought_back(&make()).await;
    what_is_there_again_stays(&make()).await;
}

/// Runs the suite of a store that can append.
///
/// # Panics
/// When a rule does not hold.
pub async fn append_conforms<S: Store + 'static>(make: impl Fn() -> S) {
    what_is_appended_is_read_and_listed(&make()).await;
    what_is_appended_again_changes_nothing(&make()).await;
    other_bytes_are_refused(&make()).await;
    what_is_too_long_is_refused(&make()).await;
    parts_that_overtake_each_other_find_their_places(Arc::new(make())).await;
    // A store waits for what is missing.
    let (one, other) = (make(), make());
    tokio::join!(a_hole_is_refused(&one), nothing_is_made_of_a_hole(&other));
}

/// An object of a journal.
fn journal() -> ObjectName {
    let (source, branch) = (SourceId::new([0x5c; 16]), BranchId::new([0xb0; 16]));
    Named::Journal(source, branch, 0x100_0000, JournalId::new([7; 16])).to_name()
}

async fn what_is_appended_is_read_and_listed(store: &dyn Store) {
    let (name, mut whole) = (journal(), Vec::new());
    for part in [&b"first"[..], b"", b"second, and longer", &[0; 5000]] {
        store.append(&name, whole.len() as u64, Bytes::copy_from_slice(part)).await.expect("append");
        whole.extend_from_slice(part);
        assert_eq!(store.get(&name).await.expect("get"), whole);
    }
    let range = Stretch { offset: 5, length: 6 };
    assert_eq!(store.get_range(&name, range).await.expect("get"), "second");
    let source = SourceId::new([0x5c; 16]);
    for folder in [Folder::new(&[&"journal"]), Folder::new(&[&"journal", &source])] {
        let listed = store.list(&folder).await.expect("list");
        assert_eq!(listed.len(), 1, "{folder:?}");
        assert_eq!((&listed[0].name, listed[0].bytes), (&name, whole.len() as u64));
    }
    store.delete(&name).await.expect("delete");
    assert!(store.get(&name).await.expect_err("gone").is_not_found());
}

async fn what_is_appended_again_changes_nothing(store: &dyn Store) {
    let name = journal();
    store.append(&name, 0, Bytes::from_static(b"abcdef")).await.expect("append");
    for (offset, part) in [(0, "abcdef"), (0, "abc"), (2, "cd"), (6, ""), (3, "defgh")] {
        store.append(&name, offset, Bytes::from_static(part.as_bytes())).await.expect(part);
    }
    assert_eq!(store.get(&name).await.expect("get"), "abcdefgh");
}

async fn nothing_is_made_of_a_hole(store: &dyn Store) {
    let name = journal();
    let hole = store.append(&name, 1, Bytes::from_static(b"b")).await.expect_err("there is nothing before");
    assert_eq!(hole.kind, StoreErrorKind::Truncated, "{hole}");
    assert!(store.get(&name).await.expect_err("nothing is there").is_not_found());
}

async fn a_hole_is_refused(store: &dyn Store) {
    let name = journal();
    store.append(&name, 0, Bytes::from_static(b"abcdef")).await.expect("append");
    let hole = store.append(&name, 7, Bytes::from_static(b"h")).await.expect_err("g is missing");
    assert_eq!(hole.kind, StoreErrorKind::Truncated, "{hole}");
    store.append(&name, 6, Bytes::from_static(b"gh")).await.expect("append");
    assert_eq!(store.get(&name).await.expect("get"), "abcdefgh");
}

async fn other_bytes_are_refused(store: &dyn Store) {
    let name = journal();
    store.append(&name, 0, Bytes::from_static(b"abcdef")).await.expect("append");
    for (offset, part) in [(0, "x"), (4, "eX"), (5, "xgh")] {
        let other = store.append(&name, offset, Bytes::from_static(part.as_bytes())).await;
        assert_eq!(other.expect_err("other bytes").kind, StoreErrorKind::Conflict, "{part} at {offset}");
    }
    assert_eq!(store.get(&name).await.expect("get"), "abcdef");
}

async fn what_is_too_long_is_refused(store: &dyn Store) {
    let long = Bytes::from(vec![1; APPEND_BYTES_MAX as usize + 1]);
    let error = store.append(&journal(), 0, long.clone()).await.expect_err("too long");
    assert_eq!(error.kind, StoreErrorKind::TooLarge, "{error}");
    store.append(&journal(), 0, long.slice(1..)).await.expect("the longest");
    assert!(store.get(&journal()).await.expect("get") == long.slice(1..));
}

async fn parts_that_overtake_each_other_find_their_places<S: Store + 'static>(store: Arc<S>) {
    let mut random = Random::new(5);
    let whole = Bytes::from(random.bytes(40_000));
    let mut starts: Vec<usize> = (0..whole.len()).step_by(1000).collect();
    random.shuffle(&mut starts);
    let mut appends = JoinSet::new();
    for start in starts {
        let (store, part) = (Arc::clone(&store), whole.slice(start..start + 1000));
        appends.spawn(async move { store.append(&journal(), start as u64, part).await });
    }
    while let Some(appended) = appends.join_next().await {
        appended.expect("no panic").expect("append");
    }
    assert!(store.get(&journal()).await.expect("get") == whole);
}

async fn what_is_deleted_can_be_brought_back(store: &dyn Store) {
    for name in names_of_every_kind() {
        let content = Bytes::from(name.to_string());
        store.put(&name, content.clone()).await.expect("put");
        store.delete(&name).await.expect("delete");
        assert!(store.get(&name).await.expect_err("gone").is_not_found());
        let folder = folder_of(&name);
        assert_eq!(store.list(&Folder::new(&[&folder])).await.expect("list"), []);
        let (_, named) = ObjectName::parse(name.as_str()).expect("a name");
        let trash = store.trash().await.expect("trash");
        if !is_kept(&named) {
            assert_eq!(trash, [], "{name}");
            continue;
        }
        assert_eq!(trash.len(), 1, "{name}");
        assert_eq!((&trash[0].object.name, &trash[0].object.named), (&name, &named));
        assert_eq!(trash[0].object.bytes, content.len() as u64);
        store.bring_back(&trash[0]).await.expect("brings back");
        assert_eq!(store.get(&name).await.expect("is back"), content);
        assert_eq!(store.trash().await.expect("trash"), []);
    }
}

async fn what_is_there_again_stays(store: &dyn Store) {
    let name = Named::Pack(PackId::new([7; 32])).to_name();
    store.put(&name, Bytes::from_static(b"old")).await.expect("put");
    store.delete(&name).await.expect("delete");
    store.put(&name, Bytes::from_static(b"new")).await.expect("put");
    let trash = store.trash().await.expect("trash");
    store.bring_back(&trash[0]).await.expect("nothing to do");
    assert_eq!(store.get(&name).await.expect("get"), "new");
    store.delete(&name).await.expect("delete");
    store.delete(&name).await.expect("that it is not there is no error");
    assert_eq!(store.trash().await.expect("trash").len(), 1);
}

/// The same name, with the hash of this content where it has one: a store may look.
fn honest(name: &ObjectName, content: &[u8]) -> ObjectName {
    let hash = ObjectHash::new(*blake3::hash(content).as_bytes());
    let (_, named) = ObjectName::parse(name.as_str()).expect("a name");
    match named {
        Named::Pack(_) => pack_of(content),
        Named::Index(session, _) => Named::Index(session, hash).to_name(),
        Named::Point(source, point, _) => Named::Point(source, point, hash).to_name(),
        Named::Layout(source, generation, _) => Named::Layout(source, generation, hash).to_name(),
        Named::Head(source, sequence, _) => Named::Head(source, sequence, hash).to_name(),
        Named::Gc(n, _) => Named::Gc(n, hash).to_name(),
        Named::Bad(n, _) => Named::Bad(n, hash).to_name(),
        Named::Proof(source, time, _) => Named::Proof(source, time, hash).to_name(),
        Named::Format(_)
        | Named::Trust(_)
        | Named::Key(_)
        | Named::Session(_)
        | Named::Fence(_)
        | Named::Journal(..) => name.clone(),
    }
}

fn pack_of(content: &[u8]) -> ObjectName {
    Named::Pack(PackId::new(*blake3::hash(content).as_bytes())).to_name()
}

async fn what_is_put_is_read_and_listed(store: &dyn Store) {
    for (number, name) in names_of_every_kind().into_iter().enumerate() {
        let content = Bytes::from(vec![number as u8; 100 + number]);
        let name = honest(&name, &content);
        store.put(&name, content.clone()).await.expect("put");
        assert_eq!(store.get(&name).await.expect("get"), content, "{name}");
        let folder = folder_of(&name);
        let listed = store.list(&Folder::new(&[&folder])).await.expect("list");
        let (_, named) = ObjectName::parse(name.as_str()).expect("a name");
        assert_eq!(listed.len(), 1, "{folder} holds {name} alone");
        assert_eq!((&listed[0].name, &listed[0].named), (&name, &named));
        assert_eq!(listed[0].bytes, content.len() as u64, "{name}");
    }
}

async fn a_folder_lists_in_order_what_is_below_it_and_nothing_else(store: &dyn Store) {
    let mut random = Random::new(1);
    let (one, other) = (SourceId::new([0x11; 16]), SourceId::new([0x12; 16]));
    let mut names: Vec<ObjectName> = (0..40)
        .map(|n| {
            let source = if n % 2 == 0 { one } else { other };
            honest(&Named::Head(source, random.number() >> 2, ObjectHash::new([n; 32])).to_name(), b"x")
        })
        .collect();
    let others: Vec<ObjectName> = names_of_every_kind()[4..7].iter().map(|name| honest(name, b"x")).collect();
    for name in names.iter().chain(&others) {
        store.put(name, Bytes::from_static(b"x")).await.expect("put");
    }
    names.sort();
    let list = async |folder: Folder| -> Vec<ObjectName> {
        store.list(&folder).await.expect("list").into_iter().map(|listed| listed.name).collect()
    };
    assert_eq!(list(Folder::new(&[&"heads"])).await, names);
    let below = format!("heads/{one}/");
    let of_one: Vec<_> = names.iter().filter(|n| n.as_str().starts_with(&below)).cloned().collect();
    assert_eq!(list(Folder::new(&[&"heads", &one])).await, of_one);
    assert!(
        list(Folder::new(&[&"ledger", &"gc"])).await.is_empty(),
        "a folder to which nobody has written is empty"
    );
}

async fn the_last_put_stands(store: &dyn Store) {
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    for content in [&b"first"[..], b"a longer second", b"3"] {
        store.put(&name, Bytes::copy_from_slice(content)).await.expect("put");
        assert_eq!(store.get(&name).await.expect("get"), content);
        let listed = store.list(&Folder::new(&[&"ledger", &"sessions"])).await.expect("list");
        assert_eq!(listed.iter().map(|l| l.bytes).collect::<Vec<_>>(), [content.len() as u64]);
    }
}

async fn empty_and_large_objects_are_kept(store: &dyn Store) {
    let large = Bytes::from(Random::new(2).bytes(LARGE_BYTES));
    for content in [Bytes::new(), large] {
        let name = pack_of(&content);
        store.put(&name, content.clone()).await.expect("put");
        assert!(store.get(&name).await.expect("get") == content, "{} bytes come back", content.len());
    }
}

async fn ranges_are_exact(store: &dyn Store) {
    let content = Bytes::from(Random::new(3).bytes(10_000));
    let name = pack_of(&content);
    store.put(&name, content.clone()).await.expect("put");
    for (offset, length) in [(0, 1), (0, 10_000), (1, 9_999), (4_096, 4_096), (9_999, 1)] {
        let stretch = Stretch { offset, length };
        let read = store.get_range(&name, stretch).await.expect("within the object");
        assert_eq!(read, content.slice(offset as usize..(offset + length) as usize), "{stretch:?}");
    }
    for (offset, length) in [(0, 10_001), (9_999, 2), (10_000, 1), (1 << 40, 1), (u64::MAX, 2)] {
        let stretch = Stretch { offset, length };
        let error = store.get_range(&name, stretch).await.expect_err("past the end");
        assert_eq!(error.kind, StoreErrorKind::Truncated, "{stretch:?}: {error}");
    }
}

async fn what_is_missing_is_named(store: &dyn Store) {
    // So that the store itself exists.
    store.put(&Named::Trust(1).to_name(), Bytes::from_static(b"x")).await.expect("put");
    for name in names_of_every_kind() {
        let stretch = Stretch { offset: 0, length: 1 };
        let whole = store.get(&name).await.expect_err("missing");
        let range = store.get_range(&name, stretch).await.expect_err("missing");
        for error in [whole, range] {
            assert_eq!((error.kind, error.object.as_str()), (StoreErrorKind::NotFound, name.as_str()));
            assert!(error.to_string().contains(&store.place()), "{error}");
        }
    }
}

async fn what_is_deleted_is_gone(store: &dyn Store) {
    let name = Named::Trust(1).to_name();
    store.delete(&name).await.expect("the absent is deleted already");
    store.put(&name, Bytes::from_static(b"before")).await.expect("put");
    store.delete(&name).await.expect("delete");
    assert_eq!(store.get(&name).await.expect_err("gone").kind, StoreErrorKind::NotFound);
    assert!(store.list(&Folder::new(&[&"trust"])).await.expect("list").is_empty());
    store.delete(&name).await.expect("again");
    store.put(&name, Bytes::from_static(b"after")).await.expect("put");
    assert_eq!(store.get(&name).await.expect("get"), &b"after"[..]);
}

async fn what_is_deleted_together_is_gone_and_the_rest_stays(store: &dyn Store) {
    let names: Vec<ObjectName> = (0..9).map(|n| Named::Trust(n).to_name()).collect();
    for name in &names[..8] {
        store.put(name, Bytes::from_static(b"x")).await.expect("put");
    }
    // The last one is not there.
    store.delete_all(&names[2..]).await.expect("delete");
    let listed = store.list(&Folder::new(&[&"trust"])).await.expect("list");
    assert_eq!(listed.iter().map(|l| &l.name).collect::<Vec<_>>(), [&names[0], &names[1]]);
    store.delete_all(&[]).await.expect("nothing is deleted");
}

async fn many_puts_at_once_all_arrive(store: Arc<dyn Store>) {
    let mut puts = JoinSet::new();
    let content = |n: u64| Bytes::from(n.to_le_bytes().repeat(1 + n as usize % 50));
    for n in 0..PUTS_AT_ONCE {
        let store = Arc::clone(&store);
        puts.spawn(async move { store.put(&Named::Trust(n).to_name(), content(n)).await });
    }
    while let Some(put) = puts.join_next().await {
        put.expect("no panic").expect("put");
    }
    let listed = store.list(&Folder::new(&[&"trust"])).await.expect("list");
    assert_eq!(listed.len() as u64, PUTS_AT_ONCE);
    for n in 0..PUTS_AT_ONCE {
        assert_eq!(store.get(&Named::Trust(n).to_name()).await.expect("get"), content(n));
    }
}

async fn puts_of_one_name_at_once_leave_one_of_them_whole(store: Arc<dyn Store>) {
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    let mut puts = JoinSet::new();
    for n in 0..40u8 {
        let (store, name) = (Arc::clone(&store), name.clone());
        puts.spawn(async move { store.put(&name, Bytes::from(vec![n; 5000 + usize::from(n)])).await });
    }
    while let Some(put) = puts.join_next().await {
        put.expect("no panic").expect("put");
    }
    let content = store.get(&name).await.expect("get");
    assert!(content.iter().all(|byte| *byte == content[0]), "of one put");
    assert_eq!(content.len(), 5000 + usize::from(content[0]), "whole");
}

/// Where a store has glances: what one shows of a folder is what a listing shows, in the same order. In a store of up to
/// [`GLANCE_MAX`] objects it tells of every folder, in a larger one of those whose names come before the packs, and of no other.
async fn a_glance_shows_what_is_listed(store: Arc<dyn Store>) {
    if store.glance().await.expect("a glance").is_none() {
        return;
    }
    for name in names_of_every_kind() {
        store.put(&name, Bytes::from_static(b"content")).await.expect("put");
    }
    let folders: Vec<Folder> =
        names_of_every_kind().iter().map(|name| Folder::new(&[&folder_of(name)])).collect();
    let mut glance = store.glance().await.expect("a glance").expect("it does that");
    for folder in &folders {
        let listed = store.list(folder).await.expect("list");
        assert_eq!(glance.take(folder), Some(listed), "{folder:?}");
    }
    // More than it shows.
    let mut puts = JoinSet::new();
    for n in 0..GLANCE_MAX as u64 {
        let (store, mut id) = (Arc::clone(&store), [0; 32]);
        id[..8].copy_from_slice(&n.to_be_bytes());
        puts.spawn(async move {
            store.put(&Named::Pack(PackId::new(id)).to_name(), Bytes::from_static(b"pack")).await
        });
    }
    while let Some(put) = puts.join_next().await {
        put.expect("a task").expect("put");
    }
    let mut glance = store.glance().await.expect("a glance").expect("it does that");
    for folder in &folders {
        let is_before_packs = folder.as_str() < "packs/";
        let listed = store.list(folder).await.expect("list");
        assert_eq!(glance.take(folder), is_before_packs.then_some(listed), "{folder:?}");
    }
}

/// The folder of one kind of objects.
fn folder_of(name: &ObjectName) -> String {
    let mut parts = name.as_str().split('/');
    let top = parts.next().expect("names have folders");
    match (top, parts.next()) {
        ("ledger", Some(kind)) => format!("{top}/{kind}"),
        _ => top.to_owned(),
    }
}
