//! Captures of made-up kinds of sources: maps from key to value. Writes points as edits of their parents and reads them
//! back, the way every kind of source does. What a row is, [`crate::rows`] says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::{Clock, ManualClock};
use backstay_core::digest::StateDigest;
use backstay_core::fold::NewestStands;
use backstay_core::id::{CaptureId, ChunkId, PointId};
use backstay_core::kind::ChunkRange;
use backstay_core::point::{Facts, Partial, PointCommon, PointLink};
use backstay_core::run::{Change, Entry, PartRef};
use backstay_core::units::Timestamp;
use backstay_vault::error::VaultError;
use backstay_vault::keys::{KeyRing, random_bytes};
use backstay_vault::read::ChunkReader;
use backstay_vault::record::RecordOpener;
use backstay_vault::table::PartWriter;
use backstay_vault::vault::{Awaiting, Catalogue, HeadDraft, PointDraft, PointObject, Session, Vault};
use backstay_vault::write::{ChunkWriter, WriteTotals};

use crate::fixture::VaultFixture;
use crate::rows::{RowKind, Rows, write_chunks, write_groups};

/// What a source holds.
pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A point as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// The state.
    pub state: State,
    /// Its digest, computed from what was read.
    pub digest: StateDigest,
}

/// How a capture goes about it.
#[derive(Debug, Clone)]
pub struct Style {
    /// A part is closed after this many entries.
    pub part_entries: u64,
    /// Commits a partial point that ends with the last key up to this one.
    pub stop_at: Option<Vec<u8>>,
    /// Names under which the point is to be held.
    pub holds: Vec<String>,
    /// The kind of the source; always the same for one.
    pub kind: RowKind,
    /// Rows made by hand that the point has beside those of the state.
    pub by_hand: Rows,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            part_entries: 1000,
            stop_at: None,
            holds: Vec::new(),
            kind: RowKind::default(),
            by_hand: Rows::new(),
        }
    }
}

/// What a capture has committed to one vault.
#[derive(Debug)]
pub struct Captured {
    /// The point.
    pub link: PointLink,
    /// Its common part.
    pub common: PointCommon,
    /// What its writer has written, over all targets.
    pub totals: WriteTotals,
}

/// A capture that is committed together with others.
#[derive(Debug)]
pub struct Awaited {
    awaiting: Awaiting,
    common: PointCommon,
    totals: WriteTotals,
}

impl Awaited {
    /// Waits until it is committed.
    pub fn wait(self) -> Result<Captured, VaultError> {
        let mut committed = self.awaiting.wait()?;
        Ok(Captured { link: committed.points.remove(0), common: self.common, totals: self.totals })
    }
}

/// A capture whose sessions are open.
#[derive(Debug)]
pub struct OpenCapture<'a> {
    fixture: &'a VaultFixture,
    source_name: String,
    at: Timestamp,
    targets: Vec<(Session, Catalogue)>,
}

impl VaultFixture {
    /// Captures a whole state into one vault.
    pub fn capture(
        &self,
        vault: &Arc<Vault>,
        source_name: &str,
        at: Timestamp,
        state: &State,
    ) -> Result<Captured, VaultError> {
        self.capture_in_style(vault, source_name, at, state, &Style::default())
    }

    /// Captures a state into one vault.
    pub fn capture_in_style(
        &self,
        vault: &Arc<Vault>,
        source_name: &str,
        at: Timestamp,
        state: &State,
        style: &Style,
    ) -> Result<Captured, VaultError> {
        let open = self.open_capture(std::slice::from_ref(vault), source_name, at)?;
        open.commit(state, style).pop().expect("one target, one outcome")
    }

    /// Opens a session in each vault. In all of them the source has the same parent, or none.
    pub fn open_capture(
        &self,
        vaults: &[Arc<Vault>],
        source_name: &str,
        at: Timestamp,
    ) -> Result<OpenCapture<'_>, VaultError> {
        let open = |vault| Session::begin(vault, self.writer(), source_name, at);
        let targets = vaults.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(OpenCapture { fixture: self, source_name: source_name.to_owned(), at, targets })
    }

    /// Commits that the source has not changed: a head and nothing else.
    pub fn commit_head(
        &self,
        vault: &Arc<Vault>,
        source_name: &str,
        at: Timestamp,
    ) -> Result<(), VaultError> {
        let (session, catalogue) = Session::begin(vault, self.writer(), source_name, at)?;
        let writer = ChunkWriter::new(Arc::clone(self.pool()), Arc::clone(self.ring()), vec![session.view()]);
        let written = writer.flush().pop().expect("one target")?;
        let head = head_draft(&session, &catalogue, at);
        session.commit(written, &[], &[head], &ManualClock::new(at)).map(|_| ())
    }
}

