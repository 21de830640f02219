//! Copying of points into another vault of the same domain: sealed records move as they are, points keep their ids, what
//! their nodes have signed, and their place in time. What is there already is passed over, so that a copy can be stopped
//! and done again. A copier is a writer like any other: captures to the same vault go on beside it.

mod sending;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::id::{ChunkId, PointId, SourceId};
use backstay_core::kind::Kinds;
use backstay_core::layout::PlacedRun;
use backstay_core::run::Run;

use self::sending::{Sending, SentParts};
use super::custodian::write_merged;
use super::draft::Original;
use super::{Catalogue, PointDraft, PointObject, Session, Vault, WriterIdentity};
use crate::error::VaultError;
use crate::index::Sealing;
use crate::name::{Named, ObjectName};
use crate::read::ChunkReader;
use crate::write::{ChunkWriter, CpuPool};

/// How much one commit copies, more or less: that much has to be sent again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// Bytes of records.
    pub bytes: u64,
    /// Chunks: their ids are in memory meanwhile.
    pub chunks: usize,
}

impl Default for CopyLimits {
    fn default() -> Self {
        Self { bytes: 4 << 30, chunks: 1 << 18 }
    }
}

/// Most failures that are kept one by one.
const FAILURES_MAX: usize = 1000;

/// How often it is looked whether an upload has failed, while it is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a point is not copied that is there already: a second object of it would stay beside the first.
const UNSETTLED: &str =
    "it is there by a commit that has not ended; copy again when that has ended, or the vault was pruned";

/// Copies from one vault to another.
#[derive(Clone)]
pub struct Copying<'c> {
    /// Where from.
    pub from: Arc<Vault>,
    /// Where to.
    pub to: Arc<Vault>,
    /// Who writes there.
    pub writer: Arc<WriterIdentity>,
    /// What is known of kinds of sources: runs of points that are not copied are merged.
    pub kinds: Arc<Kinds>,
    /// Threads for that.
    pub pool: Arc<CpuPool>,
    /// The time.
    pub clock: &'c dyn Clock,
    /// How much one commit copies.
    pub limits: CopyLimits,
}

/// What was copied.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Points that are there now and were not before.
    pub points: u64,
    /// Points that were there.
    pub already: u64,
    /// Records that were sent.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Points that could not be copied, and why: source, point, reason. At most 1000.
    pub failures: Vec<(String, PointId, String)>,
    /// How many there are more.
    pub more_failures: u64,
    /// How many of the failures are of points that are there by a commit on which no pass has decided yet.
    pub undecided: u64,
}

impl Copied {
    /// With what a further run over the same points has done: it has found those of this one.
    #[must_use]
    pub fn and_then(self, next: Self) -> Self {
        Self {
            points: self.points + next.points,
            already: next.already.saturating_sub(self.points),
            records: self.records + next.records,
            bytes: self.bytes + next.bytes,
            ..next
        }
    }

    fn failed(&mut self, point: &PointObject, why: String) {
        self.failed_of(&point.common.source_name, point.link.point, why);
    }

    fn failed_of(&mut self, source_name: &str, point: PointId, why: String) {
        match self.failures.len() < FAILURES_MAX {
            true => self.failures.push((source_name.to_owned(), point, why)),
            false => self.more_failures += 1,
        }
    }
}

