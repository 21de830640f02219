//! What this node has acknowledged last in each vault, one small file for each source under `node.state`: a vault that has
//! less serves an older state. Losing it costs that one would be noticed.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::point::HeadTarget;
use backstay_vault::malformed::{decode_cbor, encode_cbor};

use crate::failure::Failure;

/// Greatest file that is read, bytes.
const SEEN_BYTES_MAX: u64 = 1 << 20;

/// The file of one source.
#[derive(Debug)]
pub struct SeenPoints(PathBuf);

impl SeenPoints {
    /// Of this source, `SERVICE.KIND`.
    pub fn of(state: &Path, source_name: &str) -> Self {
        Self(state.join("seen").join(format!("{source_name}.cbor")))
    }

    /// What was seen last; nothing where that cannot be told.
    pub fn load(&self) -> Vec<HeadTarget> {
        let is_small = fs::metadata(&self.0).is_ok_and(|metadata| metadata.len() <= SEEN_BYTES_MAX);
        let bytes = is_small.then(|| fs::read(&self.0).ok()).flatten();
        bytes.and_then(|bytes| decode_cbor(&bytes).ok()).unwrap_or_default()
    }

    /// Takes in what was just acknowledged.
    pub fn update(&self, acknowledged: &[HeadTarget]) -> Result<(), Failure> {
        let mut seen = self.load();
        seen.retain(|seen| !acknowledged.iter().any(|new| new.vault == seen.vault));
        seen.extend_from_slice(acknowledged);
        if let Some(folder) = self.0.parent() {
            super::make_state_folder(folder)?;
        }
        super::write_durably(&self.0, &encode_cbor(&seen))
    }
}
