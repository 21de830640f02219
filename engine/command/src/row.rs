//! The one row of a point: that of a file with the path `stdout` (docs/format.md, section 11, "command"). Owns its form
//! and the reading of it; refuses a point that has anything else.

use std::sync::Arc;

use backstay_core::id::{ChunkId, ContentId, Element};
use backstay_files::content::ContentIdBuilder;
use backstay_files::keys::{HeadKey, KeyError, PathKey, split_further};
use backstay_files::row::{
    Attributes, EncodedRow, HeadRow, Meta, Object, Permissions, Reference, ReferenceCheck, ReferenceRows,
    Restored, RowError, RowFacts, RowFault, decode_further, element,
};
use backstay_files::rule::FilesRule;
use backstay_files::stat::FileTime;
use backstay_vault::error::VaultError;
use backstay_vault::vault::Reading;

/// The path of the row.
pub const STDOUT_PATH: &str = "stdout";

/// What is in it is for its owner alone: most of what programs print of themselves is.
const MODE: u32 = 0o600;

/// A row that cannot be read, or is not that of a program's output.
#[derive(Debug, thiserror::Error)]
pub enum StdoutError {
    /// The vault has a problem.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It breaks the rules of its format.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Its key does.
    #[error("a key of the run is damaged: {0}; run `backstay vault check`")]
    Key(#[from] KeyError),
    /// There is something else, or nothing.
    #[error(
        "the point is not one of a program's output: {what}; run `backstay vault check`, or take another point"
    )]
    Foreign {
        /// What is there.
        what: String,
    },
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdoutRow {
    /// Length of the output.
    pub size_bytes: u64,
    /// What it is; nothing of an empty one.
    pub content: Option<ContentId>,
    /// Where its bytes are.
    pub references: Vec<Reference>,
    /// What of it counts in the state digest.
    pub element: Element,
}

/// The rows of an output: that of the file, and further ones.
#[derive(Debug)]
pub struct EncodedStdout {
    /// Key and value of the head row.
    pub head: EncodedRow,
    /// References of the head row.
    pub head_references: Vec<Reference>,
    /// Further rows, in order of key.
    pub further: Vec<EncodedRow>,
    /// What counts in the state digest.
    pub element: Element,
}

/// A piece of an output: a logical chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, bytes.
    pub offset_bytes: u64,
    /// Its length, bytes.
    pub length_bytes: u32,
    /// Its name.
    pub chunk: ChunkId,
}

/// The key of the head row.
pub fn stdout_key() -> Result<PathKey, KeyError> {
    PathKey::root().child(STDOUT_PATH.as_bytes())
}

/// The content id of an output that consists of these pieces; nothing of an empty one.
pub fn content_id(size_bytes: u64, pieces: &[Piece]) -> Option<ContentId> {
    let mut builder = ContentIdBuilder::new(size_bytes);
    for piece in pieces {
        builder.chunk(piece.offset_bytes, u64::from(piece.length_bytes), &piece.chunk);
    }
    (size_bytes > 0).then(|| builder.finish())
}

impl EncodedStdout {
    /// The rows of an output that consists of these pieces.
    pub fn new(size_bytes: u64, content: Option<ContentId>, pieces: &[Piece]) -> Result<Self, StdoutError> {
        let key = stdout_key()?.as_bytes().to_vec();
        let mut rows = ReferenceRows::new(&key);
        let mut further = Vec::new();
        for piece in pieces {
            let Piece { offset_bytes, length_bytes, chunk } = *piece;
            further.extend(rows.push(Reference {
                offset_bytes,
                chunk,
                chunk_offset_bytes: 0,
                length_bytes,
            })?);
        }
        let written = rows.finish()?;
        further.extend(written.last_row);
        let head_references = written.head.clone();
        let facts =
            RowFacts { references: written.head, references_total: written.total, ..RowFacts::default() };
        let row = HeadRow {
            restored: Restored::Object { object: object(size_bytes, content)?, meta: meta()? },
            facts,
        };
        let value = row.encode()?;
        let element = element(&key, &value)?;
        Ok(Self { head: (key, value), head_references, further, element })
    }
}

fn object(size_bytes: u64, content: Option<ContentId>) -> Result<Object, RowError> {
    let object = match content {
        None => Some(Object::File(None)),
        Some(content) => Object::file(size_bytes, content),
    };
    object.ok_or(RowError { field: "size", fault: RowFault::Bounds })
}

