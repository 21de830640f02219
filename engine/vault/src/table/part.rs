//! Writing a part: entries in, metadata chunks out, in constant memory but for the live table.

use backstay_core::id::ChunkId;
use backstay_core::run::{Change, Entry, KEY_BYTES_MAX, PartRef, VALUE_BYTES_MAX};

use super::block::BlockBuilder;
use super::live::LiveTable;
use super::root::{INDEX_BLOCK_BYTES, IndexBlockRef, IndexRow, PartRoot, PieceRef, encode_index_row};
use crate::keys::KeyRing;
use crate::malformed::encode_cbor;

/// From this size on a block ends where a key says so, bytes.
const BLOCK_BYTES_LEAST: usize = 32 << 10;

/// At this size a block ends anyhow, bytes.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// A key ends the block before it when the first byte of its hash is below this.
const BOUNDARY_BELOW: u8 = 8;

/// Takes the chunks of a table.
pub trait MetaSink {
    /// Why a chunk could not be taken.
    type Error;

    /// Takes a metadata chunk and names it. It is durable only after the commit.
    fn put_meta(&mut self, plain: Vec<u8>) -> Result<ChunkId, Self::Error>;
}

/// Writes the entries of one part.
#[derive(Debug)]
pub struct PartWriter {
    block: BlockBuilder,
    live: LiveTable,
    index_block: Vec<u8>,
    index_block_keys: Option<(Vec<u8>, Vec<u8>)>,
    index_block_rows: u64,
    root: PartRoot,
}

impl PartWriter {
    /// A part without entries.
    pub fn new() -> Self {
        let root = PartRoot {
            version: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
            entries: 0,
            bytes: 0,
            index: Vec::new(),
            live: Vec::new(),
            range_tombstones: Vec::new(),
        };
        Self {
            block: BlockBuilder::default(),
            live: LiveTable::default(),
            index_block: Vec::new(),
            index_block_keys: None,
            index_block_rows: 0,
            root,
        }
    }

    /// Whether no entry was pushed.
    pub fn is_empty(&self) -> bool {
        self.root.entries == 0
    }

    /// The greatest key so far.
    pub fn last_key(&self) -> &[u8] {
        &self.root.last_key
    }

    /// How many data chunks are referred to so far.
    pub fn chunks(&self) -> usize {
        self.live.chunks()
    }

    /// Appends an entry. Its key must be greater than the one before.
    pub fn push<S: MetaSink>(
        &mut self,
        ring: &KeyRing,
        sink: &mut S,
        entry: &Entry<'_>,
    ) -> Result<(), S::Error> {
        assert!(entry.key.len() <= KEY_BYTES_MAX, "keys are bounded by their kind");
        assert!(
            entry.change.value().map_or(0, <[u8]>::len) <= VALUE_BYTES_MAX,
            "values are bounded by their kind"
        );
        assert!(self.is_empty() || entry.key > self.root.last_key.as_slice(), "keys rise");
        if self.block_ends_before(ring, entry.key) {
            self.close_block(sink)?;
        }
        if self.is_empty() {
            self.root.first_key = entry.key.to_vec();
        }
        self.root.last_key.clear();
        self.root.last_key.extend_from_slice(entry.key);
        self.root.entries += 1;
        self.block.push(entry);
        Ok(())
    }

    /// Counts a reference to a data chunk by the entry pushed last.
    pub fn refer(&mut self, chunk: ChunkId, bytes: u64) {
        self.live.refer(chunk, bytes);
    }

    /// Closes the part; `None` when it has no entries.
    pub fn finish<S: MetaSink>(mut self, sink: &mut S) -> Result<Option<PartRef>, S::Error> {
        if self.is_empty() {
            return Ok(None);
        }
        self.close_block(sink)?;
        self.close_index_block(sink)?;
        for piece in self.live.take_pieces() {
            let length = piece.len() as u32;
            self.root.live.push(PieceRef { chunk: sink.put_meta(piece)?, length });
        }
        let root = encode_cbor(&self.root);
        let root_length = root.len() as u32;
        let PartRoot { first_key, last_key, entries, .. } = self.root;
        Ok(Some(PartRef { root: sink.put_meta(root)?, root_length, first_key, last_key, entries }))
    }

    fn block_ends_before(&self, ring: &KeyRing, key: &[u8]) -> bool {
        let bytes = self.block.len();
        bytes >= BLOCK_BYTES_MAX
            || (bytes >= BLOCK_BYTES_LEAST && ring.meta_hash(b"block\0", key)[0] < BOUNDARY_BELOW)
    }

    fn close_block<S: MetaSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let first_key = self.block.first_key().to_vec();
        let entries = self.block.entries();
        let bytes = self.block.take();
        let length = bytes.len() as u32;
        self.root.bytes += u64::from(length);
        let row = IndexRow { first_key, chunk: sink.put_meta(bytes)?, length, entries };
        let last_key = self.index_block_keys.as_ref().map_or(&[][..], |(_, last)| last);
        encode_index_row(&mut self.index_block, last_key, &row);
        self.index_block_rows += 1;
        let first = self.index_block_keys.take().map_or_else(|| row.first_key.clone(), |(first, _)| first);
        self.index_block_keys = Some((first, row.first_key));
        if self.index_block.len() >= INDEX_BLOCK_BYTES {
            self.close_index_block(sink)?;
        }
        Ok(())
    }

    fn close_index_block<S: MetaSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let Some((first_key, _)) = self.index_block_keys.take() else { return Ok(()) };
        let bytes = std::mem::take(&mut self.index_block);
        let length = bytes.len() as u32;
        let blocks = std::mem::take(&mut self.index_block_rows);
        self.root.index.push(IndexBlockRef { first_key, chunk: sink.put_meta(bytes)?, length, blocks });
        Ok(())
    }
}

/// A part by which a collection keeps chunks to which no entry of a run refers yet. Its only entry removes what is not there,
/// behind `last_key`. `None` without chunks.
pub fn keeping_part<S: MetaSink>(
    ring: &KeyRing,
    sink: &mut S,
    last_key: &[u8],
    chunks: impl IntoIterator<Item = ChunkId>,
) -> Result<Option<PartRef>, S::Error> {
    let mut chunks = chunks.into_iter().peekable();
    if chunks.peek().is_none() {
        return Ok(None);
    }
    let mut part = PartWriter::new();
    let key = [&last_key[..last_key.len().min(KEY_BYTES_MAX - 1)], &[0]].concat();
    part.push(ring, sink, &Entry { key: &key, change: Change::Tombstone, replaced: None })?;
    chunks.for_each(|chunk| part.refer(chunk, 1));
    part.finish(sink)
}

impl Default for PartWriter {
    fn default() -> Self {
        Self::new()
    }
}