impl OpenCapture<'_> {
    /// Writes the state as an edit of the parent of the first target and commits it to each. Outcomes in the
    /// order of the targets.
    pub fn commit(self, state: &State, style: &Style) -> Vec<Result<Captured, VaultError>> {
        let views = self.targets.iter().map(|(session, _)| session.view()).collect();
        let ring = Arc::clone(self.fixture.ring());
        let mut writer = ChunkWriter::new(Arc::clone(self.fixture.pool()), ring, views);
        let mut failure = None;
        let edit = self.write_edit(&mut writer, state, style).map_err(|error| failure = Some(error));
        let meter = writer.meter();
        let flushed = writer.flush();
        let totals = meter.totals();
        let Self { targets, at, .. } = self;
        let outcomes = targets.into_iter().zip(flushed).map(|((session, catalogue), written)| {
            // What the pool met on its way says more than that the writer gave up.
            let written = written?;
            let edit = edit.as_ref().map_err(|()| failure.take().unwrap_or(VaultError::GivenUp))?;
            let head = edit.partial.is_none().then(|| head_draft(&session, &catalogue, at));
            let draft = edit.draft(&session, &catalogue);
            let drafts = [draft];
            let mut committed = session.commit(written, &drafts, head.as_slice(), &ManualClock::new(at))?;
            let [draft] = drafts;
            Ok(Captured { link: committed.points.remove(0), common: draft.common, totals })
        });
        outcomes.collect()
    }

    /// Writes the state as an edit of its parent in the one target, to be committed together with what others commit.
    pub fn commit_with_others(
        self,
        state: &State,
        kind: RowKind,
        wait: Duration,
    ) -> Result<Awaited, VaultError> {
        let view = self.targets[0].0.view();
        let ring = Arc::clone(self.fixture.ring());
        let mut writer = ChunkWriter::new(Arc::clone(self.fixture.pool()), ring, vec![view]);
        let edit = self.write_edit(&mut writer, state, &Style { kind, ..Style::default() });
        let meter = writer.meter();
        let written = writer.flush_withholding().pop().expect("one target")?;
        let edit = edit?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(self.at));
        let (session, catalogue) = self.targets.into_iter().next().expect("one target");
        let head = head_draft(&session, &catalogue, self.at);
        let draft = edit.draft(&session, &catalogue);
        let awaiting = session.commit_with_others(written, vec![draft], vec![head], clock, wait);
        Ok(Awaited { awaiting, common: edit.common, totals: meter.totals() })
    }

    /// Writes the state, and gives it up when all of it is there but an index object and a point.
    pub fn give_up(self, state: &State, style: &Style, now: Timestamp) -> Result<(), VaultError> {
        let views = self.targets.iter().map(|(session, _)| session.view()).collect();
        let ring = Arc::clone(self.fixture.ring());
        let mut writer = ChunkWriter::new(Arc::clone(self.fixture.pool()), ring, views);
        let edit = self.write_edit(&mut writer, state, style).map(drop);
        let flushed: Result<Vec<_>, _> = writer.flush().into_iter().collect();
        self.targets.into_iter().try_for_each(|(session, _)| session.give_up(now))?;
        flushed.and(edit)
    }

    /// The sessions, for what a test does to them.
    pub fn targets(&self) -> &[(Session, Catalogue)] {
        &self.targets
    }

    fn write_edit(&self, writer: &mut ChunkWriter, state: &State, style: &Style) -> Result<Edit, VaultError> {
        let (session, catalogue) = &self.targets[0];
        let parent = session.parent();
        let before = match parent {
            Some(parent) => read_rows(session.vault(), catalogue, parent.link.point)?,
            None => Rows::new(),
        };
        let kind = style.kind;
        let ring = self.fixture.ring();
        let mut after = match kind {
            RowKind::Chunks => write_chunks(writer, state)?,
            RowKind::Groups => write_groups(ring, writer, &before, state, &session.view().lost()?)?,
        };
        after.extend(style.by_hand.clone());
        let capture = capture_id(state);
        let (mut parts, mut resume_key) = (Vec::new(), None);
        for point in catalogue.partial_points().iter().filter(|point| continues(point, parent, capture)) {
            if session.vault().is_settled(catalogue, point)? {
                parts = point.vault_part.run.clone();
                resume_key = point.vault_part.partial.as_ref().map(|partial| partial.resume_key.clone());
            }
        }
        let changes: Vec<_> = changes(kind, &before, &after)
            .filter(|entry| resume_key.as_ref().is_none_or(|done| entry.key > done.as_slice()))
            .filter(|entry| style.stop_at.as_ref().is_none_or(|stop| entry.key <= stop.as_slice()))
            .collect();
        let digest = digest_after(kind, parent.map(|p| &p.common.digest), &before, &after);
        let parts = write_parts(ring, writer, parts, &changes, style)?;
        let partial = style.stop_at.clone();
        let partial = partial.map(|resume_key| Partial {
            capture,
            resume_key,
            capture_start: self.at,
            keeps: Vec::new(),
            copied: None,
        });
        let common = PointCommon {
            kind: kind.name().into(),
            holds: style.holds.clone(),
            ..self.common(state, digest)
        };
        Ok(Edit { common, parts, partial })
    }

    fn common(&self, state: &State, digest: StateDigest) -> PointCommon {
        let greatest =
            self.targets.iter().map(|(_, catalogue)| catalogue.greatest_sequence()).max().unwrap_or(0);
        PointCommon {
            id: PointId::new(random_bytes()),
            source: self.fixture.source(&self.source_name),
            kind: RowKind::default().name().into(),
            source_name: self.source_name.clone(),
            node: self.fixture.writer().node.clone(),
            capture_start: self.at,
            capture_end: self.at,
            sequence: greatest + 1,
            digest,
            facts: Facts::default(),
            entries: state.len() as u64,
            bytes: state.values().map(|value| value.len() as u64).sum(),
            defects: Vec::new(),
            holds: Vec::new(),
            whole_until: None,
        }
    }
}

