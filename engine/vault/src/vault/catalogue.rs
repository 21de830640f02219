//! The catalogue of one source: its points, its layout and its newest head, judged. How they are read: `points`, `layout`.

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::id::{ObjectHash, PointId, SignerKey, SourceId, VaultId};
use backstay_core::layout::{Candidate, Layout, PlacedRun, StackError, Verdict, stack, verdicts, way};
use backstay_core::point::{Head, HeadTarget, PointCommon, PointLink, VaultPart};
use backstay_core::run::Run;
use backstay_core::units::Timestamp;

use super::Vault;
use crate::error::VaultError;
use crate::name::{NUMBER_END, Named, ObjectName};
use crate::store::{Folder, Listed, StoreError};

/// Sequence numbers of points and heads are below: there is always a next one.
pub(super) const SEQUENCE_END: u64 = NUMBER_END;

/// A point as this vault has it; every signature is good.
#[derive(Debug, Clone)]
pub struct PointObject {
    /// The point and the hash of its object.
    pub link: PointLink,
    /// What is the same in every vault.
    pub common: PointCommon,
    /// What is this vault's.
    pub vault_part: VaultPart,
    /// Who has captured it, and signed [`PointObject::common`]: one that `trust/` knows.
    pub author: SignerKey,
    /// Who put it into this vault: it may be another than who captured.
    pub put_by: SignerKey,
}

impl PointObject {
    /// The run from the parent to this point; of a partial one with what else it keeps.
    pub fn own_run(&self) -> PlacedRun {
        let keeps = self.vault_part.partial.iter().flat_map(|partial| &partial.keeps);
        let run = Run { parts: self.vault_part.run.iter().chain(keeps).cloned().collect() };
        PlacedRun { from: self.vault_part.parent, to: self.link, run }
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            link: self.link,
            parent: self.vault_part.parent,
            session: self.vault_part.session,
            collection: self.vault_part.collection,
            is_partial: self.vault_part.partial.is_some(),
        }
    }
}

/// How a folder is listed.
pub(super) type ListFolder<'l> = dyn FnMut(&Folder) -> Result<Vec<Listed>, StoreError> + 'l;

/// What was read of one source, before it is judged.
#[derive(Debug, Clone)]
pub(super) struct CatalogueParts {
    layout: Option<(ObjectHash, Layout)>,
    /// By their numbers.
    points: Vec<Arc<PointObject>>,
    head: Option<(ObjectHash, Head)>,
}

impl CatalogueParts {
    /// Adds what was put since.
    pub(super) fn add(&mut self, point: Option<PointObject>, head: Option<(ObjectHash, Head)>) {
        // It may have been read meanwhile.
        let is_new = |point: &PointObject| self.points.iter().all(|known| known.link != point.link);
        let new = point.filter(is_new).map(Arc::new);
        self.points.extend(new);
        sort(&mut self.points);
        let is_newer = |(_, head): &(ObjectHash, Head)| {
            self.head.as_ref().is_none_or(|(_, known)| known.sequence < head.sequence)
        };
        if let Some(head) = head.filter(is_newer) {
            self.head = Some(head);
        }
    }
}

pub(super) fn sort(points: &mut [Arc<PointObject>]) {
    points.sort_by_key(|point| (point.common.sequence, point.common.capture_start));
}

/// What a vault holds of one source.
#[derive(Debug)]
pub struct Catalogue {
    /// The source.
    pub source: SourceId,
    /// The layout in force, if there is one.
    pub layout: Option<Layout>,
    /// Hash of its object.
    pub layout_object: Option<ObjectHash>,
    /// The newest head and the hash of its object.
    pub head: Option<(ObjectHash, Head)>,
    /// Why objects were left out.
    pub left_out: Vec<VaultError>,
    /// Points that count, by their numbers: a clock that was wrong once puts no point before all later ones.
    counting: Vec<Arc<PointObject>>,
    /// Partial points that count, by their numbers.
    partial: Vec<Arc<PointObject>>,
    /// Points whose chain is not complete, and what each lacks.
    broken: Vec<(Arc<PointObject>, PointId)>,
    /// Points that the layout accepts and has not dropped since.
    accepted: HashSet<PointLink>,
    /// Points that were decided against or dropped.
    refused: Vec<PointLink>,
    /// The own runs of the points that count.
    runs: Vec<PlacedRun>,
    /// The term of the custodian.
    term: u64,
}

