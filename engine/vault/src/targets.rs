//! The vaults that one capture feeds: a session on each, one chunk writer for all, and the commits, partial ones
//! included. A target that fails is left behind; the others go on.

mod captured;
mod others;
mod standing;

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::clock::Clock;
use backstay_core::id::{CaptureId, ChunkId, ObjectHash, PointId, SourceId};
use backstay_core::point::{DefectCount, Facts, HeadTarget, Partial, PointCommon, PointLink};
use backstay_core::run::PartRef;
use backstay_core::units::Timestamp;

use crate::error::VaultError;
use crate::keys::random_bytes;
use crate::table::keeping_part;
use crate::vault::{HeadDraft, PointDraft, PointObject, Session, Vault, WriterIdentity};
use crate::write::{ChunkWriter, CpuPool, Written};

pub use self::captured::CapturedState;
pub use self::others::{WaitWatch, WithOthers};
pub use self::standing::Standing;

/// Greater numbers of points in other vaults are not counted on from: a vault that has run out of numbers, or a file that
/// lies, keeps no other from being captured to.
const SEEN_SEQUENCE_END: u64 = 1 << 61;

/// What a capture knows of its source before it begins.
#[derive(Debug, Clone)]
pub struct CaptureSource {
    /// `SERVICE.KIND`.
    pub name: String,
    /// Kind of source.
    pub kind: &'static str,
    /// Facts of the kind.
    pub facts: Facts,
    /// Names under which the point is to be held for ever. With any, there is a point also when nothing has changed.
    pub holds: Vec<String>,
    /// The newest point of each vault, as this node has put it or seen it.
    pub seen: Vec<HeadTarget>,
    /// A number that points of the source have elsewhere, where it goes on to: this one comes after.
    pub numbered_after: u64,
}

/// The targets of one capture; all at the same cursor.
#[derive(Debug)]
pub struct Targets {
    writer: Arc<WriterIdentity>,
    source: CaptureSource,
    source_id: SourceId,
    capture: CaptureId,
    sequence: u64,
    targets: Vec<Target>,
    rolled_back: Vec<RolledBack>,
    others: Option<WithOthers>,
}

/// A vault that does not have what was acknowledged in it: its store serves an older state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Where it is.
    pub place: String,
    /// Sequence number of the newest point that it has.
    pub ends_at: u64,
    /// Of the newest that it had.
    pub had: u64,
}

#[derive(Debug)]
struct Target {
    vault: Arc<Vault>,
    state: TargetState,
    parent: Option<PointLink>,
    parent_sequence: u64,
    head: Option<ObjectHash>,
    /// What this capture may go on from, oldest first.
    partial: Vec<Arc<PointObject>>,
}

impl Target {
    fn new(session: Session, standing: &Standing, node: &str, facts: &Facts, clock: &dyn Clock) -> Self {
        let vault = Arc::clone(&standing.vault);
        match standing.resumable(node, facts) {
            Ok(partial) => Self {
                vault,
                state: TargetState::Open(session),
                parent: standing.parent_link(),
                parent_sequence: standing.parent.as_ref().map_or(0, |point| point.common.sequence),
                head: standing.catalogue.head.as_ref().map(|(hash, _)| *hash),
                partial,
            },
            Err(error) => Self::failed(vault, give_up(session, clock).err().unwrap_or(error)),
        }
    }

    fn failed(vault: Arc<Vault>, error: VaultError) -> Self {
        let state = TargetState::Failed(error);
        Self { vault, state, parent: None, parent_sequence: 0, head: None, partial: Vec::new() }
    }
}

#[derive(Debug)]
enum TargetState {
    Open(Session),
    Failed(VaultError),
    /// Between two sessions.
    Committed,
}

impl RolledBack {
    fn find(standing: &Standing, seen: &[HeadTarget]) -> Option<Self> {
        let seen = seen.iter().find(|seen| seen.vault == standing.vault.id())?;
        let ends_at = standing.catalogue.newest().map_or(0, |point| point.common.sequence);
        let is_older = ends_at < seen.sequence && !standing.catalogue.has_object(seen.point);
        is_older.then(|| Self { place: standing.vault.place(), ends_at, had: seen.sequence })
    }
}

/// What became of one target.
pub type TargetResult = Result<Option<PointLink>, VaultError>;

