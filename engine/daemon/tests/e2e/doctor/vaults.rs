//! Vaults: their disks, their room, and whether they are reached.

use std::fs;
use std::time::{Duration, Instant};

use super::{captured, examine, examine_into, in_own_mounts, is_root, own_etc, paste, told_in};
use crate::hanging::{hang_index, let_go};
use crate::mount::Mount;
use crate::sandbox::Sandbox;

#[test]
fn another_disk_in_the_place_of_a_vault_and_one_that_is_full_are_told() {
    let mut sandbox = captured();
    let other = captured();
    let right = std::mem::replace(&mut sandbox.vault, other.vault.clone());
    examine(&sandbox).fix("vault local", "opens", "problem", "another disk is mounted there");
    sandbox.vault = right;

    let disk = sandbox.path("disk");
    let Some(_disk) = Mount::tmpfs(&disk, "1m") else { return };
    // Where something else lies, no vault is made, and the line says where one can be.
    let line = {
        let other = disk.join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "").unwrap();
        sandbox.more = format!("[vault.full]\nkind = \"dir\"\npath = \"{}\"\n", other.display());
        examine(&sandbox).fix("vault full", "opens", "problem", "and no vault")
    };
    sandbox.more = format!("[vault.full]\nkind = \"dir\"\n{line}\n");
    examine(&sandbox).assert_level("vault full", "opens", "note");
    sandbox.more = format!("[vault.full]\nkind = \"dir\"\npath = \"{}\"\n", disk.join("vault").display());
    fs::write(disk.join("filler"), vec![1; 1_020_000]).unwrap();
    let advice = examine(&sandbox).fix("vault full", "room", "problem", "are free");
    assert!(advice.contains("vault prune full") && advice.contains("df -h"), "{advice}");
}

#[test]
fn a_vault_that_is_gone_is_missed_and_a_new_one_is_not() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let line = examine(&sandbox).fix("vault local", "opens", "note", "it was not made yet");
    paste(&line);
    examine(&sandbox).assert_level("vault local", "opens", "ok");
    sandbox.capture();

    let away = sandbox.path("away");
    fs::rename(&sandbox.vault, &away).unwrap();
    for make in [false, true] {
        if make {
            fs::create_dir(&sandbox.vault).unwrap();
        }
        let told = examine(&sandbox);
        told.fix("vault local", "mounted", "problem", "lsblk -f");
        told.fix("vault local", "mounted", "problem", "most likely its disk is not mounted");
        told.assert_none("source data.files", "disks");
    }
    fs::remove_dir(&sandbox.vault).unwrap();
    fs::rename(&away, &sandbox.vault).unwrap();
    examine(&sandbox).assert_level("vault local", "opens", "ok");

    // One whose directory is not there can be made where its line says so.
    sandbox.more =
        format!("[vault.other]\nkind = \"dir\"\npath = \"{}\"\n", sandbox.path("a/b/vault").display());
    let line = examine(&sandbox).fix("vault other", "present", "problem", "is not there");
    assert_eq!(line, format!("mkdir -p {}", sandbox.path("a/b").display()));
    paste(&line);
    examine(&sandbox).assert_level("vault other", "present", "ok");
}

#[test]
fn copies_beside_the_source_are_warned_of() {
    let mut sandbox = captured();
    let lines = examine(&sandbox).fix("source data.files", "disks", "warning", "its only copies, in local");
    // What is pasted is valid.
    sandbox.more = format!("{lines}\n");
    sandbox.run(["check-config"]).good();
    sandbox.more = format!("[vault.second]\nkind = \"dir\"\npath = \"{}\"\n", sandbox.vault.display());
    sandbox.targets = r#"["local", "second"]"#;
    examine(&sandbox).fix("configuration", "vaults", "problem", "have one directory");
}

#[test]
fn state_in_memory_and_a_vault_that_is_mounted_for_reading_only_are_problems() {
    let mut sandbox = captured();
    let disk = sandbox.path("disk");
    let Some(_mount) = Mount::tmpfs(&disk, "16m") else { return };
    let state = std::mem::replace(&mut sandbox.state, disk.join("state"));
    examine(&sandbox).fix("state", "medium", "problem", "gone when this host is booted");
    sandbox.state = state;
    let Some(_read_only) = Mount::read_only(&sandbox.vault) else { return };
    let line = examine(&sandbox).fix("vault local", "writing", "problem", "for reading only");
    let line = line.split_once("If it is sound: ").unwrap().1;
    assert_eq!(line, format!("mount -o remount,rw {}", sandbox.vault.display()));
    paste(line);
    examine(&sandbox).assert_level("vault local", "writing", "ok");
}

#[test]
fn a_disk_that_fstab_knows_is_mounted_by_the_printed_line() {
    let mut sandbox = Sandbox::new();
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).unwrap();
    sandbox.vault = disk.join("vault");
    let fstab = sandbox.path("fstab");
    fs::write(&fstab, format!("backstay-e2e {} tmpfs mode=755,nofail 0 0\n", disk.display())).unwrap();
    let line = format!("mount {}", disk.display());
    let script = format!(
        "{}cp {} /etc/fstab\n{}{line}\n{}",
        own_etc(&sandbox),
        fstab.display(),
        examine_into(&sandbox, "before"),
        examine_into(&sandbox, "after")
    );
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    let before = told_in(&sandbox, "before");
    assert_eq!(before.fix("vault local", "mounted", "problem", "is not mounted"), line);
    let after = told_in(&sandbox, "after");
    after.assert_none("vault local", "mounted");
    after.fix("vault local", "medium", "problem", "it lies in memory");
}

#[test]
fn a_vault_that_hangs_is_given_up_and_everything_else_is_told() {
    let mut sandbox = captured();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    sandbox.run(["now"]).good();
    let hanging = hang_index(&usb);
    let start = Instant::now();
    let told = examine(&sandbox);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let_go(&hanging);
    told.fix("vault usb", "opens", "problem", "no answer within 20s");
    told.assert_level("vault local", "opens", "ok");
    told.assert_level("flow data.files to local", "exposure", "ok");
    told.assert_level("flow data.files to usb", "exposure", "warning");
}

#[test]
fn a_file_system_that_hangs_holds_nothing_up() {
    let mut sandbox = captured();
    // One whose server never says a word, with a tree, a vault, a secret, and the home of who looks, where the recovery key
    // would be.
    let hung = sandbox.path("hung");
    fs::create_dir(&hung).unwrap();
    sandbox.more = format!(
        "[service.far]\nto = [\"local\"]\nfiles = {{ path = \"{hung}\" }}\ncommand.dump = {{ run = [\"true\"], rpo = \"24h\", secrets = {{ PW = \"file:{hung}/pw\" }} }}\n[vault.far]\nkind = \"dir\"\npath = \"{hung}/vault\"\n",
        hung = hung.display()
    );
    let script = format!(
        "exec 3<>/dev/fuse\nmount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent {0}\nexport HOME={0}\n{1}",
        hung.display(),
        examine_into(&sandbox, "told")
    );
    let start = Instant::now();
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    assert!(start.elapsed() < Duration::from_secs(75), "{:?}", start.elapsed());
    let told = told_in(&sandbox, "told");
    told.assert_level("secrets", "there", "warning");
    for subject in ["source far.files", "vault far"] {
        told.fix(subject, "present", "problem", "does not answer within 20s");
    }
    told.assert_level("vault local", "opens", "ok");
    told.assert_level("source data.files", "readable", "ok");
    told.assert_level("flow data.files to local", "exposure", "ok");
}
