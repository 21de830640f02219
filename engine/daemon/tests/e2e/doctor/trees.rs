//! Trees that are protected, and their snapshots and watches.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{captured, examine, examine_into, in_own_mounts, is_root, paste, told_in};
use crate::manual::is_installed;
use crate::mount::Mount;
use crate::outcome::run;
use crate::sandbox::Sandbox;

#[test]
fn a_source_that_is_gone_or_empty_is_told() {
    let sandbox = captured();
    let file = sandbox.source.join("file");
    fs::remove_file(&file).unwrap();
    examine(&sandbox).fix("source data.files", "present", "warning", "its newest point has 2 entries");
    fs::remove_dir(&sandbox.source).unwrap();
    examine(&sandbox).fix("source data.files", "present", "problem", "is not there");
    fs::write(&sandbox.source, "a file").unwrap();
    examine(&sandbox).fix("source data.files", "present", "problem", "is not a directory");
}

#[test]
fn a_file_system_within_a_tree_that_is_not_captured_is_told() {
    let mut sandbox = captured();
    let inside = sandbox.source.join("inside");
    // On a file system in memory nobody keeps anything.
    let Some(_memory) = Mount::tmpfs(&inside, "1m") else { return };
    examine(&sandbox).assert_none("source data.files", "file_systems");
    let image = sandbox.path("image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let disk = sandbox.source.join("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mkfs.ext4 -q {image}; mount -o loop {image} {disk}\n{}",
        examine_into(&sandbox, "before"),
        image = image.display(),
        disk = disk.display()
    );
    if in_own_mounts(&script).is_none() {
        return;
    }
    let lines =
        told_in(&sandbox, "before").fix("source data.files", "file_systems", "warning", "are not captured");
    assert_eq!(lines, format!("[service.disk]\nfiles = {{ path = \"{}\" }}", disk.display()));
    sandbox.more = format!("{lines}\n");
    let script = script.replace("mkfs.ext4 -q", "true").replace("/before", "/after");
    sandbox.write_config();
    in_own_mounts(&script).unwrap();
    told_in(&sandbox, "after").assert_none("source data.files", "file_systems");
}

#[test]
fn more_directories_than_can_be_watched_are_told_with_a_line_that_raises_the_limit() {
    let mut sandbox = captured();
    sandbox.watch = true;
    for n in 0..10 {
        fs::create_dir(sandbox.source.join(format!("folder {n}"))).unwrap();
    }
    let limit = sandbox.path("limit");
    fs::write(&limit, "5\n").unwrap();
    let script = format!(
        "mount --bind {} /proc/sys/fs/inotify/max_user_watches\n{}",
        limit.display(),
        examine_into(&sandbox, "told")
    );
    if !is_root() || in_own_mounts(&script).is_none() {
        return;
    }
    let line = told_in(&sandbox, "told").fix(
        "watching",
        "limits",
        "warning",
        "11 directories are watched, of 5 that are allowed",
    );
    assert!(line.starts_with("printf 'fs.inotify.max_user_watches = 524288\\n' > /etc/sysctl.d/"), "{line}");
}

#[test]
fn snapshots_that_no_source_removes_are_deleted_by_the_printed_lines() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", snapshot = \"btrfs\"";
    let image = sandbox.path("btrfs.img");
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    if !is_root() || !is_installed("mkfs.btrfs") {
        return;
    }
    let mut make = Command::new("mkfs.btrfs");
    make.arg("--quiet").arg(&image);
    run(make).good();
    let Some(_mount) = Mount::image(&image, &sandbox.source) else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    examine(&sandbox).assert_none("snapshots", "left");
    let folder = sandbox.source.join(".backstay");
    // Of this source, which its next capture removes; of one that was renamed; and what is no snapshot.
    for name in ["data.files", "old name.files"] {
        let mut take = Command::new("btrfs");
        take.args(["subvolume", "snapshot", "-r"]).arg(&sandbox.source).arg(folder.join(name));
        run(take).good();
    }
    fs::create_dir(folder.join("mine")).unwrap();
    let told = examine(&sandbox);
    let of_it: Vec<&Value> = told.checks().filter(|found| found["subject"] == "snapshots").collect();
    assert_eq!(of_it.len(), 1, "{of_it:#?}");
    let line = told.fix("snapshots", "left", "warning", "old name.files is a snapshot of no source");
    let (_, line) = line.split_once(": ").unwrap();
    assert_eq!(line, format!("btrfs subvolume delete '{}'", folder.join("old name.files").display()));
    paste(line);
    examine(&sandbox).assert_none("snapshots", "left");
    assert!(folder.join("data.files").exists() && folder.join("mine").exists());
}
