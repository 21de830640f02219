use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::stat::FileKind;

fn options() -> WalkOptions {
    WalkOptions {
        exclude: Exclude::nothing(),
        leave_out: Vec::new(),
        crossing: Crossing::Stay,
        threads: NonZeroUsize::new(2).unwrap(),
    }
}

fn walk(root: &Path, options: WalkOptions) -> Vec<Step> {
    Walk::start(root, options).unwrap().collect()
}

#[test]
fn nothing_is_done_twice_or_left_over() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6000 {
        File::create(dir.path().join(n.to_string())).unwrap();
    }
    for n in 0..300 {
        touch(dir.path(), &[&format!("sub/{n}/file")]);
    }
    let mut walk = Walk::start(dir.path(), options()).unwrap();
    assert_eq!(walk.by_ref().count(), 1 + 6000 + 1 + 600);
    assert_eq!(walk.schedule.left_over(), (0, 0, 0));
}

/// One line per step.
fn lines(root: &Path, options: WalkOptions) -> Vec<String> {
    walk(root, options).into_iter().map(line).collect()
}

fn line(step: Step) -> String {
    match step {
        Step::Found(found) => found.key.to_string(),
        Step::Unreadable(Unreadable { key, part, error }) => format!("{key}: {part:?} {:?}", error.kind()),
        Step::LeftOut(key) => format!("{key}: left out"),
        Step::Passed(key) => format!("{key}: passed"),
    }
}

fn touch(root: &Path, paths: &[&str]) {
    for path in paths {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn objects_come_depth_first_by_the_bytes_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["a/z", "a/b/c", "a!", "b", "Z"]);
    let expected = [".", "Z", "a", "a/b", "a/b/c", "a/z", "a!", "b"];
    assert_eq!(lines(dir.path(), options()), expected);
}

#[test]
fn names_of_any_bytes_and_the_longest_name_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 5] = [b"\x01", b"line\nfeed", &[b'n'; 255], b"\xc3\xa9", b"\xff\xfe"];
    for name in names {
        File::create(dir.path().join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    let found: Vec<Vec<u8>> = walk(dir.path(), options())
        .into_iter()
        .skip(1)
        .map(|step| match step {
            Step::Found(found) => found.key.file_name().unwrap().to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, names);
}

#[test]
fn every_type_is_told_apart_and_symlinks_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["directory/inside", "file"]);
    symlink("directory", dir.path().join("symlink")).unwrap();
    let root = File::open(dir.path()).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(&root, "fifo", mode).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let mut expected = vec![
        (".", FileKind::Directory),
        ("directory", FileKind::Directory),
        ("directory/inside", FileKind::File),
        ("fifo", FileKind::Fifo),
        ("file", FileKind::File),
        ("socket", FileKind::Socket),
        ("symlink", FileKind::Symlink),
    ];
    match rustix::fs::mknodat(&root, "zero", rustix::fs::FileType::CharacterDevice, mode, null) {
        Ok(()) => expected.push(("zero", FileKind::CharDevice)),
        Err(error) => println!("SKIPPED: no device can be made here: {error}"),
    }
    let steps = walk(dir.path(), options());
    let found: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Step::Found(found) => (found.key.to_string(), found.stat.kind),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found.iter().map(|(key, kind)| (key.as_str(), *kind)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_directory_of_many_segments_comes_in_order_with_what_is_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = vec![".".to_owned()];
    for n in 0..5000 {
        let name = format!("{n:05}");
        expected.push(name.clone());
        if n % 700 == 0 {
            touch(&dir.path().join(&name), &["x/y"]);
            expected.extend([format!("{name}/x"), format!("{name}/x/y")]);
        } else {
            File::create(dir.path().join(&name)).unwrap();
        }
    }
    assert_eq!(lines(dir.path(), options()), expected);
}

#[test]
fn more_directories_than_may_be_open_are_walked_and_their_files_opened() {
    let dir = tempfile::tempdir().unwrap();
    let count = directory::OPEN_DIRECTORIES_MAX * 3;
    for n in 0..count {
        let sub = dir.path().join(format!("{n:04}"));
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("file"), n.to_string()).unwrap();
    }
    // Holding what was found keeps all directories in use.
    let steps = walk(dir.path(), options());
    let files: Vec<&Found> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Found(found) if found.stat.kind == FileKind::File => Some(found),
            _ => None,
        })
        .collect();
    assert_eq!(files.len(), count);
    assert!(files[0].parent.kept_fd_count() <= directory::OPEN_DIRECTORIES_MAX);
    let mut buffer = Vec::new();
    for (n, found) in files.iter().enumerate() {
        found.open_file().unwrap().read_whole(&mut buffer, 10).unwrap();
        assert_eq!(buffer, n.to_string().as_bytes());
    }
}