impl Catalogue {
    /// The points that count, oldest first.
    pub fn points(&self) -> &[Arc<PointObject>] {
        &self.counting
    }

    /// The newest point that counts. What a capture builds on is [`Vault::parent`].
    pub fn newest(&self) -> Option<&Arc<PointObject>> {
        self.counting.last()
    }

    /// What unfinished captures have left and counts, oldest first.
    pub fn partial_points(&self) -> &[Arc<PointObject>] {
        &self.partial
    }

    /// The point with this id, if it counts.
    pub fn point(&self, id: PointId) -> Option<&Arc<PointObject>> {
        self.counting.iter().find(|point| point.link.point == id)
    }

    /// Points that do not count although no layout has decided against them, and the point that each of them lacks.
    pub fn broken(&self) -> impl Iterator<Item = (&Arc<PointObject>, PointId)> {
        self.broken.iter().map(|(point, missing)| (point, *missing))
    }

    /// Whether the layout accepts this point and has not dropped it since.
    pub fn accepts(&self, link: PointLink) -> bool {
        self.accepted.contains(&link)
    }

    /// The names under which a point that counts is held for ever.
    pub fn holds<'c>(&'c self, point: &'c PointObject) -> &'c [String] {
        let accepted = self.layout.iter().flat_map(|layout| &layout.accepted);
        let accepted = accepted.into_iter().find(|accepted| accepted.link == point.link);
        accepted.map_or(&point.common.holds, |accepted| &accepted.holds)
    }

    /// The same as it will be under another layout, which drops none of the points that count.
    pub(super) fn goes_by(&mut self, layout: Layout) {
        self.accepted = accepted_by(&layout);
        self.layout = Some(layout);
    }

    /// Whether there is an object of this point, whether it counts or not.
    pub fn has_object(&self, id: PointId) -> bool {
        self.links().any(|link| link.point == id)
    }

    /// Points that the layout accepts, has not dropped, and of which there is no object that can be read.
    pub(super) fn accepted_and_gone(&self) -> Vec<PointLink> {
        let there: HashSet<PointLink> = self.links().collect();
        let Some(layout) = &self.layout else { return Vec::new() };
        let gone: HashSet<&PointLink> = layout.dropped.iter().collect();
        let accepted = layout.accepted.iter().map(|accepted| accepted.link);
        accepted.filter(|link| !there.contains(link) && !gone.contains(link)).collect()
    }

    /// The error of a damaged layout that may be the one in force. While there is none of the custodian's term, any may be
    /// of it, whatever its generation.
    pub(super) fn take_damaged_layout(&mut self) -> Option<VaultError> {
        let in_force = self.layout.as_ref().filter(|layout| layout.term >= self.term);
        let in_force = in_force.map_or(0, |layout| layout.generation);
        let place = self.left_out.iter().position(|error| match error {
            VaultError::Damaged { object, .. } => match ObjectName::parse(object) {
                Some((_, Named::Layout(_, generation, _))) => generation >= in_force,
                _ => false,
            },
            _ => false,
        })?;
        Some(self.left_out.swap_remove(place))
    }

    /// Points that were decided against or dropped, and whose objects are there.
    pub(super) fn refused(&self) -> &[PointLink] {
        &self.refused
    }

    /// All points whose objects are there.
    pub(super) fn links(&self) -> impl Iterator<Item = PointLink> {
        let there = self.counting.iter().chain(&self.partial).map(|point| point.link);
        there.chain(self.broken.iter().map(|(point, _)| point.link)).chain(self.refused.iter().copied())
    }

