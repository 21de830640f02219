//! Rows: what a run of a directory tree says about one path or one file with several names (docs/format.md,
//! section 11). Owns the model, its bounds and its byte form. Decoding treats every byte as hostile: what a
//! decoded row holds can be restored without looking at it again.

mod attributes;
mod decode;
mod encode;
mod kept;
mod object;
mod reference;
mod strict;
mod varint;

pub use attributes::{
    ATTRIBUTE_REFERENCES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX, Attribute,
    AttributeName, AttributeValue, Attributes, INLINE_VALUE_BYTES_MAX,
};
pub use decode::{decode_further, keeps_contents, split};
pub use encode::encode_further;
pub use kept::without_kept;
pub use object::{
    Contents, DeviceNumber, Meta, Object, Permissions, Restored, SIZE_BYTES_MAX, SymlinkTarget,
};
pub use reference::{
    CHUNK_BYTES_MAX, EncodedRow, FURTHER_REFERENCES_MAX, HEAD_REFERENCES_MAX, Reference, ReferenceCheck,
    ReferenceRows, WrittenReferences,
};

use backstay_core::id::Element;

use crate::stat::{FileStat, FileTime, Identity};

const ELEMENT_CONTEXT: &str = "backstay 0 files element";

/// Greatest length of the name of an owner or group, bytes.
pub const OWNER_NAME_BYTES_MAX: usize = 255;

/// A row that breaks the rules of its format, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row is damaged, or written by something that is not Backstay: {field} {fault}; run `vault check`")]
pub struct RowError {
    /// Which part of the row.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: RowFault,
}

/// What is wrong with a part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The bytes end within it.
    #[error("is cut short")]
    Short,
    /// Bytes follow where nothing should.
    #[error("is followed by bytes that do not belong to it")]
    Long,
    /// Another CBOR type than it should have.
    #[error("has a wrong type")]
    Type,
    /// An integer or a length that is not in its shortest form, or an indefinite length.
    #[error("is not in its only valid form")]
    Form,
    /// Keys or elements that do not rise.
    #[error("is out of order")]
    Order,
    /// Required and not there.
    #[error("is missing")]
    Missing,
    /// There, where the type of the object has none.
    #[error("does not belong to an object of this type")]
    Misplaced,
    /// Outside its bounds.
    #[error("is out of bounds")]
    Bounds,
}

/// What a head row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// What a restore reproduces.
    pub restored: Restored,
    /// How the contents are found again, and how to tell whether they changed.
    pub facts: RowFacts,
}

/// The part of a head row that a restore does not reproduce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFacts {
    /// How the object looked when it was captured.
    pub seen: Option<Seen>,
    /// Name of the owner, at most [`OWNER_NAME_BYTES_MAX`].
    pub user: Option<String>,
    /// Name of the group, likewise.
    pub group: Option<String>,
    /// The contents, or the first [`HEAD_REFERENCES_MAX`] references to them.
    pub references: Vec<Reference>,
    /// How many references there are with those of further rows; `None` without further rows.
    pub references_total: Option<u64>,
    /// What older further rows mean.
    pub older: OlderRows,
    /// Things that should be known about the contents.
    pub marks: Marks,
    /// The values of large attributes, in their order; offsets count through all of them.
    pub attribute_references: Vec<Reference>,
}

/// What distinguishes an object that nobody touched from one that somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Time of the last change to anything.
    pub ctime: FileTime,
    /// Which object it was.
    pub identity: Identity,
}

impl From<&FileStat> for Seen {
    fn from(stat: &FileStat) -> Self {
        Self { ctime: stat.ctime, identity: stat.identity }
    }
}

/// Whether further rows of older runs still hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OlderRows {
    /// They are gone: this row replaces the contents.
    #[default]
    Hidden,
    /// They stay: this row replaces what is in it, and newer further rows replace their own keys.
    Kept,
}

/// A set of remarks about one row. Bits without a meaning here are carried along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u64);

impl Marks {
    /// The file was being written to while it was read.
    pub const CHANGED_WHILE_READ: Self = Self(1);

    /// Extended attributes are missing: they could not be read, or are more than a row can hold.
    pub const ATTRIBUTES_LEFT_OUT: Self = Self(2);

    /// From the bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `marks` are set.
    pub const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// Both sets together.
    pub const fn with(self, marks: Self) -> Self {
        Self(self.0 | marks.0)
    }
}

impl HeadRow {
    /// The value of the row.
    pub fn encode(&self) -> Result<Vec<u8>, RowError> {
        encode::head(self)
    }

    /// From the value of a head row, checked.
    pub fn decode(value: &[u8]) -> Result<Self, RowError> {
        decode::head(value)
    }
}

/// The element of a head row in the state digest, from its key and its value. Covers the first map as it
/// stands, unknown keys included.
pub fn element(key: &[u8], value: &[u8]) -> Result<Element, RowError> {
    let (restored, _) = split(value)?;
    let length = u32::try_from(key.len()).map_err(|_| RowError { field: "key", fault: RowFault::Bounds })?;
    let mut hasher = blake3::Hasher::new_derive_key(ELEMENT_CONTEXT);
    hasher.update(&length.to_be_bytes());
    hasher.update(key);
    hasher.update(restored);
    Ok(Element::new(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests;
