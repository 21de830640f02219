//! Single operations: what they do, and what they say when they cannot.

use backstay_zfs::error::{Refusal, ZfsError};
use backstay_zfs::name::{BookmarkName, HoldTag, SnapshotName};
use backstay_zfs::zfs::{Kept, Zfs};

use crate::pools::{Pools, name, zfs};

fn shot(text: &str) -> SnapshotName {
    SnapshotName::parse(text).unwrap()
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_set_is_taken_in_one_transaction_group_or_not_at_all() {
    let pools = Pools::new();
    let (a, b) = (format!("{}/m/a", pools.source), format!("{}/m/b", pools.source));
    zfs().snapshot(&[shot(&format!("{a}@one")), shot(&format!("{b}@one"))]).unwrap();
    let listed = zfs().list(&pools.what.root).unwrap();
    assert_eq!(listed[1].snapshots[0].txg, listed[2].snapshots[0].txg);
    let refused = zfs().snapshot(&[shot(&format!("{a}@two")), shot(&format!("{b}@one"))]);
    assert!(matches!(refused, Err(ZfsError::Refused { refusal: Refusal::EXISTS, .. })), "{refused:?}");
    assert_eq!(zfs().list(&name(&a)).unwrap()[0].snapshots.len(), 1);
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn holds_and_bookmarks_are_made_and_undone_as_often_as_one_likes() {
    let pools = Pools::new();
    let a = format!("{}/m/a", pools.source);
    let (one, tag) = (shot(&format!("{a}@one")), HoldTag::found("backstay_0123456789abcdef"));
    zfs().snapshot(std::slice::from_ref(&one)).unwrap();
    for _ in 0..2 {
        zfs().hold(&one, &tag).unwrap();
    }
    assert_eq!(zfs().holds(&one).unwrap(), std::slice::from_ref(&tag));
    assert_eq!(zfs().list(&name(&a)).unwrap()[0].snapshots[0].holds, 1);
    let kept = zfs().destroy_snapshots(&[one.clone(), shot(&format!("{a}@never"))]).unwrap();
    assert_eq!(kept, [Kept { snapshot: one.clone(), by: Refusal::BUSY }]);
    let missing = zfs().hold(&shot(&format!("{a}@never")), &tag);
    assert!(matches!(missing, Err(ZfsError::Refused { refusal: Refusal::NOT_FOUND, .. })), "{missing:?}");
    for _ in 0..2 {
        zfs().release(&one, &tag).unwrap();
    }
    let mark = BookmarkName::parse(&format!("{a}#one")).unwrap();
    for _ in 0..2 {
        zfs().bookmark(&one, &mark).unwrap();
    }
    let listed = zfs().list(&name(&a)).unwrap().remove(0);
    assert_eq!(
        (listed.bookmarks[0].guid, listed.bookmarks[0].txg),
        (listed.snapshots[0].guid, listed.snapshots[0].txg)
    );
    assert!(zfs().destroy_snapshots(std::slice::from_ref(&one)).unwrap().is_empty());
    for _ in 0..2 {
        zfs().destroy_bookmarks(std::slice::from_ref(&mark)).unwrap();
    }
    let gone = zfs().list(&name(&format!("{a}/none"))).unwrap();
    assert!(gone.is_empty());
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn what_was_written_is_counted_after_a_sync() {
    let pools = Pools::new();
    let a = format!("{}/m/a", pools.source);
    zfs().snapshot(&[shot(&format!("{a}@one"))]).unwrap();
    assert_eq!(zfs().list(&name(&a)).unwrap()[0].written_bytes, 0);
    pools.write("a", "file", 512);
    zfs().sync(&pools.source).unwrap();
    assert!(zfs().list(&name(&a)).unwrap()[0].written_bytes > 256 << 10);
    assert!(zfs().written_since(&shot(&format!("{a}@one"))).unwrap() > 256 << 10);
    let pool = zfs().pool(&pools.source).unwrap();
    assert!(pool.features.contains(&"bookmark_v2".to_owned()) && !pool.is_suspended);
}
