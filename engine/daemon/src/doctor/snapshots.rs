//! Sources that are read from a snapshot of their file system: whether one can be made.

use std::path::{Path, PathBuf};

use backstay_files::devices::is_on_btrfs;

use super::finding::Finding;
use super::program::is_on_path;
use super::words::Words;
use crate::snapshot::PROGRAM;

/// What a snapshot of a tree hangs on.
#[derive(Debug)]
pub struct Facts {
    /// The root of the tree.
    pub root: PathBuf,
    /// Whether it is on Btrfs; none where that could not be asked.
    pub is_on_btrfs: Option<bool>,
    /// Whether there is the program that makes them.
    pub has_program: bool,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

impl Facts {
    /// Asks.
    pub fn of(root: &Path, daemon_uid: u32) -> Self {
        let (is_on_btrfs, has_program) = (is_on_btrfs(root).ok(), is_on_path(PROGRAM));
        Self { root: root.to_path_buf(), is_on_btrfs, has_program, daemon_uid }
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
        Finding::ok(subject, "snapshot", format!("{root} is on Btrfs, and is read from a snapshot"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn each_thing_that_a_snapshot_takes_is_told_when_it_lacks() {
        let judged = |is_on_btrfs, has_program, daemon_uid| {
            let facts = Facts { root: "/srv/db".into(), is_on_btrfs, has_program, daemon_uid };
            facts.judge("source db.files", "db", &Words::of_tests(0))
        };
        assert_eq!(judged(Some(true), true, 0).level, Level::Ok);
        for (finding, mentions) in [
            (judged(Some(false), true, 0), "not on Btrfs"),
            (judged(Some(true), false, 0), "no program `btrfs`"),
            (judged(Some(true), true, 1000), "not run as root"),
        ] {
            assert_eq!(finding.level, Level::Problem);
            assert!(finding.what.contains(mentions), "{finding:?}");
        }
    }
}
