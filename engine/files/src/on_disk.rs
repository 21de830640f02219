//! What stands on disk at a path, in the words of the row that a point has of it: so that the two can be compared, and a
//! state digest made of what was restored. Reads contents where the row says they are, and looks whether the rest is zero.

use std::sync::Arc;

use backstay_core::id::{ChunkId, ContentId};
use backstay_vault::chunk::ChunkClass;
use backstay_vault::keys::KeyRing;
use rustix::fs::Advice;
use rustix::io::Errno;

use crate::capture::{Observation, Observer, ReadProblem};
use crate::content::ContentIdBuilder;
use crate::observe;
use crate::read::{Extent, SourceFile, Stability};
use crate::row::{DeviceNumber, Meta, Object, Reference, RowError, RowFault};
use crate::stat::{FileKind, FileStat};
use crate::walk::Found;

/// What is read of a file at once to look whether it is zero, bytes.
const ZEROS_BYTES: usize = 1 << 20;

/// How often a file is read that changes meanwhile.
const TRIES: usize = 2;

/// The contents that a row has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'r> {
    pub(crate) size_bytes: u64,
    pub(crate) references: &'r [Reference],
}

/// Why nothing is known of an object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookProblem {
    #[error(transparent)]
    Read(#[from] ReadProblem),
    /// No row can describe it.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl From<Errno> for LookProblem {
    fn from(errno: Errno) -> Self {
        Self::Read(errno.into())
    }
}

/// Looks at objects.
#[derive(Debug)]
pub(crate) struct Looker {
    ring: Arc<KeyRing>,
    observer: Observer,
    reads: Reads,
}

/// Where contents are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    AsTheyCome,
    FromDisk,
}

impl Looker {
    /// `ring` names contents.
    pub(crate) fn new(ring: &Arc<KeyRing>) -> Self {
        Self { ring: Arc::clone(ring), observer: Observer::new(), reads: Reads::AsTheyCome }
    }

    /// The same, but contents that the system has in memory are forgotten first, as far as it lets that: what is read is
    /// what lies on the disk.
    pub(crate) fn from_disk(ring: &Arc<KeyRing>) -> Self {
        Self { reads: Reads::FromDisk, ..Self::new(ring) }
    }

    /// The object, and what is to be known of it beside its contents. Contents are read when they have the size that is
    /// expected; those of another size have an id of zeros, which none has that was read.
    pub(crate) fn object(
        &self,
        found: &Found,
        expected: Option<Expected<'_>>,
    ) -> Result<(Object, Meta), LookProblem> {
        if found.stat.kind != FileKind::File {
            let observation = self.observer.object(found)?.ok_or(ReadProblem::Replaced)?;
            return self.plain(&found.stat, observation);
        }
        let mut last = None;
        for _ in 0..TRIES {
            let file = found.open_file().map_err(ReadProblem::from)?;
            let stat = *file.stat();
            if self.reads == Reads::FromDisk {
                // Only asked for: what has been synced can be forgotten.
                let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            }
            let content = match expected {
                Some(expected) if expected.size_bytes == stat.size_bytes => {
                    self.content_id(&file, expected)?
                }
                _ => ContentId::new([0; 32]),
            };
            let observation = self.observer.file(&file)?;
            let size = RowError { field: "size", fault: RowFault::Bounds };
            let object = Object::file(stat.size_bytes, content).ok_or(size)?;
            let meta = self.meta(&stat, observation)?;
            if file.stability()? == Stability::Stable {
                return Ok((object, meta));
            }
            last = Some((object, meta));
        }
        last.ok_or(ReadProblem::Grown.into())
    }

    fn plain(&self, stat: &FileStat, observation: Observation) -> Result<(Object, Meta), LookProblem> {
        let device = DeviceNumber { major: stat.represents.0, minor: stat.represents.1 };
        let object = match stat.kind {
            FileKind::File => Object::File(None),
            FileKind::Directory => Object::Directory,
            FileKind::Symlink => {
                let target = RowError { field: "target", fault: RowFault::Missing };
                Object::Symlink(observation.target.clone().ok_or(target)?)
            }
            FileKind::Fifo => Object::Fifo,
            FileKind::Socket => Object::Socket,
            FileKind::CharDevice => Object::CharDevice(device),
            FileKind::BlockDevice => Object::BlockDevice(device),
        };
        Ok((object, self.meta(stat, observation)?))
    }

    fn meta(&self, stat: &FileStat, observation: Observation) -> Result<Meta, LookProblem> {
        let attributes = observation.attributes.into_attributes(|value| -> Result<_, LookProblem> {
            let mut content = ContentIdBuilder::new(value.len() as u64);
            content.chunk(0, value.len() as u64, &self.hash(value)?);
            Ok(content.finish())
        })?;
        Ok(observe::meta(stat, attributes))
    }

    /// The id of contents as the references cut them. Where the row has a hole and the file has something, it is another.
    fn content_id(&self, file: &SourceFile, expected: Expected<'_>) -> Result<ContentId, LookProblem> {
        let mut content = ContentIdBuilder::new(expected.size_bytes);
        let mut buffer = Vec::new();
        let mut holes = Holes { extents: Vec::new() };
        let mut at = 0;
        for reference in expected.references {
            holes.add(at, reference.offset_bytes);
            buffer.resize(reference.length_bytes as usize, 0);
            let read = file.read_at(reference.offset_bytes, &mut buffer)?;
            buffer[read..].fill(0);
            content.chunk(reference.offset_bytes, reference.length_bytes.into(), &self.hash(&buffer)?);
            at = reference.end_bytes();
        }
        holes.add(at, expected.size_bytes);
        match holes.are_zero(file, &mut buffer)? {
            true => Ok(content.finish()),
            false => Ok(ContentId::new([0; 32])),
        }
    }

    fn hash(&self, bytes: &[u8]) -> Result<ChunkId, LookProblem> {
        Ok(self.ring.chunk_id(ChunkClass::Data, bytes).ok_or(ReadProblem::NoKey)?)
    }
}

/// Stretches of a file in which nothing is expected.
struct Holes {
    extents: Vec<Extent>,
}

impl Holes {
    fn add(&mut self, begins: u64, ends: u64) {
        if begins < ends {
            self.extents.push(Extent { offset_bytes: begins, length_bytes: ends - begins });
        }
    }

    /// Whether there is nothing but zeros. Holes of the file itself are not read.
    fn are_zero(&self, file: &SourceFile, buffer: &mut Vec<u8>) -> Result<bool, Errno> {
        if self.extents.is_empty() {
            return Ok(true);
        }
        let mut holes = self.extents.iter().peekable();
        for data in file.extents() {
            let data = data?;
            let (begins, ends) = (data.offset_bytes, data.offset_bytes + data.length_bytes);
            while let Some(hole) = holes.peek() {
                let hole_ends = hole.offset_bytes + hole.length_bytes;
                let (mut at, end) = (begins.max(hole.offset_bytes), ends.min(hole_ends));
                while at < end {
                    buffer.resize(ZEROS_BYTES.min((end - at) as usize), 0);
                    let read = file.read_at(at, buffer)?;
                    if read == 0 {
                        break;
                    }
                    if buffer[..read].iter().any(|byte| *byte != 0) {
                        return Ok(false);
                    }
                    at += read as u64;
                }
                if hole_ends > ends {
                    break;
                }
                holes.next();
            }
        }
        Ok(true)
    }
}
