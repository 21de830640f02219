//! Receives of the model. What comes is kept as it comes, and what was cut off stays, to be resumed.

use std::collections::BTreeSet;
use std::io::{self, Write};

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;
use backstay_zfs::begin::{Begin, RECORD_BYTES};
use backstay_zfs::error::{Refusal, ZfsError};
use backstay_zfs::guid::DatasetGuid;
use backstay_zfs::zfs::{Receive, Receiving, Resume};

use super::host::{Block, Host, Partial, Set, Shot};
use super::send::{BLOCK_BYTES, END, WRITE};
use super::{ModelZfs, refused};

pub(crate) struct Receiver {
    zfs: ModelZfs,
    receive: Receive,
    come: Vec<u8>,
    state: State,
    has_written: bool,
}

enum State {
    Beginning,
    Going,
    Ended,
    Refused(Refusal),
}

impl Receiver {
    pub(crate) fn new(zfs: ModelZfs, receive: Receive) -> Self {
        Self { zfs, receive, come: Vec::new(), state: State::Beginning, has_written: false }
    }

    fn name(&self) -> &DatasetName {
        self.receive.snapshot.dataset()
    }

    fn take(&mut self) -> Result<(), Refusal> {
        let zfs = self.zfs.clone();
        let mut host = zfs.host();
        if matches!(self.state, State::Beginning) {
            let Some(record) = self.come.first_chunk::<RECORD_BYTES>() else { return Ok(()) };
            begin(&mut host, &self.receive, record)?;
            self.come.drain(..RECORD_BYTES);
            self.state = State::Going;
        }
        while let Some(record) = self.come.first_chunk::<BLOCK_BYTES>() {
            let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|place| record[at + place]));
            let (kind, block, value) = (field(0), field(8), field(16));
            self.come.drain(..BLOCK_BYTES);
            if kind == END {
                self.state = State::Ended;
                continue;
            }
            host.room_bytes = host.room_bytes.checked_sub(BLOCK_BYTES as u64).ok_or(Refusal::NO_SPACE)?;
            let born = host.next_txg();
            let partial = host.get_mut(self.name())?.partial.as_mut().ok_or(Refusal::NOT_FOUND)?;
            partial.blocks.insert(block, Block { value: (kind == WRITE).then_some(value), born });
            partial.resume = Resume { object: block + 1, offset_bytes: 0 };
            self.has_written = true;
        }
        Ok(())
    }
}

fn begin(host: &mut Host, receive: &Receive, record: &[u8; RECORD_BYTES]) -> Result<(), Refusal> {
    let begin = Begin::parse(record).map_err(|_| Refusal::INVALID)?;
    let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|place| record[at + place]));
    let resumes = (field(56) == 1).then(|| field(64));
    let name = receive.snapshot.dataset();
    if let Some(at) = resumes {
        let partial = host.get(name)?.partial.as_ref().ok_or(Refusal::INVALID)?;
        let fits = partial.to == begin.to && partial.from == begin.from && partial.resume.object == at;
        return if fits { Ok(()) } else { Err(Refusal::INVALID) };
    }
    let origin = receive.makes.as_ref().and_then(|making| making.origin.clone());
    let blocks = match (begin.from, &origin) {
        (None, _) => Default::default(),
        (Some(from), Some(origin)) => {
            let shot = host.shot(origin)?;
            if shot.guid != from {
                return Err(Refusal::NO_BASE);
            }
            shot.blocks.clone()
        }
        (Some(from), None) => {
            let set = host.get(name)?;
            if set.partial.is_some() {
                return Err(Refusal::RESUME_EXISTS);
            }
            let newest = set.snapshots.last().ok_or(Refusal::NO_BASE)?;
            if !set.snapshots.iter().any(|shot| shot.guid == from) {
                return Err(Refusal::NO_BASE);
            }
            if newest.guid != from || set.is_modified {
                return Err(Refusal::MODIFIED);
            }
            if set.is_encrypted != begin.is_raw {
                return Err(Refusal::IVSET_MISSING);
            }
            newest.blocks.clone()
        }
    };
    if host.get(name).is_ok_and(|set| set.snapshots.iter().any(|shot| shot.mark == receive.snapshot.mark())) {
        return Err(Refusal::EXISTS);
    }
    if begin.from.is_none() || origin.is_some() {
        host.create(name)?;
        let guid = DatasetGuid(host.draw());
        let mut set = Set::new(guid);
        let making = receive.makes.as_ref().ok_or(Refusal::INVALID)?;
        (set.is_encrypted, set.origin) = (begin.is_raw, origin);
        set.properties = making.properties.iter().cloned().collect();
        host.insert(name, set);
    }
    let resume = Resume { object: 0, offset_bytes: 0 };
    let partial = Partial { to: begin.to, from: begin.from, form: receive.form, resume, blocks };
    host.get_mut(name)?.partial = Some(partial);
    Ok(())
}

impl Write for Receiver {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let State::Refused(_) = self.state {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.come.extend(bytes);
        if let Err(refusal) = self.take() {
            self.state = State::Refused(refusal);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Receiving for Receiver {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        let refusal = match self.state {
            State::Refused(refusal) => refusal,
            State::Ended => {
                let mut host = self.zfs.host();
                let txg = host.next_txg();
                let set = refused("receive", host.get_mut(self.receive.snapshot.dataset()))?;
                let Some(partial) = set.partial.take() else { return Ok(()) };
                set.blocks = partial.blocks.clone();
                set.is_modified = false;
                set.snapshots.push(Shot {
                    mark: self.receive.snapshot.mark().to_owned(),
                    guid: partial.to,
                    txg,
                    at: Timestamp::from_seconds(txg.0 as i64),
                    blocks: partial.blocks,
                    holds: BTreeSet::new(),
                });
                return Ok(());
            }
            State::Beginning | State::Going => Refusal::TRUNCATED,
        };
        refused("receive", Err(refusal))
    }
}

/// Cut off: what has come stays, where anything has.
impl Drop for Receiver {
    fn drop(&mut self) {
        if matches!(self.state, State::Ended) || self.has_written {
            return;
        }
        let name = self.name().clone();
        let mut host = self.zfs.host();
        let is_fresh = |partial: &Partial| partial.resume.object == 0 && partial.to == self.receive.guid;
        if host.get(&name).is_ok_and(|set| set.partial.as_ref().is_some_and(is_fresh)) {
            host.abort(&name);
        }
    }
}
