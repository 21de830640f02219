//! Thinning: points that retention does not want are dropped, and merged runs take the place of those through them. The
//! layout that drops a point keeps the old runs; they go with the next pass, which waits for whoever may have built on
//! the point (docs/collection.md, rule 6).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use backstay_core::collection::CollectionNumber;
use backstay_core::config::Keep;
use backstay_core::id::{ChunkId, PointId};
use backstay_core::kind::KindRules;
use backstay_core::layout::{Accepted, Layout, PlacedRun, ReplacedRun, tree};
use backstay_core::point::{PointCommon, PointLink};
use backstay_core::retention::{Aged, Reason, is_ahead, judge_at};
use backstay_core::run::Run;
use backstay_core::thinning::{Plan, Weights, Wishes, needed, plan};
use backstay_core::units::Timestamp;

use super::super::{Catalogue, PointObject};
use super::merge::write_merged;
use super::{Custodian, Inspection, KeepOf};
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::{part_chunks, referred_bytes};
use crate::vault::WriterView;
use crate::write::ChunkWriter;

/// How long the partial points of a capture that nobody goes on with are kept.
const PARTIAL_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// Replaced runs of a source of which the contents are kept for readers: while there are so many, no groups are split.
const REPLACED_MAX: usize = 64;

/// How often one source is planned anew in one thinning: a long stretch is merged piece by piece.
const ROUNDS_MAX: usize = 64;

/// What a thinning has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Points that do not count any more.
    pub points_dropped: u64,
    /// Runs that were made out of others.
    pub runs_merged: u64,
    /// Entries of those runs.
    pub entries_written: u64,
    /// Groups of small files of which what is needed was written anew.
    pub groups_split: u64,
    /// Sources of which nothing may be dropped, since their newest point is of a time to come.
    pub sources_ahead: u64,
}

