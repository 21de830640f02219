//! What a restore tells while it runs and at its end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::place::{Defect, PlaceError, Reach};

/// Most problems that are listed one by one.
pub const PROBLEMS_MAX: usize = 1000;

/// How far a restore is; read by others while it runs. Also the way to stop it.
#[derive(Debug, Default)]
pub struct RestoreProgress {
    entries: AtomicU64,
    bytes: AtomicU64,
    there_bytes: AtomicU64,
    stop: AtomicBool,
}

impl RestoreProgress {
    /// Entries placed.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of files that an earlier attempt had finished.
    pub fn there_bytes(&self) -> u64 {
        self.there_bytes.load(Ordering::Relaxed)
    }

    /// Asks the restore to end soon; the same command continues it later.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn placed(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn was_there(&self, bytes: u64) {
        self.there_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a restore has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries placed, those that an earlier attempt had finished included.
    pub entries: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files that an earlier attempt had finished.
    pub already_done: u64,
    /// What is not as it was, in words; at most [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
    /// How many problems there are in all.
    pub problems_total: u64,
}

/// Problems, collected from all threads.
#[derive(Debug, Default)]
pub(super) struct Collected {
    problems: Mutex<(Vec<String>, u64)>,
}

impl Collected {
    pub(super) fn problem(&self, problem: String) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.1 += 1;
        if problems.0.len() < PROBLEMS_MAX {
            problems.0.push(problem);
        }
    }

    /// An error that reaches one object is noted, and the restore goes on.
    pub(super) fn judge<T>(&self, placed: Result<T, PlaceError>) -> Result<Option<T>, PlaceError> {
        match placed {
            Ok(placed) => Ok(Some(placed)),
            Err(error) if error.reach() == Reach::Object => {
                self.problem(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn defects(&self, defects: Vec<Defect>) {
        defects.into_iter().for_each(|defect| self.problem(defect.to_string()));
    }

    pub(super) fn take(&self) -> (Vec<String>, u64) {
        std::mem::take(&mut *self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
