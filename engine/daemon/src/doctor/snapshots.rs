//! Sources that are read from a snapshot of their file system: whether one can be made, and which were left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstay_files::devices::{is_on_btrfs, is_subvolume};

use super::finding::Finding;
use super::program::is_on_path;
use super::words::{Words, quote};
use crate::snapshot::{FOLDER, PROGRAM, check_top, subvolume_of};

/// Snapshots that were left, which are named one by one.
const NAMED_MAX: usize = 10;

/// Entries beside which no more are looked at.
const LOOKED_AT_MAX: usize = 10_000;

/// What a snapshot of a tree hangs on.
#[derive(Debug)]
pub struct Facts {
    /// The root of the tree.
    pub root: PathBuf,
    /// Whether it is on Btrfs; none where that could not be asked.
    pub is_on_btrfs: Option<bool>,
    /// Why none can be made at the top of its subvolume, if that is so.
    pub refused: Option<String>,
    /// Whether there is the program that makes them.
    pub has_program: bool,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

impl Facts {
    /// Asks.
    pub fn of(root: &Path, daemon_uid: u32) -> Self {
        let top = root.canonicalize().map_err(|error| error.to_string()).and_then(|root| subvolume_of(&root));
        let refused = top.and_then(|top| check_top(&top, daemon_uid)).err();
        let (is_on_btrfs, has_program) = (is_on_btrfs(root).ok(), is_on_path(PROGRAM));
        Self { root: root.to_path_buf(), is_on_btrfs, refused, has_program, daemon_uid }
    }

    /// What follows for a source of this service.
    pub fn judge(&self, subject: &str, service: &str, words: &Words) -> Finding {
        let root = self.root.display();
        if self.is_on_btrfs == Some(false) {
            return Finding::problem(
                subject,
                "snapshot",
                format!("{root} is not on Btrfs, and has `snapshot = \"btrfs\"`"),
            )
            .because("nothing is captured: no snapshot can be made")
            .advise(format!(
                "take `snapshot` out of `files` of [service.{service}] in {}, or put the tree on Btrfs",
                words.fleet_file.display()
            ));
        }
        if !self.has_program {
            return Finding::problem(subject, "snapshot", format!("there is no program `{PROGRAM}`"))
                .because(
                    "it makes the snapshot from which the source is read; without it nothing is captured",
                )
                .run(words.as_root("apt-get install btrfs-progs"));
        }
        if self.daemon_uid != 0 {
            return Finding::problem(subject, "snapshot", "the daemon does not run as root")
                .because("deleting a snapshot takes root: captures fail, and snapshots are left")
                .advise("run the daemon as root, or take `snapshot` out of the source");
        }
        if let Some(why) = &self.refused {
            return Finding::problem(
                subject,
                "snapshot",
                format!("no snapshot of {root} can be made: {why}"),
            )
            .because("nothing is captured")
            .advise(format!(
                "take `snapshot` out of `files` of [service.{service}] in {}, or mend what is said",
                words.fleet_file.display()
            ));
        }
        Finding::ok(subject, "snapshot", format!("{root} is on Btrfs, and is read from a snapshot"))
    }

    /// Whether a snapshot of a tree that is not read from one could be made.
    pub fn could_be(&self) -> bool {
        self.is_on_btrfs == Some(true) && self.has_program && self.daemon_uid == 0 && self.refused.is_none()
    }
}

/// Snapshots at the top of the subvolume of this tree that belong to none of these sources: the next capture of a source
/// removes its own, and nobody those of a source that is read from snapshots no more. Nothing where it cannot be looked.
pub fn left(root: &Path, sources: &BTreeSet<String>) -> Vec<PathBuf> {
    let Some(top) = root.canonicalize().ok().and_then(|root| subvolume_of(&root).ok()) else {
        return Vec::new();
    };
    strange(&top.join(FOLDER), sources, |entry| {
        entry.metadata().is_ok_and(|found| found.is_dir() && is_subvolume(found.ino()))
    })
}

fn strange(
    folder: &Path,
    sources: &BTreeSet<String>,
    is_snapshot: impl Fn(&fs::DirEntry) -> bool,
) -> Vec<PathBuf> {
    let is_own = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| sources.contains(name));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(LOOKED_AT_MAX);
    let mut strange: Vec<PathBuf> =
        entries.filter(|entry| !is_own(entry) && is_snapshot(entry)).map(|entry| entry.path()).collect();
    strange.sort();
    strange
}

