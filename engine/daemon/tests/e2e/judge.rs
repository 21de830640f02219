//! Whether two trees are the same, in the eyes of others: find, stat, getfattr, getfacl, sha256sum and python3.
//! Nothing of Backstay takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::outcome::run;

/// Paths below the root.
type Paths = Vec<Vec<u8>>;

/// What each of the tools sees of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// By path: type, mode, owner, group, size, time, link target, number of names.
    entries: BTreeMap<Vec<u8>, String>,
    /// The paths of each file that has several.
    groups: Vec<Paths>,
    reports: BTreeMap<&'static str, Vec<u8>>,
}

/// Differences that are shown of a failed comparison.
const SHOWN_MAX: usize = 12;

/// Files with this ending are too large to be read whole: their data is hashed stretch by stretch.
const IMMENSE: &str = "*.immense";

/// Fields of an entry, each ended by NUL.
const FIELDS: [&str; 11] = ["%P", "%y", "%m", "%U", "%G", "%s", "%T@", "%l", "%n", "%D", "%i"];

/// Offsets of data and its hash, for each file that is named on standard input.
const STRETCHES: &str = r#"
import hashlib, os, sys
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    size, at, seen = os.fstat(fd).st_size, 0, []
    digest = hashlib.sha256()
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, data, os.SEEK_HOLE)
        seen.append("%d-%d" % (data, at))
        if path.endswith(b".immense"):
            digest.update(os.pread(fd, at - data, data))
    os.close(fd)
    print(path, size, " ".join(seen), digest.hexdigest())
"#;

impl Picture {
    /// Looks at the tree with all tools.
    pub(crate) fn of(root: &Path) -> Self {
        let (entries, groups) = found(root);
        let mut reports = BTreeMap::new();
        let all = "find . -print0";
        // A symbolic link has no access list, and getfacl would show that of what it leads to.
        let not_links = "find . ! -type l -print0";
        let each = |list: &str, program: &str| shell(root, &format!("{list} | LC_ALL=C sort -z | {program}"));
        reports.insert("getfattr", each(all, "xargs -0 -r getfattr -h -d -m - -e hex --"));
        reports.insert("getfacl", each(not_links, "xargs -0 -r getfacl -n -p --"));
        reports.insert(
            "sha256sum",
            each(&format!("find . -type f ! -name '{IMMENSE}' -print0"), "xargs -0 -r sha256sum -z --"),
        );
        reports.insert("holes", each("find . -type f -print0", &format!("python3 -c '{STRETCHES}'")));
        reports.insert(
            "devices",
            each("find . -type b -print0 -o -type c -print0", "xargs -0 -r stat -c '%n %t:%T' --"),
        );
        Self { entries, groups, reports }
    }

    /// Number of entries, the root included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The same picture, as somebody sees it who does not ask this tool.
    pub(crate) fn without(mut self, tool: &str) -> Self {
        self.reports.retain(|asked, _| *asked != tool);
        self
    }

    /// What a tool said.
    pub(crate) fn report(&self, tool: &'static str) -> String {
        String::from_utf8_lossy(&self.reports[tool]).into_owned()
    }

    /// `other` must be the same tree.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self) {
        let mut differences = self.differences(other);
        let count = differences.len();
        differences.truncate(SHOWN_MAX);
        assert!(count == 0, "{count} differences:\n{}", differences.join("\n"));
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let paths: BTreeSet<_> = self.entries.keys().chain(other.entries.keys()).collect();
        for path in paths {
            let (before, after) = (self.entries.get(path), other.entries.get(path));
            if before != after {
                differences.push(format!("{}: {before:?}, then {after:?}", path.escape_ascii()));
            }
        }
        if self.groups != other.groups {
            let (before, after) = (self.groups.len(), other.groups.len());
            differences.push(format!("other names share files: {before} such files, then {after}"));
        }
        for (tool, before) in &self.reports {
            let after = &other.reports[tool];
            if before != after {
                differences.push(format!("{tool}: {}", first_difference(before, after)));
            }
        }
        differences
    }
}

