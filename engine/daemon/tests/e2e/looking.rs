//! Looking into points: `ls`, `find`, `cat`, `diff` and `export` say of them what other tools say of the trees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::judge::{Picture, assert_same};
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, seeded, text};
use crate::tree;

/// The lines of an output, each a JSON document.
#[track_caller]
fn json_lines(outcome: &Outcome) -> Vec<Value> {
    outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The bytes of a path of an entry.
fn path_of(entry: &Value) -> Vec<u8> {
    match entry["path_bytes"].as_str() {
        Some(digits) => (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect(),
        None => entry["path"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// What `find` prints of a tree: path, and kind, mode, owner, group, size and target.
fn seen_by_find(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut find = Command::new("find");
    find.current_dir(root).args([".", "-printf", r"%P\0%y %04m %U %G %s %l\0"]);
    let listed = run(find).good().stdout;
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let entries = fields.chunks_exact(2).map(|pair| {
        let path = if pair[0].is_empty() { b".".to_vec() } else { pair[0].to_vec() };
        (path, String::from_utf8_lossy(pair[1]).trim_end().to_owned())
    });
    entries.collect()
}

/// The same of an entry that was listed.
fn seen(entry: &Value) -> String {
    let kind = match entry["kind"].as_str().unwrap() {
        "file" => "f",
        "directory" => "d",
        "symlink" => "l",
        "fifo" => "p",
        "socket" => "s",
        "chardev" => "c",
        "blockdev" => "b",
        other => panic!("{other}"),
    };
    let target = entry["target"].as_str().unwrap_or_default();
    let shown = format!(
        "{kind} {} {} {} {} {target}",
        text(&entry["mode"]),
        entry["uid"],
        entry["gid"],
        entry["size"]
    );
    shown.trim_end().to_owned()
}

/// `find` has sizes for directories and links as well, which are the file system's own business.
fn comparable(mut entries: BTreeMap<Vec<u8>, String>) -> BTreeMap<Vec<u8>, String> {
    for shown in entries.values_mut() {
        let fields: Vec<&str> = shown.splitn(6, ' ').collect();
        if !fields[0].starts_with('f') {
            let target = fields.get(5).copied().unwrap_or_default();
            *shown = format!("{} {} {} {} - {target}", fields[0], fields[1], fields[2], fields[3]);
        }
    }
    entries
}

#[test]
fn a_listing_says_what_find_says_of_the_tree_all_of_it_and_each_directory_alone() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    let live = comparable(seen_by_find(&sandbox.source));
    sandbox.capture();
    let listed = json_lines(&sandbox.run(["ls", "data", "--recursive", "--json"]).good());
    let listed: BTreeMap<_, _> = listed.iter().map(|entry| (path_of(entry), seen(entry))).collect();
    let listed = comparable(listed);
    assert_eq!(listed.keys().collect::<Vec<_>>(), live.keys().collect::<Vec<_>>());
    for (path, shown) in &live {
        assert_eq!(&listed[path], shown, "{}", path.escape_ascii());
    }
    // Names of one file are known by their link.
    let links = json_lines(&sandbox.run(["ls", "data", "links", "--json"]).good());
    let link_of = |name: &[u8]| links.iter().find(|entry| path_of(entry) == name).unwrap()["link"].clone();
    assert!(link_of(b"links/first").is_string());
    assert_eq!(link_of(b"links/first"), link_of(b"links/second"));
    assert_ne!(link_of(b"links/first"), link_of(b"links/large elsewhere"));

    let directories = live.iter().filter(|(_, shown)| shown.starts_with('d')).map(|(path, _)| path);
    for directory in directories.filter(|path| !path.starts_with(b"names/deep/level 0/level 1/")) {
        let arguments =
            [OsStr::new("ls"), OsStr::new("data"), OsStr::from_bytes(directory), OsStr::new("--json")];
        let listed = json_lines(&sandbox.run(arguments).good());
        let listed: BTreeSet<_> = listed.iter().map(path_of).collect();
        let directly = |path: &&Vec<u8>| {
            let parent = match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => &path[..slash],
                None if path.as_slice() == b"." => b"",
                None => b".",
            };
            *path == directory || parent == directory.as_slice()
        };
        let expected: BTreeSet<_> = live.keys().filter(directly).cloned().collect();
        assert_eq!(listed, expected, "{}", directory.escape_ascii());
    }
    sandbox.run(["ls", "data", "not there"]).refused(1, &["not there is not in point", "backstay find"]);
}

#[test]
fn what_a_pattern_finds_is_what_python_finds_in_the_tree() {
    let sandbox = Sandbox::new();
    let mut random = seeded();
    let names = ["a", "ab", "b", "c.x", "c.y", "aa.x", "B", ".c", "d-1"];
    for _ in 0..400 {
        let depth = 1 + random.below(4);
        let mut path = sandbox.source.clone();
        (0..depth).for_each(|_| path.push(random.choose(&names)));
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
            fs::write(&path, "contents").unwrap();
        }
    }
    sandbox.capture();
    let python = "import glob, os, sys\nos.chdir(sys.argv[1])\nfor path in glob.glob(sys.argv[2], recursive=True, include_hidden=True):\n    print(path.rstrip('/'))";
    // Without a slash a name is looked for anywhere, which is `**/` for Python.
    let patterns = [
        ("*.x", "**/*.x"),
        ("a*", "**/a*"),
        ("c.[xy]", "**/c.[xy]"),
        ("??", "**/??"),
        ("d-1", "**/d-1"),
        ("a/*", "a/*"),
        ("*/b/**/*.x", "*/b/**/*.x"),
        ("**/a/**/b", "**/a/**/b"),
        ("/c.x", "c.x"),
        ("./B/*/.c", "B/*/.c"),
        ("a/b/ab", "a/b/ab"),
    ];
    for (ours, theirs) in patterns {
        let mut command = Command::new("python3");
        command.args(["-c", python, sandbox.source.to_str().unwrap(), theirs]);
        let expected: BTreeSet<String> = run(command).good().text().lines().map(str::to_owned).collect();
        let found = json_lines(&sandbox.run(["find", "data", ours, "--json"]).good());
        let found: Vec<String> = found.iter().map(|entry| text(&entry["path"])).collect();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected, "{ours}");
        assert_eq!(found.len(), expected.len(), "{ours}: each once");
    }
    let any_case = json_lines(&sandbox.run(["find", "data", "b", "-i", "--json"]).good());
    assert!(any_case.iter().any(|entry| text(&entry["path"]).ends_with('B')));
    sandbox.run(["find", "data", "nothing like it"]).good();
    sandbox.run(["find", "data", "["]).refused(2, &["the pattern \"[\" cannot be used", "write one like"]);
}

#[test]
fn cat_writes_what_was_in_files() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    sandbox.capture();
    let is_readable = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        metadata.is_file() && metadata.len() < 1 << 30
    };
    let mut files: Vec<PathBuf> =
        walk(&sandbox.source).into_iter().filter(|path| is_readable(&sandbox.source.join(path))).collect();
    files.truncate(600);
    assert!(files.len() > 100);
    let expected: Vec<u8> =
        files.iter().flat_map(|path| fs::read(sandbox.source.join(path)).unwrap()).collect();
    let mut arguments = vec![OsStr::new("cat"), OsStr::new("data")];
    arguments.extend(files.iter().map(|path| path.as_os_str()));
    let written = sandbox.run(arguments).good().stdout;
    assert_eq!(written.len(), expected.len());
    assert!(written == expected, "contents differ");

    let outcome = sandbox.run(["cat", "data", "contents/random 4097", "contents/empty", "--json"]).good();
    let lines = json_lines(&outcome);
    assert_eq!(
        (text(&lines[0]["path"]).as_str(), lines[0]["size"].as_u64()),
        ("contents/random 4097", Some(4097))
    );
    assert_eq!(
        decoded(&text(&lines[0]["contents_base64"])),
        fs::read(sandbox.source.join("contents/random 4097")).unwrap()
    );
    assert_eq!((lines[1]["size"].as_u64(), text(&lines[1]["contents_base64"]).as_str()), (Some(0), ""));

    sandbox.run(["cat", "data", "contents"]).refused(1, &["contents is no file but a directory", "export"]);
    sandbox.run(["cat", "data", "links/relative"]).refused(1, &["no file but a symlink to first"]);
    let refused = sandbox.run(["cat", "data", "contents/empty", "nowhere"]);
    refused.refused(1, &["nowhere is not in the point", "backstay ls"]);
    sandbox.run(["cat", "data", "../etc/passwd"]).refused(2, &["is not a path in a source"]);
}

