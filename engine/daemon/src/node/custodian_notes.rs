//! The notes of a custodian, one small file for each vault under `node.state`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_core::id::{SourceId, VaultId};
use backstay_vault::error::VaultError;
use backstay_vault::vault::{NoteStore, Notes, PendingLayout};

use crate::failure::Failure;

/// Greatest file that is read, bytes: it may hold a layout.
const NOTES_BYTES_MAX: u64 = 128 << 20;

/// Notes in a file.
#[derive(Debug)]
pub struct FileNotes(PathBuf);

impl FileNotes {
    /// The notes on this vault.
    pub fn of(state: &Path, vault: VaultId) -> Result<Self, Failure> {
        let folder = state.join("custodian");
        super::make_state_folder(&folder)?;
        Ok(Self(folder.join(format!("{vault}.cbor"))))
    }

    /// How long ago they were written last; `None` when they never were, or the clock was set back.
    pub fn age(&self) -> Option<Duration> {
        fs::metadata(&self.0).and_then(|notes| notes.modified()).ok()?.elapsed().ok()
    }

    /// Where the copy of a source's newest layout is.
    fn layout_file(&self, source: SourceId) -> PathBuf {
        self.0.with_extension("layouts").join(format!("{source}.cbor"))
    }

    fn error(&self, cause: impl std::fmt::Display) -> VaultError {
        VaultError::Notes { place: self.0.display().to_string(), cause: cause.to_string() }
    }
}

impl NoteStore for FileNotes {
    fn load(&mut self) -> Result<Notes, VaultError> {
        match fs::metadata(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Notes::default()),
            Err(error) => return Err(self.error(error)),
            Ok(metadata) if metadata.len() > NOTES_BYTES_MAX => {
                return Err(self.error("the file is longer than notes can be; remove it"));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&self.0).map_err(|error| self.error(error))?;
        Notes::from_bytes(&bytes).map_err(|cause| {
            self.error(format!(
                "damaged ({cause}); remove the file, which costs a collection or a day of waiting and no data"
            ))
        })
    }

    fn save(&mut self, notes: &Notes) -> Result<(), VaultError> {
        super::write_durably(&self.0, &notes.to_bytes()).map_err(|failure| self.error(failure.message))
    }

    fn keep_layout(&mut self, source: SourceId, layout: &PendingLayout) -> Result<(), VaultError> {
        let file = self.layout_file(source);
        let folder = self.0.with_extension("layouts");
        let kept =
            super::make_state_folder(&folder).and_then(|()| super::write_durably(&file, &layout.to_bytes()));
        kept.map_err(|failure| self.error(failure.message))
    }

    fn layout(&mut self, source: SourceId) -> Result<Option<PendingLayout>, VaultError> {
        let file = self.layout_file(source);
        match fs::metadata(&file).map(|metadata| metadata.len()) {
            Ok(length) if length <= NOTES_BYTES_MAX => {}
            _ => return Ok(None),
        }
        let bytes = fs::read(&file).map_err(|error| self.error(error))?;
        // A copy that is damaged is none.
        Ok(PendingLayout::from_bytes(&bytes).ok())
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::collection::CollectionNumber;

    use super::*;

    #[test]
    fn notes_read_back_and_damaged_ones_are_named() {
        let state = tempfile::tempdir().expect("a folder");
        let mut file = FileNotes::of(state.path(), VaultId::new([1; 16])).expect("a file");
        assert_eq!(file.load().expect("none yet"), Notes::default());
        let notes = Notes { finished: CollectionNumber::new(4), ..Notes::default() };
        file.save(&notes).expect("saves");
        assert_eq!(
            FileNotes::of(state.path(), VaultId::new([1; 16])).expect("a file").load().expect("reads"),
            notes
        );
        fs::write(&file.0, b"\xff").expect("writes");
        let refused = file.load().expect_err("damaged").to_string();
        assert!(refused.contains("custodian") && refused.contains("remove"), "{refused}");
    }
}
