//! A process of a simulated world, and its lives: from a start to a crash.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::units::Timestamp;
use backstay_vault::store::Store;

use super::store::SimStore;
use super::world::{Ask, Shared};
use crate::random::Random;

/// The process has died: whoever works for it has to come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died;

/// A process.
#[derive(Debug)]
pub struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) seed: u64,
}

impl Process {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.shared.name_of(self.number)
    }

    /// Numbers for its own decisions.
    pub fn random(&self) -> Random {
        Random::new(self.seed ^ (self.number as u64 + 1).wrapping_mul(0x9e37_79b9))
    }

    /// Starts it anew after a while; `None` when the world has come to its end.
    pub fn start(&self, after: Duration) -> Option<Life> {
        let life = self.shared.begin_life(self.number)?;
        let life = Life { shared: Arc::clone(&self.shared), process: self.number, life };
        life.sleep(after).ok().map(|()| life)
    }
}

/// A process from one start to a crash.
#[derive(Debug, Clone)]
pub struct Life {
    shared: Arc<Shared>,
    process: usize,
    life: u64,
}

impl Life {
    /// The name of the process.
    pub fn name(&self) -> &'static str {
        self.shared.name_of(self.process)
    }

    /// Its handle of a store.
    pub fn store(&self, store: usize) -> Arc<dyn Store> {
        let shared = Arc::clone(&self.shared);
        Arc::new(SimStore { shared, process: self.process, life: self.life, store })
    }

    /// Its clock, which may be wrong and be set.
    pub fn clock(&self) -> SimClock {
        SimClock { shared: Arc::clone(&self.shared), process: self.process }
    }

    /// Does nothing for some simulated time.
    pub fn sleep(&self, time: Duration) -> Result<(), Died> {
        let waiting = self.shared.park(self.process, self.life, Ask::Sleep(time)).ok_or(Died)?;
        match waiting.blocking_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Died),
        }
    }

    /// Whether it has not died.
    pub fn is_alive(&self) -> bool {
        self.shared.is_alive(self.process, self.life)
    }

    /// Faults that the process was told of so far, in all its lives.
    pub fn faults(&self) -> u64 {
        self.shared.faults(self.process)
    }

    /// Writes a line into the history.
    pub fn note(&self, what: &str, detail: impl ToString) {
        self.shared.note(self.process, what, detail.to_string());
    }
}

/// The clock of a process.
#[derive(Debug, Clone)]
pub struct SimClock {
    shared: Arc<Shared>,
    process: usize,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.shared.now_of(self.process)
    }
}
