//! A window of a restore: pieces of files whose chunks are fetched together, each stretch of a pack read once,
//! and written by the pool of threads while the next windows are put together. Where requests cost, stretches are as long as
//! packs, and stay in memory for the windows to come.

use std::collections::HashMap;
use std::sync::Arc;

use backstay_core::id::{ChunkId, PackId};
use backstay_vault::error::VaultError;
use backstay_vault::index::Location;
use backstay_vault::read::{Appetite, ChunkReader, PackRead, plan_reads};
use backstay_vault::write::CpuPool;

use super::foresight::Foresight;
use super::kept::{Job, Kept, Shelf, Wanted};
use super::piece::{OpenFile, Piece, Target};
use super::report::{Collected, RestoreProgress};
use super::stretches::Stretches;
use super::under_way::{Counted, Counter, Failure, Shared};
use crate::row::Reference;

/// Plain bytes of one window.
const WINDOW_BYTES: u64 = 32 << 20;

/// Files of one window.
const WINDOW_FILES: usize = 512;

/// Bytes of stretches that are read, wait to be opened or are being opened: six, as a rule.
const STRETCH_BYTES_MAX: usize = 48 << 20;

/// The same where requests cost, with what stays for windows to come: four packs, as a rule, or two as large as can be.
const KEPT_BYTES_MAX: usize = 128 << 20;

const READS: Counter = |under_way| &mut under_way.reads;

const STRETCH_BYTES: Counter = |under_way| &mut under_way.stretch_bytes;

/// Puts windows together and has them worked on.
#[derive(Debug)]
pub(super) struct Windows {
    reader: ChunkReader,
    stretches: Stretches,
    shared: Arc<Shared>,
    pieces: Vec<Piece>,
    bytes: u64,
    files: usize,
    thrift: Option<Thrift>,
}

/// What spares requests, where they cost.
#[derive(Debug, Default)]
struct Thrift {
    foresight: Foresight,
    shelf: Shelf,
    /// Plain bytes of all that comes before the next piece.
    position: u64,
}

/// Records of a pack that are wanted: the chunk and its place.
type Records = Vec<(ChunkId, Location)>;

/// Pieces of a window that need the same chunk.
type Pieces = HashMap<ChunkId, Vec<Piece>>;