impl Custodian<'_> {
    /// Drops what retention does not want of the points that are accepted, and merges their runs. Points that were
    /// committed since the last pass are left for the one after.
    pub fn thin(&mut self, keep: &KeepOf<'_>) -> Result<Thinned, VaultError> {
        self.thin_without(keep, &HashSet::new())
    }

    /// The same, and these points are unwanted whatever retention says.
    pub(super) fn thin_without(
        &mut self,
        keep: &KeepOf<'_>,
        unwanted: &HashSet<PointLink>,
    ) -> Result<Thinned, VaultError> {
        self.put_layout_again()?;
        let mut thinned = Thinned::default();
        let mut failure = None;
        self.vault.refresh_index(Some(&self.identity.node))?;
        let catalogues = self.look.survey()?;
        let pins = self.look.list_sessions()?.pins(&self.look.list_fences()?);
        let lost = self.vault.lost_chunks()?;
        let wanted = Wanted { keep, unwanted, pins: &pins, lost: &lost };
        for catalogue in catalogues {
            match self.thin_source(catalogue, &wanted, &mut thinned) {
                // What one source has keeps no other from being thinned.
                Err(error) if error.class() == "damaged" => {
                    tracing::warn!(%error, "a source was not thinned");
                    failure.get_or_insert(error);
                }
                outcome => outcome?,
            }
        }
        failure.map_or(Ok(thinned), Err)
    }

    fn thin_source(
        &mut self,
        mut catalogue: Catalogue,
        wanted: &Wanted<'_>,
        thinned: &mut Thinned,
    ) -> Result<(), VaultError> {
        // A source may have nothing but what an unfinished capture has left.
        let any = catalogue.points().first().or(catalogue.partial_points().first());
        let Some(known) = any.map(|point| point.common.clone()) else { return Ok(()) };
        let Some(rules) = self.look.rules(&known.kind) else { return Ok(()) };
        let keep = (wanted.keep)(&known.source_name).unwrap_or_default();
        let accepted = catalogue.layout.iter().flat_map(|layout| &layout.accepted);
        let newest = accepted.map(|accepted| accepted.retention_time).max();
        if let Some(time) = newest.filter(|time| is_ahead(self.look.now(), *time)) {
            thinned.sources_ahead += 1;
            let (source, place) = (&known.source_name, self.vault.place());
            tracing::warn!(
                source,
                place,
                "nothing is dropped before {time}, the time of the newest point: the clock of this host stands back, or ran ahead when the point was accepted; if it is right now, `backstay vault prune --trust-clock` gives such points their own times again"
            );
        }
        let mut merged = HashSet::new();
        for _ in 0..ROUNDS_MAX {
            let Some((layout, plan)) = self.plan(&catalogue, &keep, wanted)? else { break };
            tracing::debug!(merges = plan.merges.len(), dropped = plan.drop.len(), "planned");
            merged.extend(plan.merges.iter().map(|merge| (merge.from, merge.to)));
            self.carry_out(&catalogue, layout, plan, &*rules, thinned)?;
            catalogue = self.look.sound(self.vault.catalogue(catalogue.source)?)?;
        }
        tracing::debug!("merged");
        self.split_sparse_groups(&catalogue, &merged, &*rules, thinned)?;
        tracing::debug!(groups = thinned.groups_split, "split");
        Ok(())
    }

    /// Of what was merged: a merged run refers to less than those did that it is made of.
    fn split_sparse_groups(
        &mut self,
        catalogue: &Catalogue,
        merged: &HashSet<(Option<PointLink>, PointLink)>,
        rules: &dyn KindRules,
        thinned: &mut Thinned,
    ) -> Result<(), VaultError> {
        let may_split =
            |layout: &&Layout| !merged.is_empty() && self.may_split() && layout.replaced.len() < REPLACED_MAX;
        let Some(layout) = catalogue.layout.as_ref().filter(may_split) else { return Ok(()) };
        let stay = layout.accepted.iter().map(|accepted| accepted.link);
        let roots: Vec<PointLink> = stay.filter(|link| !layout.dropped.contains(link)).collect();
        let used = needed(layout, &roots)?;
        let mut writing = self.begin_writing()?;
        let (mut layout, mut groups) = (layout.clone(), 0);
        let mut replaced: Vec<(&Run, Run)> = Vec::new();
        for placed in used.iter().filter(|placed| merged.contains(&(placed.from, placed.to))) {
            let others: Vec<&Run> =
                used.iter().map(|used| &used.run).filter(|run| **run != placed.run).collect();
            let sparse = self.sparse(rules, &placed.run, &others)?;
            let Some(old) =
                layout.runs.iter_mut().find(|run| *run == placed).filter(|_| !sparse.order.is_empty())
            else {
                continue;
            };
            old.run = self.split(&mut writing.chunks, rules, &placed.run, &sparse)?;
            replaced.push((&placed.run, old.run.clone()));
            // Who reads by it has seen where its contents are: they stay until a pass finds nobody who has begun before.
            let (run, collection) = (placed.run.clone(), writing.collection);
            layout.replaced.push(ReplacedRun { run, collection });
            groups += sparse.order.len() as u64;
        }
        if replaced.is_empty() {
            // Nothing was written.
            return Ok(());
        }
        self.make_readable(writing)?;
        replaced.iter().try_for_each(|(old, new)| self.check_equal(rules, old, new))?;
        self.put_next_layout(catalogue, layout)?;
        thinned.groups_split += groups;
        Ok(())
    }

    /// The plan for one source, and the layout that it is made for; `None` when there is nothing to do.
    fn plan(
        &self,
        catalogue: &Catalogue,
        keep: &Keep,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Layout, Plan)>, VaultError> {
        let Some(layout) = &catalogue.layout else { return Ok(None) };
        let mut wishes = self.look.wishes(catalogue, layout, keep, wanted.pins);
        wishes.unwanted.extend(wanted.unwanted);
        let reader = &self.reader;
        let mut failure = None;
        let mut known = HashMap::new();
        let mut renews = |base: &Run, edits: &[Run], to: PointLink| {
            let weights = weights(catalogue, reader, &mut known, base, edits, to);
            let renews = weights.map(Weights::call_for_a_new_base);
            // A base may refer to what is lost in rows that every later point replaces.
            let renews = renews.and_then(|renews| Ok(renews || refers_to(reader, base, wanted.lost)?));
            renews.unwrap_or_else(|error| {
                failure.get_or_insert(error);
                false
            })
        };
        let plan = plan(layout, &wishes, &mut renews)?;
        match failure {
            Some(error) => Err(error),
            None if plan.drop.is_empty() && plan.merges.is_empty() => Ok(None),
            None => Ok(Some((layout.clone(), plan))),
        }
    }

    fn carry_out(
        &mut self,
        catalogue: &Catalogue,
        mut layout: Layout,
        plan: Plan,
        rules: &dyn KindRules,
        thinned: &mut Thinned,
    ) -> Result<(), VaultError> {
        let mut writing = self.begin_writing()?;
        let mut merged = Vec::new();
        for merge in plan.merges {
            let run = write_merged(&self.reader, &mut writing.chunks, rules, &merge.runs)?;
            thinned.runs_merged += 1;
            thinned.entries_written += run.parts.iter().map(|part| part.entries).sum::<u64>();
            merged.push(PlacedRun { from: merge.from, to: merge.to, run });
        }
        thinned.points_dropped += plan.drop.len() as u64;
        layout.runs.extend(merged);
        layout.dropped.extend(plan.drop);
        self.make_readable(writing)?;
        self.put_next_layout(catalogue, layout)
    }

    fn begin_writing(&self) -> Result<Writing, VaultError> {
        let Some(collections) = self.vault.collections()? else {
            return Err(self
                .look
                .refused("a record in gc/ has gone while it was read: look for a second custodian"));
        };
        let collection = collections.newest();
        let view = WriterView::of_custodian(self.vault.clone(), collections);
        let ring = self.vault.ring().clone();
        Ok(Writing { chunks: ChunkWriter::new(self.pool.clone(), ring, vec![view]), collection })
    }

    /// Packs, then the index that names them; what needs them comes after.
    fn make_readable(&self, writing: Writing) -> Result<(), VaultError> {
        let written = writing.chunks.flush().pop().ok_or(VaultError::GivenUp)??;
        self.put_index(writing.collection, written.packs)
    }
}

