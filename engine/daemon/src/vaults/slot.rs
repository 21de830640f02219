//! The place of one vault of the configuration: opened when it is first needed, once.

use std::sync::{Arc, Mutex};

use backstay_core::units::Timestamp;
use backstay_vault::commit_object::SessionObject;
use backstay_vault::error::VaultError;
use backstay_vault::vault::{Vault, WriterIdentity};

/// Held while the vault is being opened: who comes meanwhile waits.
pub(super) type Slot = Mutex<Option<Opened>>;

/// An opened vault.
#[derive(Debug)]
pub(super) struct Opened {
    vault: Arc<Vault>,
    /// Commits that this node had left open before this process used the vault, and that are not fenced yet.
    dead: Vec<SessionObject>,
}

impl Opened {
    /// A vault in which this node has left nothing open, or where that is not this process's to know.
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { vault, dead: Vec::new() }
    }

    /// A vault in which this process is about to write, before its first session.
    pub(super) fn for_writing(vault: Arc<Vault>, writer: &WriterIdentity) -> Result<Self, VaultError> {
        let dead = vault.dead_sessions(writer)?;
        Ok(Self { vault, dead })
    }

    pub(super) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Fences what was left open, as far as the store takes it; the rest when the vault is asked for again.
    pub(super) fn fence_dead(&mut self, name: &str, writer: &WriterIdentity, now: Timestamp) {
        while let Some(dead) = self.dead.last() {
            let session = dead.session;
            if let Err(error) = self.vault.fence_dead_session(writer, dead, now) {
                tracing::warn!(vault = name, %session, %error, "cannot fence a session that was left open");
                return;
            }
            tracing::info!(vault = name, %session, "fenced a session that was left open");
            self.dead.pop();
        }
    }
}
