//! Reading of small files by several threads, many files a turn: opening, reading and looking at attributes
//! costs more than the contents. Results come in the order in which the files were handed in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use backstay_core::id::{ChunkId, ContentId};
use backstay_vault::chunk::ChunkClass;
use backstay_vault::keys::KeyRing;
use backstay_vault::split::SMALL_FILE_BYTES;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::observation::{Observation, Observer};
use super::problem::ReadProblem;
use crate::content::ContentIdBuilder;
use crate::read::{Extent, OpenError, SourceFile, Stability};
use crate::stat::FileStat;
use crate::walk::Found;

/// Files that are read in one turn.
const BATCH_FILES: usize = 32;

/// Turns that may be under way, for each thread.
const BATCHES_PER_THREAD: usize = 2;

/// How often a file that changes while it is read is read.
const TRIES: usize = 2;

/// A small file as it was read.
#[derive(Debug)]
pub(super) struct SmallFile {
    /// What it was when it was opened.
    pub(super) stat: FileStat,
    /// Its attributes and owners.
    pub(super) observation: Observation,
    /// Its stretches of data, with the keyed hash of each.
    pub(super) stretches: Vec<(Extent, Bytes, ChunkId)>,
    /// Its content id.
    pub(super) content: ContentId,
    /// Whether it stood still.
    pub(super) stability: Stability,
}

/// Why a file was not read here.
#[derive(Debug)]
pub(super) enum NotRead {
    /// It cannot be read.
    Problem(ReadProblem),
    /// It is small no longer.
    Grown(Box<Found>),
}

impl From<ReadProblem> for NotRead {
    fn from(problem: ReadProblem) -> Self {
        Self::Problem(problem)
    }
}

/// What became of one file.
pub(super) type SmallOutcome = Result<SmallFile, NotRead>;

type Batch = (Vec<Found>, Sender<Vec<SmallOutcome>>);

/// The threads, and the turns under way.
#[derive(Debug)]
pub(super) struct SmallReaders {
    jobs: Option<Sender<Batch>>,
    threads: Vec<JoinHandle<()>>,
    gathering: Vec<Found>,
    under_way: VecDeque<Receiver<Vec<SmallOutcome>>>,
    done: VecDeque<SmallOutcome>,
}

impl SmallReaders {
    pub(super) fn start(
        count: usize,
        ring: &Arc<KeyRing>,
        observer: &Arc<Observer>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = bounded::<Batch>(count * BATCHES_PER_THREAD);
        let threads = (0..count)
            .map(|_| {
                let (waiting, ring, observer) = (waiting.clone(), Arc::clone(ring), Arc::clone(observer));
                std::thread::Builder::new().name("backstay-read".into()).spawn(move || {
                    for (files, done) in waiting {
                        let read = files.iter().map(|found| read_small(found, &ring, &observer)).collect();
                        // Nobody waits any more when the capture was given up.
                        let _ = done.send(read);
                    }
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            jobs: Some(jobs),
            threads,
            gathering: Vec::with_capacity(BATCH_FILES),
            under_way: VecDeque::new(),
            done: VecDeque::new(),
        })
    }

    /// Hands in a file.
    pub(super) fn hand_in(&mut self, found: Found) {
        self.gathering.push(found);
        if self.gathering.len() >= BATCH_FILES {
            self.send();
        }
    }

    /// Waits for the file that was handed in first and not yet taken out; `None` when the threads are gone.
    pub(super) fn take_out(&mut self) -> Option<SmallOutcome> {
        while self.done.is_empty() {
            if self.under_way.is_empty() {
                self.send();
            }
            self.done = self.under_way.pop_front()?.recv().ok()?.into();
        }
        self.done.pop_front()
    }

    fn send(&mut self) {
        if self.gathering.is_empty() {
            return;
        }
        let (done, result) = bounded(1);
        let files = std::mem::replace(&mut self.gathering, Vec::with_capacity(BATCH_FILES));
        if let Some(jobs) = &self.jobs
            && jobs.send((files, done)).is_ok()
        {
            self.under_way.push_back(result);
        }
    }
}

impl Drop for SmallReaders {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn read_small(found: &Found, ring: &KeyRing, observer: &Observer) -> SmallOutcome {
    let mut last = None;
    for _ in 0..TRIES {
        let file = open(found)?;
        let read = read_stretches(&file, ring)?;
        let observation = observer.file(&file).map_err(ReadProblem::Refused)?;
        let Some((stretches, content)) = read else { return Err(NotRead::Grown(Box::new(found.clone()))) };
        let stability = file.stability().map_err(ReadProblem::Refused)?;
        let small = SmallFile { stat: *file.stat(), observation, stretches, content, stability };
        if stability == Stability::Stable {
            return Ok(small);
        }
        last = Some(small);
    }
    last.ok_or_else(|| NotRead::Grown(Box::new(found.clone())))
}

/// Opens a file; where another one has taken its place since it was found, that one. But not where the file has other
/// names, which would get the other's contents: then it has vanished under this one.
pub(super) fn open(found: &Found) -> Result<SourceFile, ReadProblem> {
    match found.open_file() {
        Err(OpenError::Replaced) if found.stat.links > 1 => Err(ReadProblem::Vanished),
        Err(OpenError::Replaced) => Ok(found.look_again().map_err(ReadProblem::from)?.open_file()?),
        opened => Ok(opened?),
    }
}

type Stretches = (Vec<(Extent, Bytes, ChunkId)>, ContentId);

/// The stretches of data; `None` when the file is no longer small.
fn read_stretches(file: &SourceFile, ring: &KeyRing) -> Result<Option<Stretches>, ReadProblem> {
    let size = file.stat().size_bytes;
    if size >= SMALL_FILE_BYTES as u64 {
        return Ok(None);
    }
    let mut stretches = Vec::new();
    let mut content = ContentIdBuilder::new(size);
    for extent in file.extents() {
        let extent = extent.map_err(ReadProblem::Refused)?;
        let mut data = vec![0; extent.length_bytes as usize];
        let read = file.read_at(extent.offset_bytes, &mut data).map_err(ReadProblem::Refused)?;
        // A file that became shorter reads as zeros to its former end; `stability` notes the change.
        data[read..].fill(0);
        let hash = ring.chunk_id(ChunkClass::Data, &data).ok_or(ReadProblem::NoKey)?;
        content.chunk(extent.offset_bytes, extent.length_bytes, &hash);
        stretches.push((extent, data.into(), hash));
    }
    Ok(Some((stretches, content.finish())))
}
