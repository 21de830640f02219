//! One file of a point: where it is, and its contents as a stream.

use std::io::Write;
use std::sync::Arc;

use backstay_vault::read::ChunkReader;
use backstay_vault::vault::Reading;

use super::contents::{ContentsError, ContentsWriter};
use super::entry::kind;
use super::names::files_of;
use crate::heads::FoundRow;
use crate::keys::PathKey;
use crate::point_rows::rows_of;
use crate::restore::{RestoreError, references};
use crate::row::{HeadRow, Object, Reference, Restored};

/// Why there are no contents of a path.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The point cannot be read, or the path is not in it.
    #[error(transparent)]
    Rows(#[from] RestoreError),
    /// It is something else.
    #[error("{path} is no file but a {kind}{advice}")]
    NoFile {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
        /// What to do.
        advice: String,
    },
}

impl FileError {
    /// Whether the point has nothing under this path.
    pub fn is_not_there(&self) -> bool {
        matches!(self, Self::Rows(RestoreError::NotThere { .. }))
    }
}

/// A file of a point.
#[derive(Debug)]
pub struct StoredFile {
    path: PathKey,
    size_bytes: u64,
    references: Vec<Reference>,
}

impl StoredFile {
    /// Finds it, also under one of several names.
    pub fn find(reading: &Arc<Reading>, path: &PathKey) -> Result<Self, FileError> {
        let row = rows_of(reading, path.as_bytes()).find(path.as_bytes()).map_err(RestoreError::from)?;
        let not_there = || RestoreError::NotThere { path: path.to_string() };
        let row = row.ok_or_else(not_there)?;
        let head = HeadRow::decode(&row.value).map_err(RestoreError::from)?;
        match head.restored {
            Restored::Object { .. } => Self::of(path, &row, &head),
            Restored::Link(id) => {
                let row = files_of(reading, [id])?.remove(&id).ok_or_else(not_there)?;
                let head = HeadRow::decode(&row.value).map_err(RestoreError::from)?;
                Self::of(path, &row, &head)
            }
        }
    }

    fn of(path: &PathKey, row: &FoundRow, head: &HeadRow) -> Result<Self, FileError> {
        match &head.restored {
            Restored::Object { object: object @ Object::File(_), .. } => Ok(Self {
                path: path.clone(),
                size_bytes: object.size_bytes(),
                references: references(object, row, head)?,
            }),
            Restored::Object { object, .. } => {
                let advice = match object {
                    Object::Directory => "; `backstay export` writes it as an archive".to_owned(),
                    Object::Symlink(target) => {
                        format!(" to {}", String::from_utf8_lossy(target.as_bytes()).escape_debug())
                    }
                    _ => String::new(),
                };
                Err(FileError::NoFile { path: path.to_string(), kind: kind(object), advice })
            }
            Restored::Link(_) => Err(RestoreError::NotThere { path: path.to_string() }.into()),
        }
    }

    /// Its size, bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes its contents.
    pub fn write_to<W: Write>(&self, reader: ChunkReader, out: W) -> Result<W, ContentsError> {
        let mut contents = ContentsWriter::new(out, reader);
        contents.begin(self.path.to_string())?;
        contents.file(&self.references, self.size_bytes)?;
        contents.finish()
    }
}