impl Copying<'_> {
    /// Copies all points that count, of the sources for which `wanted` says so, the oldest first. `tell` hears how far it
    /// came.
    ///
    /// # Errors
    /// What concerns not one point alone. What was committed before stays.
    pub fn run(
        &self,
        wanted: &dyn Fn(SourceId) -> bool,
        tell: &dyn Fn(&Copied),
    ) -> Result<Copied, VaultError> {
        self.run_those(Choice::All, wanted, tell)
    }

    /// Copies the points that came after the newest one that is there, as [`run`](Self::run) does: what retention has dropped
    /// there does not come back. Behind one on which no pass has decided it copies nothing, or that one would be passed over.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_newer(
        &self,
        wanted: &dyn Fn(SourceId) -> bool,
        tell: &dyn Fn(&Copied),
    ) -> Result<Copied, VaultError> {
        self.run_those(Choice::Newer, wanted, tell)
    }

    fn run_those(
        &self,
        choice: Choice,
        wanted: &dyn Fn(SourceId) -> bool,
        tell: &dyn Fn(&Copied),
    ) -> Result<Copied, VaultError> {
        if self.from.format().domain != self.to.format().domain {
            let (found, expected) = (self.to.format().domain, self.from.format().domain);
            return Err(VaultError::WrongKey { place: self.to.place(), found, expected });
        }
        self.from.refresh_index(None)?;
        let mut copied = Copied::default();
        for source in self.from.sources()?.into_iter().filter(|source| wanted(*source)) {
            let mut catalogue = self.from.catalogue(source)?;
            let there = self.to.catalogue(source)?;
            if let Some(damaged) = catalogue.take_damaged_layout() {
                // Which points there are is not known. One source keeps no other from being copied.
                tracing::warn!(%source, %damaged, "not copied");
                let broken = catalogue.broken().map(|(point, _)| point);
                let lacking =
                    catalogue.points().iter().chain(broken).filter(|point| is_lacking(&there, point));
                lacking.for_each(|point| copied.failed(point, damaged.to_string()));
                copied.more_failures +=
                    u64::from(catalogue.points().is_empty() && catalogue.broken().next().is_none());
                continue;
            }
            tell_left_out(&catalogue, &there, &mut copied);
            for point in choice.of(catalogue.points(), &there) {
                let undecided = copied.undecided;
                if self.is_there(&there, point, &mut copied)? {
                    if choice == Choice::Newer && copied.undecided > undecided {
                        break;
                    }
                    continue;
                }
                match self.copy_point(&catalogue, point, &mut copied) {
                    Ok(()) => {}
                    Err(error) if is_of_one_point(&error, &self.from) => {
                        copied.failed(point, error.to_string())
                    }
                    Err(error) => return Err(error),
                }
                tell(&copied);
            }
        }
        Ok(copied)
    }

    /// Whether there is an object of the point already, and what is to be said of it.
    fn is_there(
        &self,
        there: &Catalogue,
        point: &PointObject,
        copied: &mut Copied,
    ) -> Result<bool, VaultError> {
        let Some(known) = there.point(point.link.point) else { return Ok(false) };
        // Else a collection may yet decide against it.
        match self.to.is_settled(there, known)? {
            true => copied.already += 1,
            false => {
                copied.undecided += 1;
                copied.failed(point, UNSETTLED.to_owned());
            }
        }
        Ok(true)
    }

    fn copy_point(
        &self,
        catalogue: &Catalogue,
        point: &PointObject,
        copied: &mut Copied,
    ) -> Result<(), VaultError> {
        self.check_author(catalogue, point)?;
        let way = catalogue.way(point.link)?;
        let mut sent = SentParts::default();
        loop {
            let now = self.clock.now();
            let name = &point.common.source_name;
            let choose = |there: &Catalogue| self.base(&way, there);
            let (session, there) = Session::open_on(&self.to, &self.writer, name, now, &choose)?;
            // A capture that feeds both vaults may have put it since it was listed.
            if self.is_there(&there, point, copied)? {
                return session.give_up(self.clock.now());
            }
            let mut sending = Sending::to(&self.to);
            let drafted =
                self.send(catalogue, point, (&way, &mut sent), (&session, &there), &mut sending, copied);
            match drafted {
                // What was sent is not sent again for the next point that needs it.
                Err(error) if is_of_one_point(&error, &self.from) && !sending.sent.is_empty() => {
                    self.commit_some(point, session, sending)?;
                    return Err(error);
                }
                Err(error) => {
                    session.give_up(self.clock.now())?;
                    return Err(error);
                }
                Ok(Some(draft)) => {
                    let written = match sending.written() {
                        Ok(written) => written,
                        Err(error) => {
                            session.give_up(self.clock.now())?;
                            return Err(error);
                        }
                    };
                    session.commit(written, &[draft], &[], self.clock)?;
                    copied.points += 1;
                    return Ok(());
                }
                // As much as one commit takes: the rest with the next. Or the point has come, as the next look shows.
                Ok(None) => self.commit_some(point, session, sending)?,
            }
        }
    }

    /// Sends what is missing of a point, and drafts it when that is all and nobody else has put it meanwhile.
    fn send(
        &self,
        catalogue: &Catalogue,
        point: &PointObject,
        (way, sent): (&[PlacedRun], &mut SentParts),
        (session, there): (&Session, &Catalogue),
        sending: &mut Sending,
        copied: &mut Copied,
    ) -> Result<Option<PointDraft>, VaultError> {
        let runs = runs_onto(way, session.parent().map(|parent| parent.link.point));
        if !self.send_chunks(&runs, sent, session, sending, copied)? {
            return Ok(None);
        }
        let run = match &runs[..] {
            [run] => run.clone(),
            runs => {
                let kind = &point.common.kind;
                let unknown =
                    || VaultError::Table(format!("this version does not know sources of kind {kind}"));
                let rules = self.kinds.get(kind.as_str()).ok_or_else(unknown)?;
                let ring = self.to.ring().clone();
                let mut chunks = ChunkWriter::new(self.pool.clone(), ring, vec![session.view()]);
                let run = write_merged(&ChunkReader::new(self.from.clone()), &mut chunks, &**rules, runs)?;
                sending.merged = chunks.flush().pop().ok_or(VaultError::GivenUp)??.packs;
                run
            }
        };
        // What comes after this look stands beside the copy: two objects of one point, of which retention drops one.
        if self.to.catalogue(catalogue.source)?.point(point.link.point).is_some() {
            return Ok(None);
        }
        Ok(Some(PointDraft {
            original: Some(self.original(catalogue, point)?),
            common: point.common.clone(),
            parent: session.parent().map(|parent| parent.link),
            run: run.parts,
            previous_head: there.head.as_ref().map(|(hash, _)| *hash),
            partial: None,
        }))
    }

    /// The newest point on the way to one that the other vault has, so that nothing can take it away; `None` is nothing.
    fn base(&self, way: &[PlacedRun], there: &Catalogue) -> Result<Option<Arc<PointObject>>, VaultError> {
        for placed in way {
            let known = placed.from.and_then(|from| there.point(from.point));
            if let Some(known) = known
                && self.to.is_settled(there, known)?
            {
                return Ok(Some(Arc::clone(known)));
            }
        }
        Ok(None)
    }

    /// Whether only compromised keys have sealed a chunk where it comes from.
    fn is_compromised(&self, chunk: &ChunkId) -> Result<bool, VaultError> {
        Ok(self.from.has_compromised() && self.from.sealing(chunk)? == Sealing::Compromised)
    }

    /// That the other vault takes the point for one of its author.
    fn check_author(&self, catalogue: &Catalogue, point: &PointObject) -> Result<(), VaultError> {
        let (_, signer, _) = self.from.signed_common(catalogue.source, point.link)?;
        let author = self.to.trust().node(&signer);
        match author.is_some_and(|node| node.may_author(&point.common.source_name)) {
            true => Ok(()),
            false => Err(VaultError::UnknownAuthor {
                node: point.common.node.clone(),
                signer,
                place: self.to.place(),
            }),
        }
    }

    fn original(&self, catalogue: &Catalogue, point: &PointObject) -> Result<Original, VaultError> {
        let (common, signer, signature) = self.from.signed_common(catalogue.source, point.link)?;
        // What no pass has accepted here will be judged by the same here.
        let retention_time = catalogue.retention_time(point.link).unwrap_or(point.common.capture_start);
        let retention_time = Some(retention_time);
        Ok(Original { common, signer, signature, retention_time })
    }
}

