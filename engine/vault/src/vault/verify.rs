//! Reading all contents of a source, share by share: every chunk to which a row of any of its runs refers is read and has
//! the right id. Says by point and path what has not. Owns the order in which a round goes; when a share is due, and what
//! becomes of what was found, is for others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstay_core::fold::Cursor;
use backstay_core::id::{ChunkId, SourceId};
use backstay_core::kind::{ChunkRange, KindRules};
use backstay_core::proof::{Place, TOLD_MAX};
use backstay_core::run::PartRef;

use super::{Catalogue, PointObject, Vault};
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::PartCursor;

/// What is read together.
#[derive(Debug, Clone, Copy)]
struct WindowLimits {
    /// Chunks.
    chunks: usize,
    /// Bytes of them to which rows refer.
    bytes: u64,
}

impl WindowLimits {
    /// Of a store whose requests cost nothing.
    const FREE: Self = Self { chunks: 64, bytes: 32 << 20 };

    /// Where they cost: more of each pack is wanted then. What is in memory of the contents is the same, some stretches.
    const COSTLY: Self = Self { chunks: 4096, bytes: 512 << 20 };
}

/// References of rows to them.
const WINDOW_RANGES: usize = 65_536;

/// How far a share goes. What was begun to be read together is read to the end.
#[derive(Debug, Clone, Copy)]
pub struct ShareLimit {
    /// Bytes that are read from the store.
    pub bytes: u64,
    /// Time that it takes.
    pub time: Duration,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct VerifiedShare {
    /// Rows that were looked at.
    pub entries: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How much is not as it should be.
    pub failures: u64,
    /// The first of it, by point and path.
    pub told: Vec<String>,
    /// Where the next share begins; `None` when all of it was read.
    pub next: Option<Place>,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl VerifyProgress {
    /// Rows so far.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Vault {
    /// Reads on from a place, or from the beginning, in what the points of a source need.
    ///
    /// # Errors
    /// When the store does not answer; what is damaged is a finding.
    pub fn verify_data(
        self: &Arc<Self>,
        catalogue: &Catalogue,
        kind: &dyn KindRules,
        from: Option<&Place>,
        limit: ShareLimit,
        progress: &VerifyProgress,
    ) -> Result<VerifiedShare, VaultError> {
        let mut share = Sharing {
            reader: ChunkReader::new(Arc::clone(self)),
            kind,
            limit,
            limits: if self.requests_cost() { WindowLimits::COSTLY } else { WindowLimits::FREE },
            start: Instant::now(),
            progress,
            window: Window::default(),
            unread_from: Vec::new(),
            found: VerifiedShare::default(),
        };
        let parts = share.parts(catalogue)?;
        let begins = from.map(|place| place.part);
        for (root, (part, point)) in parts.range(begins.unwrap_or(ChunkId::new([0; ChunkId::LENGTH]))..) {
            let key = from.filter(|place| place.part == *root).map_or(&[][..], |place| &place.key);
            let before = (share.found.failures, share.found.told.len());
            let next = match share.part(part, point, key) {
                // What was read is shown, and the next share begins where the store has failed.
                Err(error) if share.found.bytes > 0 => {
                    tracing::warn!(%error, "the share ends here");
                    Some(std::mem::take(&mut share.unread_from))
                }
                next => next?,
            };
            if share.found.failures > before.0 && !self.needs_part(catalogue.source, *root)? {
                // It was merged, or its points were dropped, while it was read.
                share.found.failures = before.0;
                share.found.told.truncate(before.1);
                continue;
            }
            if let Some(next) = next {
                share.found.next = Some(Place { part: *root, key: next });
                break;
            }
        }
        Ok(share.found)
    }

    /// Whether any point needs a part as of now.
    fn needs_part(&self, source: SourceId, root: ChunkId) -> Result<bool, VaultError> {
        let catalogue = self.catalogue(source)?;
        self.refresh_index(None)?;
        let mut stacks = catalogue.points().iter().filter_map(|point| catalogue.stack_of(point.link).ok());
        Ok(stacks.any(|stack| stack.iter().flat_map(|run| &run.parts).any(|part| part.root == root)))
    }
}

/// One share under way.
struct Sharing<'s> {
    reader: ChunkReader,
    kind: &'s dyn KindRules,
    limit: ShareLimit,
    /// Of what is read together.
    limits: WindowLimits,
    start: Instant,
    progress: &'s VerifyProgress,
    window: Window,
    /// Key of the first row at hand whose contents were not read.
    unread_from: Vec<u8>,
    found: VerifiedShare,
}

/// What is read together.
#[derive(Default)]
struct Window {
    ranges: Vec<(ChunkRange, String)>,
    chunks: HashSet<ChunkId>,
    bytes: u64,
}

impl Sharing<'_> {
    /// The parts of all runs that points need, each with the newest of these points.
    fn parts(
        &mut self,
        catalogue: &Catalogue,
    ) -> Result<BTreeMap<ChunkId, (PartRef, Arc<PointObject>)>, VaultError> {
        let mut parts = BTreeMap::new();
        for point in catalogue.points().iter().rev() {
            match catalogue.stack_of(point.link) {
                Ok(stack) => {
                    for part in stack.into_iter().flat_map(|run| run.parts) {
                        parts.entry(part.root).or_insert_with(|| (part, Arc::clone(point)));
                    }
                }
                Err(error) if error.is_finding() => {
                    self.tell(format!("{}: {error}", named(point)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(parts)
    }

    /// Reads what the rows of a part refer to; the key of the next row when the share is full before its end.
    fn part(
        &mut self,
        part: &PartRef,
        point: &PointObject,
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, VaultError> {
        let mut last = from.to_vec();
        self.unread_from = from.to_vec();
        let mut cursor = match PartCursor::open(self.reader.clone(), part, from) {
            Ok(cursor) => cursor,
            Err(error) => return self.lacks_rows(part, point, &last, error.into()).map(|()| None),
        };
        loop {
            match cursor.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.lacks_rows(part, point, &last, error.into())?;
                    break;
                }
            }
            let entry = cursor.entry();
            if self.is_full() {
                let next = entry.key.to_vec();
                self.read(point)?;
                return Ok(Some(next));
            }
            self.found.entries += 1;
            self.progress.entries.fetch_add(1, Ordering::Relaxed);
            last.clear();
            last.extend_from_slice(entry.key);
            if self.window.chunks.is_empty() {
                self.unread_from.clone_from(&last);
            }
            let (kind, window) = (self.kind, &mut self.window);
            let mut path = None;
            let referred = entry.change.value().map_or(Ok(()), |value| {
                kind.references(entry.key, value, &mut |range| {
                    window.add(range, path.get_or_insert_with(|| kind.path(entry.key)));
                })
            });
            if let Err(unreadable) = referred {
                let path = kind.path(entry.key);
                self.tell(format!("{path} ({}): {unreadable}", named(point)));
            }
            if self.window.is_full(self.limits) {
                self.read(point)?;
            }
        }
        self.read(point)?;
        Ok(None)
    }

    fn is_full(&self) -> bool {
        // What waits to be read counts by what is referred to: it is about what will be read.
        self.found.bytes + self.window.bytes >= self.limit.bytes || self.start.elapsed() >= self.limit.time
    }

    /// Some rows of a part cannot be read.
    fn lacks_rows(
        &mut self,
        part: &PartRef,
        point: &PointObject,
        last: &[u8],
        error: VaultError,
    ) -> Result<(), VaultError> {
        if !error.is_finding() {
            return Err(error);
        }
        let from = self.kind.path(if last.is_empty() { &part.first_key } else { last });
        let to = self.kind.path(&part.last_key);
        self.tell(format!("what is between {from} and {to} ({}): {error}", named(point)));
        self.read(point)
    }

    /// Reads what was gathered.
    fn read(&mut self, point: &PointObject) -> Result<(), VaultError> {
        let Window { ranges, chunks, .. } = std::mem::take(&mut self.window);
        if chunks.is_empty() {
            return Ok(());
        }
        let opened = self.reader.open_each(chunks, <[u8]>::len)?;
        self.found.bytes += opened.read_bytes;
        self.progress.bytes.fetch_add(opened.read_bytes, Ordering::Relaxed);
        let mut wrong: HashMap<ChunkId, String> = HashMap::new();
        for (chunk, length) in &opened.chunks {
            match length {
                Ok(_) => {}
                Err(error) if error.is_finding() => {
                    wrong.insert(*chunk, error.to_string());
                }
                Err(_) => return Err(opened.into_error()),
            }
        }
        let mut told: HashSet<&str> = HashSet::new();
        for (range, path) in &ranges {
            let why = match (wrong.get(&range.chunk), opened.chunks.get(&range.chunk)) {
                (Some(why), _) => why.clone(),
                (None, Some(Ok(length))) if range.offset as usize + range.length as usize <= *length => {
                    continue;
                }
                _ => format!("chunk {} is shorter than its row says", range.chunk),
            };
            if told.insert(path) {
                self.tell(format!("{path} ({}): {why}", named(point)));
            }
        }
        Ok(())
    }

    fn tell(&mut self, line: String) {
        self.found.failures += 1;
        if self.found.told.len() < TOLD_MAX {
            self.found.told.push(line);
        }
    }
}

impl Window {
    fn add(&mut self, range: ChunkRange, path: &str) {
        if self.chunks.insert(range.chunk) {
            self.bytes += u64::from(range.length);
        }
        self.ranges.push((range, path.to_owned()));
    }

    fn is_full(&self, limits: WindowLimits) -> bool {
        self.chunks.len() >= limits.chunks || self.bytes >= limits.bytes || self.ranges.len() >= WINDOW_RANGES
    }
}

fn named(point: &PointObject) -> String {
    format!("point {} of {}", point.link.point, point.common.capture_start)
}
