//! What is held for other nodes, beside this node's own flows.

use backstay_core::config::{SourceName, Target};
use backstay_core::rpo::Durable;

/// A source of another node that this one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSource {
    /// Whose.
    pub node: String,
    /// The source.
    pub source: SourceName,
    /// In which vault.
    pub target: Target,
    /// What the vault has of it.
    pub durable: Durable,
}
