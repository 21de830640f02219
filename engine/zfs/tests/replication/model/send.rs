//! Streams of the model: the first record of a real one, and then a record of 24 bytes for each block.

use std::io::{self, Read};

use backstay_zfs::begin::RECORD_BYTES;
use backstay_zfs::error::{Refusal, ZfsError};
use backstay_zfs::guid::{SnapshotGuid, Txg};
use backstay_zfs::zfs::{Base, Form, Sending, Stream};

use super::host::Host;
use super::{ModelZfs, refused};

pub(crate) const BLOCK_BYTES: usize = 24;
/// Kinds of records, in their first 8 bytes.
pub(crate) const WRITE: u64 = 1;
pub(crate) const FREE: u64 = 2;
pub(crate) const END: u64 = 3;

/// What is handed over at a time: little, so that a stream can break off in many places.
const PIECE_BYTES: usize = 40;

impl Host {
    /// A stream, whole.
    pub(crate) fn stream(&self, stream: &Stream) -> Result<Vec<u8>, Refusal> {
        let shot = self.shot(&stream.snapshot)?;
        let set = self.get(stream.snapshot.dataset())?;
        if set.is_encrypted != (stream.form == Form::Raw) {
            return Err(Refusal::NO_KEY);
        }
        let (from, after) = match &stream.base {
            None => (None, Txg(0)),
            Some(Base::Snapshot(base)) => {
                let base = self.shot(base)?;
                (Some(base.guid), base.txg)
            }
            Some(Base::Bookmark(base)) => {
                let marks = &self.get(base.dataset())?.bookmarks;
                let found = marks.iter().find(|bookmark| bookmark.mark == base.mark());
                let found = found.ok_or(Refusal::NOT_FOUND)?;
                (Some(found.guid), found.txg)
            }
        };
        if after >= shot.txg {
            return Err(Refusal::NOT_ANCESTOR);
        }
        let begins = stream.resume.map_or(0, |resume| resume.object);
        let mut bytes = first_record(shot.guid, from, stream.form, stream.resume.map(|resume| resume.object));
        for (block, found) in shot.blocks.range(begins..).filter(|(_, found)| found.born > after) {
            let kind = if found.value.is_some() { WRITE } else { FREE };
            bytes.extend([kind, *block, found.value.unwrap_or(0)].map(u64::to_le_bytes).concat());
        }
        bytes.extend([END, 0, 0].map(u64::to_le_bytes).concat());
        Ok(bytes)
    }
}

/// The first record. Where it goes on stands in the place of the name.
fn first_record(to: SnapshotGuid, from: Option<SnapshotGuid>, form: Form, resume: Option<u64>) -> Vec<u8> {
    let mut record = vec![0; RECORD_BYTES];
    let features = if form == Form::Raw { 1 << 24 } else { 0 };
    let from = from.map_or(0, |from| from.0);
    let fields = [(8, 0x2_F5BA_CBAC_u64), (16, 1 | features << 2), (40, to.0), (48, from)];
    let resumed = [(56, u64::from(resume.is_some())), (64, resume.unwrap_or(0))];
    for (at, number) in fields.into_iter().chain(resumed) {
        record[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    record
}

pub(crate) fn begin(zfs: &ModelZfs, stream: &Stream) -> Result<Box<dyn Sending>, ZfsError> {
    if let Some(tag) = &stream.held_by {
        refused("hold", zfs.host().hold(&stream.snapshot, tag))?;
    }
    let bytes = refused("send", zfs.host().stream(stream))?;
    Ok(Box::new(Sent { bytes, at: 0 }))
}

struct Sent {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(PIECE_BYTES).min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Sending for Sent {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        Ok(())
    }
}
