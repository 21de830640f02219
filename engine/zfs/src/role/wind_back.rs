//! Putting a tree of datasets back to one of its sets without destroying what came after it. Clones of the set take over its past
//! (`zfs promote`) and the name; what was there, with all that is newer, is kept aside as their clone.
//!
//! Steps, each of which is recognised when it is done already: a snapshot of what is written and in none yet · clones below a
//! name that tells for which set they are · promotion of each · the tree goes aside · the clones take its name.

use std::collections::BTreeMap;

use backstay_core::config::DatasetName;

use super::RoleError;
use crate::aside;
use crate::error::ZfsError;
use crate::name::{OwnSnapshot, SnapshotName};
use crate::state::{Dataset, DatasetKind, PROPERTY_PREFIX};
use crate::zfs::Zfs;

/// What a snapshot is called of what was written since the newest one.
const KEPT_MARK: &str = "kept-by-backstay";

/// With which the name of clones begins that are to take the name of a tree.
const COMING: &str = "coming_";

/// Its name as one component.
fn flat(root: &DatasetName) -> String {
    root.as_str().replace('/', ":")
}

/// The set to which a tree was being put back whose name is free, since it died between the last two steps.
pub(crate) fn begun(zfs: &dyn Zfs, root: &DatasetName) -> Result<Option<OwnSnapshot>, ZfsError> {
    let Some(aside) = aside::beside(root) else { return Ok(None) };
    let ending = format!("_{}", flat(root));
    let set_of = |dataset: &Dataset| {
        let coming = dataset.name.below(&aside)?.strip_prefix(COMING)?.strip_suffix(&ending)?;
        OwnSnapshot::parse(coming)
    };
    Ok(zfs.list(&aside)?.iter().find_map(set_of))
}

/// A tree and the set to which it is put back.
pub(super) struct WindBack<'w> {
    pub(super) zfs: &'w dyn Zfs,
    pub(super) root: &'w DatasetName,
    pub(super) set: OwnSnapshot,
    /// A property of the root that what takes its place has from its first moment.
    pub(super) mark: Option<&'w str>,
}

