//! Rows on their way to the sink: first they wait for their files to be read, then for their chunks to be
//! named, and leave in the order in which they came. Owns the grouping of small files.

use std::collections::VecDeque;

use backstay_core::id::{ContentId, LinkId};
use backstay_vault::error::VaultError;
use backstay_vault::split::{Group, GroupBuilder};
use backstay_vault::write::ChunkWriter;
use bytes::Bytes;

use super::large::{PendingChunk, Piece};
use super::observation::Observation;
use super::problem::{CaptureError, ReadProblem};
use super::rows;
use super::small::{NotRead, SmallFile, SmallOutcome, SmallReaders};
use crate::content::ContentIdBuilder;
use crate::heads::FoundRow;
use crate::keys::PathKey;
use crate::read::Stability;
use crate::row::Reference;
use crate::stat::FileStat;
use crate::walk::Found;

/// Rows that wait for their files to be read.
const READING_MAX: usize = 512;

/// Rows that wait for their chunks to be named.
const NAMING_MAX: usize = 8192;

/// Bytes of attributes in rows that wait for their chunks to be named.
const NAMING_BYTES_MAX: usize = 16 << 20;

/// What is done with a row once its turn comes.
#[derive(Debug)]
pub(super) struct Work {
    /// Where the row belongs.
    pub(super) place: Place,
    /// The row before.
    pub(super) old: Option<FoundRow>,
    pub(super) task: Task,
}

/// Where a row belongs.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At its path.
    Path(PathKey),
    /// At its link id; the path is one of its names, for messages.
    Link(LinkId, PathKey),
}

impl Place {
    /// The path, for messages.
    pub(super) fn path(&self) -> &PathKey {
        match self {
            Self::Path(path) | Self::Link(_, path) => path,
        }
    }
}

impl Work {
    /// Whether anything of it is not known yet.
    fn waits(&self) -> bool {
        matches!(self.task, Task::File(_) | Task::Grown(_) | Task::Plain(..))
    }

