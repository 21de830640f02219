//! The place of one vault of the configuration: opened when it is first needed, once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    /// Commits that this node has left open, in this process or before, and that are not fenced yet.
    dead: Vec<SessionObject>,
    /// Whether this process has changed trust or keys since the vault was opened.
    is_outdated: bool,
    /// When the store was asked last whether the vault is as it was.
    looked_at: Instant,
}

impl Opened {
    /// A vault in which this node has left nothing open, or where that is not this process's to know.
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { vault, dead: Vec::new(), is_outdated: false, looked_at: Instant::now() }
    }

    /// A vault in which this process is about to write, or has written when it was opened before.
    pub(super) fn for_writing(vault: Arc<Vault>, writer: &WriterIdentity) -> Result<Self, VaultError> {
        let dead = vault.open_beside_living_at_first(writer)?;
        Ok(Self { vault, dead, is_outdated: false, looked_at: Instant::now() })
    }

    pub(super) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Has the vault opened again when it is asked for next.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Whether the store is to be asked whether the vault is as it was: always, but where requests cost, and it was asked no longer
    /// ago than this.
    pub(super) fn is_to_be_looked_at(&self, looked_at_for: Duration) -> bool {
        !self.vault.requests_cost() || self.looked_at.elapsed() >= looked_at_for
    }

    /// Whether trust or keys have changed since the vault was opened.
    pub(super) fn is_outdated(&mut self, looked_at_for: Duration) -> Result<bool, VaultError> {
        if self.is_outdated || self.vault.is_outdated() {
            return Ok(true);
        }
        if !self.is_to_be_looked_at(looked_at_for) {
            return Ok(false);
        }
        let has_grown = self.vault.trust_has_grown()?;
        self.looked_at = Instant::now();
        Ok(has_grown)
    }

    /// The same vault, opened again. What is open in it now may be this process's own work, which goes on with the vault
    /// as it was.
    pub(super) fn replace(&mut self, vault: Arc<Vault>) {
        (self.vault, self.is_outdated) = (vault, false);
    }

    fn add_dead(&mut self, left_open: Vec<SessionObject>) {
        let is_new = |open: &SessionObject| self.dead.iter().all(|dead| dead.session != open.session);
        let new: Vec<SessionObject> = left_open.into_iter().filter(is_new).collect();
        self.dead.extend(new);
    }

    /// Fences what was left open, as far as the store takes it; the rest when the vault is asked for again.
    pub(super) fn fence_dead(&mut self, name: &str, writer: &WriterIdentity, now: Timestamp) {
        match self.vault.left_open(writer) {
            Ok(left_open) => self.add_dead(left_open),
            Err(error) => {
                tracing::warn!(vault = name, %error, "cannot look for sessions that were left open")
            }
        }
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