fn decoded(base64: &str) -> Vec<u8> {
    let mut command = Command::new("base64");
    command.arg("-d");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("base64");
    fs::write(&file, base64).unwrap();
    command.arg(&file);
    run(command).good().stdout
}

/// Paths below a directory, relative to it.
fn walk(root: &Path) -> Vec<PathBuf> {
    let paths = seen_by_find(root).into_keys().filter(|path| path != b".");
    paths.map(|path| PathBuf::from(std::ffi::OsString::from_vec(path))).collect()
}

#[test]
fn an_exported_point_is_unpacked_by_tar_to_what_was_captured() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    sandbox.capture();
    let archive = sandbox.path("archive.tar");
    let exported = sandbox.run(["export", "data", "--to", archive.to_str().unwrap(), "--json"]);
    let exported = exported.refused(3, &["special/socket: a socket", "2 entries are not in the archive"]);
    assert_eq!(exported.json()["left_out_total"], 2);
    let length = fs::metadata(&archive).unwrap().len();
    assert_eq!(exported.json()["bytes"].as_u64(), Some(length));
    assert!(length.is_multiple_of(10_240) && length < 300 << 20, "{length} bytes: holes are not stored");
    assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);

    let unpacked = unpack(&sandbox, &archive, "unpacked");
    for socket in ["special/socket", "special/socket too"] {
        fs::remove_file(sandbox.source.join(socket)).unwrap();
    }
    // That changed the time of their directory.
    let special = fs::metadata(unpacked.join("special")).unwrap();
    tree::set_time(&sandbox.source.join("special"), special.mtime(), special.mtime_nsec());
    // Small holes are stored as zeros: more readers understand the files then.
    let picture = |root: &Path| Picture::of(root).without("holes");
    picture(&sandbox.source).assert_same(&picture(&unpacked));
    let sparse = |root: &Path| fs::metadata(root.join("contents/1 TiB.immense")).unwrap().blocks();
    assert!(sparse(&unpacked) < 1000 && sparse(&sandbox.source) < 1000);

    sandbox.run(["export", "data", "--to", archive.to_str().unwrap()]).refused(1, &["is there already"]);
    sandbox.run(["export", "data", "--json"]).refused(2, &["--to"]);
}