/// What a thinning goes by in all sources.
struct Wanted<'w> {
    keep: &'w KeepOf<'w>,
    /// Points that are unwanted whatever retention says.
    unwanted: &'w HashSet<PointLink>,
    /// Points that somebody reads or builds on.
    pins: &'w HashSet<PointId>,
    /// Chunks that are known to be lost.
    lost: &'w HashSet<ChunkId>,
}

/// Chunks that a layout is to need.
struct Writing {
    chunks: ChunkWriter,
    /// The newest when it began.
    collection: CollectionNumber,
}

impl Inspection<'_> {
    /// What retention wants of the accepted points of a source, and which must stay whatever it wants: what is pinned after `pins`
    /// were listed stays by the pass that comes after.
    pub(super) fn wishes(
        &self,
        catalogue: &Catalogue,
        layout: &Layout,
        keep: &Keep,
        pins: &HashSet<PointId>,
    ) -> Wishes {
        let undecided = catalogue.points().iter().chain(catalogue.partial_points());
        let parents =
            undecided.filter(|point| !catalogue.accepts(point.link)).filter_map(|p| p.vault_part.parent);
        let all = layout.accepted.iter().map(|accepted| accepted.link);
        let parents: HashSet<PointLink> = parents.collect();
        // What was dropped and has no runs any more is out of reach, whoever pins it.
        let (dropped, reached) = (&layout.dropped, tree(layout.runs.iter()));
        let is_out_of_reach = |link: &PointLink| dropped.contains(link) && !reached.contains_key(link);
        let pinned = all
            .filter(|link| pins.contains(&link.point) || parents.contains(link))
            .filter(|link| !is_out_of_reach(link))
            .collect();
        let unwanted = judged(self.now(), catalogue, layout, keep)
            .into_iter()
            .filter(|(_, reasons)| reasons.is_empty())
            .map(|(accepted, _)| accepted.link)
            .chain(spent_partials(catalogue, self.now()))
            .chain(doubles(layout))
            .collect();
        let partial = catalogue.partial_points().iter().map(|point| point.link).collect();
        Wishes { unwanted, pinned, partial }
    }
}

