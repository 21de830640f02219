//! Pins: sessions of readers, which keep a point while it is read (docs/format.md, section 10). A reader that may not
//! write, or on a store that takes nothing, goes without: reading never fails for want of a pin.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::id::SessionId;
use backstay_core::point::PointLink;

use super::{Vault, WriterIdentity};
use crate::commit_object::{SessionKind, SessionObject, SessionState};
use crate::error::VaultError;
use crate::keys::random_bytes;

/// How often a pin shows that its reader is alive. A custodian takes one for dead that stands still for a day.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3600);

/// Keeps a point of a vault until it is dropped.
#[derive(Debug)]
pub(super) struct Pin {
    keeper: Arc<Keeper>,
    renewal: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Keeper {
    vault: Arc<Vault>,
    reader: Arc<WriterIdentity>,
    object: Mutex<SessionObject>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Pin {
    /// Pins a point. `None` when this reader may not write to the vault.
    pub(super) fn put(
        vault: &Arc<Vault>,
        reader: &Arc<WriterIdentity>,
        point: PointLink,
        clock: &dyn Clock,
    ) -> Result<Option<Self>, VaultError> {
        if vault.trust().node(&reader.signer.public()).is_none() {
            return Ok(None);
        }
        vault.may_be_written()?;
        let object = SessionObject {
            session: SessionId::new(random_bytes()),
            node: reader.node.clone(),
            counter: 0,
            state: SessionState::Open,
            start: clock.now(),
            pins: vec![point.point],
            sources: Vec::new(),
            kind: SessionKind::Reader,
            collection: vault.newest_collection_at_first()?,
        };
        let keeper = Arc::new(Keeper {
            vault: Arc::clone(vault),
            reader: Arc::clone(reader),
            object: Mutex::new(object),
            is_over: Mutex::new(false),
            over: Condvar::new(),
        });
        keeper.put(SessionState::Open)?;
        let own = Arc::clone(&keeper);
        // Without a thread the pin holds for a day.
        let renewal = std::thread::Builder::new().name("pin".into()).spawn(move || own.renew()).ok();
        Ok(Some(Self { keeper, renewal }))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        *self.keeper.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.keeper.over.notify_all();
        if let Some(renewal) = self.renewal.take() {
            // A panic of it was printed already.
            let _ = renewal.join();
        }
        if let Err(error) = self.keeper.put(SessionState::Acknowledged) {
            tracing::info!(%error, "a pin stays until it has stood still for a day");
        }
    }
}

impl Keeper {
    fn put(&self, state: SessionState) -> Result<(), VaultError> {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        object.counter += 1;
        object.state = state;
        self.vault.put_session(&self.reader.signer, &object)
    }

    /// Until the pin is dropped.
    fn renew(&self) {
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_over {
            let waited =
                self.over.wait_timeout(is_over, SIGN_OF_LIFE).unwrap_or_else(PoisonError::into_inner);
            let is_time = waited.1.timed_out();
            is_over = waited.0;
            if is_time
                && !*is_over
                && let Err(error) = self.show_life()
            {
                tracing::info!(%error, "a pin could not be renewed");
            }
        }
    }

    /// One that was fenced meanwhile, because this machine slept, protects nothing any more: another takes its place.
    fn show_life(&self) -> Result<(), VaultError> {
        let session = self.object.lock().unwrap_or_else(PoisonError::into_inner).session;
        if self.vault.is_fenced(session)? {
            let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
            object.session = SessionId::new(random_bytes());
            object.counter = 0;
            object.collection = self.vault.newest_collection()?;
        }
        self.put(SessionState::Open)
    }
}