impl Targets {
    /// Opens a session on each vault. Also gives the first vault that could be opened, and what it holds of the source.
    /// A vault where the capture would not build on the point at `cursor` is left behind as failed.
    pub fn open(
        vaults: Vec<Arc<Vault>>,
        writer: Arc<WriterIdentity>,
        source: CaptureSource,
        cursor: Option<PointId>,
        clock: &dyn Clock,
    ) -> Result<(Self, Option<Standing>), VaultError> {
        let source_id = vaults.first().map(|vault| vault.ring().source_id(&source.name));
        let source_id = source_id.ok_or(VaultError::GivenUp)?;
        let (mut first, mut rolled_back) = (None, Vec::new());
        // Also after what only other vaults have: once that is copied here, the newest is still the newest.
        let seen = source.seen.iter().map(|seen| seen.sequence).chain([source.numbered_after]);
        let mut sequence = seen.filter(|sequence| *sequence < SEEN_SEQUENCE_END).max().unwrap_or(0);
        let mut targets = Vec::with_capacity(vaults.len());
        for vault in vaults {
            let at_cursor = |parent: Option<PointLink>| parent.map(|link| link.point) == cursor;
            let target = match Standing::begin(&vault, &writer, &source.name, clock, at_cursor) {
                Ok((session, standing)) if standing.catalogue.next_sequence().is_none() => {
                    let place = vault.place();
                    session.give_up(clock.now())?;
                    Target::failed(vault, VaultError::NoNextNumber { source_id, place })
                }
                Ok((session, standing)) => {
                    sequence = sequence.max(standing.catalogue.greatest_sequence());
                    rolled_back.extend(RolledBack::find(&standing, &source.seen));
                    let target = Target::new(session, &standing, &writer.node, &source.facts, clock);
                    first.get_or_insert(standing);
                    target
                }
                Err(error) => Target::failed(vault, error),
            };
            targets.push(target);
        }
        let capture = CaptureId::new(random_bytes());
        let others = None;
        Ok((Self { writer, source, source_id, capture, sequence, targets, rolled_back, others }, first))
    }

    /// Where requests cost, little is committed together with what others commit at the same time.
    #[must_use]
    pub fn with_others(self, others: Option<WithOthers>) -> Self {
        Self { others, ..self }
    }

    /// Targets that have lost what was acknowledged in them.
    pub fn rolled_back(&self) -> &[RolledBack] {
        &self.rolled_back
    }

    /// Chunks that points of one of the targets need and that it has lost. A target that does not say is as before.
    pub fn lost_chunks(&self) -> HashSet<ChunkId> {
        let mut lost = HashSet::new();
        for target in &self.targets {
            if let TargetState::Open(session) = &target.state {
                match session.view().lost() {
                    Ok(of_target) => lost.extend(of_target),
                    Err(error) => tracing::warn!(%error, "what is lost there is not stored again"),
                }
            }
        }
        lost
    }

    /// A chunk writer for the sessions that are open; `None` when there is none.
    pub fn chunk_writer(&self, pool: &Arc<CpuPool>) -> Option<ChunkWriter> {
        let views: Vec<_> = self
            .targets
            .iter()
            .filter_map(|target| match &target.state {
                TargetState::Open(session) => Some(session.view()),
                _ => None,
            })
            .collect();
        let ring = Arc::clone(self.targets.first()?.vault.ring());
        (!views.is_empty()).then(|| ChunkWriter::new(Arc::clone(pool), ring, views))
    }

    /// Whether a point is wanted also when nothing has changed: one that is to be held.
    pub fn makes_a_point_anyhow(&self) -> bool {
        !self.source.holds.is_empty()
    }

    /// The source, as it is named in the vaults.
    pub fn source_id(&self) -> SourceId {
        self.source_id
    }

    /// What an interrupted capture of this node from the same cursor has left on every open target: the parts of its
    /// run, how far it came, and what was not as it should be till then. The capture takes its id over.
    pub fn resume_from(&mut self) -> Option<(Vec<PartRef>, Partial, Vec<DefectCount>)> {
        let mut open = self.targets.iter().filter(|target| matches!(target.state, TargetState::Open(_)));
        let first = open.next()?;
        let others: Vec<&Target> = open.collect();
        let same = |a: &PointObject, b: &PointObject| {
            (&a.vault_part.partial, &a.vault_part.run) == (&b.vault_part.partial, &b.vault_part.run)
        };
        let everywhere = |point: &PointObject| {
            others.iter().all(|target| target.partial.iter().any(|other| same(other, point)))
        };
        let found = first.partial.iter().rev().find(|point| everywhere(point))?;
        let (parts, partial) = (found.vault_part.run.clone(), found.vault_part.partial.clone()?);
        self.capture = partial.capture;
        Some((parts, partial, found.common.defects.clone()))
    }

