//! How a capture commits together with others.

use std::fmt;
use std::sync::Arc;

use backstay_core::clock::Clock;

use crate::vault::Vault;

/// Is told of a commit that waits for others.
type OnWait = dyn Fn(&Arc<Vault>) + Send + Sync;

/// How a capture commits together with others. Cheap to clone.
#[derive(Clone)]
pub struct WithOthers {
    clock: Arc<dyn Clock>,
    on_wait: Arc<OnWait>,
}

impl WithOthers {
    /// The clock of the commits; and who is told that one waits in a vault, and may say that nobody else comes
    /// ([`Vault::close_group`]).
    pub fn new(clock: Arc<dyn Clock>, on_wait: Arc<OnWait>) -> Self {
        Self { clock, on_wait }
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(super) fn told_that_it_waits(&self, vault: &Arc<Vault>) {
        (self.on_wait)(vault);
    }
}

impl fmt::Debug for WithOthers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithOthers").finish_non_exhaustive()
    }
}
