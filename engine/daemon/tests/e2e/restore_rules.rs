//! Where a restore writes and where it does not, and that one which was killed goes on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::judge::{Picture, assert_same};
use crate::outcome::{Running, run};
use crate::sandbox::{Sandbox, seeded};
use crate::tree;

/// How often a restore is killed.
const KILLS: usize = 6;

/// A test that must see a restore under way tries so often.
const TRIES_MAX: usize = 50;

#[test]
fn a_destination_that_is_not_empty_is_refused_and_left_as_it_was() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "captured").unwrap();
    sandbox.capture();
    let destination = sandbox.path("destination");
    fs::create_dir(&destination).unwrap();
    fs::write(destination.join("file"), "precious").unwrap();
    let before = Picture::of(&destination);
    sandbox
        .run([OsStr::new("restore"), OsStr::new("data"), OsStr::new("--to"), destination.as_os_str()])
        .refused(1, &["destination", "is not empty", "another directory", "--into"]);
    before.assert_same(&Picture::of(&destination));
}

#[test]
fn into_replaces_what_is_restored_and_keeps_the_rest() {
    let sandbox = Sandbox::new();
    let source = &sandbox.source;
    fs::create_dir_all(source.join("both/deep")).unwrap();
    fs::write(source.join("both/file"), "captured").unwrap();
    fs::write(source.join("both/deep/only here"), "captured").unwrap();
    fs::write(source.join("was a symlink"), "captured").unwrap();
    fs::write(source.join("was a link"), "captured").unwrap();
    symlink("captured", source.join("was a file")).unwrap();
    sandbox.capture();

    let into = sandbox.path("into");
    fs::create_dir_all(into.join("both/other")).unwrap();
    fs::write(into.join("both/file"), "in its place, and longer than what is restored").unwrap();
    fs::write(into.join("both/other/kept"), "kept").unwrap();
    fs::write(into.join("kept"), "kept").unwrap();
    fs::hard_link(into.join("kept"), into.join("was a link")).unwrap();
    symlink("kept", into.join("was a symlink")).unwrap();
    fs::write(into.join("was a file"), "in its place").unwrap();
    restore_into(&sandbox, &into, &[]);

    for kept in ["kept", "both/other/kept"] {
        assert_eq!(fs::read_to_string(into.join(kept)).unwrap(), "kept");
        fs::remove_file(into.join(kept)).unwrap();
    }
    fs::remove_dir(into.join("both/other")).unwrap();
    // Taking things away has moved these times.
    for folder in ["both", ""] {
        let time = fs::metadata(source.join(folder)).unwrap();
        tree::set_time(&into.join(folder), time.mtime(), time.mtime_nsec());
    }
    assert_same(source, &into);
}

#[test]
fn a_symlink_that_was_planted_in_the_destination_is_never_followed() {
    let sandbox = Sandbox::new();
    let source = &sandbox.source;
    fs::create_dir_all(source.join("directory/below")).unwrap();
    fs::write(source.join("directory/below/file"), "captured").unwrap();
    fs::write(source.join("file"), "captured").unwrap();
    fs::write(source.join("linked"), "captured").unwrap();
    fs::hard_link(source.join("linked"), source.join("directory/linked")).unwrap();
    sandbox.capture();

    let outside = sandbox.path("outside");
    fs::create_dir_all(outside.join("below")).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    fs::write(outside.join("below/file"), "outside").unwrap();
    let before = Picture::of(&outside);
    let into = sandbox.path("into");
    fs::create_dir(&into).unwrap();
    symlink(&outside, into.join("directory")).unwrap();
    symlink(outside.join("file"), into.join("file")).unwrap();
    symlink(outside.join("new"), into.join("linked")).unwrap();
    symlink(&outside, into.join(".backstay-restore")).unwrap();
    restore_into(&sandbox, &into, &[]);

    before.assert_same(&Picture::of(&outside));
    assert_same(source, &into);
}

