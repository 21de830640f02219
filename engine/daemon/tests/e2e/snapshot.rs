//! Trees that are read from a snapshot of their file system: Btrfs, on a file behind a loop device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, wait_for};
use crate::judge::assert_same;
use crate::mount::Mount;
use crate::outcome::run;
use crate::sandbox::{Sandbox, text};
use crate::systemd::{UNIT, bounded};

/// A node whose source is a Btrfs file system. `None` where mounting is not permitted.
fn on_btrfs() -> Option<(Sandbox, Mount)> {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", snapshot = \"btrfs\"";
    let mount = mounted(&sandbox)?;
    Some((sandbox, mount))
}

fn image(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("btrfs.img")
}

fn mounted(sandbox: &Sandbox) -> Option<Mount> {
    let image = image(sandbox);
    if !image.exists() {
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let mut make = Command::new("mkfs.btrfs");
        make.arg("--quiet").arg(&image);
        run(make).good();
    }
    Mount::image(&image, &sandbox.source)
}

fn btrfs<const N: usize>(arguments: [&str; N], paths: &[&Path]) {
    let mut command = Command::new("btrfs");
    command.args(arguments).args(paths);
    run(command).good();
}

/// Snapshots that are there.
fn left(sandbox: &Sandbox) -> Vec<PathBuf> {
    let folder = fs::read_dir(sandbox.source.join(".backstay")).unwrap();
    folder.map(|entry| entry.unwrap().path()).collect()
}

/// Tells a thread to end, also when a test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_database_in_several_files_is_captured_as_it_was_at_one_moment() {
    let Some((sandbox, _mount)) = on_btrfs() else { return };
    // What is written first is read last, with much to read in between.
    let (log, table) = (sandbox.source.join("z log"), sandbox.source.join("a table"));
    let between = sandbox.source.join("between");
    fs::create_dir(&between).unwrap();
    fs::write(&log, "0").unwrap();
    fs::write(&table, "0").unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1u64.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                for file in [&log, &table] {
                    // In one call: nobody reads half of it.
                    fs::write(file.with_extension("new"), n.to_string()).unwrap();
                    fs::rename(file.with_extension("new"), file).unwrap();
                }
            }
        });
        let _ended = Ended(&end);
        for round in 0..4 {
            for n in 0..300 {
                fs::write(between.join(n.to_string()), format!("{round} {n}")).unwrap();
            }
            sandbox.run(["now"]).good();
            let restored = sandbox.restore(&format!("restored {round}"));
            let number = |path: &Path| -> u64 {
                fs::read_to_string(restored.join(path.file_name().unwrap())).unwrap().parse().unwrap()
            };
            let (log, table) = (number(&log), number(&table));
            assert!(log == table || log == table + 1, "round {round}: log {log}, table {table}");
        }
    });
    assert_eq!(left(&sandbox), Vec::<PathBuf>::new());
    sandbox.check_vault();
}

#[test]
fn what_has_not_changed_is_not_read_again_though_each_snapshot_is_another_device() {
    let Some((sandbox, mount)) = on_btrfs() else { return };
    fs::create_dir(sandbox.source.join("folder")).unwrap();
    fs::write(sandbox.source.join("folder/file"), vec![7; 100_000]).unwrap();
    fs::hard_link(sandbox.source.join("folder/file"), sandbox.source.join("other name")).unwrap();
    fs::write(sandbox.source.join("small"), "contents").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(sandbox.capture().read_bytes > 100_000);
    assert_same_but_the_folder(&sandbox, "first");
    // What was read in the moment in which it was written is read once more.
    sandbox.capture();
    let again = sandbox.capture();
    assert_eq!((again.is_new, again.read_bytes), (false, 0));
    // Mounted from another loop device, as after a boot.
    let held = sandbox.path("held.img");
    fs::File::create(&held).unwrap().set_len(1 << 20).unwrap();
    drop(mount);
    let mut hold = Command::new("losetup");
    hold.args(["--find", "--show"]).arg(&held);
    let device = run(hold).good().text().trim().to_owned();
    let _mount = mounted(&sandbox).unwrap();
    let after = sandbox.capture();
    let mut release = Command::new("losetup");
    release.arg("--detach").arg(&device);
    run(release).good();
    assert_eq!((after.is_new, after.read_bytes), (false, 0));
    let differences = sandbox.run(["diff", "data", "--json"]).good().text();
    assert_eq!(differences.lines().count(), 0, "{differences}");
}

fn assert_same_but_the_folder(sandbox: &Sandbox, name: &str) {
    let folder = sandbox.source.join(".backstay");
    assert_eq!(left(sandbox), Vec::<PathBuf>::new());
    fs::remove_dir(&folder).unwrap();
    // That is a change of the root, and so is what makes it again.
    let restored = sandbox.restore(name);
    let time = fs::metadata(&restored).unwrap().modified().unwrap();
    fs::File::open(&sandbox.source).unwrap().set_modified(time).unwrap();
    assert_same(&sandbox.source, &restored);
}