#[test]
fn a_directory_that_was_replaced_is_not_opened_again_in_the_name_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..=directory::OPEN_DIRECTORIES_MAX {
        touch(dir.path(), &[&format!("{n:04}/file")]);
    }
    let steps = walk(dir.path(), options());
    let Some(Step::Found(last)) = steps.last() else { panic!("{:?}", steps.last()) };
    assert!(last.open_file().is_ok());
    let (old, moved) = (dir.path().join(last.key.parent().unwrap().to_string()), dir.path().join("moved"));
    fs::rename(&old, &moved).unwrap();
    symlink("moved", &old).unwrap();
    assert_eq!(last.open_file().unwrap_err(), OpenError::Refused(Errno::NOTDIR));
    fs::remove_file(&old).unwrap();
    touch(&old, &["file"]);
    assert_eq!(last.open_file().unwrap_err(), OpenError::Vanished);
}

#[test]
fn what_cannot_be_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["closed/inside", "listable/inside", "open"]);
    let permit = |name: &str, mode| {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    permit("closed", 0o000);
    permit("listable", 0o444);
    let found = lines(dir.path(), options());
    permit("closed", 0o700);
    permit("listable", 0o700);
    if is_root() {
        println!("SKIPPED: root may read everything");
        assert_eq!(found.len(), 6);
        return;
    }
    let expected = [
        ".",
        "closed",
        "closed: Listing PermissionDenied",
        "listable",
        "listable/inside: Object PermissionDenied",
        "open",
    ];
    assert_eq!(found, expected);
}

#[test]
fn exclusions_are_relative_to_the_root_and_take_along_what_is_below() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["cache/x", "home/cache/deep/x", "home/keep", "home/a.tmp", "b.tmp"]);
    let excluding = |patterns: &[&str]| WalkOptions { exclude: Exclude::new(patterns).unwrap(), ..options() };
    assert_eq!(
        lines(dir.path(), excluding(&["cache", "**/*.tmp"])),
        [".", "home", "home/cache", "home/cache/deep", "home/cache/deep/x", "home/keep"]
    );
    assert_eq!(
        lines(dir.path(), excluding(&["**/cache", "*.tmp"])),
        [".", "home", "home/a.tmp", "home/keep"]
    );
    assert_eq!(lines(dir.path(), excluding(&["**"])), ["."]);
}

#[test]
fn directories_to_leave_out_are_recognised_by_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["data/x", "vault/packs/x"]);
    symlink(dir.path().join("vault"), dir.path().join("data/to-vault")).unwrap();
    let leave_out = vec![dir.path().join("data/to-vault"), dir.path().join("does/not/exist")];
    let found = lines(dir.path(), WalkOptions { leave_out, ..options() });
    assert_eq!(found, [".", "data", "data/to-vault", "data/x", "vault: left out"]);

    let itself = WalkOptions { leave_out: vec![dir.path().to_owned()], ..options() };
    assert!(matches!(Walk::start(dir.path(), itself), Err(WalkError::RootLeftOut { .. })));
}

#[test]
fn where_nothing_was_touched_a_walk_passes_by() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["a/b/x", "a/b/deep/x", "a/c/x", "a/x", "whole/b/c/x", "z/x"]);
    let mut touched = Touched::nowhere();
    touched.touch(PathKey::from_components([&b"a"[..], b"b"]).unwrap());
    touched.touch_all_below(PathKey::root().child(b"whole").unwrap());
    let walk = Walk::start_where(dir.path(), options(), touched).unwrap();
    let expected = [
        ".",
        "a",
        "a/b",
        "a/b/deep",
        "a/b/deep: passed",
        "a/b/x",
        "a/c",
        "a/c: passed",
        "a/x",
        "whole",
        "whole/b",
        "whole/b/c",
        "whole/b/c/x",
        "z",
        "z: passed",
    ];
    assert_eq!(walk.map(line).collect::<Vec<_>>(), expected);
    let walk = Walk::start_where(dir.path(), options(), Touched::nowhere()).unwrap();
    let expected = [".", "a", "a: passed", "whole", "whole: passed", "z", "z: passed"];
    assert_eq!(walk.map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn a_directory_that_it_passes_by_can_be_looked_into_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["a/deep/x", "b/deep/x", "b/y", "c/x", "d/x"]);
    for seen_first in [false, true] {
        let mut touched = Touched::nowhere();
        touched.touch(PathKey::root().child(b"d").unwrap());
        let mut walk = Walk::start_where(dir.path(), options(), touched).unwrap();
        let mut steps = Vec::new();
        while let Some(step) = walk.next() {
            if seen_first {
                // What reads ahead has done all that it can.
                std::thread::sleep(Duration::from_millis(1));
            }
            if matches!(&step, Step::Found(found) if found.key.to_string() == "b") {
                walk.look_into();
            }
            steps.push(line(step));
        }
        let expected =
            [".", "a", "a: passed", "b", "b/deep", "b/deep: passed", "b/y", "c", "c: passed", "d", "d/x"];
        assert_eq!(steps, expected);
        assert_eq!(walk.schedule.left_over(), (0, 0, 0));
    }
}

