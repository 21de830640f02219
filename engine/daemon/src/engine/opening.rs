//! The vaults that a capture goes to, opened, and grouped by the point on which it builds there.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_core::config::{Source, Target};
use backstay_core::id::PointId;
use backstay_core::rpo::Durable;
use backstay_vault::vault::{PointObject, Vault};
use backstay_wire::control::TargetReport;

use super::{Asked, Engine, Reading, failed_outcome};
use crate::failure::Failure;
use crate::flows::Found;
use crate::vaults::Absent;

#[derive(Debug)]
pub(super) struct OpenTarget {
    /// The targets that it stands for.
    pub(super) names: Vec<String>,
    /// The greatest number that points of the source have where they go on to from there.
    pub(super) numbered_after: u64,
    pub(super) vault: Arc<Vault>,
    /// What is durable there.
    pub(super) durable: Durable,
    /// The point on which the capture builds.
    pub(super) parent: Option<Arc<PointObject>>,
}

impl Engine {
    /// The same again where a vault that was opened later has brought keys with it: what is sealed for all shall be sealed
    /// with these.
    pub(super) fn groups(
        &self,
        asked: &Asked<'_>,
        targets: &[Target],
    ) -> (BTreeMap<Option<PointId>, Vec<OpenTarget>>, Vec<TargetReport>) {
        let found = self.groups_as_opened(asked, targets);
        match found.0.values().flatten().any(|open| self.vaults.lacks_keys(&open.vault)) {
            true => self.groups_as_opened(asked, targets),
            false => found,
        }
    }

    /// Targets whose newest point is the same share one read of the source.
    fn groups_as_opened(
        &self,
        asked: &Asked<'_>,
        targets: &[Target],
    ) -> (BTreeMap<Option<PointId>, Vec<OpenTarget>>, Vec<TargetReport>) {
        let mut groups: BTreeMap<Option<PointId>, Vec<OpenTarget>> = BTreeMap::new();
        let mut failed = Vec::new();
        // Two targets may be one vault: this node's at a hub, for itself and for what goes on from there.
        let mut by_entry: Vec<(&str, Vec<&Target>)> = Vec::new();
        for target in targets {
            let entry = self.vaults.entry(target.as_str());
            match by_entry.iter_mut().find(|(known, _)| *known == entry) {
                Some((_, of_it)) => of_it.push(target),
                None => by_entry.push((entry, vec![target])),
            }
        }
        for (entry, targets) in by_entry {
            match self.open_targets_at(asked, entry, &targets) {
                Ok((cursor, open)) => groups.entry(cursor).or_default().push(open),
                Err(failure) => {
                    failed.extend(targets.iter().map(|target| {
                        TargetReport::without_work(target.to_string(), failed_outcome(&failure))
                    }))
                }
            }
        }
        (groups, failed)
    }

    /// Opens the vault that these targets are captured to.
    fn open_targets_at(
        &self,
        asked: &Asked<'_>,
        entry: &str,
        targets: &[&Target],
    ) -> Result<(Option<PointId>, OpenTarget), Failure> {
        if let Some(live) = targets.iter().find(|target| target.vault().is_none()) {
            return Err(Failure::failed(format!("target {live} is not supported by this version yet")));
        }
        let (vault_name, source_name) = (entry.to_owned(), asked.source.name.to_string());
        let reading = asked.reading;
        // One that hangs shall not keep the others of the source waiting.
        let opened = self.vaults.patiently(entry, move |vaults| {
            let vault = match reading {
                Reading::AsRemembered => vaults.open_often(&vault_name, Absent::Make)?,
                Reading::Anew => {
                    let vault = vaults.open(&vault_name, Absent::Make)?;
                    vault.forget();
                    vault
                }
            };
            let source = vault.ring().source_id(&source_name);
            let catalogue = vault.known_catalogue(source, &vaults.writer().node)?;
            let found = Found::in_catalogue(&catalogue, &vault);
            Ok((vault.parent(&catalogue)?, vault, found))
        });
        let (parent, vault, found) = opened?;
        targets.iter().for_each(|target| asked.order.watch.found(target, found.clone()));
        let cursor = parent.as_ref().map(|point| point.link.point);
        let names: Vec<String> = targets.iter().map(|target| target.to_string()).collect();
        let numbered_after = names.iter().filter_map(|name| self.number_behind(name, asked.source)).max();
        let (durable, numbered_after) = (found.durable(), numbered_after.unwrap_or(0));
        Ok((cursor, OpenTarget { names, vault, durable, parent, numbered_after }))
    }

    /// The greatest number that points of a source have in a vault that another node writes to; none for any other, and where it is
    /// not known.
    fn number_behind(&self, name: &str, source: &Source) -> Option<u64> {
        self.vaults.via(name)?;
        let standing = self.vaults.standing(name, source.name.as_str());
        let standing = standing.inspect_err(|failure| {
            tracing::debug!(source = %source.name, vault = name, %failure, "its numbers are not known");
        });
        standing.ok()?.newest.map(|newest| newest.number)
    }
}
