//! Bringing back of points that were dropped, for as long as the store's trash and older layouts have what they are made
//! of. What comes back is looked at as if a stranger had put it: a point counts again when the fold of its runs is what
//! its node has signed, and every chunk is there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use backstay_core::id::{PointId, SourceId};
use backstay_core::layout::{Accepted, Layout, PlacedRun, way};
use backstay_core::point::PointLink;
use backstay_core::units::Timestamp;

use super::super::{Catalogue, PointObject};
use super::Custodian;
use super::proof::Proof;
use super::repair::damage;
use crate::error::VaultError;
use crate::name::Named;
use crate::store::{Folder, Trashed};

/// What became of a dropped point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeleted {
    /// Name of its source.
    pub source_name: String,
    /// The point.
    pub link: PointLink,
    /// When its capture began.
    pub time: Timestamp,
    /// Why it could not be brought back, if so.
    pub failure: Option<String>,
}

impl Custodian<'_> {
    /// Lets the dropped points count again for which `wanted` says so, and holds them under the name `hold`, so that
    /// retention does not take them away at once. Without a name `keep` judges them at the next prune.
    pub fn undelete(
        &mut self,
        wanted: &dyn Fn(SourceId, PointId) -> bool,
        hold: Option<&str>,
    ) -> Result<Vec<Undeleted>, VaultError> {
        self.check_office()?;
        self.put_layout_again()?;
        if self.unfinished()?.is_some() {
            return Err(self.look.refused("a prune was begun and has not ended; run it again first"));
        }
        let trash = self.vault.trash()?;
        let mut sources: BTreeSet<SourceId> = BTreeSet::new();
        for trashed in &trash {
            if let Named::Point(source, point, _) = trashed.object.named
                && wanted(source, point)
            {
                sources.insert(source);
            }
        }
        for catalogue in self.vault.catalogues()? {
            if catalogue.refused().iter().any(|link| wanted(catalogue.source, link.point)) {
                sources.insert(catalogue.source);
            }
        }
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        // Packs last: a crash leaves none that a pass would have to look at again.
        for packs in [false, true] {
            let of_interest = trash.iter().filter(|trashed| match trashed.object.named {
                Named::Point(source, point, _) => !packs && wanted(source, point),
                Named::Layout(source, ..) => !packs && sources.contains(&source),
                _ => packs,
            });
            for trashed in of_interest {
                self.bring_back(trashed)?;
            }
        }
        self.vault.refresh_index(Some(&self.identity.node))?;
        let damaged = self.index_packs(self.strays()?)?;
        tracing::info!(sources = sources.len(), damaged_packs = damaged.len(), "brought back from the trash");
        let mut outcomes = Vec::new();
        for source in sources {
            outcomes.extend(self.accept_again(source, wanted, hold)?);
        }
        Ok(outcomes)
    }

    /// Takes all holds off the accepted points for which `wanted` says so; from now on `keep` judges them. Returns those
    /// that were held.
    pub fn release(
        &mut self,
        wanted: &dyn Fn(SourceId, PointId) -> bool,
    ) -> Result<Vec<PointLink>, VaultError> {
        self.check_office()?;
        self.put_layout_again()?;
        let mut released = Vec::new();
        for catalogue in self.vault.catalogues()? {
            let catalogue = self.look.sound(catalogue)?;
            let Some(mut layout) = catalogue.layout.clone() else { continue };
            let before = released.len();
            for accepted in &mut layout.accepted {
                if !accepted.holds.is_empty() && wanted(catalogue.source, accepted.link.point) {
                    accepted.holds.clear();
                    released.push(accepted.link);
                }
            }
            if released.len() > before {
                self.put_next_layout(&catalogue, layout)?;
            }
        }
        Ok(released)
    }

    fn bring_back(&self, trashed: &Trashed) -> Result<(), VaultError> {
        match self.vault.io().block_on(self.vault.store().bring_back(trashed)) {
            // Its time was over.
            Err(error) if error.is_not_found() => return Ok(()),
            outcome => outcome?,
        }
        // A repair may have thrown it away because it is damaged: in its place it would stop all that goes by it.
        match damage(self.read_any(&trashed.object))? {
            Some(wrong) => {
                tracing::warn!(name = %trashed.object.name, wrong, "not brought back");
                self.remove(&trashed.object.name)
            }
            None => Ok(()),
        }
    }

    fn accept_again(
        &mut self,
        source: SourceId,
        wanted: &dyn Fn(SourceId, PointId) -> bool,
        hold: Option<&str>,
    ) -> Result<Vec<Undeleted>, VaultError> {
        let catalogue = self.look.sound(self.vault.catalogue(source)?)?;
        let Some(mut layout) = catalogue.layout.clone() else { return Ok(Vec::new()) };
        let mut proof = Proof::begin(&self.look)?;
        let mut outcomes = Vec::new();
        for Dropped { point, accepted, runs, .. } in self.dropped(&catalogue, wanted)? {
            let common = &point.common;
            let failure = match runs {
                Ok(runs) => proof.of(common, &runs)?.err().or_else(|| {
                    let holds = hold.map(str::to_owned);
                    accept(&mut layout, accepted, holds, runs);
                    None
                }),
                Err(gap) => Some(gap),
            };
            let (source_name, time) = (common.source_name.clone(), common.capture_start);
            outcomes.push(Undeleted { source_name, link: point.link, time, failure });
        }
        if outcomes.iter().any(|outcome| outcome.failure.is_none()) {
            self.put_next_layout(&catalogue, layout)?;
        }
        Ok(outcomes)
    }

    /// The dropped points that are wanted, as the newest layout has accepted them that has the runs that make them up; or why
    /// none has.
    fn dropped(
        &self,
        catalogue: &Catalogue,
        wanted: &dyn Fn(SourceId, PointId) -> bool,
    ) -> Result<Vec<Dropped>, VaultError> {
        let refused: HashSet<PointLink> = catalogue.refused().iter().copied().collect();
        let mut points: HashMap<PointLink, Arc<PointObject>> = HashMap::new();
        for listed in self.vault.list(&Folder::new(&[&"points", &catalogue.source]))? {
            let Named::Point(source, id, object) = listed.named else { continue };
            let link = PointLink { point: id, object };
            if !wanted(source, id) || !refused.contains(&link) {
                continue;
            }
            let point = self.vault.point_object(source, &listed)?;
            // What was never whole is no point that anybody had; nor is what was never accepted.
            if point.vault_part.partial.is_none() {
                points.insert(link, point);
            }
        }
        let mut dropped: HashMap<PointLink, Dropped> = HashMap::new();
        self.vault.each_layout(catalogue.source, &mut |layout| {
            for accepted in &layout.accepted {
                let link = accepted.link;
                let Some(point) = points.get(&link) else { continue };
                let runs = way(|| layout.runs.iter(), link).map_err(|gap| gap.to_string());
                // A repair leaves points in a layout without the runs that it could not read.
                let rank = (runs.is_ok(), layout.term, layout.generation);
                if dropped.get(&link).is_some_and(|known| known.rank >= rank) {
                    continue;
                }
                let runs = runs.map(|runs| runs.into_iter().cloned().collect());
                let accepted = accepted.clone();
                dropped.insert(link, Dropped { rank, point: Arc::clone(point), accepted, runs });
            }
        })?;
        let mut dropped: Vec<Dropped> = dropped.into_values().collect();
        dropped.sort_by_key(|dropped| (dropped.accepted.retention_time, dropped.accepted.link.point));
        Ok(dropped)
    }
}

/// A dropped point, as it was accepted once.
struct Dropped {
    /// Whether the layout that says so has a way to it; its term and generation.
    rank: (bool, u64, u64),
    point: Arc<PointObject>,
    accepted: Accepted,
    /// The runs that made it up in that layout, the newest first; or why there are none.
    runs: Result<Vec<PlacedRun>, String>,
}

fn accept(layout: &mut Layout, accepted: Accepted, hold: Option<String>, runs: Vec<PlacedRun>) {
    let holds = accepted.holds.into_iter().filter(|known| Some(known) != hold.as_ref());
    let accepted = Accepted { holds: holds.chain(hold.clone()).collect(), ..accepted };
    layout.dropped.retain(|link| *link != accepted.link);
    layout.accepted.retain(|known| known.link != accepted.link);
    let place = layout.accepted.partition_point(|known| known.retention_time <= accepted.retention_time);
    layout.accepted.insert(place, accepted);
    for run in runs.into_iter().rev() {
        if !layout.runs.contains(&run) {
            layout.runs.push(run);
        }
    }
}