/// Unpacks an archive into a new directory as GNU tar does.
fn unpack(sandbox: &Sandbox, archive: &Path, name: &str) -> PathBuf {
    let to = sandbox.path(name);
    fs::create_dir(&to).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]);
    tar.arg(archive).arg("-C").arg(&to);
    run(tar).good();
    to
}

#[test]
fn paths_are_exported_with_all_below_them_and_to_a_pipe() {
    let sandbox = Sandbox::new();
    let mut random = Random::new(5);
    tree::make_plain(&sandbox.source, 400, 60_000, &mut random);
    fs::write(sandbox.source.join("large"), random.bytes(40 << 20)).unwrap();
    sandbox.capture();
    let outcome = sandbox.run(["export", "data", "03", "large", "03/file 3"]).good();
    let archive = sandbox.path("some.tar");
    fs::write(&archive, &outcome.stdout).unwrap();
    let unpacked = unpack(&sandbox, &archive, "some");
    assert_same(&sandbox.source.join("03"), &unpacked.join("03"));
    assert!(fs::read(sandbox.source.join("large")).unwrap() == fs::read(unpacked.join("large")).unwrap());
    assert_eq!(fs::read_dir(&unpacked).unwrap().count(), 2);
    sandbox.run(["export", "data", "nowhere"]).refused(1, &["nowhere is not in the point"]);
    let unread = crate::outcome::run_unread(sandbox.command(["export", "data"]));
    unread.refused(1, &["nobody reads the archive any more"]);
}

