//! The content id: what is in a file, whatever chunks it was put into (docs/format.md, section 11). Owns the
//! hash; where logical chunks begin is the vault's splitter.

use backstay_core::id::{ChunkId, ContentId};

const CONTEXT: &str = "backstay 0 files content";

/// Takes the logical chunks of one file or large attribute, in order.
#[derive(Debug)]
pub struct ContentIdBuilder(blake3::Hasher);

impl ContentIdBuilder {
    /// For contents of this length, holes included.
    pub fn new(size_bytes: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&size_bytes.to_be_bytes());
        Self(hasher)
    }

    /// The next logical chunk. `hash` is the keyed hash of its bytes alone, whether or not they are stored as
    /// a chunk of their own.
    pub fn chunk(&mut self, offset_bytes: u64, length_bytes: u64, hash: &ChunkId) {
        self.0.update(&offset_bytes.to_be_bytes());
        self.0.update(&length_bytes.to_be_bytes());
        self.0.update(hash.as_bytes());
    }

    /// The id.
    pub fn finish(&self) -> ContentId {
        ContentId::new(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hash_that_the_format_describes() {
        let mut builder = ContentIdBuilder::new(10);
        builder.chunk(2, 3, &ChunkId::new([9; 32]));
        let mut expected = 10u64.to_be_bytes().to_vec();
        expected.extend(2u64.to_be_bytes());
        expected.extend(3u64.to_be_bytes());
        expected.extend([9; 32]);
        let hash = blake3::derive_key("backstay 0 files content", &expected);
        assert_eq!(builder.finish(), ContentId::new(hash));
        assert_ne!(ContentIdBuilder::new(10).finish(), ContentIdBuilder::new(11).finish());
    }
}
