//! How far what is held for another node has been read: one small file for each under `node.state`. Losing it costs reading some
//! of it again.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::config::NodeName;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Damaged objects that are remembered by name.
pub const DAMAGED_MAX: usize = 1000;

/// Where a scrub stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrub {
    /// The part that comes next; 0 where none is under way.
    pub next: u16,
    /// When the last whole one began, seconds since 1970 UTC; none before the first.
    pub began: Option<i64>,
    /// When the one began that is under way.
    pub begins: Option<i64>,
    /// What is not what its name says, up to [`DAMAGED_MAX`].
    pub damaged: Vec<String>,
}

/// The file for one node.
#[derive(Debug, Clone)]
pub struct Scrubs(PathBuf);

impl Scrubs {
    /// Of what is held for this node.
    pub fn of(state: &Path, node: &NodeName) -> Self {
        Self(state.join("scrubbed").join(format!("{node}.json")))
    }

    /// What is known; nothing where it cannot be read.
    pub fn load(&self) -> Scrub {
        fs::read(&self.0).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers.
    pub fn save(&self, scrub: &Scrub) -> Result<(), Failure> {
        if let Some(folder) = self.0.parent() {
            super::make_state_folder(folder)?;
        }
        super::write_durably(&self.0, &serde_json::to_vec(scrub)?)
    }
}