    /// Commits what a long capture has done so far as a partial point, and opens new sessions. `unreferred` are chunks to which
    /// no row refers yet; those of earlier calls are kept by the points of these.
    pub fn commit_partial(
        &mut self,
        mut chunks: ChunkWriter,
        parts: &[PartRef],
        resume_key: &[u8],
        unreferred: &[ChunkId],
        state: &CapturedState,
        clock: &dyn Clock,
    ) -> Result<(), VaultError> {
        // Later ones sort after earlier ones of the same start.
        self.sequence += 1;
        let ring = Arc::clone(chunks.ring());
        let last_key = parts.last().map_or(resume_key, |part| resume_key.max(&part.last_key));
        let keeps = keeping_part(&ring, &mut chunks, last_key, unreferred.iter().copied())?;
        let partial = Partial {
            capture: self.capture,
            resume_key: resume_key.to_vec(),
            // Whoever goes on from it does not look again at what this one has not looked at.
            capture_start: state.complete_until(),
            keeps: keeps.into_iter().collect(),
            copied: None,
        };
        let links = self.commit(chunks.flush(), clock, |targets, target| {
            let common = targets.common(state, clock.now());
            let draft = PointDraft {
                original: None,
                common,
                parent: target.parent,
                run: parts.to_vec(),
                previous_head: target.head,
                partial: Some(partial.clone()),
            };
            (vec![draft], vec![])
        });
        for (target, link) in self.targets.iter_mut().zip(links) {
            if !matches!(target.state, TargetState::Committed) {
                continue;
            }
            let (writer, name, parent) = (&self.writer, &self.source.name, target.parent);
            let opened = Standing::open(&target.vault, writer, name, clock, |link| link == parent);
            // Between the two sessions a pass may have dropped what was just committed, by another clock: nothing would keep
            // the chunks of the parts then.
            let opened = opened.and_then(|(session, standing)| match link {
                Some(link) if !standing.has_partial(link) => {
                    give_up(session, clock)?;
                    Err(VaultError::CursorMoved { place: target.vault.place() })
                }
                _ => Ok(session),
            });
            target.state = opened.map_or_else(TargetState::Failed, TargetState::Open);
        }
        self.first_failure_unless_open()
    }

    /// Commits the whole capture: the run as a point, or, when nothing has changed, only a head. Says for each
    /// target, in the order given, which point it stands at now; and of those that went well, what they have.
    pub fn commit_final(
        mut self,
        chunks: ChunkWriter,
        run: Option<&[PartRef]>,
        state: &CapturedState,
        clock: &dyn Clock,
    ) -> (PointId, Vec<TargetResult>, Vec<HeadTarget>) {
        self.sequence += 1;
        let common = self.common(state, clock.now());
        let point = common.id;
        let flushed = match &self.others {
            Some(_) => chunks.flush_withholding(),
            None => chunks.flush(),
        };
        let links = self.commit(flushed, clock, |targets, target| {
            let head = HeadDraft {
                source: targets.source_id,
                sequence: targets.sequence,
                time: state.complete_until(),
                newest: target.parent.map(|link| (target.parent_sequence, link)),
                previous: target.head,
                others: targets.source.seen.clone(),
            };
            let draft = run.map(|run| PointDraft {
                original: None,
                common: common.clone(),
                parent: target.parent,
                run: run.to_vec(),
                previous_head: target.head,
                partial: None,
            });
            (draft.into_iter().collect(), vec![head])
        });
        let mut seen = Vec::new();
        for (target, link) in self.targets.iter().zip(&links) {
            let newest = match link {
                Some(link) => Some((self.sequence, *link)),
                None => target.parent.map(|link| (target.parent_sequence, link)),
            };
            if let (TargetState::Committed, Some((sequence, link))) = (&target.state, newest) {
                let (vault, time) = (target.vault.id(), state.complete_until());
                seen.push(HeadTarget { vault, sequence, point: link.point, object: link.object, time });
            }
        }
        let results = self
            .targets
            .into_iter()
            .zip(links)
            .map(|(target, link)| match target.state {
                TargetState::Committed => Ok(link.or(target.parent)),
                TargetState::Failed(error) => Err(error),
                TargetState::Open(_) => Err(VaultError::GivenUp),
            })
            .collect();
        (point, results, seen)
    }

