//! What was found out of the provider of a bucket: one small file for each vault under `node.state`. Losing it costs some ten
//! requests.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_s3::Provider;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Greatest file that is read, bytes.
const PROBED_BYTES_MAX: u64 = 64 << 10;

/// What was found out, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// When, seconds since 1970 UTC.
    pub seconds: i64,
    /// When something was put for that last, seconds since 1970 UTC.
    pub put_seconds: i64,
    /// Of which bucket, by which keys: a hash of their names.
    pub of: String,
    /// What was found.
    pub provider: Provider,
}

/// The file for one vault.
#[derive(Debug)]
pub struct ProbedBucket(PathBuf);

impl ProbedBucket {
    /// Of the vault of this name.
    pub fn of(state: &Path, vault: &str) -> Self {
        Self(state.join("probed").join(format!("{vault}.json")))
    }

    /// What is known; nothing where it cannot be read.
    pub fn load(&self) -> Option<Probed> {
        let is_small = fs::metadata(&self.0).is_ok_and(|metadata| metadata.len() <= PROBED_BYTES_MAX);
        is_small.then(|| serde_json::from_slice(&fs::read(&self.0).ok()?).ok()).flatten()
    }

    /// Remembers.
    pub fn save(&self, probed: &Probed) -> Result<(), Failure> {
        if let Some(folder) = self.0.parent() {
            super::make_state_folder(folder)?;
        }
        super::write_durably(&self.0, &serde_json::to_vec(probed)?)
    }
}
