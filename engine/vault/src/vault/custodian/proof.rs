//! Proving that a point is whole: the fold of its runs is the state that its node has signed, and every data chunk lies in
//! a pack that is there. Reads metadata and no payload.

use std::collections::{HashMap, HashSet};

use backstay_core::digest::StateDigest;
use backstay_core::fold::Fold;
use backstay_core::id::{ChunkId, PackId};
use backstay_core::layout::PlacedRun;
use backstay_core::point::PointCommon;
use backstay_core::run::PartRef;

use super::inspection::Inspection;
use crate::error::VaultError;
use crate::read::ChunkReader;
use crate::table::{RunCursor, part_chunks};

/// What was found of the runs that several points share.
pub(super) struct Proof<'l, 'c> {
    look: &'l Inspection<'c>,
    reader: ChunkReader,
    packs: HashSet<PackId>,
    /// For each part that was looked at, a chunk that it lacks.
    parts: HashMap<ChunkId, Option<String>>,
}

impl<'l, 'c> Proof<'l, 'c> {
    pub(super) fn begin(look: &'l Inspection<'c>) -> Result<Self, VaultError> {
        let packs = look.inventory()?.into_keys().collect();
        Ok(Self { look, reader: ChunkReader::new(look.vault().clone()), packs, parts: HashMap::new() })
    }

    /// Whether these runs, the newest first, make up the point; what is wrong, if not.
    ///
    /// # Errors
    /// What says nothing of the point: a store that does not answer.
    pub(super) fn of(
        &mut self,
        common: &PointCommon,
        runs: &[PlacedRun],
    ) -> Result<Result<(), String>, VaultError> {
        for part in runs.iter().flat_map(|placed| &placed.run.parts) {
            if let Some(lacking) = self.lacking(part)? {
                return Ok(Err(lacking));
            }
        }
        let digest = match told(self.digest(common, runs))? {
            Ok(digest) => digest,
            Err(wrong) => return Ok(Err(wrong)),
        };
        Ok(match digest == common.digest {
            true => Ok(()),
            false => Err("its runs do not make up what its node has signed".to_owned()),
        })
    }

    fn lacking(&mut self, part: &PartRef) -> Result<Option<String>, VaultError> {
        if let Some(known) = self.parts.get(&part.root) {
            return Ok(known.clone());
        }
        let mut chunks = Vec::new();
        let read = part_chunks(&self.reader, part, &mut |chunk| chunks.push(chunk));
        let mut lacking = told(read.map_err(VaultError::from))?.err();
        for chunk in chunks {
            let places = self.look.vault().places(&chunk)?;
            if lacking.is_none() && !places.iter().any(|place| self.packs.contains(&place.pack)) {
                lacking = Some(format!("chunk {chunk} is gone"));
            }
        }
        self.parts.insert(part.root, lacking.clone());
        Ok(lacking)
    }

    fn digest(&self, common: &PointCommon, runs: &[PlacedRun]) -> Result<StateDigest, VaultError> {
        let Some(rules) = self.look.rules(&common.kind) else {
            return Err(VaultError::Table(format!(
                "this version does not know sources of kind {}",
                common.kind
            )));
        };
        let cursors =
            runs.iter().map(|placed| RunCursor::new(self.reader.clone(), &placed.run.parts, b"")).collect();
        let mut fold = Fold::new(cursors, rules.fold_rule());
        let mut digest = StateDigest::empty();
        while let Some((key, value)) = fold.next().map_err(VaultError::from)? {
            let element = rules.element(key, value).map_err(|error| VaultError::Table(error.to_string()))?;
            element.iter().for_each(|element| digest.add(element));
        }
        Ok(digest)
    }
}

/// What is wrong in words, unless the store does not answer.
fn told<T>(outcome: Result<T, VaultError>) -> Result<Result<T, String>, VaultError> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(VaultError::Store(error)) if error.is_transient() => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}
