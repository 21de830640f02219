//! The last step of a row: its references are known, it goes to the sink or to the links. And the last step
//! of a capture: the commit, and the local state after it.

use std::path::{Path, PathBuf};

use backstay_core::clock::Clock;
use backstay_core::id::{LinkId, PointId};
use backstay_core::run::PartRef;
use backstay_vault::chunk::ChunkClass;
use backstay_vault::error::VaultError;
use backstay_vault::targets::{CapturedState, Targets};
use backstay_vault::write::ChunkWriter;
use bytes::Bytes;

use super::links::Unread;
use super::observation::Observation;
use super::problem::{CaptureError, ReadProblem};
use super::queue::{FileContents, Pieces, Place, Task, Work};
use super::reading::PartEnd;
use super::sink::NewRow;
use super::{CaptureMeans, CaptureRun, CaptureSummary, Captured, rows, state_folder};
use crate::content::ContentIdBuilder;
use crate::heads::{FoundRow, KeyValue};
use crate::keys::further_key;
use crate::observe;
use crate::read::Stability;
use crate::row::{
    DeviceNumber, HeadRow, Marks, Object, OlderRows, Reference, ReferenceRows, Restored, RowFacts, Seen,
};
use crate::stat::{FileKind, FileStat};
use crate::state::{State, StateError, StateFacts, StateWriter};
use crate::walk::Found;

/// States of other cursors that are kept.
const STATES_KEPT_MAX: usize = 4;