#[test]
fn a_restore_that_was_killed_is_continued_by_the_same_command() {
    let sandbox = Sandbox::new();
    make_a_while(&sandbox.source);
    sandbox.capture();
    let before = Picture::of(&sandbox.source);
    let start = Instant::now();
    let undisturbed = sandbox.restore("undisturbed");
    let whole_millis = start.elapsed().as_millis() as usize;
    before.assert_same(&Picture::of(&undisturbed));

    let mut random = seeded();
    let mut cut_short = 0;
    for existing in [&[][..], &["--into"]] {
        let destination = sandbox.path(format!("killed {existing:?}"));
        let command = ["restore", "data", "--to", destination.to_str().unwrap()];
        let command = || command.iter().chain(existing);
        for _ in 0..KILLS {
            let restore = sandbox.start(command());
            std::thread::sleep(Duration::from_millis(random.below(whole_millis) as u64));
            let outcome = restore.kill();
            cut_short += u32::from(outcome.code.is_none());
            // Without its folder a restore has done all but to say so.
            let is_begun = destination.read_dir().is_ok_and(|mut entries| entries.next().is_some());
            let is_over = is_begun && !destination.join(".backstay-restore").exists();
            if (outcome.code == Some(0) || is_over) && existing.is_empty() {
                // It was faster than the kill: the next one finds a destination that is not empty.
                fs::remove_dir_all(&destination).unwrap();
            }
        }
        sandbox.run(command()).good();
        before.assert_same(&Picture::of(&destination));
    }
    assert!(cut_short > 0, "no kill met a restore under way");
}

#[test]
fn what_was_restored_before_the_kill_is_not_written_again() {
    let sandbox = Sandbox::new();
    make_a_while(&sandbox.source);
    let captured = sandbox.capture();
    let destination = sandbox.path("destination");
    kill_under_way(&sandbox, &destination, |finished| finished > 300);
    let arguments = ["restore", "data", "--json", "--to", destination.to_str().unwrap()];
    let report = sandbox.run(arguments).good().json();
    let done = report["already_done"].as_u64().unwrap();
    assert!(done > 50, "only {done} files were taken as done: {report:#}");
    assert!(report["bytes"].as_u64().unwrap() < captured.read_bytes, "{report:#}");
    assert_same(&sandbox.source, &destination);
}

#[test]
fn another_point_is_refused_in_an_unfinished_destination() {
    let sandbox = Sandbox::new();
    make_a_while(&sandbox.source);
    let first = sandbox.capture();
    tree::append(&sandbox.source.join("00/file 0"), b"second");
    sandbox.capture();
    let destination = sandbox.path("destination");
    // The newest point is begun with.
    kill_under_way(&sandbox, &destination, |_| true);
    let to = destination.to_str().unwrap();
    sandbox
        .run(["restore", "data", "--to", to, "--point", &first.point])
        .refused(1, &["another point", "not finished", "finish that one", "--into"]);
    sandbox.run(["restore", "data", "--to", to]).good();
    assert_same(&sandbox.source, &destination);
}

#[test]
fn ls_tells_names_that_are_not_utf8_byte_by_byte() {
    let sandbox = Sandbox::new();
    for name in [&b"caf\xe9"[..], "caf\u{e9}".as_bytes()] {
        fs::write(sandbox.source.join(OsStr::from_bytes(name)), "").unwrap();
    }
    symlink(OsStr::from_bytes(b"to \xff"), sandbox.source.join("link")).unwrap();
    sandbox.capture();
    let listed = sandbox.run(["ls", "data", "--json"]).good().text();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |field: &str| -> Vec<&str> {
        listed.iter().filter_map(|entry| entry.get(field)).map(|value| value.as_str().unwrap_or("")).collect()
    };
    assert_eq!(of("path_bytes"), ["636166e9"], "{listed:#?}");
    assert_eq!(of("target_bytes"), ["746f20ff"], "{listed:#?}");
    assert!(of("path").contains(&"caf\u{e9}"), "{listed:#?}");
}

