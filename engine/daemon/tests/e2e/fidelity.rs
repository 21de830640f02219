//! What is restored is what was captured: every type of file, all metadata, after every kind of edit, in the eyes
//! of other tools.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backstay_testkit::random::Random;

use crate::judge::{Picture, assert_same};
use crate::mount::Mount;
use crate::sandbox::Sandbox;
use crate::tree;

#[test]
fn everything_comes_back_as_it_was_at_each_point() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    let before = Picture::of(&sandbox.source);
    assert!(before.len() > 1500, "the tree has only {} entries", before.len());
    for (tool, what) in [
        ("getfattr", "security.capability"),
        ("getfattr", "trusted.of.link"),
        ("getfattr", "user.binary=0x00ff0a00"),
        ("getfacl", "default:user:1234:rwx"),
        ("getfacl", "flags: ss-"),
        ("devices", "special/null 1:3"),
        ("holes", "1 TiB.immense"),
    ] {
        assert!(before.report(tool).contains(what), "{what} could not be made in the source");
    }

    let first = sandbox.capture();
    assert!(first.is_new);
    before.assert_same(&Picture::of(&sandbox.restore("first")));
    let between = after_this_instant();

    tree::edit_everything(&sandbox.source);
    let after = Picture::of(&sandbox.source);
    let second = sandbox.capture();
    assert_eq!(sandbox.points(), [first.point.clone(), second.point.clone()]);
    after.assert_same(&Picture::of(&sandbox.restore("second")));
    // Far less than the 100 MiB file, of which 7 bytes have changed, and than all the rest.
    assert!(second.stored_bytes < 12 << 20, "{second:?}");

    before.assert_same(&Picture::of(&sandbox.restore_with("by id", &["--point", &first.point])));
    before.assert_same(&Picture::of(&sandbox.restore_with("by digits", &["--point", &first.point[..12]])));
    before.assert_same(&Picture::of(&sandbox.restore_with("by time", &["--at", &between])));
    sandbox.check_vault();
}

#[test]
fn an_unchanged_tree_makes_no_point_and_stores_nothing() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 300, 50_000, &mut Random::new(4));
    settle();
    let first = sandbox.capture();
    let packs = files_below(&sandbox.vault.join("packs"));
    let second = sandbox.capture();
    assert!(!second.is_new, "{second:?}");
    assert_eq!((second.point, second.entries), (first.point.clone(), first.entries));
    assert_eq!((second.read_bytes, second.stored_bytes), (0, 0));
    assert_eq!(files_below(&sandbox.vault.join("packs")), packs);
    assert_eq!(sandbox.points(), [first.point]);
}

#[test]
fn renaming_a_directory_reads_none_of_its_files() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source.join("before"), 400, 100_000, &mut Random::new(5));
    settle();
    let first = sandbox.capture();
    assert!(first.read_bytes > 30 << 20, "{first:?}");
    fs::rename(sandbox.source.join("before"), sandbox.source.join("after")).unwrap();
    let second = sandbox.capture();
    assert!(second.is_new);
    assert!(second.read_bytes < 100_000, "{second:?}");
    assert!(second.stored_bytes < 1 << 20, "{second:?}");
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn attribute_values_too_large_for_ext4_come_back() {
    let sandbox = Sandbox::new();
    let (source, restored) = (sandbox.source.clone(), sandbox.path("restored"));
    let (Some(_source), Some(_restored)) = (Mount::tmpfs(&source, "16m"), Mount::tmpfs(&restored, "16m"))
    else {
        return;
    };
    tree::make_large_attributes(&source);
    let picture = Picture::of(&source);
    assert!(picture.report("getfattr").len() > 4 * 8000, "the values are not there");
    sandbox.capture();
    let below = restored.join("tree");
    sandbox.run(["restore", "data", "--to", below.to_str().unwrap()]).good();
    picture.assert_same(&Picture::of(&below));
    tree::set_time(&source.join("8000"), 1_000_000, 1);
    sandbox.capture();
    let below = restored.join("again");
    sandbox.run(["restore", "data", "--to", below.to_str().unwrap()]).good();
    assert_same(&source, &below);
}

#[test]
fn the_time_that_points_shows_is_the_time_of_that_point() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.capture();
    // Not within the same second.
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(sandbox.source.join("file"), "second").unwrap();
    sandbox.capture();
    let points = sandbox.run(["points", "data", "--json"]).good().json();
    for (n, contents) in ["first", "second"].iter().enumerate() {
        let shown = points[n]["time"].as_str().unwrap();
        let restored = sandbox.restore_with(contents, &["--at", shown]);
        assert_eq!(fs::read_to_string(restored.join("file")).unwrap(), *contents, "at {shown}");
    }
}

#[test]
fn an_empty_source_is_captured_and_restored() {
    let sandbox = Sandbox::new();
    assert!(sandbox.capture().is_new);
    assert_same(&sandbox.source, &sandbox.restore("restored"));
}

#[test]
fn files_that_grow_from_small_to_large_and_back_are_captured() {
    let sandbox = Sandbox::new();
    let file = sandbox.source.join("file");
    let mut random = Random::new(6);
    for (n, size) in [10, 70_000, 4 << 20, 65_535, 65_536, 0, 200_000].into_iter().enumerate() {
        fs::write(&file, random.bytes(size)).unwrap();
        sandbox.capture();
        assert_same(&sandbox.source, &sandbox.restore(&format!("restored {n}")));
    }
}

#[test]
fn a_state_that_was_lost_is_rebuilt_from_the_vault() {
    let sandbox = Sandbox::new();
    tree::make_plain(&sandbox.source, 100, 50_000, &mut Random::new(7));
    fs::hard_link(sandbox.source.join("00/file 0"), sandbox.source.join("01/link")).unwrap();
    settle();
    let first = sandbox.capture();
    fs::remove_dir_all(sandbox.state.join("sources")).unwrap();
    fs::write(sandbox.source.join("new"), "new").unwrap();
    let second = sandbox.capture();
    assert!(second.stored_bytes < 1 << 20, "{second:?}");
    assert_same(&sandbox.source, &sandbox.restore("restored"));
    assert_eq!(sandbox.points(), [first.point, second.point]);
    sandbox.check_vault();
}

/// What was changed within one tick of the clock of the last scan is read again; a test that counts bytes waits.
fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

/// An instant of now, with its fraction, as `--at` reads it.
fn after_this_instant() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut date = std::process::Command::new("date");
    date.args([
        "-u",
        "-d",
        &format!("@{}.{:09}", now.as_secs(), now.subsec_nanos()),
        "+%Y-%m-%dT%H:%M:%S.%NZ",
    ]);
    crate::outcome::run(date).good().text().trim().to_owned()
}

/// Names, inodes and sizes of all files below, sorted.
fn files_below(folder: &std::path::Path) -> Vec<(String, u64, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), metadata.ino(), metadata.len()));
        }
    }
    found.sort();
    found
}
