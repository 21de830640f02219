//! Fetching chunks: reads stretches of packs and opens their records. A chunk that is damaged in one
//! place is taken from another where the index knows one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backstay_core::id::{ChunkId, PackId};
use bytes::Bytes;

use super::plan::{Appetite, PackRead, plan_reads};
use super::whole::{WholeLimits, WholePacks};
use crate::error::VaultError;
use crate::index::Location;
use crate::name::Named;
use crate::record::RecordOpener;
use crate::store::Stretch;
use crate::table::ChunkSource;
use crate::vault::Vault;

/// How often a reader and its clones look for what a collection has moved. More often nothing helps.
const LOOKS_MAX: u32 = 1000;

/// Threads that read and open chunks for [`ChunkReader::open_each`].
const THREADS: usize = 4;

/// Chunks that were opened.
#[derive(Debug)]
pub struct Opened<T> {
    /// What was made of each, or why it cannot be had.
    pub chunks: HashMap<ChunkId, Result<T, VaultError>>,
    /// Bytes that were read from the store for them.
    pub read_bytes: u64,
}

impl<T> Opened<T> {
    /// An error that says nothing of what is stored, if there is one, else any.
    pub(crate) fn into_error(self) -> VaultError {
        let mut errors: Vec<VaultError> = self.chunks.into_values().filter_map(Result::err).collect();
        let worst = errors.iter().position(|error| !error.is_finding()).unwrap_or(0);
        if errors.is_empty() { VaultError::GivenUp } else { errors.swap_remove(worst) }
    }
}

/// A chunk that is nowhere, and the error that says so.
pub type LostChunk = (ChunkId, VaultError);

/// Reads chunks of one vault. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChunkReader {
    vault: Arc<Vault>,
    looks: Arc<AtomicU32>,
    whole_packs: Option<Arc<WholePacks>>,
}