#[test]
fn what_a_crash_has_left_is_removed_and_what_is_no_part_of_the_snapshot_is_told() {
    let Some((mut sandbox, _mount)) = on_btrfs() else { return };
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    // A vault in the tree is no part of it.
    sandbox.vault = sandbox.source.join("vault");
    sandbox.run(["now"]).good();
    let folder = sandbox.source.join(".backstay");
    btrfs(["subvolume", "snapshot", "-r"], &[&sandbox.source, &folder.join("data.files")]);
    assert_eq!(left(&sandbox).len(), 1);
    sandbox.run(["now"]).good();
    assert_eq!(left(&sandbox), Vec::<PathBuf>::new());
    btrfs(["subvolume", "create"], &[&sandbox.source.join("other")]);
    fs::write(sandbox.source.join("other/file"), "of it nothing is captured").unwrap();
    sandbox.run(["now"]).refused(3, &["other: a Btrfs subvolume of its own", "a source of its own"]);
    let found = sandbox.run(["find", "data", "*"]).good().text();
    assert!(!found.contains("packs") && !found.contains(".backstay"), "{found}");
    sandbox.source_lines = ", snapshot = \"btrfs\", exclude = [\"other\"]";
    sandbox.run(["now"]).good();
    sandbox.source_lines = "";
    sandbox.run(["now"]).refused(3, &["other: a Btrfs subvolume of its own"]);
}

#[test]
fn making_snapshots_is_no_change_that_brings_captures() {
    let Some((mut sandbox, _mount)) = on_btrfs() else { return };
    sandbox.watch = true;
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    let last_point = || daemon.flow("data.files", "local")["last_point"].clone();
    let captures = || daemon.figure("backstay_store_requests_total").unwrap_or_default();
    wait_for("the first point", || !last_point().is_null());
    let mut n = 0;
    let first = last_point();
    wait_for("the watch", || {
        n += 1;
        fs::write(sandbox.source.join("file"), n.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        last_point() != first
    });
    std::thread::sleep(Duration::from_secs(3));
    let before = (last_point(), captures());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((last_point(), captures()), before);
    fs::write(sandbox.source.join("file"), "one more").unwrap();
    wait_for("a change", || last_point() != before.0);
    daemon.running.terminate().good();
    assert_eq!(left(&sandbox), Vec::<PathBuf>::new());
}

#[test]
fn doctor_knows_what_a_snapshot_takes_and_what_it_is_good_for() {
    let Some((mut sandbox, _mount)) = on_btrfs() else { return };
    let finding = |sandbox: &Sandbox, check: &str| {
        let mut command = sandbox.command(["doctor", "--json"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let told = run(command).json();
        let of_source = |one: &&Value| one["check"] == check && one["subject"] == "source data.files";
        told["checks"].as_array().unwrap().iter().find(of_source).cloned().unwrap_or_default()
    };
    assert_eq!(finding(&sandbox, "snapshot")["level"], "ok");
    // A header is what they are known by.
    fs::write(sandbox.source.join("app.db"), [b"SQLite format 3\0".as_slice(), &[0; 496]].concat()).unwrap();
    assert_eq!(finding(&sandbox, "sqlite")["level"], "ok", "it is read from a snapshot");
    sandbox.source_lines = "";
    let told = finding(&sandbox, "sqlite");
    assert_eq!(
        (text(&told["level"]).as_str(), text(&told["fix"]).as_str()),
        ("warning", "snapshot = \"btrfs\"")
    );
    let mut other = Sandbox::new();
    other.source_lines = ", snapshot = \"btrfs\"";
    let told = finding(&other, "snapshot");
    assert_eq!(told["level"], "problem");
    assert!(text(&told["what"]).contains("is not on Btrfs"), "{told}");
}

#[test]
fn what_is_mounted_in_a_subvolume_is_neither_taken_for_a_part_of_it_nor_for_a_subvolume_of_its_own() {
    let Some((mut sandbox, _mount)) = on_btrfs() else { return };
    let (top, elsewhere) = (sandbox.source.clone(), sandbox.path("elsewhere"));
    fs::create_dir_all(elsewhere.join("data")).unwrap();
    for name in ["bound", "other"] {
        fs::create_dir(top.join(name)).unwrap();
    }
    fs::write(top.join("file"), "contents").unwrap();
    // A directory of the same file system, and another subvolume, mounted where a path goes through the top.
    fs::create_dir_all(top.join("somewhere/below")).unwrap();
    fs::write(top.join("somewhere/below/file"), "contents").unwrap();
    btrfs(["subvolume", "create"], &[&top.join("sub")]);
    let bound = Mount::bind(&top.join("somewhere/below"), &top.join("bound")).unwrap();
    let other = Mount::bind(&top.join("sub"), &top.join("other")).unwrap();
    sandbox.source_lines = ", exclude = [\"sub\"]";
    sandbox.run(["now"]).good();
    sandbox.source_lines = ", snapshot = \"btrfs\"";
    sandbox.source = top.join("bound");
    sandbox.run(["now"]).refused(1, &["no snapshot of", "no part of the subvolume"]);
    assert_eq!(fs::read_dir(top.join(".backstay")).unwrap().count(), 0);
    drop((bound, other));
    // Others could put something else in the place of what root deletes.
    sandbox.source = top.clone();
    fs::set_permissions(&top, fs::Permissions::from_mode(0o777)).unwrap();
    sandbox.run(["now"]).refused(1, &["others than the user of the daemon can write to"]);
}

#[test]
fn a_snapshot_that_is_taken_away_while_it_is_read_makes_no_point_in_which_everything_is_gone() {
    let Some((sandbox, _mount)) = on_btrfs() else { return };
    for folder in 0..60 {
        fs::create_dir(sandbox.source.join(format!("{folder:02}"))).unwrap();
        for file in 0..50 {
            fs::write(sandbox.source.join(format!("{folder:02}/{file}")), vec![folder; 20_000]).unwrap();
        }
    }
    let snapshot = sandbox.source.join(".backstay/data.files");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the snapshot", || snapshot.exists());
            std::thread::sleep(Duration::from_millis(50));
            btrfs(["subvolume", "delete"], &[&snapshot]);
        });
        sandbox.run(["now"]).refused(1, &[]);
    });
    assert_eq!(sandbox.points(), Vec::<String>::new());
    sandbox.run(["now"]).good();
    let restored = sandbox.restore("restored");
    assert_eq!(fs::read_dir(&restored).unwrap().count(), 60);
    assert_eq!(fs::read(restored.join("59/49")).unwrap(), vec![59; 20_000]);
}

