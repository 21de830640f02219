//! A replica becomes what it is a replica of: writable, at its newest complete set, and mounted.

use std::path::PathBuf;

use backstay_core::config::DatasetName;

use super::wind_back::{WindBack, begun};
use super::{ACTIVE_PROPERTY, MOUNTPOINT_PROPERTY, RoleError};
use crate::name::OwnSnapshot;
use crate::plan::{COMPLETE_PROPERTY, GONE_PROPERTY};
use crate::state::{Dataset, DatasetKind, Key, PROPERTY_PREFIX};
use crate::zfs::Zfs;

/// Where the root is mounted; what is below it is mounted below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountAt {
    /// There.
    Path(PathBuf),
    /// Nowhere: volumes, or somebody else mounts them.
    Nowhere,
}

/// What was activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// The set from which it goes on.
    pub set: OwnSnapshot,
    /// What had come after it, of a set that was not whole, if anything had.
    pub kept: Option<DatasetName>,
    /// What is mounted now.
    pub mounted: Vec<DatasetName>,
}

/// Activates the replica at `place`. Whoever calls it has seen to it that nothing is received there any more.
pub fn activate(zfs: &dyn Zfs, place: &DatasetName, at: &MountAt) -> Result<Activated, RoleError> {
    let own = |name: &str| format!("{PROPERTY_PREFIX}{name}");
    let mut listed = zfs.list(place)?;
    if listed.is_empty() {
        // One that was begun, and has died where the name was free for a moment.
        let set = begun(zfs, place)?.ok_or_else(|| RoleError::NotThere(place.clone()))?;
        WindBack { zfs, root: place, set, mark: Some(ACTIVE_PROPERTY) }.run()?;
        listed = zfs.list(place)?;
    }
    let root = listed.first().ok_or_else(|| RoleError::NotThere(place.clone()))?;
    let noted = |property: &str| root.properties.get(property).and_then(|set| OwnSnapshot::parse(set));
    let active = noted(ACTIVE_PROPERTY);
    let set = active.or_else(|| noted(COMPLETE_PROPERTY));
    let set = set.ok_or_else(|| RoleError::NothingComplete(place.clone()))?;
    // Before anything is changed.
    let missing = listed.iter().filter(|dataset| {
        dataset.encryption.as_ref().is_some_and(|encryption| encryption.key == Key::NotLoaded)
    });
    let missing: Vec<_> = missing.map(|dataset| dataset.name.clone()).collect();
    if !missing.is_empty() {
        return Err(RoleError::KeysMissing(missing));
    }
    let mut kept = None;
    // One that is active has changes of its own, which are not to be wound back.
    if active.is_none() {
        for dataset in listed.iter().filter(|dataset| dataset.resume_token.is_some()) {
            zfs.abort_receive(&dataset.name)?;
        }
        kept = WindBack { zfs, root: place, set, mark: Some(ACTIVE_PROPERTY) }.run()?;
        zfs.set(place, &own(ACTIVE_PROPERTY), Some(&set.to_string()))?;
    }
    let members = zfs.list(place)?;
    let mut mounted = Vec::new();
    for dataset in members.iter().filter(|dataset| !dataset.properties.contains_key(GONE_PROPERTY)) {
        // Not inherited: what is above may be read-only for the sake of all replicas.
        zfs.set(&dataset.name, "readonly", Some("off"))?;
        let MountAt::Path(path) = at else { continue };
        if dataset.kind != DatasetKind::Filesystem {
            continue;
        }
        let path = path.to_string_lossy();
        let is_root = dataset.name == *place;
        zfs.set(&dataset.name, "mountpoint", is_root.then_some(&*path))?;
        zfs.set(&dataset.name, "canmount", Some("on"))?;
        zfs.mount(&dataset.name)?;
        mounted.push(dataset.name.clone());
    }
    Ok(Activated { set, kept, mounted })
}

/// What makes a dataset a replica, so far as properties do (docs/zfs.md, section 3); where it was mounted is kept.
pub(super) fn make_replica(zfs: &dyn Zfs, dataset: &Dataset) -> Result<(), RoleError> {
    zfs.set(&dataset.name, "readonly", Some("on"))?;
    if dataset.kind == DatasetKind::Filesystem {
        if let Some(path) = dataset.mountpoint.as_deref().filter(|path| *path != "none") {
            zfs.set(&dataset.name, &format!("{PROPERTY_PREFIX}{MOUNTPOINT_PROPERTY}"), Some(path))?;
        }
        zfs.set(&dataset.name, "canmount", Some("noauto"))?;
        zfs.set(&dataset.name, "mountpoint", Some("none"))?;
    }
    Ok(())
}