    fn attribute_bytes(&self) -> usize {
        match &self.task {
            Task::Plain(_, observation) | Task::File(FileContents { observation, .. }) => {
                observation.attributes.bytes()
            }
            _ => 0,
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    /// The old row stays.
    Keep,
    /// The old row goes.
    Remove,
    /// It cannot be read: the old row stays if there is one, and it is said.
    Unreadable(ReadProblem),
    /// A row without contents, or an empty file.
    Plain(FileStat, Observation),
    /// One of several names, and what was found under it.
    Name(LinkId, Box<Found>),
    /// A file whose row is known under another key.
    Moved(FoundRow),
    /// A file that was small when it was found, and is to be read as a large one.
    Grown(Box<Found>),
    /// A file with contents.
    File(FileContents),
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct FileContents {
    pub(super) stat: FileStat,
    pub(super) observation: Observation,
    pub(super) pieces: Pieces,
    pub(super) stability: Stability,
}

/// Where the contents of a file went.
#[derive(Debug)]
pub(super) enum Pieces {
    /// Chunks of its own.
    Chunks(Vec<Piece>),
    /// Stretches in groups. The content id is known.
    Grouped(ContentId, Vec<GroupedPiece>),
    /// The same as in the old row.
    AsBefore(ContentId),
}

/// A stretch of a small file within a group.
#[derive(Debug)]
pub(super) struct GroupedPiece {
    offset: u64,
    length: u32,
    group: u64,
    chunk_offset: u32,
}

#[derive(Debug)]
enum Reading {
    /// Nothing to wait for.
    Read(Box<Work>),
    /// The next file that the readers give belongs here.
    Small(Place, Option<Box<FoundRow>>),
}

/// The two queues.
#[derive(Debug)]
pub(super) struct Queue {
    readers: SmallReaders,
    reading: VecDeque<Reading>,
    naming: VecDeque<Work>,
    /// Bytes of attributes in `naming`.
    naming_bytes: usize,
    groups: GroupBuilder,
    /// Closed groups that rows may still wait for, by rising number.
    closed: VecDeque<(u64, PendingChunk)>,
}

impl Queue {
    pub(super) fn new(readers: SmallReaders) -> Self {
        Self {
            readers,
            reading: VecDeque::new(),
            naming: VecDeque::new(),
            naming_bytes: 0,
            groups: GroupBuilder::default(),
            closed: VecDeque::new(),
        }
    }

    /// Adds a row for which nothing needs to be read any more.
    pub(super) fn push(&mut self, work: Work) {
        if self.reading.is_empty() {
            self.wait_for_names(work);
        } else {
            self.reading.push_back(Reading::Read(Box::new(work)));
        }
    }

    /// Adds a small file that is to be read.
    pub(super) fn push_small(&mut self, found: Found, place: Place, old: Option<FoundRow>) {
        self.readers.hand_in(found);
        self.reading.push_back(Reading::Small(place, old.map(Box::new)));
    }

    /// A row whose turn has come, when too many wait; with `Drain::All` as long as any wait.
    pub(super) fn pop(&mut self, drain: Drain, chunks: &ChunkWriter) -> Result<Option<Work>, CaptureError> {
        let (reading_max, naming_max) = match drain {
            Drain::TooMany => (READING_MAX, NAMING_MAX),
            Drain::All => (0, 0),
        };
        while self.reading.len() > reading_max && self.naming_bytes <= NAMING_BYTES_MAX {
            self.read_one(chunks)?;
        }
        // What waits for nothing leaves at once: it holds all further rows of its file.
        let waits = self.naming.front().is_none_or(Work::waits);
        if waits && self.naming.len() <= naming_max && self.naming_bytes <= NAMING_BYTES_MAX {
            return Ok(None);
        }
        let work = self.naming.pop_front();
        self.naming_bytes -= work.as_ref().map_or(0, Work::attribute_bytes);
        if let Some(Work {
            task: Task::File(FileContents { pieces: Pieces::Grouped(_, pieces), .. }), ..
        }) = &work
        {
            self.need_groups(pieces, chunks);
        }
        Ok(work)
    }

    /// The references of pieces that [`Queue::pop`] gave, and the content id, both now known.
    pub(super) fn resolve(
        &mut self,
        size: u64,
        pieces: Pieces,
        old: Option<&[Reference]>,
    ) -> Result<(ContentId, Vec<Reference>), CaptureError> {
        match pieces {
            Pieces::Chunks(pieces) => {
                let mut content = ContentIdBuilder::new(size);
                let mut references = Vec::with_capacity(pieces.len());
                for Piece { offset, length, chunk } in pieces {
                    let chunk = chunk.wait()?;
                    content.chunk(offset, u64::from(length), &chunk);
                    references.push(Reference {
                        offset_bytes: offset,
                        chunk,
                        chunk_offset_bytes: 0,
                        length_bytes: length,
                    });
                }
                Ok((content.finish(), references))
            }
            Pieces::Grouped(content, pieces) => {
                let references = pieces.iter().map(|piece| self.grouped(piece)).collect::<Result<_, _>>()?;
                Ok((content, references))
            }
            Pieces::AsBefore(content) => Ok((content, old.unwrap_or_default().to_vec())),
        }
    }

    fn wait_for_names(&mut self, work: Work) {
        self.naming_bytes += work.attribute_bytes();
        self.naming.push_back(work);
    }

    fn grouped(&mut self, piece: &GroupedPiece) -> Result<Reference, VaultError> {
        // Rows leave in order: no later one waits for an earlier group.
        while self.closed.front().is_some_and(|(number, _)| *number < piece.group) {
            self.closed.pop_front();
        }
        let (_, chunk) = self.closed.front().filter(|(n, _)| *n == piece.group).ok_or(VaultError::GivenUp)?;
        Ok(Reference {
            offset_bytes: piece.offset,
            chunk: chunk.wait()?,
            chunk_offset_bytes: piece.chunk_offset,
            length_bytes: piece.length,
        })
    }

    /// Closes the group that is still open when a row that leaves is in it.
    fn need_groups(&mut self, pieces: &[GroupedPiece], chunks: &ChunkWriter) {
        let last = pieces.last().map(|piece| piece.group);
        if last.is_some_and(|last| self.closed.back().is_none_or(|(number, _)| *number < last)) {
            let group = self.groups.close();
            self.send_groups(group, chunks);
        }
    }

    fn send_groups(&mut self, groups: impl IntoIterator<Item = Group>, chunks: &ChunkWriter) {
        for group in groups {
            let chunk = PendingChunk::new(chunks.put_data(group.contents));
            self.closed.push_back((group.number, chunk));
        }
    }

    fn read_one(&mut self, chunks: &ChunkWriter) -> Result<(), CaptureError> {
        match self.reading.pop_front() {
            None => {}
            Some(Reading::Read(work)) => self.wait_for_names(*work),
            Some(Reading::Small(place, old)) => {
                let old = old.map(|old| *old);
                let outcome = self.readers.take_out().ok_or(VaultError::GivenUp)?;
                let task = self.small_task(outcome, old.as_ref(), chunks)?;
                self.wait_for_names(Work { place, old, task });
            }
        }
        Ok(())
    }

    fn small_task(
        &mut self,
        outcome: SmallOutcome,
        old: Option<&FoundRow>,
        chunks: &ChunkWriter,
    ) -> Result<Task, CaptureError> {
        let small = match outcome {
            Ok(small) => small,
            Err(NotRead::Problem(ReadProblem::Vanished)) => return Ok(Task::Remove),
            Err(NotRead::Problem(problem)) => return Ok(Task::Unreadable(problem)),
            Err(NotRead::Grown(found)) => return Ok(Task::Grown(found)),
        };
        let SmallFile { stat, observation, stretches, content, stability } = small;
        if stat.size_bytes == 0 {
            return Ok(Task::Plain(stat, observation));
        }
        let same = old.filter(|old| content_of(old) == Some(content));
        let is_as_before = same.map_or(Ok(false), |old| rows::has_groups(old, chunks))?;
        let pieces = match is_as_before {
            true => Pieces::AsBefore(content),
            false => self.group(content, stretches, chunks),
        };
        Ok(Task::File(FileContents { stat, observation, pieces, stability }))
    }

    fn group(
        &mut self,
        content: ContentId,
        stretches: Vec<(crate::read::Extent, Bytes, backstay_core::id::ChunkId)>,
        chunks: &ChunkWriter,
    ) -> Pieces {
        let mut pieces = Vec::with_capacity(stretches.len());
        for (extent, data, hash) in stretches {
            let (placed, closed) = self.groups.add(&data, &hash);
            self.send_groups(closed, chunks);
            pieces.push(GroupedPiece {
                offset: extent.offset_bytes,
                length: extent.length_bytes as u32,
                group: placed.group,
                chunk_offset: placed.offset,
            });
        }
        Pieces::Grouped(content, pieces)
    }
}

/// How far a queue is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// To its bound.
    TooMany,
    /// Wholly.
    All,
}

fn content_of(row: &FoundRow) -> Option<ContentId> {
    use crate::row::{HeadRow, Object, Restored};
    match HeadRow::decode(&row.value).ok()?.restored {
        Restored::Object { object: Object::File(Some(contents)), .. } => Some(contents.id()),
        _ => None,
    }
}