/// Reads a point back: catalogue, stack, fold, chunks.
pub fn read_back(vault: &Arc<Vault>, source_name: &str, point: PointId) -> Result<ReadBack, VaultError> {
    let (kind, rows) = rows_of(vault, source_name, point)?;
    let mut digest = StateDigest::empty();
    rows.iter().for_each(|(key, row)| digest.add(&kind.element(key, row)));
    let chunks = read_chunks(vault, kind, &rows)?;
    let value = |row: &Vec<u8>| {
        let pieces = kind.references(row).into_iter().map(|range| piece(&chunks[&range.chunk], range));
        pieces.collect::<Result<Vec<_>, _>>().map(|pieces| pieces.concat())
    };
    let state = rows.iter().map(|(key, row)| Ok((key.clone(), value(row)?)));
    Ok(ReadBack { state: state.collect::<Result<_, VaultError>>()?, digest })
}

/// The rows of a point, and of which kind they are.
pub fn rows_of(vault: &Arc<Vault>, source_name: &str, point: PointId) -> Result<(RowKind, Rows), VaultError> {
    let catalogue = vault.catalogue(vault.ring().source_id(source_name))?;
    let rows = read_rows(vault, &catalogue, point)?;
    let kind = catalogue.point(point).and_then(|point| RowKind::of_name(&point.common.kind));
    match kind {
        Some(kind) => Ok((kind, rows)),
        None => Err(VaultError::Table(format!("{point} is of no made-up kind"))),
    }
}

/// What a reference leads to.
pub fn piece(chunk: &[u8], range: ChunkRange) -> Result<&[u8], VaultError> {
    let piece = chunk.get(range.offset as usize..).and_then(|rest| rest.get(..range.length as usize));
    piece.ok_or_else(|| VaultError::Table(format!("a row refers beyond the end of {}", range.chunk)))
}

/// The run of a capture, and what is said about the state.
struct Edit {
    common: PointCommon,
    parts: Vec<PartRef>,
    partial: Option<Partial>,
}