/// Both trees must be the same.
#[track_caller]
pub(crate) fn assert_same(before: &Path, after: &Path) {
    Picture::of(before).assert_same(&Picture::of(after));
}

/// Device and inode, as `find` prints them.
type Inode<'a> = (&'a [u8], &'a [u8]);
type Found = (BTreeMap<Vec<u8>, String>, Vec<Paths>);

fn found(root: &Path) -> Found {
    let format: String = FIELDS.map(|field| format!("{field}\\0")).concat();
    let mut find = Command::new("find");
    find.current_dir(root).args([".", "-printf", &format]);
    let listed = run(find).good().stdout;
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let mut entries = BTreeMap::new();
    let mut by_inode = BTreeMap::<Inode<'_>, Vec<Vec<u8>>>::new();
    for entry in fields.chunks_exact(FIELDS.len()) {
        let [path, kind, mode, uid, gid, size, time, target, names, device, inode] = entry else {
            panic!("fields of find: {entry:?}");
        };
        let is_directory = *kind == b"d";
        // The size of a directory and the number of its names are the file system's own business.
        let (size, names) = if is_directory { (&b"-"[..], &b"-"[..]) } else { (*size, *names) };
        let shown = [kind, mode, uid, gid, size, time, target, names];
        entries.insert(path.to_vec(), shown.map(|field| field.escape_ascii().to_string()).join(" "));
        if !is_directory {
            by_inode.entry((device, inode)).or_default().push(path.to_vec());
        }
    }
    let mut groups: Vec<_> = by_inode.into_values().filter(|paths| paths.len() > 1).collect();
    groups.iter_mut().for_each(|paths| paths.sort());
    groups.sort();
    (entries, groups)
}

fn shell(root: &Path, script: &str) -> Vec<u8> {
    let mut shell = Command::new("bash");
    shell.current_dir(root).args(["-c", &format!("set -o pipefail; {script}")]);
    run(shell).good().stdout
}

fn first_difference(before: &[u8], after: &[u8]) -> String {
    let lines = |text: &[u8]| -> Vec<String> {
        text.split(|byte| *byte == b'\n' || *byte == 0).map(|line| line.escape_ascii().to_string()).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let at = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
    let around = |lines: &[String]| {
        lines[at.saturating_sub(3).min(lines.len())..(at + 2).min(lines.len())].join(" | ")
    };
    format!("\n  before: {}\n  after:  {}", around(&before), around(&after))
}

/// A judge who sees nothing would pass everything.
#[test]
fn every_kind_of_difference_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let make = "mkdir -p d/e && echo a > f && echo a > d/f && ln f g && ln -s f s && mkfifo p && truncate -s 1M h \
        && echo a >> h && setfattr -n user.x -v 1 f && setfacl -m u:7:r d";
    std::fs::create_dir(&one).unwrap();
    shell(&one, make);
    let edits = [
        "echo b > f && touch -r d f",
        "touch -d @1 d/f",
        "touch -h -d @1.000000001 s",
        "chmod 4755 d/f",
        "rm s && ln -s g s",
        "rm g && cp -p f g",
        "rm d/f && ln f d/f",
        "rm p && mkdir p",
        "cp --sparse=never h i && touch -r h i && mv i h",
        "setfattr -n user.x -v 2 f",
        "setfacl -m u:7:rw d",
        "rmdir d/e",
        "touch d/new",
    ];
    for edit in [":"].into_iter().chain(edits) {
        shell(folder.path(), "rm -rf other && cp -a one other");
        shell(&other, edit);
        let differences = Picture::of(&one).differences(&Picture::of(&other));
        assert_eq!(differences.is_empty(), edit == ":", "{edit}: {differences:?}");
    }
}