#[test]
fn a_root_that_is_missing_or_no_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), &["file"]);
    for name in ["file", "missing"] {
        let error = Walk::start(&dir.path().join(name), options()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn mount_points_are_empty_directories_unless_file_systems_are_crossed() {
    let below_root = |crossing| {
        let exclude = Exclude::new(&["[!p]*", "p[!r]*", "proc/[!v]*", "proc/v[!e]*"]).unwrap();
        lines(Path::new("/"), WalkOptions { crossing, exclude, ..options() })
    };
    if rustix::fs::stat("/proc").unwrap().st_dev == rustix::fs::stat("/").unwrap().st_dev {
        println!("SKIPPED: /proc is not mounted");
        return;
    }
    assert_eq!(below_root(Crossing::Stay), [".", "proc"]);
    assert_eq!(below_root(Crossing::Cross), [".", "proc", "proc/version"]);
}

/// Makes a chain of directories that is too deep for any single path.
fn deep_chain(root: &Path, name: &str, depth: usize) {
    let mut at: OwnedFd = File::open(root).unwrap().into();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o700)).unwrap();
        at = crate::beneath::open_child(&at, name.as_bytes()).unwrap();
    }
    rustix::fs::openat(&at, "end", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
}

#[test]
fn a_tree_as_deep_as_paths_can_be_is_walked_and_one_deeper_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    // 16 components of 254 bytes and their separators are 4080 bytes: "end" fits, a 17th does not.
    let name = "d".repeat(254);
    for (top, depth) in [("deeper", 17), ("fits", 16)] {
        fs::create_dir(dir.path().join(top)).unwrap();
        deep_chain(&dir.path().join(top), &name, depth);
    }
    let found = lines(dir.path(), options());
    let too_long = found.iter().filter(|line| line.ends_with(": LongerPath InvalidFilename")).count();
    assert_eq!(too_long, 1);
    assert_eq!(found.iter().filter(|line| line.ends_with("/end")).count(), 1);
    // The root; `deeper`, 16 of its directories and the report; `fits`, its 16 directories and the file.
    assert_eq!(found.len(), 1 + (1 + 16 + 1) + (1 + 16 + 1));
}

#[test]
fn two_thousand_levels_need_no_more_descriptors_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    deep_chain(dir.path(), "d", 2000);
    let steps = walk(dir.path(), options());
    assert_eq!(steps.len(), 2002);
    let Some(Step::Found(end)) = steps.last() else { panic!("{:?}", steps.last()) };
    assert_eq!(end.key.depth(), 2001);
    assert!(end.open_file().is_ok());
}

#[test]
fn a_walk_that_is_dropped_ends_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..300 {
        touch(dir.path(), &[&format!("{n}/file")]);
    }
    let mut walk = Walk::start(dir.path(), options()).unwrap();
    assert!(walk.next().is_some());
    let schedule = Arc::downgrade(&walk.schedule);
    drop(walk);
    assert!(schedule.upgrade().is_none());
}

#[test]
fn objects_that_come_and_go_meanwhile_neither_stop_the_walk_nor_lead_it_astray() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    touch(outside.path(), &["secret/file"]);
    for n in 0..200 {
        touch(dir.path(), &[&format!("{n:03}/sub/file")]);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for n in (0..200).step_by(2) {
                    let (sub, moved) =
                        (dir.path().join(format!("{n:03}/sub")), dir.path().join(format!("{n:03}/tmp")));
                    fs::rename(&sub, &moved).unwrap();
                    symlink(outside.path().join("secret"), &sub).unwrap();
                    fs::remove_file(&sub).unwrap();
                    fs::rename(&moved, &sub).unwrap();
                }
            }
        });
        for _ in 0..30 {
            let found = lines(dir.path(), options());
            assert!(!found.iter().any(|line| line.contains("secret")));
            for n in (1..200).step_by(2) {
                assert!(found.contains(&format!("{n:03}/sub/file")), "{n} was left alone");
            }
            let sorted = found.windows(2).all(|pair| pair[0] <= pair[1]);
            assert!(sorted, "{found:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// What a simple recursive walk of the standard library finds.
fn expected(root: &Path, key: &PathKey, found: &mut BTreeMap<PathKey, bool>) {
    for entry in fs::read_dir(root.join(std::ffi::OsStr::from_bytes(&key.relative_path()))).unwrap() {
        let entry = entry.unwrap();
        let child = key.child(entry.file_name().as_bytes()).unwrap();
        let is_directory = entry.file_type().unwrap().is_dir();
        if is_directory {
            expected(root, &child, found);
        }
        found.insert(child, is_directory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_tree_is_walked_as_a_simple_walk_would_and_then_sorted(
        paths in proptest::collection::vec(proptest::collection::vec("[ab!\u{1}é]{1,3}", 1..6), 0..60),
        threads in 1..4usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let _ = fs::create_dir_all(dir.path().join(path[..path.len() - 1].join("/")));
            let _ = File::create_new(dir.path().join(path.join("/")));
        }
        let mut expected_steps = BTreeMap::from([(PathKey::root(), true)]);
        expected(dir.path(), &PathKey::root(), &mut expected_steps);
        let options = WalkOptions { threads: NonZeroUsize::new(threads).unwrap(), ..options() };
        let found: Vec<_> = walk(dir.path(), options)
            .into_iter()
            .map(|step| match step {
                Step::Found(found) => (found.key, found.stat.kind == FileKind::Directory),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(found, expected_steps.into_iter().collect::<Vec<_>>());
    }
}
