//! Pieces of files, written from any thread. Owns when a file is made and when it is finished.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_vault::error::VaultError;

use super::under_way::{Counted, Failure, Shared};
use crate::keys::HeadKey;
use crate::place::{NewFile, PendingFile, PlaceError};
use crate::row::Reference;

/// Files that are open, those of the window that is put together included. With directories and the rest this stays
/// below the 1024 that a process may have as a rule.
const OPEN_FILES_MAX: usize = 768;

/// A file to be written.
#[derive(Debug)]
pub(super) enum Target {
    /// It is there.
    Made(NewFile),
    /// It is made with its only piece.
    Pending(PendingFile),
}

impl Target {
    fn key(&self) -> HeadKey {
        match self {
            Self::Made(file) => file.key().clone(),
            Self::Pending(file) => file.key(),
        }
    }

    pub(super) fn make(self) -> Result<NewFile, PlaceError> {
        match self {
            Self::Made(file) => Ok(file),
            Self::Pending(file) => file.make(),
        }
    }
}

/// A file whose pieces are being written.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: Mutex<Option<Target>>,
    /// Pieces that are not written yet.
    left: AtomicUsize,
    _counted: Counted,
}

/// One piece of a file.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) file: Arc<OpenFile>,
    pub(super) reference: Reference,
}

impl Piece {
    pub(super) fn write(&self, plain: &[u8], shared: &Shared) -> Result<(), Failure> {
        let Reference { offset_bytes, chunk_offset_bytes, length_bytes, chunk } = self.reference;
        let begins = chunk_offset_bytes as usize;
        let Some(bytes) = plain.get(begins..begins.saturating_add(length_bytes as usize)) else {
            self.lose(
                &VaultError::Table(format!(
                    "a row refers to bytes {begins} to {} of chunk {chunk}, which has {}: the run is damaged; run `backstay vault check`",
                    begins.saturating_add(length_bytes as usize),
                    plain.len()
                )),
                shared,
            );
            return Ok(());
        };
        let written = self.file.write(offset_bytes, bytes);
        shared.progress.wrote(u64::from(length_bytes));
        if written.is_err() {
            // The file stays without its time, so that it is not taken for done.
            self.file.lock().take();
        }
        shared.collected.judge(written)?;
        if self.file.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(Target::Made(file)) = self.file.lock().take()
        {
            shared.collected.defects(file.finish());
        }
        Ok(())
    }
}

impl Piece {
    /// It cannot be had. The file is named, once, and not finished: nothing takes it for whole.
    pub(super) fn lose(&self, error: &VaultError, shared: &Shared) {
        if let Some(target) = self.file.lock().take() {
            shared.collected.problem(format!("{}: lacks contents: {error}", target.key()));
        }
    }
}

impl OpenFile {
    /// A file of so many pieces. Waits while too many are open.
    pub(super) fn new(file: Target, pieces: usize, shared: &Arc<Shared>) -> Self {
        let counted = Counted::begin(shared, |under_way| &mut under_way.files, OPEN_FILES_MAX);
        Self { file: Mutex::new(Some(file)), left: AtomicUsize::new(pieces), _counted: counted }
    }

    /// Makes the file first, if that is still to be done.
    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), PlaceError> {
        let mut target = self.lock();
        // An earlier piece could not be written.
        let Some(file) = target.take() else { return Ok(()) };
        let file = file.make()?;
        let written = file.write_at(offset_bytes, bytes);
        *target = Some(Target::Made(file));
        written
    }

    fn lock(&self) -> MutexGuard<'_, Option<Target>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
