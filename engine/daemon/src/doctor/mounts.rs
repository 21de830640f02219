//! What is mounted where, as the kernel says, and what `/etc/fstab` says should be. Neither of the two files hangs when a file
//! system does; where a mount point leads, its file system is asked.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Its kind: `ext4`, `nfs4`.
    pub kind: String,
    /// What is mounted.
    pub device: String,
    /// Whether nothing can be written through it.
    pub is_read_only: bool,
}

/// File systems that the kernel makes up: nothing that is kept lies on them.
const MADE_UP: [&str; 26] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// What a file system is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A disk of this machine, as far as can be told.
    Disk,
    /// Memory: gone at the next boot.
    Memory,
    /// A layer of a container: gone with it.
    Layer,
    /// Another machine has the disk.
    Network,
}

impl Mount {
    /// Whether something may be kept on it. Layers of containers are made of what lies elsewhere.
    pub fn keeps(&self) -> bool {
        !MADE_UP.contains(&self.kind.as_str()) && self.medium() != Medium::Layer
    }

    /// What it is good for.
    pub fn medium(&self) -> Medium {
        match self.kind.as_str() {
            "tmpfs" | "ramfs" | "devtmpfs" => Medium::Memory,
            "overlay" | "aufs" => Medium::Layer,
            "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" | "afs" | "lustre" | "beegfs"
            | "fuse.sshfs" | "fuse.glusterfs" | "fuse.rclone" | "fuse.s3fs" | "davfs" | "fuse.davfs"
            | "virtiofs" => Medium::Network,
            _ => Medium::Disk,
        }
    }
}

/// All that is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    mounted: Vec<Mount>,
    /// Mount points of `/etc/fstab`.
    wanted: Vec<PathBuf>,
}

impl Mounts {
    /// As of now; `None` where `/proc` does not tell.
    pub fn read() -> Option<Self> {
        let mounted = fs::read("/proc/self/mountinfo").ok()?;
        let wanted = fs::read("/etc/fstab").unwrap_or_default();
        Some(Self::of(&mounted, &wanted))
    }

    /// From the texts of the two files.
    pub fn of(mountinfo: &[u8], fstab: &[u8]) -> Self {
        let mounted = mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect();
        let wanted = fstab.split(|byte| *byte == b'\n').filter_map(wanted).collect();
        Self { mounted, wanted }
    }

    /// What this path lies on. The path has no links in it.
    pub fn of_path(&self, path: &Path) -> Option<&Mount> {
        let above = self.mounted.iter().enumerate().filter(|(_, mount)| path.starts_with(&mount.point));
        // Of several at one place the last one hides the others.
        let nearest = above.max_by_key(|(place, mount)| (mount.point.components().count(), *place));
        nearest.map(|(_, mount)| mount)
    }

    /// The nearest place at or above this path where `/etc/fstab` wants something, and nothing is mounted. May hang as long as
    /// the file system does.
    pub fn missing_at(&self, path: &Path) -> Option<&Path> {
        let above = self.wanted.iter().filter(|point| path.starts_with(point));
        let nearest = above.max_by_key(|point| point.components().count())?;
        let has = |point: &Path| self.mounted.iter().any(|mount| mount.point == point);
        // The kernel knows mount points without links.
        let is_mounted = has(nearest) || fs::canonicalize(nearest).is_ok_and(|real| has(&real));
        (!is_mounted).then_some(nearest.as_path())
    }
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let (point, options) = (fields.get(4)?, fields.get(5)?);
    let [kind, device, of_all, ..] = fields.get(dash + 1..)? else { return None };
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount {
        point: unescaped(point),
        kind: text(kind),
        device: text(device),
        is_read_only: is_read_only(options) || is_read_only(of_all),
    })
}

/// The mount point of a line of `/etc/fstab`, unless it waits for somebody who mounts it.
fn wanted(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty());
    let device = fields.next()?;
    let point = unescaped(fields.next()?);
    let options = fields.nth(1).unwrap_or_default();
    if options.split(|byte| *byte == b',').any(|option| option == b"noauto") {
        return None;
    }
    (!device.starts_with(b"#") && point.is_absolute() && point != Path::new("/")).then_some(point)
}