    /// The runs whose fold is the state of a point that counts, newest first.
    pub fn stack(&self, point: PointId) -> Result<Vec<Run>, VaultError> {
        let found = self.point(point).ok_or(StackError::DoesNotCount { point })?;
        self.stack_of(found.link)
    }

    /// The same by the point's object.
    pub(super) fn stack_of(&self, link: PointLink) -> Result<Vec<Run>, VaultError> {
        Ok(stack(self.layout.as_ref(), &self.runs, link)?)
    }

    /// The runs whose fold is the state of a point that counts, with where they lead, newest first.
    pub(super) fn way(&self, link: PointLink) -> Result<Vec<PlacedRun>, VaultError> {
        let all = || self.layout.iter().flat_map(|layout| &layout.runs).chain(&self.runs);
        Ok(way(all, link)?.into_iter().cloned().collect())
    }

    /// The time by which retention judges a point, if the layout has accepted it.
    pub(super) fn retention_time(&self, link: PointLink) -> Option<Timestamp> {
        let accepted = self.layout.iter().flat_map(|layout| &layout.accepted);
        accepted.into_iter().find(|accepted| accepted.link == link).map(|accepted| accepted.retention_time)
    }

    /// All that reading a point takes, partial or not: its stack, or what it adds to that of its parent, newest first. Of
    /// runs that are `fit`, where there is such a way.
    pub(super) fn runs_of(
        &self,
        point: &PointObject,
        fit: impl Fn(&Run) -> bool,
    ) -> Result<Vec<Run>, VaultError> {
        let own = point.own_run();
        let (last, link) = match point.vault_part.partial {
            Some(_) => (Some(&own.run), own.from),
            None => (None, Some(point.link)),
        };
        let all = || self.layout.iter().flat_map(|layout| &layout.runs).chain(&self.runs);
        let below = match link {
            Some(link) => {
                way(|| all().filter(|placed| fit(&placed.run)), link).or_else(|_| way(all, link))?
            }
            None => Vec::new(),
        };
        Ok(last.into_iter().chain(below.into_iter().map(|placed| &placed.run)).cloned().collect())
    }

    fn add(&mut self, point: Arc<PointObject>, verdict: Verdict) {
        match (verdict, point.vault_part.partial.is_some()) {
            (Verdict::Counts, true) => self.partial.push(point),
            (Verdict::Counts, false) => {
                self.runs.push(point.own_run());
                self.counting.push(point);
            }
            (Verdict::Lacks(missing), false) => self.broken.push((point, missing)),
            // What a partial point builds on may go before it: nothing can go on from it then.
            (Verdict::Lacks(_), true) | (Verdict::Refused, _) => self.refused.push(point.link),
        }
    }

    /// Up to when the source is known to be restorable from this vault: up to when the newest point is complete, or a later
    /// capture was that found the source as that point has it. A head whose point does not count proves nothing.
    pub fn durable_until(&self, vault: VaultId) -> Option<Timestamp> {
        let newest = self.newest().map(|point| point.common.complete_until());
        let counts = |target: &HeadTarget| {
            let link = PointLink { point: target.point, object: target.object };
            target.vault == vault && self.counting.iter().any(|point| point.link == link)
        };
        let head = self.head.iter().map(|(_, head)| head).find(|head| head.targets.iter().any(counts));
        newest.max(head.map(|head| head.time))
    }

    /// The number of the next head or point; `None` when there is none that readers would take.
    pub fn next_sequence(&self) -> Option<u64> {
        Some(self.greatest_sequence() + 1).filter(|next| *next < SEQUENCE_END)
    }

    /// The greatest sequence number that is known of the source.
    pub fn greatest_sequence(&self) -> u64 {
        let points = self.counting.iter().chain(&self.partial).map(|point| point.common.sequence);
        points.chain(self.head.iter().map(|(_, head)| head.sequence)).max().unwrap_or(0)
    }
}

