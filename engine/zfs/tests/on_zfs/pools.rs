//! Two pools in files, one with a source and one for its replica, and the commands with which an operator would look at them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backstay_core::config::DatasetName;
use backstay_core::id::DomainId;
use backstay_core::units::Timestamp;
use backstay_zfs::guid::SnapshotGuid;
use backstay_zfs::name::{Cursor, FlowTarget, HoldTag, OwnSnapshot, SnapshotName};
use backstay_zfs::plan::{Snapshots, member_of};
use backstay_zfs::replicate::{
    LocalHolder, Outcome, Progress, ReplicateError, Replication, Report, replicate,
};
use backstay_zfs::state::Dataset;
use backstay_zfs::system::{Patience, SystemZfs};
use backstay_zfs::zfs::Zfs;

use crate::dying::{Dying, Life};

pub(crate) fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

/// Runs a command of the shell; what it has printed.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}`: {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The ZFS of the machine, by the worker of this crate.
pub(crate) fn zfs() -> SystemZfs {
    SystemZfs::new(PathBuf::from(env!("CARGO_BIN_EXE_backstay-zfs-worker")), Patience::default())
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

/// `sN/m` with some datasets, and `tN/held` for their replicas.
pub(crate) struct Pools {
    pub(crate) source: String,
    pub(crate) holder: String,
    pub(crate) what: Replication,
    folder: PathBuf,
    taken: u32,
}

impl Pools {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::current_dir().unwrap().join(format!("pools-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (source, holder) = (format!("s{number}"), format!("t{number}"));
        for pool in [&source, &holder] {
            let file = folder.join(pool);
            sh(&format!(
                "truncate -s 512M {file}; zpool create -O mountpoint={mount} -o cachefile=none {pool} {file}",
                file = file.display(),
                mount = folder.join(format!("{pool}-mounted")).display(),
            ));
        }
        sh(&format!(
            "zfs create -o canmount=off -o mountpoint=none {holder}/held; zfs create -p {source}/m/a; zfs create {source}/m/b"
        ));
        let what = Replication {
            root: name(&format!("{source}/m")),
            except: Vec::new(),
            domain: DomainId::new([3; 16]),
            target: FlowTarget::Replica("two".to_owned()),
            select: Snapshots::All,
            at_once: 2,
        };
        Self { source, holder, what, folder, taken: 0 }
    }

    /// Where a dataset of the source is mounted.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(format!("{}-mounted", self.source)).join("m").join(below)
    }

    /// Writes a file of random bytes to a dataset of the source.
    pub(crate) fn write(&self, below: &str, file: &str, kib: u32) {
        let path = self.path(below).join(file);
        sh(&format!("head -c {kib}K /dev/urandom > {}", path.display()));
    }

    pub(crate) fn place(&self) -> DatasetName {
        name(&format!("{}/held/m", self.holder))
    }

    pub(crate) fn snapshot(&mut self) -> OwnSnapshot {
        self.taken += 1;
        let at = Timestamp::from_seconds(1_790_000_000 + i64::from(self.taken) * 900);
        let own = OwnSnapshot { at, set: self.taken };
        let members = zfs().list(&self.what.root).unwrap();
        let members = members.iter().filter(|member| self.what.has_member(&member.name));
        let names: Vec<_> = members.map(|member| own.of(&member.name).unwrap()).collect();
        zfs().snapshot(&names).unwrap();
        own
    }

    /// As the daemon does: several steps in one process.
    pub(crate) fn replicate(&self) -> Report {
        let holder = LocalHolder::new(Arc::new(zfs()), self.place(), now);
        replicate(&zfs(), &holder, &self.what, &Progress::default()).unwrap()
    }

    /// The same by a process that dies after so many things it has done, each by itself.
    pub(crate) fn try_replicate(&self, life: Life) -> Result<Report, ReplicateError> {
        let source = Dying { zfs: zfs(), life: life.clone() };
        let held: Arc<dyn Zfs> = Arc::new(Dying { zfs: zfs(), life });
        let holder = LocalHolder::new(held, self.place(), now);
        replicate(&source, &holder, &self.what, &Progress::default())
    }

    /// Replicates, and sees that everything is as it has to be then.
    pub(crate) fn replicate_all(&self) -> Report {
        let report = self.replicate();
        for (member, outcome) in &report.members {
            assert!(matches!(outcome, Outcome::Done), "{member}: {outcome}");
        }
        self.assert_alike();
        report
    }

    /// Every member's newest snapshot is that of its replica, by GUID and contents; each side holds it and nothing else; one bookmark
    /// stands for it; and the replica is not mounted.
    pub(crate) fn assert_alike(&self) {
        let replicas = zfs().list(&self.place()).unwrap();
        let writable = sh(&format!(
            "zfs get -Hp -r -t filesystem,volume -o value readonly {} | grep -cv on || true",
            self.place()
        ));
        assert_eq!(writable.trim(), "0");
        for member in zfs().list(&self.what.root).unwrap() {
            let replica = replicas.iter().find(|replica| member_of(replica) == Some(member.guid));
            let replica = replica.unwrap_or_else(|| panic!("{} has no replica", member.name));
            let (here, there) = (member.newest().unwrap(), replica.newest().unwrap());
            assert_eq!(here.guid, there.guid, "{} is behind {}", replica.name, member.name);
            assert_eq!(replica.resume_token, None);
            assert!(!replica.is_mounted);
            let flow = self.what.flow(member.guid);
            self.assert_held(&member, here.guid);
            let tag = HoldTag::of(flow);
            assert_held_only(replica, there.guid, &tag);
            let cursors: Vec<_> =
                member.bookmarks.iter().filter_map(|mark| Cursor::parse(&mark.mark)).collect();
            assert_eq!(cursors, [Cursor { flow, snapshot: here.guid }], "of {}", member.name);
            self.assert_same_contents(
                &SnapshotName::new(&member.name, &here.mark).unwrap(),
                &SnapshotName::new(&replica.name, &there.mark).unwrap(),
            );
        }
    }

    fn assert_held(&self, member: &Dataset, newest: SnapshotGuid) {
        assert_held_only(member, newest, &HoldTag::of(self.what.flow(member.guid)));
    }

    /// Of file systems: names, kinds, modes, owners, times, contents, extended attributes. Of volumes: every byte.
    pub(crate) fn assert_same_contents(&self, here: &SnapshotName, there: &SnapshotName) {
        let listed = [here, there].map(|snapshot| self.contents(snapshot));
        assert!(!listed[0].is_empty());
        assert_eq!(listed[0], listed[1], "{there} is not as {here}");
    }

    fn contents(&self, snapshot: &SnapshotName) -> String {
        let kind = sh(&format!("zfs get -Hp -o value type '{}'", snapshot.dataset()));
        if kind.trim() == "volume" {
            return sh(&format!(
                "zfs send '{snapshot}' | zstream dump -v | grep -E '^WRITE|^FREE' | sort | md5sum"
            ));
        }
        self.listing(snapshot)
    }

    /// Of a snapshot of a file system, wherever that is mounted or not.
    pub(crate) fn listing(&self, snapshot: &SnapshotName) -> String {
        let at = self.folder.join("looked-at");
        std::fs::create_dir_all(&at).unwrap();
        sh(&format!("mount -t zfs -o ro '{snapshot}' {}", at.display()));
        let listed = tree(&at);
        sh(&format!("umount {}", at.display()));
        listed
    }
}

fn tree(root: &Path) -> String {
    let at = root.display();
    sh(&format!(
        "cd {at}; find . -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 -r md5sum; getfattr -R -d -m - -e hex . 2>/dev/null | sort"
    ))
}

fn assert_held_only(dataset: &Dataset, newest: SnapshotGuid, tag: &HoldTag) {
    for shot in &dataset.snapshots {
        let expected = u64::from(shot.guid == newest);
        assert_eq!(shot.holds, expected, "{}@{}", dataset.name, shot.mark);
    }
    let shot = dataset.snapshot(newest).unwrap();
    let name = SnapshotName::new(&dataset.name, &shot.mark).unwrap();
    assert_eq!(zfs().holds(&name).unwrap(), std::slice::from_ref(tag));
}

impl Drop for Pools {
    fn drop(&mut self) {
        // Also when a test fails: what is left is in the way of nobody but takes memory.
        for pool in [&self.source, &self.holder] {
            let _ = Command::new("zpool").args(["destroy", "-f", pool]).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