/// What each path of a tree is, as far as a difference tells it.
type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tree as other tools see it: attributes of each path, and contents of files.
fn tree_of(root: &Path) -> Tree {
    let mut find = Command::new("find");
    find.current_dir(root).args([".", "-printf", r"%P\0%y %m %U %G %T@ %l\0"]);
    let listed = run(find).good().stdout;
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let entries = fields.chunks_exact(2).map(|pair| {
        let mut shown = pair[1].to_vec();
        let path = root.join(OsStr::from_bytes(pair[0]));
        if shown.starts_with(b"f") {
            shown.extend_from_slice(contents_of(&path).as_bytes());
        }
        let path = if pair[0].is_empty() { b".".to_vec() } else { pair[0].to_vec() };
        (path, shown)
    });
    entries.collect()
}

/// Enough to tell contents of a test apart.
fn contents_of(path: &Path) -> String {
    let contents = fs::read(path).unwrap();
    let mut hasher = DefaultHasher::new();
    hasher.write(&contents);
    format!("{} {:x}", contents.len(), hasher.finish())
}

/// Paths that differ, and what became of each.
fn expected_difference(old: &Tree, new: &Tree) -> BTreeMap<Vec<u8>, &'static str> {
    let paths: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let changes = paths.into_iter().filter_map(|path| {
        let change = match (old.get(path), new.get(path)) {
            (None, _) => "added",
            (_, None) => "removed",
            (old, new) if old != new => "changed",
            _ => return None,
        };
        Some((path.clone(), change))
    });
    changes.collect()
}

#[track_caller]
fn told_difference(outcome: &Outcome) -> BTreeMap<Vec<u8>, &'static str> {
    let lines = json_lines(outcome);
    // That a file has got or lost other names is told as well, which the trees of this test do not show.
    let is_only_linked = |line: &&Value| line["aspects"] == serde_json::json!(["link"]);
    let only_linked: Vec<_> = lines.iter().filter(is_only_linked).map(|line| path_of(&line["new"])).collect();
    let mut told: BTreeMap<_, _> = lines
        .iter()
        .map(|line| {
            let entry = if line["new"].is_null() { &line["old"] } else { &line["new"] };
            let change = match line["change"].as_str().unwrap() {
                "added" => "added",
                "removed" => "removed",
                "changed" => "changed",
                other => panic!("{other}: {line}"),
            };
            (path_of(entry), change)
        })
        .collect();
    assert_eq!(told.len(), lines.len(), "each path once: {outcome:?}");
    told.retain(|path, _| !only_linked.contains(path));
    told
}

#[test]
fn points_differ_in_what_was_changed_between_them_whichever_are_compared() {
    let mut sandbox = Sandbox::new();
    let mut random = seeded();
    sandbox.source_lines = ", keep = { last = 3 }";
    tree::make_plain(&sandbox.source, 60, 70_000, &mut random);
    fs::write(sandbox.source.join("twin"), "a file with two names").unwrap();
    fs::hard_link(sandbox.source.join("twin"), sandbox.source.join("linked")).unwrap();
    fs::write(sandbox.source.join("grows"), random.bytes(3 << 20)).unwrap();
    let mut trees = vec![tree_of(&sandbox.source)];
    let mut points = vec![sandbox.capture().point];
    for round in 0..6 {
        tree::change_plain(&sandbox.source, 60, &mut random);
        tree::append(&sandbox.source.join("grows"), &random.bytes(300_000));
        match round {
            1 => tree::append(&sandbox.source.join("twin"), b" and more"),
            2 => {
                fs::rename(sandbox.source.join("02"), sandbox.source.join("moved")).unwrap();
                fs::create_dir(sandbox.source.join("02")).unwrap();
            }
            3 => fs::remove_file(sandbox.source.join("linked")).unwrap(),
            4 => {
                fs::set_permissions(sandbox.source.join("grows"), fs::Permissions::from_mode(0o600)).unwrap()
            }
            _ => {}
        }
        trees.push(tree_of(&sandbox.source));
        points.push(sandbox.capture().point);
    }
    let compare = |old: usize, new: usize| {
        let outcome = sandbox.run(["diff", "data", &points[old], &points[new], "--all", "--json"]).good();
        let expected = expected_difference(&trees[old], &trees[new]);
        assert_eq!(told_difference(&outcome), expected, "from {old} to {new}");
    };
    for old in 0..points.len() {
        (0..points.len()).for_each(|new| compare(old, new));
    }
    // Where points between have gone, their runs are merged.
    sandbox.run(["vault", "prune", "local"]).good();
    assert_eq!(sandbox.points(), points[4..]);
    for (old, new) in [(4, 5), (4, 6), (6, 5)] {
        compare(old, new);
    }
    let below = sandbox.run(["diff", "data", &points[4], "newest", "--path", "grows", "--json"]).good();
    assert_eq!(json_lines(&below).len(), 1);
    let text = sandbox.run(["diff", "data", &points[4][..8], &points[5][..8]]).good();
    assert!(text.text().contains("M grows  "), "{text:?}");
    assert!(text.stderr.contains(" changed"), "{text:?}");
}