/// Which points of a source are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// All that are not there.
    All,
    /// Those that came after the newest one that is there.
    Newer,
}

impl Choice {
    /// Those of these points, oldest first, that may have to be copied; with the newest one that is there, which may be
    /// undecided. What the vault has decided against was never there.
    fn of<'p>(self, points: &'p [Arc<PointObject>], there: &Catalogue) -> &'p [Arc<PointObject>] {
        let counts = |point: &Arc<PointObject>| there.point(point.link.point).is_some();
        let dropped: HashSet<PointId> =
            there.layout.iter().flat_map(|layout| &layout.dropped).map(|link| link.point).collect();
        let was_there = |point: &Arc<PointObject>| counts(point) || dropped.contains(&point.link.point);
        match points.iter().rposition(was_there).filter(|_| self == Self::Newer) {
            Some(newest) if counts(&points[newest]) => &points[newest..],
            Some(newest) => &points[newest + 1..],
            None => points,
        }
    }
}

impl std::fmt::Debug for Copying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copying").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

fn is_lacking(there: &Catalogue, point: &PointObject) -> bool {
    there.point(point.link.point).is_none()
}

/// Points that the vault has had and that cannot be copied: objects that are gone or cannot be read, and points that build on
/// such. What is there already needs nothing.
fn tell_left_out(catalogue: &Catalogue, there: &Catalogue, copied: &mut Copied) {
    for (point, missing) in catalogue.broken() {
        if is_lacking(there, point) {
            copied.failed(point, format!("point {missing}, which it builds on, is lost"));
        }
    }
    let source_name = match catalogue.points().first() {
        Some(point) => point.common.source_name.clone(),
        None => format!("source {}", catalogue.source),
    };
    let mut unreadable = HashSet::new();
    for error in &catalogue.left_out {
        let object = match error {
            VaultError::Damaged { object, .. } => object,
            VaultError::Store(error) => &error.object,
            _ => continue,
        };
        let Some((_, Named::Point(_, point, _))) = ObjectName::parse(object) else { continue };
        if there.point(point).is_none() && unreadable.insert(point) {
            copied.failed_of(&source_name, point, error.to_string());
        }
    }
    for gone in catalogue.accepted_and_gone() {
        if there.point(gone.point).is_none() && unreadable.insert(gone.point) {
            copied.failed_of(&source_name, gone.point, "its object is lost".to_owned());
        }
    }
}

/// The runs of the way to a point that lead there from its parent in the other vault, the last one first. By the parent that
/// the session has pinned: a nearer point may have become settled since.
fn runs_onto(way: &[PlacedRun], parent: Option<PointId>) -> Vec<Run> {
    let is_first = |placed: &PlacedRun| parent.is_some() && placed.from.map(|from| from.point) == parent;
    let count = way.iter().position(is_first).map_or(way.len(), |place| place + 1);
    way[..count].iter().map(|placed| placed.run.clone()).collect()
}

/// What is wrong with a point here keeps no other from being copied.
fn is_of_one_point(error: &VaultError, from: &Vault) -> bool {
    match error {
        VaultError::Chunk { place, .. } => *place == from.place(),
        // A pass has deleted it since it was listed.
        VaultError::Store(error) => error.is_not_found() && error.place == from.place(),
        VaultError::Stack(_)
        | VaultError::Table(_)
        | VaultError::MayNotWrite { .. }
        | VaultError::UnknownAuthor { .. } => true,
        _ => false,
    }
}
