//! Sending of what a point consists of: sealed chunks as they lie, as many as one commit takes, and a partial point that keeps
//! them until the whole one is there.

use std::collections::HashSet;
use std::sync::Arc;

use backstay_core::digest::StateDigest;
use backstay_core::id::{CaptureId, ChunkId, PointId};
use backstay_core::point::{Facts, Partial, PointCommon};
use backstay_core::run::{PartRef, Run};

use super::super::{PointDraft, PointObject, Session, Vault};
use super::{Copied, Copying, LOOK_AGAIN};
use crate::error::VaultError;
use crate::keys::random_bytes;
use crate::read::{ChunkReader, SealedReader};
use crate::record::RecordHeader;
use crate::table::{keeping_part, part_chunks, part_live};
use crate::write::{ChunkWriter, Packer, StoredPack, Written};

/// Parts of the runs of one point of which everything was sent, or was there, in a session before. By their root chunks.
#[derive(Debug, Default)]
pub(super) struct SentParts {
    roots: HashSet<ChunkId>,
}

/// What one commit sends.
#[derive(Debug)]
pub(super) struct Sending {
    packer: Packer,
    /// The chunks.
    pub(super) sent: Vec<ChunkId>,
    /// Packs of a merged run.
    pub(super) merged: Vec<StoredPack>,
}

impl Sending {
    pub(super) fn to(vault: &Arc<Vault>) -> Self {
        Self { packer: Packer::new(Arc::clone(vault)), sent: Vec::new(), merged: Vec::new() }
    }

    pub(super) fn written(self) -> Result<Written, VaultError> {
        let mut packs = self.packer.flush()?;
        packs.extend(self.merged);
        Ok(Written::durable(packs))
    }
}

impl Copying<'_> {
    /// Commits what was sent of a point, by a partial point that keeps it until the whole one is there.
    pub(super) fn commit_some(
        &self,
        point: &PointObject,
        session: Session,
        sending: Sending,
    ) -> Result<(), VaultError> {
        let (written, keeps) = match self.written_and_kept(&session, sending) {
            Ok(written) => written,
            Err(error) => {
                session.give_up(self.clock.now())?;
                return Err(error);
            }
        };
        let (start, now) = (point.common.capture_start, self.clock.now());
        let common = PointCommon {
            id: PointId::new(random_bytes()),
            node: self.writer.node.clone(),
            capture_end: now,
            digest: StateDigest::empty(),
            facts: Facts::default(),
            entries: 0,
            bytes: 0,
            defects: Vec::new(),
            holds: Vec::new(),
            ..point.common.clone()
        };
        let partial = Partial {
            capture: CaptureId::new(random_bytes()),
            resume_key: Vec::new(),
            capture_start: start,
            keeps: keeps.into_iter().collect(),
            copied: Some(point.link.point),
        };
        let parent = session.parent().map(|parent| parent.link);
        let draft = PointDraft {
            original: None,
            common,
            parent,
            run: Vec::new(),
            previous_head: None,
            partial: Some(partial),
        };
        let drafts = if written.is_empty() { Vec::new() } else { vec![draft] };
        session.commit(Written::durable(written), &drafts, &[], self.clock).map(drop)
    }

    /// The packs that were sent, and a part that keeps what is in them.
    fn written_and_kept(
        &self,
        session: &Session,
        sending: Sending,
    ) -> Result<(Vec<StoredPack>, Option<PartRef>), VaultError> {
        let ring = self.to.ring().clone();
        let mut chunks = ChunkWriter::new(self.pool.clone(), ring.clone(), vec![session.view()]);
        let keeps = keeping_part(&ring, &mut chunks, &[], sending.sent.iter().copied())?;
        let mut written = sending.written()?.packs;
        written.extend(chunks.flush().pop().ok_or(VaultError::GivenUp)??.packs);
        Ok((written, keeps))
    }

    /// Sends chunks that are not there, as they lie here; whether those were all. Of several runs, which are merged, only
    /// the data: what one commit sends, the next finds there, so that each comes further. Parts that were sent come last:
    /// the commit that puts the point has to find all of it, and those before need not look again at what they have done.
    pub(super) fn send_chunks(
        &self,
        runs: &[Run],
        sent: &mut SentParts,
        session: &Session,
        sending: &mut Sending,
        copied: &mut Copied,
    ) -> Result<bool, VaultError> {
        let (reader, view) = (ChunkReader::new(self.from.clone()), session.view());
        let mut sealed_reader = SealedReader::new(self.from.clone());
        let Sending { packer, sent: sent_chunks, .. } = sending;
        let is_merged = runs.len() > 1;
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut sent_bytes = 0;
        let parts = || runs.iter().flat_map(|run| &run.parts);
        let (again, first): (Vec<&PartRef>, Vec<&PartRef>) =
            parts().partition(|part| sent.roots.contains(&part.root));
        for part in first.into_iter().chain(again) {
            let (mut missing, mut is_cut, mut failure) = (Vec::new(), false, None);
            let mut look_at = |chunk| {
                let is_there = match self.is_compromised(&chunk) {
                    // It could only be sent once more as it is there.
                    Ok(true) => view.has_in_any_seal(&chunk),
                    Ok(false) => view.has(&chunk),
                    Err(error) => {
                        failure.get_or_insert(error);
                        return;
                    }
                };
                match is_there || seen.contains(&chunk) {
                    true => {}
                    false if seen.len() >= self.limits.chunks => is_cut = true,
                    false => {
                        seen.insert(chunk);
                        missing.push(chunk);
                    }
                }
            };
            match is_merged {
                true => part_live(&reader, part, &mut |live| look_at(live.chunk))?,
                false => part_chunks(&reader, part, &mut look_at)?,
            }
            if let Some(error) = failure {
                return Err(error);
            }
            if !missing.is_empty() {
                // Also what a pass has deleted meanwhile, since no point needed it yet.
                sent.roots.remove(&part.root);
            }
            for read in reader.plan(missing)? {
                if sent_bytes >= self.limits.bytes {
                    return Ok(false);
                }
                let stretch = sealed_reader.read(&read);
                for (place, (chunk, ..)) in read.records.iter().enumerate() {
                    let sealed = sealed_reader.sealed(&read, &stretch, place)?;
                    let header = RecordHeader::decode(&sealed).map_err(|cause| VaultError::Chunk {
                        chunk: *chunk,
                        place: self.from.place(),
                        cause: cause.to_string(),
                    })?;
                    while !packer.has_failed() && !packer.has_room(LOOK_AGAIN) {}
                    packer.add(&header, &sealed);
                    sent_chunks.push(*chunk);
                    sent_bytes += sealed.len() as u64;
                    copied.records += 1;
                    copied.bytes += sealed.len() as u64;
                }
                if packer.has_failed() {
                    break;
                }
            }
            if is_cut {
                return Ok(false);
            }
            sent.roots.insert(part.root);
        }
        Ok(true)
    }
}