#[test]
fn single_paths_come_back_with_what_leads_to_them_and_nothing_else() {
    let sandbox = Sandbox::new();
    let source = &sandbox.source;
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    fs::create_dir_all(source.join("a/bb")).unwrap();
    for name in ["a/file", "a/b/file", "a/b/c/file", "a/bb/file", "file"] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::hard_link(source.join("a/file"), source.join("a/b/link")).unwrap();
    let odd = OsStr::from_bytes(b"odd \xff\n");
    fs::write(source.join(odd), "odd").unwrap();
    sandbox.capture();

    let directory = sandbox.restore_with("directory", &["a/b"]);
    assert_eq!(
        listed(&directory),
        [".", "./a", "./a/b", "./a/b/c", "./a/b/c/file", "./a/b/file", "./a/b/link"]
    );
    assert_eq!(fs::read_to_string(directory.join("a/b/link")).unwrap(), "a/file");
    assert_same(&source.join("a/b/c"), &directory.join("a/b/c"));
    let owner = |path: &Path| fs::metadata(path).map(|m| (m.mode(), m.mtime(), m.mtime_nsec())).unwrap();
    assert_eq!(owner(&directory.join("a")), owner(&source.join("a")));

    let one_name = sandbox.restore_with("one name", &["/a/file/"]);
    assert_eq!(listed(&one_name), [".", "./a", "./a/file"]);
    assert_eq!(fs::metadata(one_name.join("a/file")).unwrap().nlink(), 1);

    let both_names = sandbox.restore_with("both names", &["a/file", "a/b/link"]);
    let inode = |path: &str| fs::metadata(both_names.join(path)).unwrap().ino();
    assert_eq!(inode("a/file"), inode("a/b/link"));

    let to = sandbox.path("odd name");
    sandbox.run([OsStr::new("restore"), OsStr::new("data"), OsStr::new("--to"), to.as_os_str(), odd]).good();
    assert_eq!(fs::read_to_string(to.join(odd)).unwrap(), "odd");

    let nowhere = sandbox.path("nowhere");
    sandbox
        .run(["restore", "data", "--to", nowhere.to_str().unwrap(), "a/b", "a/bbb"])
        .refused(1, &["a/bbb", "not in the point", "backstay ls"]);
    assert!(!nowhere.exists(), "nothing may be begun");
    for typed in ["../outside", "a/../../b"] {
        sandbox.run(["restore", "data", "--to", nowhere.to_str().unwrap(), typed]).refused(2, &[typed]);
    }
}

#[test]
fn single_paths_can_be_restored_over_what_is_there() {
    let sandbox = Sandbox::new();
    let source = sandbox.source.clone();
    fs::create_dir(source.join("directory")).unwrap();
    fs::write(source.join("directory/spoilt"), "good").unwrap();
    fs::write(source.join("directory/other"), "good").unwrap();
    sandbox.capture();
    fs::write(source.join("directory/spoilt"), "spoilt").unwrap();
    fs::write(source.join("directory/other"), "changed on purpose").unwrap();
    restore_into(&sandbox, &source, &["directory/spoilt"]);
    assert_eq!(fs::read_to_string(source.join("directory/spoilt")).unwrap(), "good");
    assert_eq!(fs::read_to_string(source.join("directory/other")).unwrap(), "changed on purpose");
}

#[track_caller]
fn restore_into(sandbox: &Sandbox, into: &Path, paths: &[&str]) {
    let into = into.to_str().unwrap();
    sandbox.run(["restore", "data", "--to", into, "--into"].iter().chain(paths)).good();
}