/// The points that a layout accepts and has not dropped.
fn accepted_by(layout: &Layout) -> HashSet<PointLink> {
    let dropped: HashSet<PointLink> = layout.dropped.iter().copied().collect();
    let accepted = layout.accepted.iter().map(|accepted| accepted.link);
    accepted.filter(|link| !dropped.contains(link)).collect()
}

impl Vault {
    /// The sources that have points here, by their ids.
    pub fn sources(&self) -> Result<Vec<SourceId>, VaultError> {
        let mut sources: Vec<SourceId> = Vec::new();
        for listed in self.list(&Folder::new(&[&"points"]))? {
            if let Named::Point(source, ..) = listed.named
                && sources.last() != Some(&source)
            {
                sources.push(source);
            }
        }
        Ok(sources)
    }

    /// Reads what the vault holds of a source. Damaged, unreadable and untrusted objects are left out and named; but not
    /// a layout that cannot be read, since an older one would say what no longer holds.
    pub fn catalogue(&self, source: SourceId) -> Result<Catalogue, VaultError> {
        let (parts, left_out) = self.read_catalogue(source, &mut |folder| self.list(folder))?;
        Ok(self.catalogue_of(source, parts, left_out))
    }

    /// The same of a vault that was opened just now, as it was seen then. For who reads only, and looks again at what it has pinned.
    pub fn catalogue_at_first(&self, source: SourceId) -> Result<Catalogue, VaultError> {
        let (parts, left_out) = self.read_catalogue(source, &mut |folder| self.list_at_first(folder))?;
        Ok(self.catalogue_of(source, parts, left_out))
    }

    /// Reads it, without a judgement; and why objects were left out. `list` lists the folders of the source: that of its layouts
    /// before the others, and once more when one has gone since.
    pub(super) fn read_catalogue(
        &self,
        source: SourceId,
        list: &mut ListFolder<'_>,
    ) -> Result<(CatalogueParts, Vec<VaultError>), VaultError> {
        let mut left_out = Vec::new();
        let layout = self.layout_in_force(source, list, &mut left_out)?;
        let points = self.all_points(source, &list(&Folder::new(&[&"points", &source]))?, &mut left_out)?;
        let head = self.newest_head(source, &list(&Folder::new(&[&"heads", &source]))?, &mut left_out)?;
        Ok((CatalogueParts { layout, points, head }, left_out))
    }

    /// The judgement of what was read.
    pub(super) fn catalogue_of(
        &self,
        source: SourceId,
        parts: CatalogueParts,
        left_out: Vec<VaultError>,
    ) -> Catalogue {
        let CatalogueParts { layout, points, head } = parts;
        let (layout_object, layout) = layout.unzip();
        let candidates: Vec<Candidate> = points.iter().map(|point| point.candidate()).collect();
        let verdicts = verdicts(layout.as_ref(), &candidates);
        let accepted = layout.as_ref().map(accepted_by).unwrap_or_default();
        let mut catalogue = Catalogue {
            source,
            layout,
            accepted,
            layout_object,
            head,
            left_out,
            counting: Vec::new(),
            partial: Vec::new(),
            broken: Vec::new(),
            refused: Vec::new(),
            runs: Vec::new(),
            term: self.trust().custodian.term,
        };
        for (point, verdict) in points.into_iter().zip(verdicts) {
            catalogue.add(point, verdict);
        }
        catalogue
    }
}

/// Damaged, unreadable and untrusted objects are left out and named; what else fails is an error. An object that is
/// gone since it was listed was collected.
pub(super) fn judge<T>(
    read: Result<T, VaultError>,
    left_out: &mut Vec<VaultError>,
) -> Result<Option<T>, VaultError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(VaultError::Store(error)) if error.is_not_found() => Ok(None),
        Err(error) if error.is_of_one_object() => {
            tracing::warn!(%error, "left out");
            left_out.push(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