impl WindBack<'_> {
    /// Whether datasets have something that is newer than the set.
    pub(super) fn is_needed(&self, datasets: &[Dataset]) -> bool {
        datasets.iter().any(|dataset| {
            let is_at_it = dataset.newest().is_some_and(|newest| newest.mark == self.set.to_string());
            !is_at_it || dataset.written_bytes > 0
        })
    }

    /// Goes on with one that was begun, if there is one, and does it where it is needed. Where what was set aside is.
    pub(super) fn run(&self) -> Result<Option<DatasetName>, RoleError> {
        let aside = self.aside()?;
        let coming = self.coming(&aside)?;
        let mut listed = self.zfs.list(self.root)?;
        if listed.is_empty() {
            // It has gone aside, and its name is free.
            if self.zfs.list(&coming)?.is_empty() {
                return Err(RoleError::NotThere(self.root.clone()));
            }
            self.zfs.rename(&coming, self.root)?;
            return Ok(self.kept_before(&aside)?);
        }
        if !self.is_needed(&listed) {
            return Ok(None);
        }
        let has_set = |dataset: &Dataset| {
            dataset.snapshots.iter().any(|snapshot| snapshot.mark == self.set.to_string())
        };
        // Clones that were promoted have taken it.
        if !listed.iter().any(has_set) && self.zfs.list(&coming)?.is_empty() {
            return Err(RoleError::NothingInCommon { root: self.root.clone(), set: self.set });
        }
        self.unmount(&listed)?;
        self.keep_what_is_written(&listed)?;
        if self.zfs.list(&aside)?.is_empty() {
            self.zfs.create_holder(&aside)?;
        }
        listed = self.zfs.list(self.root)?;
        self.make_clones(&listed, &coming)?;
        if let Some(mark) = self.mark {
            self.zfs.set(&coming, &format!("{PROPERTY_PREFIX}{mark}"), Some(&self.set.to_string()))?;
        }
        let guid = listed.first().map_or(0, |root| root.guid.0);
        let kept = aside.join(&format!("{}{guid:016x}", self.kept_prefix()));
        let kept = kept.ok_or_else(|| RoleError::NameTooLong(self.root.clone()))?;
        self.zfs.rename(self.root, &kept)?;
        self.zfs.rename(&coming, self.root)?;
        Ok(Some(kept))
    }

    /// With which the name begins of what goes aside; its GUID follows.
    fn kept_prefix(&self) -> String {
        let last = self.root.as_str().rsplit('/').next().unwrap_or_default();
        format!("{}_{last}_", self.set)
    }

    /// What went aside before the crash.
    fn kept_before(&self, aside: &DatasetName) -> Result<Option<DatasetName>, ZfsError> {
        let prefix = self.kept_prefix();
        let is_it = |name: &DatasetName| name.below(aside).is_some_and(|below| below.starts_with(&prefix));
        Ok(self.zfs.list(aside)?.into_iter().map(|dataset| dataset.name).find(is_it))
    }

    fn aside(&self) -> Result<DatasetName, RoleError> {
        aside::beside(self.root).ok_or_else(|| RoleError::WholePool(self.root.clone()))
    }

    /// Where the clones are until they take the name: told by the set and by the name, so that another call finds them.
    fn coming(&self, aside: &DatasetName) -> Result<DatasetName, RoleError> {
        let coming = aside.join(&format!("{COMING}{}_{}", self.set, flat(self.root)));
        coming.ok_or_else(|| RoleError::NameTooLong(self.root.clone()))
    }

    /// Children first. What goes aside keeps where it was mounted, and must not be mounted there when the host starts again, over
    /// what has taken its place.
    fn unmount(&self, listed: &[Dataset]) -> Result<(), ZfsError> {
        for dataset in listed.iter().rev().filter(|dataset| dataset.kind == DatasetKind::Filesystem) {
            if dataset.is_mounted {
                self.zfs.unmount(&dataset.name)?;
            }
            self.zfs.set(&dataset.name, "canmount", Some("noauto"))?;
        }
        Ok(())
    }

    fn keep_what_is_written(&self, listed: &[Dataset]) -> Result<(), RoleError> {
        let written = listed.iter().filter(|dataset| dataset.written_bytes > 0);
        let mark = format!("{KEPT_MARK}_{}", self.set);
        let has = |dataset: &&Dataset| !dataset.snapshots.iter().any(|snapshot| snapshot.mark == mark);
        let names = written.filter(has).map(|dataset| SnapshotName::new(&dataset.name, &mark));
        let names: Vec<_> =
            names.collect::<Result<_, _>>().map_err(|_| RoleError::NameTooLong(self.root.clone()))?;
        Ok(self.zfs.snapshot(&names)?)
    }

    /// Of each dataset that has the set; the others were not there then, and are kept aside only.
    fn make_clones(&self, listed: &[Dataset], coming: &DatasetName) -> Result<(), RoleError> {
        let there = self.zfs.list(coming)?;
        let there: BTreeMap<_, _> = there.iter().map(|dataset| (&dataset.name, dataset)).collect();
        for dataset in listed {
            let name = match dataset.name.below(self.root) {
                Some("") => Some(coming.clone()),
                below => below.and_then(|below| coming.join(below)),
            };
            let name = name.ok_or_else(|| RoleError::NameTooLong(dataset.name.clone()))?;
            let mark = self.set.to_string();
            let of = SnapshotName::new(&dataset.name, &mark)
                .map_err(|_| RoleError::NameTooLong(dataset.name.clone()))?;
            match there.get(&name) {
                // It has taken over the snapshot already.
                Some(clone) if clone.origin.as_ref() != Some(&of) => continue,
                Some(_) => {}
                None if dataset.snapshots.iter().any(|snapshot| snapshot.mark == mark) => {
                    self.zfs.clone_of(&of, &name)?;
                }
                None => continue,
            }
            self.zfs.promote(&name)?;
        }
        Ok(())
    }
}