impl CaptureRun<'_> {
    /// Does what is to be done with a row whose turn has come.
    pub(super) fn finish_row(&mut self, work: Work) -> Result<(), CaptureError> {
        let Work { place, old, task } = work;
        match task {
            Task::Keep => self.keep(&place, old),
            Task::Remove => self.vanished(&place, old),
            Task::Unreadable(problem) => self.unreadable(&place, old, problem),
            Task::Name(id, found) => self.name(&place, old, id, &found),
            Task::Moved(moved) => self.moved(&place, old, &moved),
            Task::Grown(found) => {
                let task = self.read_file(&found, PartEnd::Behind)?;
                self.finish_row(Work { place, old, task })
            }
            Task::Plain(stat, observation) => {
                let object = plain_object(&stat, &observation)?;
                let row = self.row(&place, object, &stat, observation)?;
                self.store(&place, old, row, Vec::new(), Vec::new())
            }
            Task::File(contents) => self.file(&place, old, contents),
        }
    }

    /// One of several names, after what was to be said of the object itself.
    fn name(
        &mut self,
        place: &Place,
        old: Option<FoundRow>,
        id: LinkId,
        found: &Found,
    ) -> Result<(), CaptureError> {
        if self.links.unread(&id) == Some(Unread::Vanished) {
            self.read_under_next_name(id, found)?;
        }
        match (self.links.unread(&id), old) {
            (None, old) => {
                let row = HeadRow { restored: Restored::Link(id), facts: RowFacts::default() };
                self.store(place, old, row, Vec::new(), Vec::new())
            }
            (Some(Unread::Vanished), old) => self.vanished(place, old),
            // Whatever was captured under this name stays.
            (Some(Unread::Refused), Some(old)) => {
                self.links.still_named(&old)?;
                self.sink.keep(&old)
            }
            (Some(Unread::Refused), None) => Ok(()),
        }
    }

    fn keep(&mut self, place: &Place, old: Option<FoundRow>) -> Result<(), CaptureError> {
        match (place, old) {
            (Place::Path(_), Some(old)) => self.sink.keep(&old),
            (Place::Path(_), None) => Ok(()),
            (Place::Link(id, _), _) => self.links.keep(id),
        }
    }

    fn vanished(&mut self, place: &Place, old: Option<FoundRow>) -> Result<(), CaptureError> {
        match (place, old) {
            (Place::Path(_), Some(old)) => {
                let chunks = self.chunks.as_mut().ok_or(VaultError::GivenUp)?;
                self.sink.remove(&old, chunks)
            }
            (Place::Path(_), None) => Ok(()),
            (Place::Link(id, _), _) => {
                self.links.set_unread(*id, Unread::Vanished);
                Ok(())
            }
        }
    }

    fn unreadable(
        &mut self,
        place: &Place,
        old: Option<FoundRow>,
        problem: ReadProblem,
    ) -> Result<(), CaptureError> {
        let path = rows::shown(&self.options.root, place.path());
        let stays = if old.is_some() { "; what was captured of it before stays" } else { "" };
        self.warnings.unreadable(format!("{path}: cannot be read: {problem}{stays}"));
        match place {
            Place::Path(_) => self.keep(place, old),
            Place::Link(id, _) => {
                self.links.set_unread(*id, Unread::Refused);
                Ok(())
            }
        }
    }

    fn moved(&mut self, place: &Place, old: Option<FoundRow>, moved: &FoundRow) -> Result<(), CaptureError> {
        self.sink.moved += 1;
        let mut row = HeadRow::decode(&moved.value)?;
        row.facts.older = OlderRows::Hidden;
        let key = key_of(place);
        let further = moved
            .further
            .iter()
            .filter_map(|(old_key, value)| {
                let (_, first) = crate::keys::split_further(old_key);
                Some((further_key(&key, first?), value.clone()))
            })
            .collect();
        self.store(place, old, row, further, Vec::new())
    }

    fn file(
        &mut self,
        place: &Place,
        old: Option<FoundRow>,
        contents: FileContents,
    ) -> Result<(), CaptureError> {
        let FileContents { stat, observation, pieces, stability } = contents;
        if !matches!(pieces, Pieces::Chunks(_)) {
            // Large files were counted while they were read.
            self.progress.read(stat.size_bytes);
        }
        let old_row = old.as_ref().map(|old| HeadRow::decode(&old.value)).transpose()?;
        let is_as_before = matches!(pieces, Pieces::AsBefore(_));
        let old_references = old_row.as_ref().map(|row| row.facts.references.as_slice());
        let (content, references) = self.queue.resolve(stat.size_bytes, pieces, old_references)?;
        let object = Object::file(stat.size_bytes, content).ok_or_else(|| rows::impossible("size"))?;
        let mut row = self.row(place, object, &stat, observation)?;
        if stability == Stability::Changed {
            row.facts.marks = row.facts.marks.with(Marks::CHANGED_WHILE_READ);
            let path = rows::shown(&self.options.root, place.path());
            self.warnings.changed(format!("{path}: changed while it was read, twice; it may be a mixture"));
        }
        match old_row {
            Some(old_row)
                if content_id(&old_row) == Some(content) && (is_as_before || self.has_all_of(&old)?) =>
            {
                row.facts.references = old_row.facts.references;
                row.facts.references_total = old_row.facts.references_total;
                let more = old_row.facts.references_total.is_some();
                row.facts.older = if more { OlderRows::Kept } else { OlderRows::Hidden };
                let kept = old.as_ref().map(|old| old.further.clone()).unwrap_or_default();
                self.store(place, old, row, Vec::new(), kept)
            }
            _ => {
                let further = spread(&key_of(place), references, &mut row.facts)?;
                self.store(place, old, row, further, Vec::new())
            }
        }
    }

    /// Whether what an old row refers to is there: else what was read now is referred to.
    fn has_all_of(&self, old: &Option<FoundRow>) -> Result<bool, CaptureError> {
        let chunks = self.chunks.as_ref().ok_or(VaultError::GivenUp)?;
        old.as_ref().map_or(Ok(false), |old| rows::has_groups(old, chunks))
    }

    /// A head row without references.
    fn row(
        &mut self,
        place: &Place,
        object: Object,
        stat: &FileStat,
        observation: Observation,
    ) -> Result<HeadRow, CaptureError> {
        let Observation { attributes, user, group, .. } = observation;
        let mut marks = Marks::default();
        if attributes.left_out > 0 {
            // It is looked at again at each capture, and told again.
            marks = Marks::ATTRIBUTES_LEFT_OUT;
            let path = rows::shown(&self.options.root, place.path());
            let count = attributes.left_out;
            self.warnings
                .unreadable(format!("{path}: {count} extended attributes are unreadable or too large"));
        }
        let chunks = self.chunks.as_ref().ok_or(VaultError::GivenUp)?;
        let mut attribute_references = Vec::new();
        let mut offset = 0;
        let attributes = attributes.into_attributes(|value| -> Result<_, CaptureError> {
            let reference = store_value(chunks, value, offset)?;
            offset += value.len() as u64;
            attribute_references.push(reference);
            let mut content = ContentIdBuilder::new(value.len() as u64);
            content.chunk(0, value.len() as u64, &reference.chunk);
            Ok(content.finish())
        })?;
        let facts = RowFacts {
            seen: Some(Seen::from(&self.devices.known_stat(stat))),
            user,
            group,
            attribute_references,
            marks,
            ..RowFacts::default()
        };
        Ok(HeadRow { restored: Restored::Object { object, meta: observe::meta(stat, attributes) }, facts })
    }

    fn store(
        &mut self,
        place: &Place,
        old: Option<FoundRow>,
        row: HeadRow,
        further: Vec<KeyValue>,
        kept_further: Vec<KeyValue>,
    ) -> Result<(), CaptureError> {
        let new = NewRow { key: key_of(place), row, further, kept_further, old };
        match place {
            Place::Path(_) => {
                let chunks = self.chunks.as_mut().ok_or(VaultError::GivenUp)?;
                self.sink.put(new, chunks)
            }
            Place::Link(id, _) => self.links.put(id, new),
        }
    }
}