/// A tree that takes a while to restore, with files of several names. Its times are those of a day long ago.
fn make_a_while(source: &Path) {
    tree::make_plain(source, 1500, 60_000, &mut Random::new(8));
    for n in 0..1500 {
        tree::set_time(&source.join(format!("{:02}/file {n}", n % 13)), 1_000_000_000, n);
    }
    for n in 0..40 {
        fs::hard_link(source.join(format!("{:02}/file {n}", n % 13)), source.join(format!("12/link {n}")))
            .unwrap();
    }
    fs::write(source.join("large"), Random::new(9).bytes(8 << 20)).unwrap();
}

/// Kills a restore of the newest point to `destination` after it has begun and before its end, when it has finished
/// about as many files as `enough` wants.
fn kill_under_way(sandbox: &Sandbox, destination: &Path, enough: impl Fn(usize) -> bool) {
    let marker = destination.join(".backstay-restore/marker");
    for _ in 0..TRIES_MAX {
        let mut restore: Running = sandbox.start(["restore", "data", "--to", destination.to_str().unwrap()]);
        while restore.is_running() && !(marker.exists() && enough(finished_in(destination))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let outcome = restore.kill();
        if marker.exists() {
            return;
        }
        outcome.good();
        fs::remove_dir_all(destination).unwrap();
    }
    panic!("no restore could be killed under way");
}

/// Files that have their time, which they get last.
fn finished_in(destination: &Path) -> usize {
    let folders = fs::read_dir(destination).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.filter(|file| file.metadata().is_ok_and(|metadata| metadata.mtime() == 1_000_000_000)).count()
}

fn listed(root: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.current_dir(root).arg(".");
    let mut paths: Vec<String> = run(find).good().text().lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

#[test]
fn files_that_lack_contents_are_named_and_all_others_are_restored() {
    let sandbox = Sandbox::new();
    let mut random = Random::new(1);
    let contents: Vec<Vec<u8>> = (0..9).map(|_| random.bytes(1_500_000)).collect();
    for (n, content) in contents.iter().enumerate() {
        fs::write(sandbox.source.join(format!("file {n}")), content).unwrap();
    }
    fs::write(sandbox.source.join("small"), "small").unwrap();
    sandbox.capture();
    let packs = fs::read_dir(sandbox.vault.join("packs")).unwrap().flatten();
    let packs = packs.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let data = packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap().path();
    let mut damaged = fs::read(&data).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0);
    fs::write(&data, damaged).unwrap();

    let destination = sandbox.path("restored");
    let restore = || sandbox.run(["restore", "data", "--to", destination.to_str().unwrap()]);
    let told = restore().ended_with(3);
    let is_whole = |n: &usize| {
        fs::read(destination.join(format!("file {n}"))).is_ok_and(|restored| restored == contents[*n])
    };
    let lost: Vec<usize> = (0..9).filter(|n| !is_whole(n)).collect();
    assert_eq!(lost.len(), 1, "one chunk is of one file: {told:?}");
    assert!(told.stderr.contains(&format!("file {}: lacks contents", lost[0])), "{told:?}");
    assert_eq!(fs::read_to_string(destination.join("small")).unwrap(), "small");
}

#[test]
fn a_restore_of_some_paths_does_not_go_on_from_one_of_others() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.source.join("sub")).unwrap();
    fs::write(sandbox.source.join("sub/file"), "contents").unwrap();
    let point = sandbox.capture().point;
    let vault =
        sandbox.run(["vault", "stat", "local", "--json"]).good().json()["id"].as_str().unwrap().to_owned();
    // As a restore of everything leaves it that is killed early.
    let destination = sandbox.path("restored");
    let staging = destination.join(".backstay-restore");
    fs::create_dir_all(staging.join("links")).unwrap();
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(staging.join("marker"), format!("vault {vault}\npoint {point}\n")).unwrap();
    let to = destination.to_str().unwrap();
    sandbox.run(["restore", "data", "--to", to, "sub"]).refused(1, &["begun and not finished"]);
    assert!(!destination.join("sub").exists());
    sandbox.run(["restore", "data", "--to", to]).good();
    assert_eq!(fs::read_to_string(destination.join("sub/file")).unwrap(), "contents");
}