#[test]
fn snapshots_of_one_source_are_no_change_of_another_around_it() {
    let Some((mut sandbox, _mount)) = on_btrfs() else { return };
    fs::create_dir(sandbox.source.join("db")).unwrap();
    fs::write(sandbox.source.join("db/file"), "contents").unwrap();
    sandbox.source_lines = "";
    let path = sandbox.source.join("db");
    sandbox.more =
        format!("[service.db]\nfiles = {{ path = {path:?}, snapshot = \"btrfs\", watch = false }}\n");
    sandbox.watch = true;
    let daemon = Daemon::start(&mut sandbox);
    let last_point = |source: &str| daemon.flow(source, "local")["last_point"].clone();
    wait_for("the first points", || !last_point("data.files").is_null() && !last_point("db.files").is_null());
    std::thread::sleep(Duration::from_secs(3));
    let before = last_point("data.files");
    for _ in 0..3 {
        sandbox.run(["now", "db"]).good();
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(last_point("data.files"), before);
    let found = sandbox.run(["find", "data", "*"]).good().text();
    assert!(!found.contains(".backstay"), "{found}");
    daemon.running.terminate().good();
}

#[test]
fn where_no_snapshot_can_be_made_nothing_is_captured_and_it_is_said_why() {
    let mut sandbox = Sandbox::new();
    sandbox.source_lines = ", snapshot = \"btrfs\"";
    sandbox.run(["now"]).refused(1, &["no snapshot of", "is not on Btrfs", "take `snapshot"]);
    sandbox.source_lines = ", snapshot = \"btrfs\", one_file_system = false";
    sandbox.run(["now"]).refused(2, &["nothing in it of other file systems", "leave `one_file_system` true"]);
    sandbox.source_lines = ", snapshot = \"lvm\"";
    sandbox.run(["now"]).refused(2, &["\"lvm\" is not possible here", "btrfs"]);
    let Some((sandbox, _mount)) = on_btrfs() else { return };
    run(bounded(&sandbox, &[UNIT, "drop-ins/snapshots.conf"], &["now"])).good();
    assert_eq!(left(&sandbox), Vec::<PathBuf>::new());
    let mut command = sandbox.command(["now"]);
    command.env("PATH", "/nowhere");
    run(command).refused(1, &["no program `btrfs`", "btrfs-progs"]);
    fs::remove_dir(sandbox.source.join(".backstay")).unwrap();
    fs::write(sandbox.source.join(".backstay"), "of somebody").unwrap();
    sandbox.run(["now"]).refused(1, &[".backstay", "remove it"]);
}
