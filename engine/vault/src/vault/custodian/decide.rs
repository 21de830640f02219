//! Deciding: layouts that accept the points seen, decide their sessions and the fenced ones for good, and let runs go
//! that nothing needs any more (docs/collection.md, rules 3 to 6).

use std::collections::{BTreeSet, HashSet};

use backstay_core::collection::CollectionNumber;
use backstay_core::id::{PointId, SessionId, SignerKey, SourceId};
use backstay_core::layout::{Accepted, Layout, tree};
use backstay_core::point::PointLink;
use backstay_core::retention::retention_time;
use backstay_core::thinning;
use backstay_core::units::Timestamp;

use super::super::{Catalogue, PointObject};
use super::announce::Announced;
use super::wait::{Fences, Sessions};
use super::{Collected, Custodian};
use crate::commit_object::SessionKind;
use crate::error::VaultError;

/// What was decided in a pass.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Every source, as it was listed when it was decided.
    pub(super) sources: Vec<(Catalogue, Layout)>,
    /// Points that are read, or were pinned by commits that go on.
    pub(super) pins: HashSet<PointId>,
}

/// One source, and what there is to know for a decision on it.
pub(super) struct Deciding<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) sessions: &'a Sessions,
    pub(super) fences: &'a Fences,
    pub(super) pins: &'a HashSet<PointId>,
    /// The key of the custodian that decides, if it is known.
    pub(super) custodian: Option<SignerKey>,
}

impl Custodian<'_> {
    /// Lists points, and puts a layout for every source of which a session, a fence, a point or a layout speaks.
    pub(super) fn decide(
        &mut self,
        pass: &Announced,
        sessions: &Sessions,
        fences: &Fences,
        done: &mut Collected,
    ) -> Result<Decided, VaultError> {
        let pins = sessions.pins(fences);
        let mut decided = Decided::default();
        let mut catalogues = self.look.survey()?;
        let known: HashSet<SourceId> = catalogues.iter().map(|catalogue| catalogue.source).collect();
        let of_sessions = sessions.known.values().flat_map(|session| &session.object.sources);
        let of_fences = fences.known.values().flat_map(|fence| &fence.sources);
        let named: BTreeSet<SourceId> = of_sessions.chain(of_fences).copied().collect();
        for source in named.into_iter().filter(|source| !known.contains(source)) {
            catalogues.push(self.vault.catalogue(source)?);
        }
        for catalogue in catalogues {
            let custodian = Some(self.identity.signer.public());
            let deciding = Deciding { catalogue: &catalogue, sessions, fences, pins: &pins, custodian };
            let layout = deciding.layout(self.term, pass.number, self.look.now())?;
            let before = catalogue.layout.as_ref().map_or(0, |layout| layout.accepted.len());
            done.points_accepted += deciding.to_accept().count() as u64;
            tracing::debug!(source = %catalogue.source, before, now = layout.accepted.len(), "decided");
            self.put_layout(catalogue.source, &layout)?;
            decided.sources.push((catalogue, layout));
        }
        decided.pins = pins;
        Ok(decided)
    }
}

impl<'a> Deciding<'a> {
    /// Whether a pass would change what the source's layout says, or take away objects.
    pub(super) fn has_something_to_decide(&self) -> bool {
        self.to_accept().next().is_some() || !self.catalogue.refused().is_empty()
    }

