//! Chunks: the class and bounds of what is named, sealed and stored. Knows nothing of where they are.

/// Greatest chunk, bytes of plaintext.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// The two classes of chunks. They are named under different keys and never share a pack, so that
/// metadata can be read, folded and collected without touching payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChunkClass {
    /// Payload of a source.
    Data,
    /// Blocks of runs.
    Meta,
}

impl ChunkClass {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Data, Self::Meta];

    /// As it stands in records, packs and indexes.
    pub fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Meta => 2,
        }
    }

    /// From its code.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Data),
            2 => Some(Self::Meta),
            _ => None,
        }
    }

    /// As metrics and messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Meta => "metadata",
        }
    }
}