#[test]
fn a_point_differs_from_the_live_tree_in_what_was_changed_since() {
    let sandbox = Sandbox::new();
    let mut random = seeded();
    tree::make_everything(&sandbox.source);
    sandbox.capture();
    let unchanged = sandbox.run(["diff", "data", "--json", "--all"]).good();
    assert_eq!(unchanged.text(), "");
    let reread = sandbox.run(["diff", "data", "--json", "--all", "--reread"]).good();
    assert_eq!(reread.text(), "", "contents are as they were, also read again");

    let before = tree_without_immense(&sandbox.source);
    let restored = sandbox.restore("restored");
    tree::edit_everything(&sandbox.source);
    tree::append(&sandbox.source.join("contents/text"), &random.bytes(10));
    let expected = expected_difference(&before, &tree_without_immense(&sandbox.source));
    let told = told_difference(&sandbox.run(["diff", "data", "--json", "--all"]).good());
    for (path, change) in &expected {
        assert_eq!(told.get(path), Some(change), "{}", path.escape_ascii());
    }
    // Attributes and lists are told as well, which the tree of this test has not.
    let more: Vec<_> = told.iter().filter(|(path, _)| !expected.contains_key(*path)).collect();
    let is_known = |path: &[u8]| {
        let with_attributes = path.starts_with(b"attributes") || path == b"contents/random 1";
        with_attributes || path.starts_with(b"access") || path.ends_with(b".immense")
    };
    assert!(more.iter().all(|(path, _)| is_known(path)), "{more:?}");

    // Another tree, of which every inode is new: contents are read and found to be the same.
    let with = ["diff", "data", "--with", restored.to_str().unwrap(), "--all", "--json"];
    assert_eq!(sandbox.run(with).good().text(), "");
    tree::append(&restored.join("contents/text"), b"x");
    tree::set_time(&restored.join("contents/text"), 1, 0);
    let told = told_difference(&sandbox.run(with).good());
    assert_eq!(told.keys().map(|path| path.as_slice()).collect::<Vec<_>>(), [b"contents/text"]);
    sandbox.run(["diff", "data", "live"]).refused(2, &["the older side is a point"]);
    sandbox.run(["diff", "data", "zzzz"]).refused(2, &["neither the id of a point"]);
}

fn tree_without_immense(root: &Path) -> Tree {
    let immense = root.join("contents/1 TiB.immense");
    let aside = root.parent().unwrap().join("aside.immense");
    let times = |path: &Path| fs::metadata(path).map(|metadata| (metadata.mtime(), metadata.mtime_nsec()));
    let folder = times(&root.join("contents")).unwrap();
    fs::rename(&immense, &aside).unwrap();
    tree::set_time(&root.join("contents"), folder.0, folder.1);
    let tree = tree_of(root);
    fs::rename(&aside, &immense).unwrap();
    tree::set_time(&root.join("contents"), folder.0, folder.1);
    tree
}
