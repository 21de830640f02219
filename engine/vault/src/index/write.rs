//! Writing of a segment from sorted entries, in one go and with little memory: a block, the keys of one filter, and what
//! stays in memory anyway.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use backstay_core::id::{ChunkId, VaultId};

use super::entry::{ENTRY_BYTES, Entry, prefix};
use super::fuse::Fuse;
use super::head::{BLOCK_BYTES, BLOCK_ENTRIES, Block, Head, PARTITION_BLOCKS, seal_block};
use super::rows::Rows;
use super::segment::Segment;
use crate::keys::random_bytes;

/// What is written at once, bytes.
const WRITE_BYTES: usize = 1 << 20;

/// A segment on its way to the disk.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    out: BufWriter<File>,
    vault: VaultId,
    key: [u8; 32],
    block: Box<Block>,
    in_block: usize,
    fences: Vec<u64>,
    /// Different prefixes of the partition that is being written.
    keys: Vec<u64>,
    filters: Vec<Fuse>,
    entries: u64,
    chunks: u64,
    plain_bytes: u64,
    last: Option<ChunkId>,
}

impl SegmentWriter {
    /// Writes into an empty file.
    pub(super) fn new(file: File, vault: VaultId) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
        // The place of the head, which is written last.
        out.write_all(&[0; BLOCK_BYTES])?;
        Ok(Self {
            out,
            vault,
            key: random_bytes(),
            block: Box::new([0; BLOCK_BYTES]),
            in_block: 0,
            fences: Vec::new(),
            keys: Vec::new(),
            filters: Vec::new(),
            entries: 0,
            chunks: 0,
            plain_bytes: 0,
            last: None,
        })
    }

    /// How many entries were added.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Adds an entry, which sorts after those before.
    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let prefix = prefix(&entry.id);
        if self.in_block == 0 {
            self.fences.push(prefix);
        }
        if self.keys.last() != Some(&prefix) {
            self.keys.push(prefix);
        }
        if self.last != Some(entry.id) {
            self.last = Some(entry.id);
            self.chunks += 1;
            self.plain_bytes += u64::from(entry.plain_length);
        }
        let at = self.in_block * ENTRY_BYTES;
        self.block[at..at + ENTRY_BYTES].copy_from_slice(&entry.encode());
        self.in_block += 1;
        self.entries += 1;
        match self.in_block == BLOCK_ENTRIES {
            true => self.end_block(),
            false => Ok(()),
        }
    }

    /// Writes the rest. The file is not durable yet; `path` is where it will be when it is.
    pub(super) fn finish(mut self, rows: Rows, path: Option<PathBuf>) -> io::Result<Segment> {
        if self.in_block > 0 {
            self.end_block()?;
        }
        if !self.keys.is_empty() {
            self.end_partition();
        }
        let mut end = Hashed { out: &mut self.out, hasher: blake3::Hasher::new(), bytes: 0 };
        rows.write(&mut end)?;
        self.fences.iter().try_for_each(|fence| end.write_all(&fence.to_le_bytes()))?;
        for filter in &self.filters {
            let (head, fingerprints) = filter.to_parts();
            end.write_all(&head)?;
            end.write_all(fingerprints)?;
        }
        let (end_hash, end_bytes) = (*end.hasher.finalize().as_bytes(), end.bytes);
        let head = Head {
            vault: self.vault,
            key: self.key,
            entries: self.entries,
            chunks: self.chunks,
            plain_bytes: self.plain_bytes,
            rows: rows.counts(),
            end_bytes,
            end_hash,
        };
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.write_all_at(&head.encode(), 0)?;
        Ok(Segment::new(file, path, head, rows, self.fences, self.filters))
    }

    fn end_block(&mut self) -> io::Result<()> {
        let number = self.fences.len() as u64 - 1;
        self.block[self.in_block * ENTRY_BYTES..].fill(0);
        seal_block(&self.key, number, &mut self.block);
        self.out.write_all(&self.block[..])?;
        self.in_block = 0;
        if self.fences.len().is_multiple_of(PARTITION_BLOCKS) {
            self.end_partition();
        }
        Ok(())
    }

    fn end_partition(&mut self) {
        self.filters.push(Fuse::of(&self.keys));
        self.keys.clear();
    }
}

struct Hashed<'a> {
    out: &'a mut BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