/// A pipe has no owner, mode or time. What is not there is the same at each capture, so that equal output is an equal row.
fn meta() -> Result<Meta, RowError> {
    let out_of_bounds = |field| RowError { field, fault: RowFault::Bounds };
    Ok(Meta {
        mode: Permissions::new(MODE).ok_or(out_of_bounds("mode"))?,
        uid: 0,
        gid: 0,
        mtime: FileTime::new(0, 0).ok_or(out_of_bounds("mtime"))?,
        attributes: Attributes::default(),
    })
}

impl StdoutRow {
    /// Reads the row of the point that is read.
    pub fn read(reading: &Arc<Reading>) -> Result<Self, StdoutError> {
        let mut rows = reading.fold::<FilesRule>(&[]);
        let foreign = |what: String| StdoutError::Foreign { what };
        let key = stdout_key()?;
        let Some((found, value)) = rows.next()? else { return Err(foreign("it is empty".to_owned())) };
        if found != key.as_bytes() {
            return Err(foreign(format!("it has {}", shown(found))));
        }
        let (head, element) = (HeadRow::decode(value)?, element(found, value)?);
        let Restored::Object { object: Object::File(contents), .. } = &head.restored else {
            return Err(foreign(format!("{STDOUT_PATH} is not a file")));
        };
        let size_bytes = contents.as_ref().map_or(0, |contents| contents.size_bytes());
        let content = contents.as_ref().map(|contents| contents.id());
        let mut check = ReferenceCheck::new(size_bytes, &head.facts)?;
        let mut references = head.facts.references;
        while let Some((found, value)) = rows.next()? {
            let (of, first) = split_further(found);
            let Some(first) = first.filter(|_| of == key.as_bytes()) else {
                return Err(foreign(format!("it has {} as well", shown(found))));
            };
            let further = decode_further(first, value)?;
            check.row(&further)?;
            references.extend(further);
        }
        check.finish()?;
        Ok(Self { size_bytes, content, references, element })
    }
}

fn shown(key: &[u8]) -> String {
    HeadKey::parse(split_further(key).0).map_or_else(|error| error.to_string(), |key| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(n: u32) -> Piece {
        let id = [n.to_be_bytes(), [7; 4]].concat().repeat(4);
        let chunk = ChunkId::from_slice(&id).expect("32 bytes");
        Piece { offset_bytes: u64::from(n) * 1000, length_bytes: 1000, chunk }
    }

    #[test]
    fn the_row_is_the_one_that_the_format_describes() {
        let content = content_id(1000, &[piece(0)]);
        let rows = EncodedStdout::new(1000, content, &[piece(0)]).expect("rows");
        assert_eq!(rows.head.0, b"\x01stdout");
        // {0: 0, 1: 0600, 2: 0, 3: 0, 4: 0, 5: 0, 6: 1000, 7: content id}, {6: references}
        let mut expected =
            vec![0xa8, 0, 0, 1, 0x19, 0x01, 0x80, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0x19, 0x03, 0xe8, 7, 0x58, 32];
        expected.extend_from_slice(content.expect("not empty").as_bytes());
        expected.extend_from_slice(&[0xa1, 6, 0x58, 36, 0]);
        expected.extend_from_slice(piece(0).chunk.as_bytes());
        expected.extend_from_slice(&[0, 0xe8, 0x07]);
        assert_eq!(rows.head.1, expected);
        assert!(rows.further.is_empty());
    }

    #[test]
    fn an_empty_output_is_an_empty_file() {
        let rows = EncodedStdout::new(0, content_id(0, &[]), &[]).expect("rows");
        assert_eq!(rows.head.1, [0xa7, 0, 0, 1, 0x19, 0x01, 0x80, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 0xa0]);
    }

    #[test]
    fn many_references_are_spread_over_further_rows() {
        let pieces: Vec<Piece> = (0..600).map(piece).collect();
        let rows = EncodedStdout::new(600_000, content_id(600_000, &pieces), &pieces).expect("rows");
        assert_eq!((rows.head_references.len(), rows.further.len()), (16, 3));
        assert!(rows.further.is_sorted_by(|a, b| a.0 < b.0) && rows.head.0 < rows.further[0].0);
        let head = HeadRow::decode(&rows.head.1).expect("decodes");
        assert_eq!(head.facts.references_total, Some(600));
        assert_ne!(content_id(600_000, &pieces[..599]), content_id(600_000, &pieces));
    }
}