    /// Gives everything up; partial points stay. Says for each target why it has failed, if it did by itself.
    pub fn give_up(self, clock: &dyn Clock) -> Vec<Option<VaultError>> {
        self.targets
            .into_iter()
            .map(|target| match target.state {
                TargetState::Open(session) => give_up(session, clock).err(),
                TargetState::Failed(error) => Some(error),
                TargetState::Committed => None,
            })
            .collect()
    }

    fn commit(
        &mut self,
        flushed: Vec<Result<Written, VaultError>>,
        clock: &dyn Clock,
        drafts: impl Fn(&Self, &Target) -> (Vec<PointDraft>, Vec<HeadDraft>),
    ) -> Vec<Option<PointLink>> {
        let mut flushed = flushed.into_iter();
        let mut outcomes = Vec::with_capacity(self.targets.len());
        let mut ending = Vec::with_capacity(self.targets.len());
        for place in 0..self.targets.len() {
            match std::mem::replace(&mut self.targets[place].state, TargetState::Committed) {
                TargetState::Open(session) => {
                    ending.push((place, session, flushed.next().unwrap_or(Err(VaultError::GivenUp))));
                }
                other => self.targets[place].state = other,
            }
        }
        // Those first that wait for others, while the rest is committed; then those that have all: a store that hangs shall not
        // keep back what others have.
        let waits = |written: &Result<Written, _>| written.as_ref().is_ok_and(Written::waits);
        ending.sort_by_key(|(_, _, written)| (!waits(written), written.is_err()));
        let (mut awaited, mut awaited_in, mut withheld_bytes) = (Vec::new(), Vec::new(), 0);
        for (place, session, written) in ending {
            let (points, heads) = drafts(self, &self.targets[place]);
            let acknowledged = match (written, &self.others) {
                (Ok(written), Some(others)) if written.waits() => {
                    awaited_in.push(Arc::clone(session.vault()));
                    withheld_bytes += written.withheld_bytes();
                    let (clock, wait) = (others.clock(), others.wait());
                    awaited.push((place, session.commit_with_others(written, points, heads, clock, wait)));
                    continue;
                }
                (Ok(written), _) => session.commit(written, &points, &heads, clock),
                (Err(error), _) => {
                    end_without_commit(session, &error, clock);
                    Err(error)
                }
            };
            outcomes.push((place, acknowledged));
        }
        if let Some(others) = self.others.as_ref().filter(|_| !awaited.is_empty()) {
            outcomes.extend(others.wait_for(awaited, &awaited_in, withheld_bytes));
        }
        let mut links = vec![None; self.targets.len()];
        for (place, acknowledged) in outcomes {
            match acknowledged {
                Ok(acknowledged) => links[place] = acknowledged.points.last().copied(),
                Err(error) => self.targets[place].state = TargetState::Failed(error),
            }
        }
        links
    }

    /// Why no target could be opened.
    pub fn take_failure(&mut self) -> VaultError {
        self.first_failure_unless_open().err().unwrap_or(VaultError::GivenUp)
    }

    fn first_failure_unless_open(&mut self) -> Result<(), VaultError> {
        if self.targets.iter().any(|target| matches!(target.state, TargetState::Open(_))) {
            return Ok(());
        }
        let failed = self.targets.iter_mut().find_map(|target| match &mut target.state {
            TargetState::Failed(error) => Some(std::mem::replace(error, VaultError::GivenUp)),
            _ => None,
        });
        Err(failed.unwrap_or(VaultError::GivenUp))
    }

    fn common(&self, state: &CapturedState, now: Timestamp) -> PointCommon {
        PointCommon {
            id: PointId::new(random_bytes()),
            source: self.source_id,
            kind: self.source.kind.to_owned(),
            source_name: self.source.name.clone(),
            node: self.writer.node.clone(),
            capture_start: state.start,
            capture_end: now,
            sequence: self.sequence,
            digest: state.digest.clone(),
            facts: self.source.facts.clone(),
            entries: state.entries,
            bytes: state.bytes,
            defects: state.defects.clone(),
            holds: self.source.holds.clone(),
            whole_until: state.whole_until,
        }
    }
}

/// Its packs are not there: nothing refers to them, and no collection is to wait for the session. A store that hangs takes
/// no fence either: there the session is left open, for the next time that the vault is opened.
fn end_without_commit(session: Session, why: &VaultError, clock: &dyn Clock) {
    if matches!(why, VaultError::Stalled { .. }) {
        return;
    }
    if let Err(error) = give_up(session, clock) {
        tracing::warn!(%error, "the session stays open");
    }
}

fn give_up(session: Session, clock: &dyn Clock) -> Result<(), VaultError> {
    session.give_up(clock.now())
}