fn key_of(place: &Place) -> Vec<u8> {
    match place {
        Place::Path(path) => path.as_bytes().to_vec(),
        Place::Link(id, _) => crate::keys::link_key(id),
    }
}

fn plain_object(stat: &FileStat, observation: &Observation) -> Result<Object, CaptureError> {
    let device = DeviceNumber { major: stat.represents.0, minor: stat.represents.1 };
    Ok(match stat.kind {
        FileKind::File => Object::File(None),
        FileKind::Directory => Object::Directory,
        FileKind::Symlink => {
            Object::Symlink(observation.target.clone().ok_or_else(|| rows::impossible("target"))?)
        }
        FileKind::Fifo => Object::Fifo,
        FileKind::Socket => Object::Socket,
        FileKind::CharDevice => Object::CharDevice(device),
        FileKind::BlockDevice => Object::BlockDevice(device),
    })
}

fn content_id(row: &HeadRow) -> Option<backstay_core::id::ContentId> {
    match &row.restored {
        Restored::Object { object: Object::File(Some(contents)), .. } => Some(contents.id()),
        _ => None,
    }
}

/// Spreads references over the head row and further rows; returns the latter.
fn spread(
    key: &[u8],
    references: Vec<Reference>,
    facts: &mut RowFacts,
) -> Result<Vec<KeyValue>, CaptureError> {
    let mut spread = ReferenceRows::new(key);
    let mut further = Vec::new();
    for reference in references {
        further.extend(spread.push(reference)?);
    }
    let written = spread.finish()?;
    further.extend(written.last_row);
    facts.references = written.head;
    facts.references_total = written.total;
    Ok(further)
}

/// Stores the value of a large attribute as a chunk of its own.
fn store_value(chunks: &ChunkWriter, value: &[u8], offset: u64) -> Result<Reference, CaptureError> {
    let chunk = chunks.put_data(Bytes::copy_from_slice(value)).wait()?;
    debug_assert_eq!(
        chunks.ring().chunk_id(ChunkClass::Data, value),
        Some(chunk),
        "ids follow from contents"
    );
    Ok(Reference { offset_bytes: offset, chunk, chunk_offset_bytes: 0, length_bytes: value.len() as u32 })
}

/// A capture whose rows are all in packs, or on their way.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) chunks: ChunkWriter,
    pub(super) found: CapturedState,
    pub(super) summary: CaptureSummary,
    /// The run; none when nothing differs.
    pub(super) run: Option<Vec<PartRef>>,
    /// The new local state; none when nothing differs.
    pub(super) state: Option<StateWriter>,
    pub(super) previous: Option<PointId>,
}

impl Finished {
    /// Commits to all targets, and then puts the local state in its place.
    pub(super) fn commit(self, targets: Targets, means: &CaptureMeans, clock: &dyn Clock) -> Captured {
        let rolled_back = targets.rolled_back().to_vec();
        let (point, results, seen) =
            targets.commit_final(self.chunks, self.run.as_deref(), &self.found, clock);
        if results.iter().any(Result::is_ok) {
            let facts = StateFacts {
                point,
                // By which it is judged whether a file can have changed unseen: only what was looked at in a whole scan counts.
                scan_start: self.found.whole_until.unwrap_or(self.found.start),
                digest: self.found.digest,
                entries: self.found.entries,
                bytes: self.found.bytes,
            };
            let kept = keep_state(&means.states, self.state, facts, self.previous);
            // The state is a cache: the next capture rebuilds it from the vault.
            if let Err(error) = kept {
                tracing::warn!(%error, "the local state is not kept");
            }
        }
        Captured { summary: self.summary, targets: results, seen, rolled_back }
    }
}

fn keep_state(
    states: &Path,
    state: Option<StateWriter>,
    facts: StateFacts,
    previous: Option<PointId>,
) -> Result<(), StateError> {
    match (state, previous) {
        (Some(state), _) => {
            let place = state_folder(states, facts.point);
            state.finish(facts, &place)?;
            remove_old_states(states, &place)
        }
        (None, Some(point)) => State::open(&state_folder(states, point), point)?.confirm(facts.scan_start),
        (None, None) => Ok(()),
    }
}

/// Keeps the newest states: a target that was away goes on from its own.
fn remove_old_states(states: &Path, newest: &Path) -> Result<(), StateError> {
    let io = |cause| StateError::Io { file: states.display().to_string(), cause };
    let mut others: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(states).map_err(io)? {
        let entry = entry.map_err(io)?;
        let is_point = entry.file_name().to_str().is_some_and(|name| name.parse::<PointId>().is_ok());
        if is_point && entry.path() != newest {
            others.push((entry.metadata().and_then(|m| m.modified()).map_err(io)?, entry.path()));
        }
    }
    others.sort();
    let surplus = (others.len() + 1).saturating_sub(STATES_KEPT_MAX);
    others.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_dir_all(path)).map_err(io)
}