/// Judges all that were left on this host.
pub fn judge_left(left: &BTreeSet<PathBuf>, words: &Words) -> Vec<Finding> {
    const SUBJECT: &str = "snapshots";
    let one = |path: &PathBuf| {
        let what = format!("{} is a snapshot of no source that is read from one", path.display());
        Finding::warning(SUBJECT, "left", what)
            .because("it keeps what was deleted since, and its room")
            // No line to run: a daemon that was started before the configuration changed may be reading it.
            .advise(format!(
                "when no daemon has it in use any more (restart it after a change of the configuration; another configuration on this host may have a source of that name): {}",
                words.as_root(&format!("{PROGRAM} subvolume delete {}", quote(path)))
            ))
    };
    let mut findings: Vec<Finding> = left.iter().take(NAMED_MAX).map(one).collect();
    if let Some(more) = left.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        findings.push(
            Finding::warning(SUBJECT, "left", format!("there are {more} more such snapshots"))
                .advise("delete those that are named here: this names more the next time"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Fix, Level};
    use super::*;

    #[test]
    fn each_thing_that_a_snapshot_takes_is_told_when_it_lacks() {
        let facts = |is_on_btrfs, refused: Option<&str>, has_program, daemon_uid| {
            let refused = refused.map(str::to_owned);
            Facts { root: "/srv/db".into(), is_on_btrfs, refused, has_program, daemon_uid }
        };
        let judged =
            |facts: Facts| (facts.could_be(), facts.judge("source db.files", "db", &Words::of_tests(0)));
        let (could_be, finding) = judged(facts(Some(true), None, true, 0));
        assert!(could_be && finding.level == Level::Ok);
        for (facts, mentions) in [
            (facts(Some(false), None, true, 0), "not on Btrfs"),
            (facts(Some(true), None, false, 0), "no program `btrfs`"),
            (facts(Some(true), None, true, 1000), "not run as root"),
            (facts(Some(true), Some("others can write"), true, 0), "others can write"),
        ] {
            let (could_be, finding) = judged(facts);
            assert!(!could_be);
            assert_eq!(finding.level, Level::Problem);
            assert!(finding.what.contains(mentions), "{finding:?}");
        }
    }

    #[test]
    fn snapshots_of_no_source_are_left_and_some_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["db.files", "gone.files", "no snapshot"] {
            fs::create_dir(folder.path().join(name)).expect("makes");
        }
        let own = ["db.files".to_owned()].into();
        let found = strange(folder.path(), &own, |entry| entry.file_name() != "no snapshot");
        assert_eq!(found, [folder.path().join("gone.files")]);
        assert_eq!(strange(Path::new("/nonexistent"), &own, |_| true), Vec::<PathBuf>::new());

        let judged = |count| {
            let left = (0..count).map(|n| format!("/srv/.backstay/gone {n:02}").into()).collect();
            judge_left(&left, &Words::of_tests(0))
        };
        assert_eq!(judged(0), []);
        let fix = judged(1)[0].fix.clone();
        let line = "btrfs subvolume delete '/srv/.backstay/gone 00'";
        assert!(matches!(fix, Some(Fix::Advice(advice)) if advice.ends_with(line)), "it may be in use");
        assert_eq!(judged(NAMED_MAX).len(), NAMED_MAX);
        let many = judged(NAMED_MAX + 5);
        assert_eq!(many.len(), NAMED_MAX + 1);
        assert!(many[NAMED_MAX].what.contains("5 more"), "{many:?}");
    }
}
