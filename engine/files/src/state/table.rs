//! A sorted table in a local file: blocks with a checksum each. Only a cache of what a vault has, so
//! nothing is fsynced: a block that was torn by a crash is found out by its checksum.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use backstay_core::run::{Change, Entry};
use backstay_vault::table::{BlockBuilder, BlockReader};

use super::StateError;

/// A block is closed at this size, bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// No block is greater: one entry beyond the size at which it is closed, bytes.
const BLOCK_BYTES_MAX: usize = 256 << 10;

/// Length and checksum before each block.
const BLOCK_HEAD_BYTES: usize = 12;

const BUFFER_BYTES: usize = 256 << 10;

/// Where a block begins in its file, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockOffset(pub(super) u64);

/// Set in the offsets of blocks of the table of links.
const IN_LINKS: u64 = 1 << 63;

/// Which of the two tables of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhichTable {
    Paths,
    Links,
}

impl BlockOffset {
    /// The same offset, in the table of links.
    pub(super) fn in_links(self) -> Self {
        Self(self.0 | IN_LINKS)
    }

    /// The table, and the offset in it.
    pub(super) fn table(self) -> (WhichTable, Self) {
        let which = if self.0 & IN_LINKS == 0 { WhichTable::Paths } else { WhichTable::Links };
        (which, Self(self.0 & !IN_LINKS))
    }
}

/// Writes a table.
#[derive(Debug)]
pub(super) struct TableWriter {
    file: BufWriter<File>,
    block: BlockBuilder,
    at: u64,
}

impl TableWriter {
    pub(super) fn create(path: &Path) -> Result<Self, StateError> {
        let file = File::create(path).map_err(|e| StateError::io(path, e))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), block: BlockBuilder::default(), at: 0 })
    }

    /// Appends an entry whose key is greater than the one before; says in which block it is.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<BlockOffset> {
        if self.block.len() >= BLOCK_BYTES {
            self.close_block()?;
        }
        self.block.push(&Entry { key, change: Change::Put(value), replaced: None });
        Ok(BlockOffset(self.at))
    }

    /// Writes what is left and returns the length of the file, bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.close_block()?;
        self.file.flush()?;
        Ok(self.at)
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = self.block.take();
        self.file.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.file.write_all(&checksum(&bytes))?;
        self.file.write_all(&bytes)?;
        self.at += (BLOCK_HEAD_BYTES + bytes.len()) as u64;
        Ok(())
    }
}

/// Reads a table from the beginning, or one block of it.
#[derive(Debug)]
pub(super) struct TableReader {
    file: BufReader<File>,
    /// Bytes of the file that were not read yet.
    left: u64,
    block: BlockReader,
}

impl TableReader {
    /// Opens a table that must have `length` bytes.
    pub(super) fn open(path: &Path, length: u64) -> Result<Self, StateError> {
        let file = File::open(path).map_err(|e| StateError::io(path, e))?;
        let found = file.metadata().map_err(|e| StateError::io(path, e))?.len();
        if found != length {
            return Err(StateError::Torn { file: path.display().to_string() });
        }
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self { file, left: length, block: BlockReader::default() })
    }

    /// Moves to the next entry; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TableFault> {
        loop {
            if self.block.advance().map_err(|_| TableFault::Torn)? {
                return Ok(true);
            }
            if self.left == 0 {
                return Ok(false);
            }
            self.next_block()?;
        }
    }

    /// Key and value at which the reader stands.
    pub(super) fn entry(&self) -> (&[u8], &[u8]) {
        let entry = self.block.entry();
        (entry.key, entry.change.value().unwrap_or_default())
    }

    /// Goes to a block; the next `advance` reads its first entry.
    pub(super) fn seek(&mut self, block: BlockOffset, length: u64) -> Result<(), TableFault> {
        self.left = length.checked_sub(block.0).ok_or(TableFault::Torn)?;
        self.file.seek(SeekFrom::Start(block.0))?;
        self.next_block()
    }

    fn next_block(&mut self) -> Result<(), TableFault> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.file.read_exact(&mut head)?;
        let (length, sum) = head.split_at(4);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let whole = (BLOCK_HEAD_BYTES + length) as u64;
        if length == 0 || length > BLOCK_BYTES_MAX || whole > self.left {
            return Err(TableFault::Torn);
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        if checksum(&bytes) != sum {
            return Err(TableFault::Torn);
        }
        self.left -= whole;
        self.block = BlockReader::new(bytes);
        Ok(())
    }
}

/// Why a table cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is torn")]
    Torn,
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, entries: u32) -> (u64, Vec<BlockOffset>) {
        let mut writer = TableWriter::create(path).expect("creates");
        let blocks =
            (0..entries).map(|n| writer.push(&n.to_be_bytes(), &[n as u8; 100]).expect("pushes")).collect();
        (writer.finish().expect("writes"), blocks)
    }

    #[test]
    fn a_table_reads_back_from_the_start_and_from_a_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("table");
        let (length, blocks) = write(&path, 5000);
        let mut reader = TableReader::open(&path, length).expect("opens");
        for n in 0..5000u32 {
            assert!(reader.advance().expect("reads"));
            assert_eq!(reader.entry(), (n.to_be_bytes().as_slice(), [n as u8; 100].as_slice()));
        }
        assert!(!reader.advance().expect("reads"));
        reader.seek(blocks[4000], length).expect("seeks");
        assert!(reader.advance().expect("reads"));
        assert!(reader.entry().0 <= 4000u32.to_be_bytes().as_slice());
    }

    #[test]
    fn a_torn_block_and_a_short_file_are_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("table");
        let (length, _) = write(&path, 5000);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[100_000] ^= 1;
        std::fs::write(&path, &bytes).expect("writes");
        let mut reader = TableReader::open(&path, length).expect("opens");
        let torn = loop {
            match reader.advance() {
                Ok(true) => {}
                Ok(false) => break false,
                Err(_) => break true,
            }
        };
        assert!(torn);
        assert!(matches!(TableReader::open(&path, length + 1), Err(StateError::Torn { .. })));
    }
}
