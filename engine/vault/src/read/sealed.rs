//! Sealed records that are moved as they lie there. Each is shown to be whole before: what is deleted afterwards must not have
//! been the only whole copy. Who has the key of a record opens it and compares it with its id. A custodian has none for data:
//! to it a record of data is whole if the pack in which it lies is what its id says, which is the hash of all of it.

use std::sync::Arc;

use backstay_core::id::{ChunkId, PackId};
use bytes::Bytes;

use super::fetch::{ChunkReader, brief};
use super::plan::PackRead;
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::index::Location;
use crate::malformed::Malformed;
use crate::name::Named;
use crate::record::{RecordHeader, RecordOpener};
use crate::vault::Vault;

/// Packs that are not what their ids say and that are remembered: else they would be read again for each record.
const DAMAGED_MAX: usize = 4096;

/// A record that is whole, or why it is not.
type Judged = Result<Bytes, String>;

/// Reads sealed records of one vault; one for each thread that reads many.
#[derive(Debug)]
pub(crate) struct SealedReader {
    reader: ChunkReader,
    opener: RecordOpener,
    /// The pack that was read whole last, and is what its id says. There is one, of at most 64 MiB.
    pack: Option<(PackId, Bytes)>,
    damaged: Vec<PackId>,
}

impl SealedReader {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        let (reader, opener) = (ChunkReader::new(vault), RecordOpener::new());
        Self { reader, opener, pack: None, damaged: Vec::new() }
    }

    /// Reads a stretch. A failure is no error yet: its records may lie elsewhere, and [`Self::sealed`] goes there.
    pub(crate) fn read(&self, read: &PackRead) -> Result<Bytes, VaultError> {
        match self.pack.as_ref().filter(|(loaded, _)| *loaded == read.pack) {
            Some((_, content)) => Ok(part(content, read.offset, read.length)),
            None => self.reader.read(read),
        }
    }

    /// One record of a stretch as it lies there, found whole; from another place when it is not.
    pub(crate) fn sealed(
        &mut self,
        read: &PackRead,
        stretch: &Result<Bytes, VaultError>,
        record: usize,
    ) -> Result<Bytes, VaultError> {
        let (chunk, ..) = read.records[record];
        let mut why = match self.in_stretch(read, stretch, record)? {
            Ok(record) => return Ok(record),
            Err(why) => why,
        };
        let known = self.reader.vault().places(&chunk)?;
        if let Some(record) = self.sealed_in(&chunk, &known, &mut why)? {
            return Ok(record);
        }
        // A collection may have moved it since the index was read.
        let mut moved = self.reader.places_anew(&chunk)?;
        moved.retain(|place| {
            known.iter().all(|known| (known.pack, known.offset) != (place.pack, place.offset))
        });
        let record = self.sealed_in(&chunk, &moved, &mut why)?;
        record.ok_or_else(|| self.reader.lost(chunk, &why))
    }

    /// The record from the first of these places in which it is whole; `why` says what was wrong at the last.
    fn sealed_in(
        &mut self,
        chunk: &ChunkId,
        places: &[Location],
        why: &mut String,
    ) -> Result<Option<Bytes>, VaultError> {
        for place in places {
            let record = self.read(&PackRead::alone(*chunk, place));
            match self.judge(chunk, place.pack, place.offset, told(record)?)? {
                Ok(record) => return Ok(Some(record)),
                Err(cause) => *why = cause,
            }
        }
        Ok(None)
    }

    /// Whether a record of a stretch is whole in this place.
    pub(crate) fn is_whole(
        &mut self,
        read: &PackRead,
        stretch: &Result<Bytes, VaultError>,
        record: usize,
    ) -> Result<bool, VaultError> {
        Ok(self.in_stretch(read, stretch, record)?.is_ok())
    }

    fn in_stretch(
        &mut self,
        read: &PackRead,
        stretch: &Result<Bytes, VaultError>,
        record: usize,
    ) -> Result<Judged, VaultError> {
        let (chunk, begins, length) = read.records[record];
        let stretch = match stretch {
            Ok(bytes) => Ok(bytes),
            Err(VaultError::Store(error)) if error.is_transient() => return Err(error.clone().into()),
            Err(error) => Err(brief(error)),
        };
        let record = stretch.map(|bytes| part(bytes, begins, length));
        self.judge(&chunk, read.pack, read.offset + begins, record)
    }

    /// Whether that which was read in a place is this record, and whole.
    ///
    /// # Errors
    /// What says nothing of it: a store that does not answer.
    fn judge(
        &mut self,
        chunk: &ChunkId,
        pack: PackId,
        offset: u32,
        record: Judged,
    ) -> Result<Judged, VaultError> {
        let record = match record {
            Ok(record) => record,
            Err(why) => return Ok(Err(why)),
        };
        let vault = self.reader.vault();
        let whole = match RecordHeader::of_record(chunk, &record) {
            // What its header says is not authenticated: one of another class would have to open.
            Ok(header) if header.class == ChunkClass::Data && !vault.ring().reads_contents() => {
                match self.load(pack)? {
                    Ok(content) => {
                        let record = part(&content, offset, header.length);
                        RecordHeader::of_record(chunk, &record).and_then(|header| match header.class {
                            ChunkClass::Data => Ok(record),
                            ChunkClass::Meta => Err(Malformed::Field("class")),
                        })
                    }
                    Err(why) => return Ok(Err(why)),
                }
            }
            Ok(_) => self.opener.open(vault.ring(), chunk, &record).map(|_| record),
            Err(cause) => Err(cause),
        };
        Ok(whole.map_err(|cause| format!("{}: {cause}", Named::Pack(pack).to_name())))
    }

    /// A pack that is what its id says, read whole; why there is none, if not.
    fn load(&mut self, pack: PackId) -> Result<Judged, VaultError> {
        if let Some((_, content)) = self.pack.as_ref().filter(|(loaded, _)| *loaded == pack) {
            return Ok(Ok(content.clone()));
        }
        let name = Named::Pack(pack).to_name();
        let wrong = || format!("{name}: {}", Malformed::Hash);
        if self.damaged.contains(&pack) {
            return Ok(Err(wrong()));
        }
        // Before the next one comes.
        self.pack = None;
        let content = match told(self.reader.vault().get(&name).map_err(VaultError::from))? {
            Ok(content) => content,
            Err(why) => return Ok(Err(why)),
        };
        if blake3::hash(&content).as_bytes() != pack.as_bytes() {
            tracing::warn!(pack = %name, "damaged: none of its records counts as whole");
            if self.damaged.len() < DAMAGED_MAX {
                self.damaged.push(pack);
            }
            return Ok(Err(wrong()));
        }
        self.pack = Some((pack, content.clone()));
        Ok(Ok(content))
    }
}

/// What was read, or what went wrong in words, unless the store does not answer.
fn told(read: Result<Bytes, VaultError>) -> Result<Judged, VaultError> {
    match read {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(VaultError::Store(error)) if error.is_transient() => Err(error.into()),
        Err(error) => Ok(Err(brief(&error))),
    }
}

/// As much of a stretch as is there: a store that gives less than was asked for is met like one that gives something else.
fn part(bytes: &Bytes, begins: u32, length: u32) -> Bytes {
    let (begins, end) = (begins as usize, begins as usize + length as usize);
    bytes.slice(begins.min(bytes.len())..end.min(bytes.len()))
}
