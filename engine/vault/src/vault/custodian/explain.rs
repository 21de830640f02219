//! What a prune would do to each point, and why: nothing is written. A prune decides on what was committed, and then thins.

use std::collections::HashSet;

use backstay_core::id::{PointId, SessionId};
use backstay_core::layout::Layout;
use backstay_core::point::PointLink;
use backstay_core::retention::Reason;
use backstay_core::thinning::{Obstacle, plan};
use backstay_core::units::Timestamp;

use super::super::Catalogue;
use super::decide::Deciding;
use super::redate::redate;
use super::thin::judged;
use super::{Inspection, KeepOf};
use crate::error::VaultError;

/// The points of one source, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFates {
    /// The source.
    pub source_name: String,
    /// Its points, oldest first.
    pub points: Vec<(PointLink, Timestamp, PointFate)>,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointFate {
    /// Retention keeps it, for these reasons.
    Kept(Vec<Reason>),
    /// It would be dropped.
    Dropped,
    /// Nobody wants it, and it stays for now.
    Stays(Obstacle),
    /// It is of a commit that has not ended; a prune would wait for that.
    New,
    /// Its kind is not known to this version: its points are left as they are.
    UnknownKind,
}

impl Inspection<'_> {
    /// What [`Custodian::accept`](super::Custodian::accept) and then [`Custodian::thin`](super::Custodian::thin) would do
    /// now; with [`Custodian::trust_clock`](super::Custodian::trust_clock) between them if `trusts_clock`.
    pub fn explain(&self, keep: &KeepOf<'_>, trusts_clock: bool) -> Result<Vec<SourceFates>, VaultError> {
        let mut all = Vec::new();
        let (sessions, fences) = (self.list_sessions()?, self.list_fences()?);
        let under_way: HashSet<SessionId> = sessions.open(&fences).map(|session| session.session).collect();
        let pins = sessions.pins(&fences);
        let newest = self.vault().newest_collection()?;
        let next = newest.next().unwrap_or(newest);
        let trust = self.vault().trust();
        for mut catalogue in self.survey()? {
            let (sessions, fences, pins) = (&sessions, &fences, &pins);
            let custodian = trust.custodian_key();
            let deciding = Deciding { catalogue: &catalogue, sessions, fences, pins, custodian };
            let mut layout = deciding.layout(trust.custodian.term, next, self.now())?;
            if trusts_clock {
                redate(&catalogue, &mut layout, self.now());
            }
            catalogue.goes_by(layout);
            let Some(known) = catalogue.points().first() else { continue };
            let source_name = known.common.source_name.clone();
            let fates = match self.rules(&known.common.kind).is_some() {
                true => self.fates(&catalogue, keep(&source_name).unwrap_or_default(), pins)?,
                false => Vec::new(),
            };
            let fate = |link: PointLink| {
                let found = fates.iter().find(|(of, _)| *of == link).map(|(_, fate)| fate.clone());
                found.unwrap_or(if fates.is_empty() { PointFate::UnknownKind } else { PointFate::New })
            };
            let points = catalogue.points().iter();
            let points = points.map(|point| {
                let fate = match under_way.contains(&point.vault_part.session) {
                    true => PointFate::New,
                    false => fate(point.link),
                };
                (point.link, point.common.capture_start, fate)
            });
            all.push(SourceFates { source_name, points: points.collect() });
        }
        Ok(all)
    }

    fn fates(
        &self,
        catalogue: &Catalogue,
        keep: backstay_core::config::Keep,
        pins: &HashSet<PointId>,
    ) -> Result<Vec<(PointLink, PointFate)>, VaultError> {
        let none = Layout::default();
        let layout = catalogue.layout.as_ref().unwrap_or(&none);
        let wishes = self.wishes(catalogue, layout, &keep, pins);
        let plan = plan(layout, &wishes, &mut |_, _, _| false)?;
        let dropped: HashSet<PointLink> = plan.drop.iter().copied().collect();
        let fate = |link: PointLink, reasons: Vec<Reason>| match plan.stay.iter().find(|(of, _)| *of == link)
        {
            Some((_, obstacle)) => PointFate::Stays(*obstacle),
            None if dropped.contains(&link) => PointFate::Dropped,
            None => PointFate::Kept(reasons),
        };
        let judged = judged(self.now(), catalogue, layout, &keep).into_iter();
        let fates = judged.map(|(accepted, reasons)| (accepted.link, fate(accepted.link, reasons)));
        // Further objects of a point, which no rule judges.
        let rest = layout.accepted.iter().map(|accepted| (accepted.link, fate(accepted.link, Vec::new())));
        let fates = fates.chain(rest);
        let new = catalogue.points().iter().filter(|point| !catalogue.accepts(point.link));
        Ok(fates.chain(new.map(|point| (point.link, PointFate::New))).collect())
    }
}
