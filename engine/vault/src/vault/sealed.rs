//! With which keys that lies which a capture would build on. A run is not built on where anything that it consists of or
//! refers to was sealed only by compromised keys: what the capture takes over from it would stay readable for whoever has
//! these (docs/adr/0015). Owns the look at runs, and what was found of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use backstay_core::id::ChunkId;
use backstay_core::run::{PartRef, Run};

use super::{Catalogue, PointObject, Vault};
use crate::error::VaultError;
use crate::index::{DAMAGES_MAX, Sealing};
use crate::read::ChunkReader;
use crate::table::part_chunks;

/// Parts that are remembered as trusted.
const PARTS_KEPT_MAX: usize = 1 << 16;

/// Roots of parts of which all lies in packs that no compromised key has sealed. It stays so: of two copies a custodian
/// keeps that one.
#[derive(Debug, Default)]
pub(super) struct TrustedParts(Mutex<HashSet<ChunkId>>);

impl TrustedParts {
    fn include(&self, root: &ChunkId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(root)
    }

    fn remember(&self, root: ChunkId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PARTS_KEPT_MAX
            && let Some(some) = kept.iter().next().copied()
        {
            kept.remove(&some);
        }
        kept.insert(root);
    }
}

impl Vault {
    /// With which keys a chunk is sealed, as the index says.
    pub(crate) fn sealing(&self, id: &ChunkId) -> Result<Sealing, VaultError> {
        for _ in 0..DAMAGES_MAX {
            let sealing = self.index().sealing(id);
            match sealing {
                Ok(sealing) => return Ok(sealing),
                // Each time fewer files are left that can be damaged.
                Err(_) => self.refresh_index(None)?,
            }
        }
        Ok(self.index().sealing(id)?)
    }

    /// Whether anything here is sealed by compromised keys.
    pub(crate) fn has_compromised(&self) -> bool {
        self.index().has_compromised()
    }

    /// Whether a capture may build on a point that counts.
    pub(super) fn is_trusted(
        self: &Arc<Self>,
        catalogue: &Catalogue,
        point: &PointObject,
    ) -> Result<bool, VaultError> {
        if !self.has_compromised() {
            return Ok(true);
        }
        match catalogue.stack(point.link.point) {
            Ok(runs) => self.are_trusted(&runs),
            Err(error) => {
                tracing::warn!(%error, "not built on: it is not known how it is sealed");
                Ok(false)
            }
        }
    }

    /// Whether a capture may take over these runs, as far as keys go.
    pub(crate) fn are_trusted(self: &Arc<Self>, runs: &[Run]) -> Result<bool, VaultError> {
        if !self.has_compromised() || self.all_trusted(runs)? {
            return Ok(true);
        }
        // Another process may have stored it anew since the index was read, and to store all again costs more than a look.
        self.refresh_index(None)?;
        self.all_trusted(runs)
    }

    fn all_trusted(self: &Arc<Self>, runs: &[Run]) -> Result<bool, VaultError> {
        let reader = ChunkReader::new(Arc::clone(self));
        for part in runs.iter().flat_map(|run| &run.parts) {
            if !self.trusted_parts.include(&part.root) && !self.part_is_trusted(&reader, part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn part_is_trusted(&self, reader: &ChunkReader, part: &PartRef) -> Result<bool, VaultError> {
        if self.sealing(&part.root)? == Sealing::Compromised {
            return Ok(false);
        }
        let mut worst = Sealing::Trusted;
        let mut is_complete = true;
        let mut failure = None;
        let told = part_chunks(reader, part, &mut |chunk| match self.sealing(&chunk) {
            // Lost, which is for `bad/` to say.
            Ok(Sealing::Nowhere) => is_complete = false,
            Ok(sealing) => worst = worst.min(sealing),
            Err(error) => {
                failure.get_or_insert(error);
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        match told.map_err(VaultError::from) {
            Ok(()) => {}
            Err(error @ (VaultError::Chunk { .. } | VaultError::Table(_))) => {
                tracing::warn!(part = %part.root, %error, "not built on: it is not known how it is sealed");
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        if worst == Sealing::Trusted && is_complete {
            self.trusted_parts.remember(part.root);
        }
        Ok(worst == Sealing::Trusted)
    }
}
