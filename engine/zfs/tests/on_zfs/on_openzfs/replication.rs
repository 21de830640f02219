//! Keeping replicas of a tree.

use backstay_zfs::error::Class;
use backstay_zfs::name::OwnSnapshot;
use backstay_zfs::plan::Conflict;
use backstay_zfs::replicate::Outcome;
use backstay_zfs::state::DatasetKind;
use backstay_zfs::token::Token;
use backstay_zfs::zfs::{Form, Zfs};

use crate::dying::Life;
use crate::pools::{Pools, name, sh, zfs};

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_tree_is_replicated_and_kept_up() {
    let mut pools = Pools::new();
    pools.write("a", "file", 700);
    sh(&format!(
        "cd {}; mkdir d; ln a/file d/../hard 2>/dev/null || ln b hard || true; ln -s x d/link; setfattr -n user.k -v v d; truncate -s 5M d/sparse; echo x > d/f; chmod 600 d/f",
        pools.path("b").display()
    ));
    sh(&format!("zfs create -V 8M -s {}/m/vol", pools.source));
    let first = pools.snapshot();
    assert_eq!(pools.replicate_all().complete, Some(first));
    for round in 0..3 {
        pools.write("a", "file", 300 + round);
        pools.write("b", &format!("d/new{round}"), 50);
        let set = pools.snapshot();
        let report = pools.replicate_all();
        assert_eq!(report.complete, Some(set));
        assert!(report.sent_bytes < 2 << 20, "{} bytes: fulls were sent", report.sent_bytes);
    }
    assert_eq!(pools.replicate_all().sent_bytes, 0);
    let kinds: Vec<_> = zfs().list(&pools.place()).unwrap().iter().map(|replica| replica.kind).collect();
    assert!(kinds.contains(&DatasetKind::Volume));
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn encrypted_datasets_are_replicated_to_a_host_without_the_key() {
    let mut pools = Pools::new();
    let (source, holder) = (pools.source.clone(), pools.holder.clone());
    sh(&format!("echo 12345678 | zfs create -o encryption=on -o keyformat=passphrase {source}/m/secret"));
    pools.write("secret", "file", 300);
    pools.snapshot();
    let done = |pools: &Pools| {
        let report = pools.replicate();
        assert!(report.is_done(), "{report:?}");
    };
    done(&pools);
    pools.write("secret", "other", 300);
    pools.snapshot();
    done(&pools);
    let replica = format!("{holder}/held/m/secret");
    assert_eq!(sh(&format!("zfs get -Hp -o value keystatus {replica}")).trim(), "unavailable");
    // The key is not there; with it, all is as at the source.
    sh(&format!("echo 12345678 | zfs load-key {replica}"));
    pools.assert_alike();
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_clone_arrives_as_a_clone_and_a_renamed_dataset_takes_its_replica_along() {
    let mut pools = Pools::new();
    pools.write("a", "file", 300);
    let first = pools.snapshot();
    pools.replicate_all();
    sh(&format!("zfs clone {s}/m/a@{first} {s}/m/clone; zfs rename {s}/m/b {s}/m/a/moved", s = pools.source));
    pools.write("clone", "more", 100);
    pools.snapshot();
    let sent = pools.replicate_all().sent_bytes;
    assert!(sent < 1 << 20, "{sent} bytes: fulls were sent");
    let origin = sh(&format!("zfs get -Hp -o value origin {}/held/m/clone", pools.holder));
    assert_eq!(origin.trim(), format!("{}/held/m/a@{first}", pools.holder));
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_stream_that_breaks_off_goes_on_where_it_was() {
    let mut pools = Pools::new();
    pools.write("a", "file", 4000);
    let set = pools.snapshot();
    let a = format!("{}/held/m/a", pools.holder);
    let _ = pools.try_replicate(Life::of_stream(2 << 20));
    let token = zfs().list(&name(&a)).unwrap().remove(0).resume_token;
    let token = Token::parse(&token.unwrap()).unwrap();
    let member = zfs().list(&name(&format!("{}/m/a", pools.source))).unwrap().remove(0);
    assert_eq!((token.to, token.from), (member.newest().unwrap().guid, None));
    assert_eq!((token.form, token.resume.object > 0), (Some(Form::Plain), true));
    let report = pools.replicate_all();
    assert_eq!(report.complete, Some(set));
    assert!(report.sent_bytes < 3 << 20, "{} bytes were sent again", report.sent_bytes);
}

/// zrepl #644, #431: a token whose snapshot is gone blocks a file system until somebody aborts the receive by hand.
#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_resume_token_of_a_snapshot_that_is_gone_is_thrown_away() {
    let mut pools = Pools::new();
    pools.write("a", "small", 10);
    pools.snapshot();
    pools.replicate_all();
    pools.write("a", "file", 4000);
    let lost = pools.snapshot();
    let a = format!("{}/held/m/a", pools.holder);
    let _ = pools.try_replicate(Life::of_stream(2 << 20));
    assert!(zfs().list(&name(&a)).unwrap()[0].resume_token.is_some());
    let gone = lost.of(&name(&format!("{}/m/a", pools.source))).unwrap();
    for tag in zfs().holds(&gone).unwrap() {
        zfs().release(&gone, &tag).unwrap();
    }
    assert!(zfs().destroy_snapshots(&[gone]).unwrap().is_empty());
    pools.snapshot();
    pools.replicate_all();
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_death_at_a_step_is_repaired_by_the_next_run() {
    let mut pools = Pools::new();
    pools.write("a", "file", 600);
    pools.snapshot();
    pools.replicate_all();
    for things in (5..).step_by(23) {
        pools.write("a", "file", 600);
        pools.write("b", "file", 10);
        pools.snapshot();
        let life = Life::of(things);
        let outcome = pools.try_replicate(life.clone());
        if !life.is_over() {
            assert!(outcome.unwrap().is_done());
            assert!(things > 30, "only {things} things were done: something is not counted");
            break;
        }
        pools.replicate_all();
    }
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_replica_that_was_mounted_and_written_to_is_a_conflict_and_left_alone() {
    let mut pools = Pools::new();
    pools.write("a", "file", 100);
    pools.snapshot();
    pools.replicate_all();
    let (a, at) = (format!("{}/held/m/a", pools.holder), pools.path("").join("../../there"));
    let at = at.display();
    sh(&format!(
        "zfs set readonly=off {a}; zfs set mountpoint={at} {a}; zfs mount {a}; echo mine > {at}/mine; sync; zfs unmount {a}"
    ));
    pools.write("a", "file", 200);
    pools.snapshot();
    let report = pools.replicate();
    let conflict = report.members.iter().find(|(member, _)| member.as_str().ends_with("/a"));
    assert!(matches!(conflict, Some((_, Outcome::Conflict(Conflict::Modified { .. })))), "{report:?}");
    sh(&format!("zfs mount {a}; grep -q mine {at}/mine; zfs unmount {a}"));
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn a_full_pool_is_told_by_name_and_goes_on_when_there_is_room() {
    let mut pools = Pools::new();
    pools.write("a", "file", 3000);
    pools.snapshot();
    sh(&format!("zfs set quota=1M {}/held", pools.holder));
    let report = pools.replicate();
    let failed = report.members.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(error) => Some(error),
        _ => None,
    });
    let failed = failed.expect("it does not fit");
    assert_eq!(failed.class(), Class::Operator, "{failed}");
    assert!(failed.to_string().contains("quota") || failed.to_string().contains("room"), "{failed}");
    sh(&format!("zfs set quota=none {}/held", pools.holder));
    pools.replicate_all();
}

#[test]
#[ignore = "needs OpenZFS: cargo xtask test zfs"]
fn the_replica_of_a_dataset_that_was_made_anew_is_set_aside() {
    let mut pools = Pools::new();
    pools.write("a", "file", 100);
    pools.snapshot();
    pools.replicate_all();
    let a = format!("{}/m/a", pools.source);
    sh(&format!(
        "zfs list -H -t snapshot -o name {a} | while read s; do zfs holds -H $s | while read n t r; do zfs release $t $s; done; done; zfs destroy -r {a}; zfs create {a}"
    ));
    pools.write("a", "anew", 100);
    pools.snapshot();
    pools.replicate_all();
    let aside = zfs().list(&name(&format!("{}/held/backstay-aside", pools.holder))).unwrap();
    assert_eq!(aside.len(), 2);
    assert!(aside[1].snapshots.iter().all(|shot| OwnSnapshot::parse(&shot.mark).is_some()));
}