impl Edit {
    fn draft(&self, session: &Session, catalogue: &Catalogue) -> PointDraft {
        PointDraft {
            original: None,
            common: self.common.clone(),
            parent: session.parent().map(|point| point.link),
            run: self.parts.clone(),
            previous_head: catalogue.head.as_ref().map(|(hash, _)| *hash),
            partial: self.partial.clone(),
        }
    }
}

fn head_draft(session: &Session, catalogue: &Catalogue, at: Timestamp) -> HeadDraft {
    HeadDraft {
        source: catalogue.source,
        sequence: catalogue.greatest_sequence() + 1,
        time: at,
        newest: session.parent().map(|point| (point.common.sequence, point.link)),
        previous: catalogue.head.as_ref().map(|(hash, _)| *hash),
        others: Vec::new(),
    }
}

fn capture_id(state: &State) -> CaptureId {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in state {
        hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
        hasher.update(&(value.len() as u64).to_le_bytes()).update(value);
    }
    CaptureId::from_slice(&hasher.finalize().as_bytes()[..16]).expect("16 of 32 bytes")
}

fn continues(partial: &PointObject, parent: Option<&Arc<PointObject>>, capture: CaptureId) -> bool {
    let same_capture = partial.vault_part.partial.as_ref().is_some_and(|partial| partial.capture == capture);
    same_capture && partial.vault_part.parent == parent.map(|parent| parent.link)
}

fn changes<'a>(kind: RowKind, before: &'a Rows, after: &'a Rows) -> impl Iterator<Item = Entry<'a>> {
    let keys: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(move |key| Entry {
        key,
        change: after.get(key).map_or(Change::Tombstone, |row| Change::Put(row)),
        replaced: before.get(key).map(|row| kind.element(key, row)),
    })
}

fn digest_after(kind: RowKind, parent: Option<&StateDigest>, before: &Rows, after: &Rows) -> StateDigest {
    let mut digest = parent.cloned().unwrap_or_else(StateDigest::empty);
    for entry in changes(kind, before, after) {
        if let Some(replaced) = &entry.replaced {
            digest.remove(replaced);
        }
        if let Some(row) = entry.change.value() {
            digest.add(&kind.element(entry.key, row));
        }
    }
    digest
}

fn write_parts(
    ring: &KeyRing,
    writer: &mut ChunkWriter,
    mut parts: Vec<PartRef>,
    changes: &[Entry<'_>],
    style: &Style,
) -> Result<Vec<PartRef>, VaultError> {
    for entries in changes.chunks(style.part_entries as usize) {
        let mut part = PartWriter::new();
        for entry in entries {
            part.push(ring, writer, entry)?;
            for range in entry.change.value().into_iter().flat_map(|row| style.kind.references(row)) {
                part.refer(range.chunk, range.length.into());
            }
        }
        parts.extend(part.finish(writer)?);
    }
    Ok(parts)
}

fn read_rows(vault: &Arc<Vault>, catalogue: &Catalogue, point: PointId) -> Result<Rows, VaultError> {
    if catalogue.point(point).is_none() {
        return Err(VaultError::NoPoint { point, place: vault.place() });
    }
    let mut fold = vault.fold(&catalogue.stack(point)?, NewestStands, b"");
    let mut rows = Rows::new();
    while let Some((key, row)) = fold.next()? {
        rows.insert(key.to_vec(), row.to_vec());
    }
    Ok(rows)
}

fn read_chunks(
    vault: &Arc<Vault>,
    kind: RowKind,
    rows: &Rows,
) -> Result<HashMap<ChunkId, Vec<u8>>, VaultError> {
    let reader = ChunkReader::new(Arc::clone(vault));
    let wanted: BTreeSet<ChunkId> =
        rows.values().flat_map(|row| kind.references(row)).map(|range| range.chunk).collect();
    let mut chunks = HashMap::new();
    let mut opener = RecordOpener::new();
    for read in reader.plan(wanted)? {
        let stretch = reader.read(&read);
        for (place, (id, ..)) in read.records.iter().enumerate() {
            chunks.insert(*id, reader.open(&mut opener, &read, &stretch, place)?.to_vec());
        }
    }
    Ok(chunks)
}
