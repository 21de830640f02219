//! Which disks a path lies on: what dies together. File systems have numbers of their own where they share a disk (partitions,
//! subvolumes, datasets, logical volumes), so that those are not compared. Reads `/sys`, which does not hang.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::mounts::Medium;
use super::place::Place;

/// Layers of devices on devices: encryption on volumes on arrays on partitions and some more.
const LAYERS_MAX: usize = 16;

/// Names of what a path lies on, as far as can be told: `sda`, `pool tank`, `server nas`. Two paths that share one of them
/// can be lost together.
pub type Disks = BTreeSet<String>;

/// The disks of a place, with the folder of block devices, which is `/sys/class/block` but in tests.
pub fn disks_of(place: &Place, blocks: &Path) -> Disks {
    // Of what is not known it is known at least which file system it is.
    let unknown = || Disks::from([format!("file system {}", place.device)]);
    let Some(mount) = &place.mount else { return unknown() };
    if mount.kind == "zfs" {
        let pool = mount.device.split('/').next().unwrap_or_default();
        return Disks::from([format!("pool {pool}")]);
    }
    if mount.medium() == Medium::Network {
        let server = mount.device.trim_start_matches('/').split([':', '/']).next().unwrap_or_default();
        return Disks::from([format!("server {server}")]);
    }
    // Names of volumes are links to what the kernel calls them.
    let device = fs::canonicalize(&mount.device).unwrap_or_else(|_| mount.device.clone().into());
    let name = device.strip_prefix("/dev").ok().and_then(Path::to_str).map(|name| name.replace('/', "!"));
    let mut disks = Disks::new();
    if let Some(name) = name {
        add_disks(&name, blocks, LAYERS_MAX, &mut disks);
    }
    if disks.is_empty() { unknown() } else { disks }
}

fn add_disks(name: &str, blocks: &Path, layers: usize, disks: &mut Disks) {
    let folder = blocks.join(name);
    if layers == 0 || !folder.exists() {
        return;
    }
    // A partition lies in the folder of its disk.
    if folder.join("partition").exists()
        && let Ok(real) = fs::canonicalize(&folder)
        && let Some(disk) = real.parent().and_then(Path::file_name).and_then(|disk| disk.to_str())
    {
        return add_disks(disk, blocks, layers - 1, disks);
    }
    let below: Vec<String> = fs::read_dir(folder.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    match below.is_empty() {
        true => {
            disks.insert(name.to_owned());
        }
        false => below.iter().for_each(|device| add_disks(device, blocks, layers - 1, disks)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::mounts::Mount;
    use super::super::place::{Presence, Room, Writing};
    use super::*;

    fn place(kind: &str, device: &str) -> Place {
        Place {
            path: "/x".into(),
            presence: Presence::Missing,
            nearest: "/x".into(),
            missing_levels: 0,
            device: 7,
            mount: Some(Mount {
                point: "/".into(),
                kind: kind.into(),
                device: device.into(),
                is_read_only: false,
            }),
            room: Room::default(),
            writing: Writing::Tried,
            attributes: None,
            unmounted: None,
        }
    }

    #[test]
    fn partitions_volumes_and_arrays_lead_to_their_disks() {
        let sys = tempfile::tempdir().expect("a folder");
        let blocks = sys.path().join("class/block");
        fs::create_dir_all(&blocks).expect("makes");
        let add = |disk: &str, partition: Option<&str>| {
            let folder = sys.path().join("devices").join(disk).join(partition.unwrap_or_default());
            fs::create_dir_all(folder.join("slaves")).expect("makes");
            if partition.is_some() {
                fs::write(folder.join("partition"), "1").expect("writes");
            }
            symlink(&folder, blocks.join(partition.unwrap_or(disk))).expect("links");
        };
        for (disk, partition) in [
            ("tsta", None),
            ("tsta", Some("tsta1")),
            ("tstb", None),
            ("tstb", Some("tstb1")),
            ("tstdm-0", None),
            ("tstmd0", None),
        ] {
            add(disk, partition);
        }
        for (upper, lower) in [("tstdm-0", "tsta1"), ("tstmd0", "tsta"), ("tstmd0", "tstb1")] {
            fs::write(blocks.join(upper).join("slaves").join(lower), "").expect("writes");
        }
        let of = |device: &str| disks_of(&place("ext4", device), &blocks).into_iter().collect::<Vec<_>>();
        assert_eq!(of("/dev/tsta"), ["tsta"]);
        assert_eq!(of("/dev/tsta1"), ["tsta"]);
        assert_eq!(of("/dev/tstdm-0"), ["tsta"]);
        assert_eq!(of("/dev/tstmd0"), ["tsta", "tstb"]);
        assert_eq!(of("/dev/tstgone"), ["file system 7"]);
    }

    #[test]
    fn pools_and_servers_are_known_by_name() {
        let none = Path::new("/nonexistent");
        let of =
            |kind: &str, device: &str| disks_of(&place(kind, device), none).into_iter().collect::<Vec<_>>();
        assert_eq!(of("zfs", "tank/srv/mail"), ["pool tank"]);
        assert_eq!(of("nfs4", "nas:/export/a"), ["server nas"]);
        assert_eq!(of("cifs", "//nas/backup"), ["server nas"]);
        assert_eq!(of("tmpfs", "tmpfs"), ["file system 7"]);
    }
}