    /// The next layout of the source, decided in this collection.
    pub(super) fn layout(
        &self,
        term: u64,
        collection: CollectionNumber,
        now: Timestamp,
    ) -> Result<Layout, VaultError> {
        let old = self.catalogue.layout.clone().unwrap_or_default();
        let dropped: HashSet<PointLink> = old.dropped.iter().copied().collect();
        let mut layout = Layout {
            generation: old.generation + 1,
            previous: self.catalogue.layout_object,
            term,
            accepted: old.accepted,
            runs: old.runs,
            decided: self.decided(collection),
            dropped: old.dropped,
            decided_below: collection,
            collection,
            replaced: old.replaced,
        };
        if let Some(read_since) = self.read_since() {
            layout.replaced.retain(|replaced| replaced.collection >= read_since);
        } else {
            layout.replaced.clear();
        }
        layout.accepted.retain(|accepted| !dropped.contains(&accepted.link));
        for point in self.to_accept() {
            let previous = layout.accepted.last().map(|accepted| accepted.retention_time);
            // Of what the custodian has copied itself, the time is known; anybody else could push others out with it.
            let copied = point.vault_part.retention_time.filter(|_| Some(point.put_by) == self.custodian);
            let retention_time = match copied {
                Some(time) => time.min(now),
                None => retention_time(previous, point.common.capture_start, now),
            };
            let place = layout.accepted.partition_point(|known| known.retention_time <= retention_time);
            layout.accepted.insert(
                place,
                Accepted { link: point.link, retention_time, holds: point.common.holds.clone() },
            );
            layout.runs.push(point.own_run());
        }
        // A point whose runs are gone is read by nobody any more, whatever a session says that has come too late.
        let reached = tree(layout.runs.iter());
        let pinned = |link: &PointLink| self.is_pinned(link) && reached.contains_key(link);
        let pinned: Vec<PointLink> = layout.dropped.iter().copied().filter(pinned).collect();
        let roots: Vec<PointLink> =
            layout.accepted.iter().map(|accepted| accepted.link).chain(pinned).collect();
        layout.runs = thinning::needed(&layout, &roots)?;
        // Once its object is gone, that its session is decided is enough.
        layout.dropped.retain(|link| self.is_pinned(link) || self.catalogue.refused().contains(link));
        Ok(layout)
    }

    /// Points that were seen, count, and are not accepted yet, oldest first. One that its session was not opened for is
    /// not welcome.
    pub(super) fn to_accept(&self) -> impl Iterator<Item = &'a PointObject> {
        let (catalogue, sessions) = (self.catalogue, self.sessions);
        let mut points: Vec<&PointObject> =
            catalogue.points().iter().chain(catalogue.partial_points()).map(|point| &**point).collect();
        points.sort_by_key(|point| (point.common.sequence, point.common.capture_start));
        points.into_iter().filter(move |point| {
            let session = sessions.known.get(&point.vault_part.session);
            !catalogue.accepts(point.link) && session.is_none_or(|session| session.may_have_written(point))
        })
    }

    /// Sessions on which the decision has to be written down: those that began after the pass was announced, and of
    /// which a point was seen or that were fenced. All earlier ones are decided by their number.
    fn decided(&self, collection: CollectionNumber) -> Vec<SessionId> {
        let seen = self.to_accept().map(|point| (point.vault_part.session, point.vault_part.collection));
        let fenced =
            self.fences.known.values().filter(|fence| fence.sources.contains(&self.catalogue.source));
        let fenced = fenced.map(|fence| (fence.session, fence.collection));
        let old = self.catalogue.layout.iter().flat_map(|layout| &layout.decided);
        // Of those that stand there already the number is known only while their session is.
        let old = old.map(|session| {
            let known = self.sessions.known.get(session).map(|known| known.object.collection);
            (*session, known.unwrap_or(collection))
        });
        let late = seen.chain(fenced).chain(old).filter(|(_, began)| *began >= collection);
        late.map(|(session, _)| session).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The collection in which the oldest session began that still reads the source or builds on it. Who began no
    /// later than a run was replaced may go by that run.
    fn read_since(&self) -> Option<CollectionNumber> {
        let layout = || self.catalogue.layout.iter();
        let accepted = layout().flat_map(|layout| &layout.accepted).map(|accepted| accepted.link);
        let links = accepted.chain(layout().flat_map(|layout| layout.dropped.iter().copied()));
        // One that is not accepted yet may be read as well.
        let links = links.chain(self.catalogue.links());
        let points: HashSet<PointId> = links.map(|link| link.point).collect();
        let open = self.sessions.open(self.fences);
        let readers = open.filter(|session| session.pins.iter().any(|pin| points.contains(pin)));
        readers.map(|session| session.collection).min()
    }

    fn is_pinned(&self, link: &PointLink) -> bool {
        self.pins.contains(&link.point)
    }
}

impl Sessions {
    /// How many commits are under way.
    pub(super) fn writing(&self, fences: &Fences) -> usize {
        self.open(fences).filter(|session| session.kind == SessionKind::Writer).count()
    }
}
