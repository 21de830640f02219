//! How far the reading of a vault's packs has come: one small file for each vault under `node.state`. Losing it costs
//! reading some packs again.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::id::VaultId;
use backstay_vault::vault::PackShare;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where a reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The share, from 0.
    pub part: u8,
    /// Of how many.
    pub of: u8,
    /// The first byte of the ids that come next; 256 when the share was read.
    pub next: u16,
}

impl Progress {
    /// The beginning of a share.
    pub fn begin(share: PackShare) -> Self {
        Self { part: share.part, of: share.of, next: 0 }
    }

    /// Whether the share was read.
    pub fn is_over(&self) -> bool {
        self.next > 255
    }
}

/// The place of one vault.
#[derive(Debug)]
pub struct Checked(PathBuf);

impl Checked {
    /// What is known of this vault.
    pub fn of(state: &Path, vault: VaultId) -> Self {
        Self(state.join("checked").join(format!("{vault}.json")))
    }

    /// Where the last reading stands, if that can be told.
    pub fn load(&self) -> Option<Progress> {
        serde_json::from_slice(&fs::read(&self.0).ok()?).ok()
    }

    /// Remembers.
    pub fn save(&self, progress: Progress) -> Result<(), Failure> {
        if let Some(folder) = self.0.parent() {
            super::make_state_folder(folder)?;
        }
        super::write_durably(&self.0, &serde_json::to_vec(&progress)?)
    }
}