impl Windows {
    pub(super) fn new(
        reader: ChunkReader,
        pool: Arc<CpuPool>,
        collected: Arc<Collected>,
        progress: Arc<RestoreProgress>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(collected, progress));
        let stretches = Stretches::start(&reader, &pool, &shared)?;
        let thrift = reader.vault().requests_cost().then(Thrift::default);
        Ok(Self { reader, stretches, shared, pieces: Vec::new(), bytes: 0, files: 0, thrift })
    }

    /// Whether more is to be told of what will be wanted.
    pub(super) fn looks_ahead(&mut self) -> bool {
        self.thrift.as_mut().is_some_and(|thrift| !thrift.foresight.is_far(thrift.position))
    }

    /// Hears of contents that will be wanted, after so many bytes of others.
    pub(super) fn expect(&mut self, position: u64, reference: &Reference) -> Result<(), VaultError> {
        let Some(thrift) = &mut self.thrift else { return Ok(()) };
        let place = self.reader.known_place(&reference.chunk)?;
        // What is on the shelf is not read again, unless it has to make room before.
        let place = place.filter(|place| !thrift.shelf.expects(place));
        let record = place.map(|place| (reference.chunk, place));
        thrift.foresight.expect(position, u64::from(reference.length_bytes), record);
        Ok(())
    }

    /// What is added next comes after contents of so many bytes, of all that was told.
    pub(super) fn go_to(&mut self, position: u64) {
        if let Some(thrift) = &mut self.thrift {
            thrift.position = position;
        }
    }

    /// Adds a file with all its references; it is finished when the last is written. Of these, so many were told before.
    pub(super) fn add(
        &mut self,
        file: Target,
        references: &[Reference],
        mut told: usize,
    ) -> Result<(), Failure> {
        if references.is_empty() {
            if let Some(file) = self.shared.collected.judge(file.make())? {
                self.shared.collected.defects(file.finish());
            }
            return Ok(());
        }
        let file = Arc::new(OpenFile::new(file, references.len(), &self.shared));
        self.files += 1;
        let mut told_to =
            self.thrift.as_ref().map_or(0, |thrift| thrift.position) + bytes_of(&references[..told]);
        for reference in references {
            self.bytes += u64::from(reference.length_bytes);
            self.pieces.push(Piece { file: Arc::clone(&file), reference: *reference });
            if let Some(thrift) = &mut self.thrift {
                thrift.position += u64::from(reference.length_bytes);
            }
            if self.bytes >= WINDOW_BYTES {
                while told < references.len() && self.looks_ahead() {
                    self.expect(told_to, &references[told]).map_err(Failure::Vault)?;
                    told_to += u64::from(references[told].length_bytes);
                    told += 1;
                }
                self.send()?;
            }
        }
        if self.files >= WINDOW_FILES { self.send() } else { Ok(()) }
    }

    /// Works off what is left and waits for all of it.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.send()?;
        self.shared.wait(|under_way| under_way.reads == 0);
        self.shared.take_failure()
    }

    fn send(&mut self) -> Result<(), Failure> {
        let pieces = std::mem::take(&mut self.pieces);
        let bytes = std::mem::take(&mut self.bytes);
        self.files = 0;
        self.shared.take_failure()?;
        let (mut by_chunk, packs) = self.locate(pieces)?;
        for (pack, records) in packs {
            let (mut there, mut missing) = (Vec::<(Arc<Kept>, Records)>::new(), Records::new());
            for (chunk, place) in records {
                match self.thrift.as_mut().and_then(|thrift| thrift.shelf.find(&place)) {
                    None => missing.push((chunk, place)),
                    Some(kept) => match there.iter_mut().find(|(one, _)| Arc::ptr_eq(one, &kept)) {
                        Some((_, records)) => records.push((chunk, place)),
                        None => there.push((kept, vec![(chunk, place)])),
                    },
                }
            }
            for (kept, records) in there {
                let job = self.job(kept.as_read(), &records, &mut by_chunk);
                self.stretches.open(&kept, job);
            }
            let reads = match &mut self.thrift {
                None => plan_reads(missing.clone(), Appetite::SPARING),
                Some(_) if missing.is_empty() => Vec::new(),
                Some(Thrift { foresight, position, .. }) => {
                    let begins = position.saturating_sub(bytes);
                    foresight.plan(pack, &missing, begins, Appetite::WHOLE_PACKS)
                }
            };
            for read in reads {
                self.read(&read, &missing, &mut by_chunk);
            }
        }
        Ok(())
    }

    /// Puts pieces together that need the same chunk, and chunks that are in one pack: the packs in the order in which they are
    /// needed first.
    fn locate(&self, pieces: Vec<Piece>) -> Result<(Pieces, Vec<(PackId, Records)>), Failure> {
        let mut by_chunk = Pieces::new();
        let mut chunks = Vec::new();
        for piece in pieces {
            let same = by_chunk.entry(piece.reference.chunk).or_default();
            if same.is_empty() {
                chunks.push(piece.reference.chunk);
            }
            same.push(piece);
        }
        let (mut packs, mut numbers) = (Vec::<(PackId, Records)>::new(), HashMap::new());
        for chunk in chunks {
            match self.reader.locate(&chunk).map_err(Failure::Vault)? {
                Ok(place) => {
                    let number = *numbers.entry(place.pack).or_insert(packs.len());
                    if number == packs.len() {
                        packs.push((place.pack, Vec::new()));
                    }
                    packs[number].1.push((chunk, place));
                }
                Err(error) => {
                    let pieces = by_chunk.remove(&chunk).unwrap_or_default();
                    pieces.iter().for_each(|piece| piece.lose(&error, &self.shared));
                }
            }
        }
        Ok((by_chunk, packs))
    }

    /// Has a stretch read, and those of these records opened that are in it.
    fn read(&mut self, read: &PackRead, wanted: &Records, by_chunk: &mut Pieces) {
        let weighed = self.make_room(read.length as usize);
        let is_in_it = |(_, place): &&(ChunkId, Location)| read.has(place);
        let records: Records = wanted.iter().filter(is_in_it).copied().collect();
        let kept = Kept::coming(read, self.job(read, &records, by_chunk), weighed);
        if let Some(thrift) = &mut self.thrift {
            thrift.shelf.keep(Arc::clone(&kept));
        }
        self.stretches.queue(kept);
    }

    /// What is to be done with these records of a stretch.
    fn job(&self, read: &PackRead, records: &Records, by_chunk: &mut Pieces) -> Job {
        let pieces = records.iter().map(|(chunk, _)| by_chunk.remove(chunk).unwrap_or_default()).collect();
        let records = records.iter().map(|(chunk, place)| (*chunk, place.offset - read.offset, place.length));
        let read = PackRead { records: records.collect(), ..*read };
        Job { read, pieces, counted: Counted::begin(&self.shared, READS, usize::MAX) }
    }

    /// Waits until a stretch of so many bytes may be in memory; what was kept makes room.
    fn make_room(&mut self, bytes: usize) -> Counted {
        let most = if self.thrift.is_some() { KEPT_BYTES_MAX } else { STRETCH_BYTES_MAX };
        loop {
            let changes = self.shared.changes();
            if let Some(weighed) = Counted::try_begin(&self.shared, STRETCH_BYTES, bytes, most) {
                return weighed;
            }
            // While something is under way, it will have been used and make room.
            let wanted = if self.shared.is_idle() { Wanted::Ever } else { Wanted::Hardly };
            let has_let_go = self.thrift.as_mut().is_some_and(|thrift| thrift.shelf.let_go(wanted));
            if !has_let_go {
                self.shared.wait_for_change(changes);
            }
        }
    }
}

fn bytes_of(references: &[Reference]) -> u64 {
    references.iter().map(|reference| u64::from(reference.length_bytes)).sum()
}

impl Drop for Windows {
    /// What is still queued when a restore ends early is not worked on.
    fn drop(&mut self) {
        self.shared.fail(Failure::Vault(VaultError::GivenUp));
    }
}
