//! Points that cannot be read any more: they are dropped, so that what is whole can be cared for again.

use std::collections::HashSet;

use backstay_core::id::PointId;
use backstay_core::point::PointLink;
use backstay_core::run::Run;

use super::super::super::Catalogue;
use super::super::Custodian;
use super::Repaired;
use super::chunks::Missing;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::Folder;

impl Custodian<'_> {
    /// Puts a layout for each source of which points are unreadable or missing, and removes the objects of those that no
    /// layout has accepted. Whether what unfinished captures and copies have left is among them: less is missing then.
    pub(super) fn mend_points(&mut self, missing: &Missing, done: &mut Repaired) -> Result<bool, VaultError> {
        let mut partials = HashSet::new();
        // Removing one may break others that build on it.
        while self.mend_points_once(missing, &mut partials, done)? {}
        Ok(!partials.is_empty())
    }

    fn mend_points_once(
        &mut self,
        missing: &Missing,
        partials: &mut HashSet<PointLink>,
        done: &mut Repaired,
    ) -> Result<bool, VaultError> {
        let mut has_removed = false;
        for listed in self.vault.catalogues()? {
            // A listing comes in pages: of two points that were put meanwhile it may show the second alone. Whatever that one builds
            // on was there before it, so that a later listing shows it.
            let broken: HashSet<PointLink> = listed.broken().map(|(point, _)| point.link).collect();
            let catalogue = match broken.is_empty() {
                true => listed,
                false => self.vault.catalogue(listed.source)?,
            };
            let mut unreadable: HashSet<PointLink> = HashSet::new();
            for point in catalogue.points().iter().chain(catalogue.partial_points()) {
                let is_readable = |run: &Run| !missing.has_unreadable(run);
                let why = match catalogue.runs_of(point, is_readable) {
                    Err(error) => Some(error.to_string()),
                    Ok(runs) if runs.iter().all(is_readable) => None,
                    Ok(_) => Some("its list of entries is lost".to_owned()),
                };
                let is_partial = point.vault_part.partial.is_some();
                let is_lacking =
                    || point.own_run().run.parts.iter().any(|part| missing.lacking.contains(&part.root));
                if is_partial && (why.is_some() || is_lacking()) {
                    // Nobody can restore it, and a capture or a copy begins anew without it.
                    unreadable.insert(point.link);
                    partials.insert(point.link);
                    done.mended(format!(
                        "{}: what an unfinished capture or copy has left is dropped, some of it is lost",
                        point.common.source_name
                    ));
                } else if let Some(why) = why {
                    unreadable.insert(point.link);
                    done.lost_point(&point.common.source_name, point.link.point, why);
                }
            }
            for (point, missing) in catalogue.broken().filter(|(point, _)| broken.contains(&point.link)) {
                unreadable.insert(point.link);
                let why = format!("point {missing}, which it builds on, is lost");
                done.lost_point(&point.common.source_name, point.link.point, why);
            }
            if let Some(gone) = self.vault.head_without_point(&catalogue)? {
                let source = format!("source {}", catalogue.source);
                done.lost_point(&source, gone, "its object is lost, the newest head names it".to_owned());
                self.remove_heads(&catalogue, gone)?;
            }
            for gone in catalogue.accepted_and_gone() {
                unreadable.insert(gone);
                let source = format!("source {}", catalogue.source);
                done.lost_point(&source, gone.point, "its object is lost".to_owned());
            }
            let mut runs = catalogue.layout.iter().flat_map(|layout| layout.needed_runs());
            let has_unreadable = runs.any(|run| missing.has_unreadable(run));
            if unreadable.is_empty() && !has_unreadable {
                continue;
            }
            let (accepted, new): (Vec<PointLink>, Vec<PointLink>) =
                unreadable.into_iter().partition(|link| is_in_layout(&catalogue, link));
            if !accepted.is_empty() || has_unreadable {
                self.put_layout_without(&catalogue, &accepted, missing, partials)?;
            }
            self.check_office()?;
            for link in new {
                self.remove(&Named::Point(catalogue.source, link.point, link.object).to_name())?;
                has_removed = true;
            }
        }
        Ok(has_removed)
    }

    /// Drops the points. Those that build on one of them go on to count, and its readable runs stay until the next pass has
    /// seen what is needed of them.
    fn put_layout_without(
        &mut self,
        catalogue: &Catalogue,
        unreadable: &[PointLink],
        missing: &Missing,
        partials: &HashSet<PointLink>,
    ) -> Result<(), VaultError> {
        let Some(mut layout) = catalogue.layout.clone() else { return Ok(()) };
        layout.dropped.extend(unreadable);
        layout.runs.retain(|placed| !missing.has_unreadable(&placed.run) && !partials.contains(&placed.to));
        layout.replaced.retain(|replaced| !missing.has_unreadable(&replaced.run));
        self.put_next_layout(catalogue, layout)
    }

    /// Heads that name a point of which there is nothing.
    fn remove_heads(&self, catalogue: &Catalogue, gone: PointId) -> Result<(), VaultError> {
        self.check_office()?;
        for listed in self.vault.list(&Folder::new(&[&"heads", &catalogue.source]))? {
            let Named::Head(source, sequence, _) = listed.named else { continue };
            let head = match self.vault.read_head(source, sequence, &listed) {
                Err(error) if error.is_of_one_object() => continue,
                head => head?,
            };
            if head.targets.iter().any(|target| target.vault == self.vault.id() && target.point == gone) {
                self.remove(&listed.name)?;
            }
        }
        Ok(())
    }
}

fn is_in_layout(catalogue: &Catalogue, link: &PointLink) -> bool {
    catalogue.layout.iter().flat_map(|layout| &layout.accepted).any(|accepted| accepted.link == *link)
}
