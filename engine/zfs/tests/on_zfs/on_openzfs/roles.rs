//! A replica takes over, and what was the source comes back as its replica.

use std::sync::Arc;
use std::time::Instant;

use backstay_core::units::Timestamp;
use backstay_zfs::name::{FlowTarget, OwnSnapshot, SnapshotName};
use backstay_zfs::replicate::{LocalHolder, Progress, Replication, replicate};
use backstay_zfs::role::{MountAt, RoleError, activate, yield_to};
use backstay_zfs::zfs::Zfs;

use crate::pools::{Pools, name, sh, zfs};

/// The other way round.
fn replicate_back(pools: &Pools) -> u64 {
    let what = Replication {
        root: pools.place(),
        target: FlowTarget::Replica("one".to_owned()),
        ..pools.what.clone()
    };
    let clock = || Timestamp::from_seconds(1_800_000_000);
    let holder = LocalHolder::new(Arc::new(zfs()), pools.what.root.clone(), clock);
    let report = replicate(&zfs(), &holder, &what, &Progress::default()).unwrap();
    assert!(report.is_done(), "{report:?}");
    report.sent_bytes
}

fn snapshot_there(pools: &Pools) {
    let own = OwnSnapshot { at: Timestamp::from_seconds(1_799_000_000), set: 77 };
    let members = zfs().list(&pools.place()).unwrap();
    let names: Vec<_> = members.iter().map(|member| own.of(&member.name).unwrap()).collect();
    zfs().snapshot(&names).unwrap();
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_replica_takes_over_and_what_was_the_source_comes_back_without_a_full_send() {
    let mut pools = Pools::new();
    pools.write("a", "file", 2000);
    pools.write("b", "file", 2000);
    pools.snapshot();
    pools.replicate_all();
    pools.write("b", "later", 100);
    let whole = pools.snapshot();
    pools.replicate_all();
    // What is never sent, in a snapshot and in none.
    pools.write("a", "unsent", 50);
    pools.snapshot();
    pools.write("b", "unwritten", 50);
    zfs().sync(&pools.source).unwrap();
    let source = pools.what.root.clone();

    let begun = Instant::now();
    let at = pools.path("").join("../../taken-over");
    let activated = activate(&zfs(), &pools.place(), &MountAt::Path(at.clone())).unwrap();
    sh(&format!("echo new > {}/b/written-there", at.display()));
    println!("active, mounted and written to after {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!((activated.set, activated.kept), (whole, None));
    sh(&format!("cmp {}/a/file {}/file", at.display(), pools.path("a").display()));
    snapshot_there(&pools);

    let yielded = yield_to(&zfs(), &source, whole).unwrap();
    let sent = replicate_back(&pools);

    assert!(sent < 1 << 20, "{sent} bytes: fulls were sent");
    let there = zfs().list(&pools.place()).unwrap();
    for (back, primary) in zfs().list(&source).unwrap().iter().zip(&there) {
        assert_eq!(back.newest().unwrap().guid, primary.newest().unwrap().guid, "{}", back.name);
        assert!(!back.is_mounted);
        let of = |dataset: &backstay_zfs::state::Dataset| {
            SnapshotName::new(&dataset.name, &dataset.newest().unwrap().mark).unwrap()
        };
        pools.assert_same_contents(&of(primary), &of(back));
    }
    // Nothing of what the other side never had is lost.
    let kept = yielded.kept.unwrap();
    for (below, file) in [("a", "unsent"), ("b", "unwritten")] {
        let aside = zfs().list(&kept.join(below).unwrap()).unwrap().remove(0);
        let newest = SnapshotName::new(&aside.name, &aside.newest().unwrap().mark).unwrap();
        assert!(pools.listing(&newest).contains(file), "{newest} has no {file}");
        // It must not be mounted over what has taken its place when the host starts again.
        assert_eq!(sh(&format!("zfs get -Hp -o value canmount,mounted {}", aside.name)), "noauto\nno\n");
    }
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn an_encrypted_replica_takes_over_when_its_key_is_loaded_and_comes_back_raw() {
    let mut pools = Pools::new();
    let source = pools.source.clone();
    sh(&format!("echo 12345678 | zfs create -o encryption=on -o keyformat=passphrase {source}/m/secret"));
    pools.write("secret", "file", 300);
    let whole = pools.snapshot();
    assert!(pools.replicate().is_done());
    pools.write("secret", "unsent", 10);
    zfs().sync(&source).unwrap();
    let at = pools.path("").join("../../taken-over");

    let refused = activate(&zfs(), &pools.place(), &MountAt::Path(at.clone()));
    let secret = name(&format!("{}/secret", pools.place()));
    assert!(
        matches!(&refused, Err(RoleError::KeysMissing(missing)) if *missing == [secret.clone()]),
        "{refused:?}"
    );
    sh(&format!("echo 12345678 | zfs load-key {secret}"));
    activate(&zfs(), &pools.place(), &MountAt::Path(at.clone())).unwrap();
    sh(&format!(
        "cmp {}/secret/file {}/file; echo new > {}/secret/new",
        at.display(),
        pools.path("secret").display(),
        at.display()
    ));
    snapshot_there(&pools);

    let kept = yield_to(&zfs(), &pools.what.root, whole).unwrap().kept;
    let sent = replicate_back(&pools);

    assert!(sent < 200 << 10, "{sent} bytes: fulls were sent");
    assert!(kept.is_some());
    let back = zfs().list(&name(&format!("{source}/m/secret"))).unwrap().remove(0);
    let primary = zfs().list(&secret).unwrap().remove(0);
    assert_eq!(back.newest().unwrap().guid, primary.newest().unwrap().guid);
    assert!(back.encryption.is_some());
}