/// The accepted points that are points of their own, oldest first, and why retention keeps each.
pub(super) fn judged<'l>(
    now: Timestamp,
    catalogue: &Catalogue,
    layout: &'l Layout,
    keep: &Keep,
) -> Vec<(&'l Accepted, Vec<Reason>)> {
    let partial: HashSet<PointLink> = catalogue.partial_points().iter().map(|point| point.link).collect();
    let doubles = doubles(layout);
    let counts = |accepted: &&Accepted| {
        let link = &accepted.link;
        !partial.contains(link) && !layout.dropped.contains(link) && !doubles.contains(link)
    };
    let points: Vec<&Accepted> = layout.accepted.iter().filter(counts).collect();
    let known: HashMap<PointLink, &PointCommon> =
        catalogue.points().iter().map(|point| (point.link, &point.common)).collect();
    // Of several objects of a point, which may have come at different times, the latest counts.
    let mut latest: HashMap<PointId, Timestamp> = HashMap::new();
    for accepted in layout.accepted.iter().filter(|accepted| !layout.dropped.contains(&accepted.link)) {
        let time = latest.entry(accepted.link.point).or_insert(accepted.retention_time);
        *time = accepted.retention_time.max(*time);
    }
    let aged = |accepted: &&Accepted| {
        let time = latest.get(&accepted.link.point).copied();
        let common = known.get(&accepted.link);
        Aged {
            time: time.unwrap_or(accepted.retention_time),
            sequence: common.map_or(0, |common| common.sequence),
            is_held: !accepted.holds.is_empty(),
            entries: common.map_or(0, |common| common.entries),
            root_file_system: common.and_then(|common| common.facts.root_file_system),
        }
    };
    let aged: Vec<Aged> = points.iter().map(aged).collect();
    points.into_iter().zip(judge_at(now, keep, &aged)).collect()
}

/// Further objects of a point that is there already: somebody has copied it while a capture put it. They hold the same, and
/// no rule counts them. One that is held stays, whatever else is there.
fn doubles(layout: &Layout) -> HashSet<PointLink> {
    let accepted = layout.accepted.iter().filter(|accepted| !layout.dropped.contains(&accepted.link));
    let (held, loose): (Vec<&Accepted>, Vec<&Accepted>) =
        accepted.partition(|accepted| !accepted.holds.is_empty());
    let mut seen: HashSet<PointId> = held.iter().map(|accepted| accepted.link.point).collect();
    loose.iter().map(|accepted| accepted.link).filter(|link| !seen.insert(link.point)).collect()
}

/// Partial points whose capture has ended in a point, or that nobody has gone on with for long.
fn spent_partials(catalogue: &Catalogue, now: Timestamp) -> impl Iterator<Item = PointLink> {
    catalogue.partial_points().iter().filter_map(move |point| {
        let partial = point.vault_part.partial.as_ref()?;
        let ends = |full: &PointObject| match partial.copied {
            Some(copied) => full.link.point == copied,
            None => {
                full.vault_part.parent == point.vault_part.parent
                    && full.common.capture_start >= partial.capture_start
            }
        };
        let is_ended = catalogue.points().iter().any(|full| ends(full));
        // Or of a time to come, by so much: its writer's clock was wrong.
        let end = point.common.capture_end;
        let is_old = now.duration_since(end).max(end.duration_since(now)) > PARTIAL_KEPT;
        (is_ended || is_old).then_some(point.link)
    })
}

fn refers_to(reader: &ChunkReader, run: &Run, chunks: &HashSet<ChunkId>) -> Result<bool, VaultError> {
    let mut refers = false;
    for part in run.parts.iter().filter(|_| !chunks.is_empty()) {
        part_chunks(reader, part, &mut |chunk| refers |= chunks.contains(&chunk))?;
    }
    Ok(refers)
}

fn weights(
    catalogue: &Catalogue,
    reader: &ChunkReader,
    known: &mut HashMap<ChunkId, u64>,
    base: &Run,
    edits: &[Run],
    to: PointLink,
) -> Result<Weights, VaultError> {
    let entries = |run: &Run| run.parts.iter().map(|part| part.entries).sum::<u64>();
    let mut referred = 0u64;
    for part in edits.iter().chain([base]).flat_map(|run| &run.parts) {
        let bytes = match known.get(&part.root) {
            Some(bytes) => *bytes,
            None => referred_bytes(reader, part)?,
        };
        known.insert(part.root, bytes);
        referred = referred.saturating_add(bytes);
    }
    let state = catalogue.points().iter().find(|point| point.link == to).map(|point| point.common.bytes);
    Ok(Weights {
        base_entries: entries(base),
        edit_entries: edits.iter().map(entries).sum(),
        referred_bytes: referred,
        // Of a point that is not there nothing is known: then entries decide.
        state_bytes: state.unwrap_or(u64::MAX),
    })
}
