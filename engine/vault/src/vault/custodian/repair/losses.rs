//! What is lost for good, by source, point and path; and the list in `bad/` that lets collection go on without it and
//! writers put it again who have it.

use std::ops::ControlFlow;

use backstay_core::fold::Fold;
use backstay_core::id::{ChunkId, PointId};

use super::super::super::{Catalogue, PointObject};
use super::super::Custodian;
use super::Repaired;
use super::chunks::Missing;
use crate::commit_object::BadList;
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::encode_cbor;
use crate::name::Named;
use crate::read::ChunkReader;
use crate::store::Folder;
use crate::table::RunCursor;

/// Most chunks that a list names: it must be one that readers take.
pub(super) const LOST_MAX: usize = 1 << 20;

/// Something that cannot be had any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Name of the source, or its id where no name is known.
    pub source_name: String,
    /// The point; none when it is the same in all.
    pub point: Option<PointId>,
    /// What in it, if not all of it.
    pub path: Option<String>,
    /// Why.
    pub why: String,
}

impl Custodian<'_> {
    /// Names the paths of points that lack contents, and puts the list.
    pub(super) fn name_lost(&mut self, missing: &Missing, done: &mut Repaired) -> Result<(), VaultError> {
        for catalogue in self.vault.catalogues()? {
            for point in catalogue.points() {
                self.each_lacking_path(&catalogue, point, missing, &mut |path, chunk| {
                    done.lost(Loss {
                        source_name: point.common.source_name.clone(),
                        point: Some(point.link.point),
                        path: Some(path),
                        why: format!("chunk {chunk} is lost"),
                    });
                    ControlFlow::Continue(())
                })?;
            }
        }
        done.chunks_lost = missing.chunks.len() as u64 + missing.more;
        self.put_bad_list(missing)
    }

    /// Puts the list and announces it, unless it stands there. Also of chunks to which only rows refer that newer ones
    /// replace: a collection asks for them all the same.
    pub(super) fn put_bad_list(&mut self, missing: &Missing) -> Result<(), VaultError> {
        let before = self.vault.bad_list()?;
        let lost: Vec<ChunkId> = missing.chunks.iter().copied().take(LOST_MAX).collect();
        let number = before.as_ref().map_or(0, |list| list.number);
        if before.map(|list| list.lost).unwrap_or_default() == lost {
            // One that was put may not have been announced: the repair before may have ended there.
            let is_announced = self.vault.collections()?.is_some_and(|listed| listed.bad() == Some(number));
            return match lost.is_empty() || is_announced {
                true => Ok(()),
                false => self.put_next_record(Vec::new()),
            };
        }
        let list = BadList { number: number + 1, term: self.term, time: self.look.now(), lost };
        let signer = &self.identity.signer;
        self.vault.put_hashed(signer, EnvelopeKind::Bad, &encode_cbor(&list), |hash| {
            Named::Bad(list.number, hash)
        })?;
        // Before the old list goes: writers learn of the new one by the record.
        self.put_next_record(Vec::new())?;
        self.check_office()?;
        for listed in self.vault.list(&Folder::new(&[&"bad"]))? {
            if !matches!(listed.named, Named::Bad(n, _) if n == list.number) {
                self.remove(&listed.name)?;
            }
        }
        Ok(())
    }

    /// Tells the paths of a point that lack contents, and the first chunk that each lacks, until it is told to break off.
    pub(super) fn each_lacking_path(
        &self,
        catalogue: &Catalogue,
        point: &PointObject,
        missing: &Missing,
        tell: &mut dyn FnMut(String, ChunkId) -> ControlFlow<()>,
    ) -> Result<(), VaultError> {
        let Ok(stack) = catalogue.stack_of(point.link) else { return Ok(()) };
        let lacks = stack.iter().flat_map(|run| &run.parts).any(|part| missing.lacking.contains(&part.root));
        let Some(rules) = self.look.rules(&point.common.kind).filter(|_| lacks) else { return Ok(()) };
        let reader = ChunkReader::new(self.vault.clone());
        let cursors = stack.iter().map(|run| RunCursor::new(reader.clone(), &run.parts, b"")).collect();
        let mut fold = Fold::new(cursors, rules.fold_rule());
        while let Some((key, value)) = fold.next().map_err(VaultError::from)? {
            let mut first = Ok(None);
            let told = rules.references(key, value, &mut |range| {
                if matches!(first, Ok(None)) {
                    first =
                        missing.lacks(&self.vault, &range.chunk).map(|lacks| lacks.then_some(range.chunk));
                }
            });
            told.map_err(|error| VaultError::Table(error.to_string()))?;
            if let Some(chunk) = first?
                && tell(rules.path(key), chunk).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}