/// Both files write blanks and backslashes as `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match (first, digits) {
            (b'\\', Some(digits)) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                bytes.push(value as u8);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        30 22 0:26 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1g\n\
        40 22 8:1 / /mnt/my\\040disk ro,relatime - ext4 /dev/sda1 rw\n\
        41 22 0:50 / /mnt/nas rw master:2 - nfs4 nas:/export rw,vers=4.2\n\
        42 41 8:2 / /mnt/nas rw - xfs /dev/sdb1 rw\n\
        torn line\n";

    #[test]
    fn a_path_lies_on_the_nearest_mount_and_the_last_one_there() {
        let mounts = Mounts::of(MOUNTINFO, b"");
        let on = |path: &str| mounts.of_path(Path::new(path)).expect("something is mounted").kind.clone();
        assert_eq!(on("/srv/x"), "ext4");
        assert_eq!(on("/run/x"), "tmpfs");
        assert_eq!(on("/running"), "ext4");
        assert_eq!(on("/mnt/nas/x"), "xfs");
        let disk = mounts.of_path(Path::new("/mnt/my disk/vault")).expect("it is mounted");
        assert!(disk.is_read_only);
        assert_eq!(disk.device, "/dev/sda1");
    }

    #[test]
    fn what_fstab_wants_and_is_not_mounted_is_missing() {
        let fstab = b"# comment /x\nUUID=1 / ext4 defaults 0 1\nUUID=2\t/mnt/usb auto nofail 0 0\nUUID=3 /mnt/my\\040disk ext4 ro 0 0\n\nUUID=4 none swap sw 0 0\n";
        let mounts = Mounts::of(MOUNTINFO, fstab);
        assert_eq!(mounts.missing_at(Path::new("/mnt/usb/vault")), Some(Path::new("/mnt/usb")));
        assert_eq!(mounts.missing_at(Path::new("/mnt/my disk/vault")), None);
        assert_eq!(mounts.missing_at(Path::new("/mnt/other")), None);
        assert_eq!(mounts.missing_at(Path::new("/mnt/usbstick")), None);
    }

    #[test]
    fn what_waits_for_somebody_or_is_mounted_through_a_link_is_not_missing() {
        let fstab = b"UUID=1 /mnt/cold ext4 rw,noauto,user 0 0\n";
        assert_eq!(Mounts::of(MOUNTINFO, fstab).missing_at(Path::new("/mnt/cold/vault")), None);
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) =
            (folder.path().canonicalize().expect("is there").join("real"), folder.path().join("link"));
        fs::create_dir(&real).expect("makes");
        std::os::unix::fs::symlink(&real, &link).expect("links");
        let fstab = format!("UUID=1 {} ext4 defaults 0 0\n", link.display());
        let missing = |mountinfo: &[u8]| {
            let mounts = Mounts::of(mountinfo, fstab.as_bytes());
            mounts.missing_at(&link.join("vault")).map(Path::to_path_buf)
        };
        let mounted = format!("30 1 8:1 / {} rw - ext4 /dev/sda1 rw\n", real.display());
        assert_eq!(missing(mounted.as_bytes()), None);
        assert_eq!(missing(b""), Some(link.clone()));
    }

    #[test]
    fn kinds_of_file_systems_are_told_apart() {
        let medium = |kind: &str| {
            let mount =
                Mount { point: "/".into(), kind: kind.into(), device: "x".into(), is_read_only: false };
            mount.medium()
        };
        assert_eq!(medium("tmpfs"), Medium::Memory);
        assert_eq!(medium("overlay"), Medium::Layer);
        assert_eq!(medium("nfs4"), Medium::Network);
        for (kind, keeps) in
            [("ext4", true), ("nfs4", true), ("proc", false), ("tmpfs", false), ("overlay", false)]
        {
            let mount =
                Mount { point: "/".into(), kind: kind.into(), device: "x".into(), is_read_only: false };
            assert_eq!(mount.keeps(), keeps, "{kind}");
        }
        for kind in ["ext4", "zfs", "btrfs", "xfs", "fuseblk", "new"] {
            assert_eq!(medium(kind), Medium::Disk, "{kind}");
        }
    }
}