impl ChunkReader {
    /// A reader of this vault.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, looks: Arc::default(), whole_packs: None }
    }

    /// The same for whoever reads the runs of many captures: small packs are read whole, and kept for a while; where requests cost,
    /// large ones as well.
    pub fn of_many_runs(vault: Arc<Vault>) -> Self {
        let limits = if vault.requests_cost() { WholeLimits::ALL_ROWS } else { WholeLimits::MANY_RUNS };
        Self::with_whole_packs(vault, limits)
    }

    /// The same for whoever looks into a point: where requests cost, what one capture of few changes has written is read at once.
    pub fn of_rows(vault: Arc<Vault>) -> Self {
        match vault.requests_cost() {
            true => Self::with_whole_packs(vault, WholeLimits::SOME_ROWS),
            false => Self::new(vault),
        }
    }

    /// The same for whoever goes through all rows of a point: where requests cost, packs of rows are read whole.
    pub fn of_all_rows(vault: Arc<Vault>) -> Self {
        match vault.requests_cost() {
            true => Self::with_whole_packs(vault, WholeLimits::ALL_ROWS),
            false => Self::new(vault),
        }
    }

    fn with_whole_packs(vault: Arc<Vault>, limits: WholeLimits) -> Self {
        Self { whole_packs: Some(Arc::new(WholePacks::new(limits))), ..Self::new(vault) }
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The reads that these chunks need; an error names the first that no index object knows.
    pub fn plan(&self, chunks: impl IntoIterator<Item = ChunkId>) -> Result<Vec<PackRead>, VaultError> {
        let (reads, lost) = self.plan_what_is_there(chunks)?;
        match lost.into_iter().next() {
            None => Ok(reads),
            Some((_, error)) => Err(error),
        }
    }

    /// The same, but for those that no index object knows; these each with its error.
    pub fn plan_what_is_there(
        &self,
        chunks: impl IntoIterator<Item = ChunkId>,
    ) -> Result<(Vec<PackRead>, Vec<LostChunk>), VaultError> {
        let (mut located, mut lost) = (Vec::new(), Vec::new());
        for id in chunks {
            match self.locate(&id)? {
                Ok(place) => located.push((id, place)),
                Err(error) => lost.push((id, error)),
            }
        }
        Ok((plan_reads(located, self.appetite()), lost))
    }

    /// Where a chunk is to be read; or the error that says that no index object knows it.
    ///
    /// # Errors
    /// When that is not known.
    pub fn locate(&self, id: &ChunkId) -> Result<Result<Location, VaultError>, VaultError> {
        if let Some(place) = self.known_place(id)? {
            return Ok(Ok(place));
        }
        if let Some(place) = self.places_anew(id)?.first() {
            return Ok(Ok(*place));
        }
        self.vault.check_not_outdated()?;
        Ok(Err(self.lost(*id, "no index object knows it")))
    }

    /// The same by what is known now: nothing is asked of the store.
    pub fn known_place(&self, id: &ChunkId) -> Result<Option<Location>, VaultError> {
        Ok(self.vault.places(id)?.first().copied())
    }

    /// How reads are put together where nothing else is said.
    fn appetite(&self) -> Appetite {
        Appetite::for_store(self.vault.requests_cost())
    }

    /// Where a chunk is as the index says now: a collection may have moved it while something was read for hours.
    pub(super) fn places_anew(&self, id: &ChunkId) -> Result<Vec<Location>, VaultError> {
        if self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX {
            self.vault.refresh_index(None)?;
        }
        self.vault.places(id)
    }

    /// Reads a stretch. A failure is no error yet: its records may lie elsewhere, and `open` goes there.
    pub fn read(&self, read: &PackRead) -> Result<Bytes, VaultError> {
        if let Some(whole_packs) = &self.whole_packs
            && let Some(stretch) = whole_packs.stretch(&self.vault, read)?
        {
            return Ok(stretch);
        }
        let stretch = Stretch { offset: u64::from(read.offset), length: u64::from(read.length) };
        self.vault.get_range(&Named::Pack(read.pack).to_name(), stretch)
    }

    /// Opens one record of a stretch; when the stretch could not be read or the record is damaged,
    /// tries the other places that the index knows.
    pub fn open<'o>(
        &self,
        opener: &'o mut RecordOpener,
        read: &PackRead,
        stretch: &Result<Bytes, VaultError>,
        record: usize,
    ) -> Result<&'o [u8], VaultError> {
        let (id, begins, length) = read.records[record];
        let why = match stretch {
            Ok(bytes) => {
                // A store that gives less than was asked for is met like one that gives something else.
                let record = bytes.get(begins as usize..(begins + length) as usize).unwrap_or_default();
                match opener.open(self.vault.ring(), &id, record) {
                    Ok(_) => return Ok(opener.opened()),
                    Err(cause) => format!("{}: {cause}", Named::Pack(read.pack).to_name()),
                }
            }
            // A store that does not answer now says nothing of the record.
            Err(VaultError::Store(error)) if error.is_transient() => return Err(error.clone().into()),
            Err(error) => brief(error),
        };
        tracing::warn!(chunk = %id, why, "damaged, trying another place");
        // A pack that was cut short may still hold this record, though not the whole stretch.
        let alone = matches!(stretch, Err(VaultError::Store(error)) if !error.is_not_found());
        let tried = (!alone).then_some((read.pack, read.offset + begins));
        self.open_elsewhere(opener, id, tried, why)
    }

    /// One chunk.
    pub fn fetch(&self, id: ChunkId) -> Result<Vec<u8>, VaultError> {
        let read = self.plan([id])?.remove(0);
        let stretch = self.read(&read);
        Ok(self.open(&mut RecordOpener::new(), &read, &stretch, 0)?.to_vec())
    }

    /// Reads and opens chunks, several stretches at once, and gives what `take` makes of each. What is lost is named chunk by
    /// chunk.
    ///
    /// # Errors
    /// When it is not even known where chunks are.
    pub fn open_each<T: Send>(
        &self,
        chunks: impl IntoIterator<Item = ChunkId>,
        take: impl Fn(&[u8]) -> T + Sync,
    ) -> Result<Opened<T>, VaultError> {
        let (reads, lost) = self.plan_what_is_there(chunks)?;
        let opened: Mutex<HashMap<ChunkId, Result<T, VaultError>>> = Mutex::new(HashMap::new());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut opener = RecordOpener::new();
            while let Some(read) = reads.get(next.fetch_add(1, Ordering::Relaxed)) {
                let stretch = self.read(read);
                let mut plain = Vec::with_capacity(read.records.len());
                for (record, (id, ..)) in read.records.iter().enumerate() {
                    plain.push((*id, self.open(&mut opener, read, &stretch, record).map(&take)));
                }
                opened.lock().unwrap_or_else(PoisonError::into_inner).extend(plain);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..THREADS.min(reads.len()) {
                // One that cannot be started is done without.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut chunks = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
        chunks.extend(lost.into_iter().map(|(id, error)| (id, Err(error))));
        let read_bytes = reads.iter().map(|read| u64::from(read.length)).sum();
        Ok(Opened { chunks, read_bytes })
    }

    fn open_elsewhere<'o>(
        &self,
        opener: &'o mut RecordOpener,
        id: ChunkId,
        tried: Option<(PackId, u32)>,
        mut why: String,
    ) -> Result<&'o [u8], VaultError> {
        let places = self.vault.places(&id)?;
        let known: HashSet<(PackId, u32)> =
            places.iter().map(|place| (place.pack, place.offset)).chain(tried).collect();
        let untried = places.into_iter().filter(|place| tried != Some((place.pack, place.offset)));
        if self.try_places(opener, id, untried, &mut why)? {
            return Ok(opener.opened());
        }
        let mut moved = self.places_anew(&id)?;
        moved.retain(|place| !known.contains(&(place.pack, place.offset)));
        if self.try_places(opener, id, moved.into_iter(), &mut why)? {
            return Ok(opener.opened());
        }
        if self.open_older(opener, id)? {
            return Ok(opener.opened());
        }
        self.vault.check_not_outdated()?;
        Err(self.lost(id, &why))
    }

    /// Whether the chunk could be opened at one of these places; `why` says what was wrong at the last.
    fn try_places(
        &self,
        opener: &mut RecordOpener,
        id: ChunkId,
        places: impl Iterator<Item = Location>,
        why: &mut String,
    ) -> Result<bool, VaultError> {
        for place in places {
            match self.read(&PackRead::alone(id, &place)) {
                Ok(bytes) => match opener.open(self.vault.ring(), &id, &bytes) {
                    Ok(_) => return Ok(true),
                    Err(cause) => *why = format!("{}: {cause}", Named::Pack(place.pack).to_name()),
                },
                Err(VaultError::Store(error)) if error.is_transient() => return Err(error.into()),
                Err(error) => *why = brief(&error),
            }
        }
        Ok(false)
    }

    pub(super) fn lost(&self, chunk: ChunkId, cause: &str) -> VaultError {
        VaultError::Chunk { chunk, place: self.vault.place(), cause: cause.to_owned() }
    }
}

/// What went wrong, without the advice: the error around it has its own.
pub(super) fn brief(error: &VaultError) -> String {
    match error {
        VaultError::Store(error) => format!("{}: {}", error.object, error.cause),
        other => other.to_string(),
    }
}

impl ChunkSource for ChunkReader {
    type Error = VaultError;

    fn fetch_meta(&self, chunks: &[ChunkId]) -> Result<Vec<Vec<u8>>, VaultError> {
        let mut opened = HashMap::with_capacity(chunks.len());
        let mut opener = RecordOpener::new();
        for read in self.plan(chunks.iter().copied())? {
            let stretch = self.read(&read);
            for (record, (id, ..)) in read.records.iter().enumerate() {
                opened.insert(*id, self.open(&mut opener, &read, &stretch, record)?.to_vec());
            }
        }
        // Asked for twice is rare (two equal blocks): the copy does not matter.
        Ok(chunks.iter().filter_map(|id| opened.get(id).cloned()).collect())
    }
}
