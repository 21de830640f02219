//! A segment: sorted entries in a file that never changes, with the little in memory that finds one of them by one read.
//! Owns opening and asking. A segment that was found damaged says so from then on, and its owner throws it away.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstay_core::id::{ChunkId, VaultId};

use super::entry::{ENTRY_BYTES, Entry, prefix};
use super::fuse::{FUSE_HEAD_BYTES, Fuse};
use super::head::{BLOCK_BYTES, BLOCK_ENTRIES, Head, PARTITION_BLOCKS, SegmentError};
use super::head::{block_at, check_block};
use super::rows::Rows;

/// Blocks that are read at once by whoever reads a segment from end to end.
const BLOCKS_AT_ONCE: u64 = 64;

/// How far from where a fence should be it is looked for first: as many as lie in one line of the cache.
const GUESS_STEP: usize = 8;

/// An opened segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    /// Where the file is, if it is this process that removes it.
    pub(super) path: Option<PathBuf>,
    pub(super) head: Head,
    pub(super) rows: Rows,
    /// The first prefix of each block.
    pub(super) fences: Box<[u64]>,
    /// One for each `PARTITION_BLOCKS` blocks.
    pub(super) filters: Box<[Fuse]>,
    is_damaged: AtomicBool,
}

impl Segment {
    /// A segment that was just written.
    pub(super) fn new(
        file: File,
        path: Option<PathBuf>,
        head: Head,
        rows: Rows,
        fences: Vec<u64>,
        filters: Vec<Fuse>,
    ) -> Self {
        let (fences, filters) = (fences.into(), filters.into());
        Self { file, path, head, rows, fences, filters, is_damaged: AtomicBool::new(false) }
    }

    /// Reads all of a segment but its entries.
    pub(super) fn open(file: File, path: Option<PathBuf>, vault: VaultId) -> Result<Self, SegmentError> {
        let file_bytes = file.metadata()?.len();
        let mut block = [0; BLOCK_BYTES];
        if file_bytes < BLOCK_BYTES as u64 {
            return Err(SegmentError::Damaged("length"));
        }
        file.read_exact_at(&mut block, 0)?;
        let head = Head::decode(&block, vault, file_bytes)?;
        let (rows, fences, filters) = read_end(&file, &head)?;
        Ok(Self::new(file, path, head, rows, fences, filters))
    }

    /// How many entries it has.
    pub(super) fn entries(&self) -> u64 {
        self.head.entries
    }

    /// Whether something was found damaged, here or by a reader that goes from end to end.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Tells every entry of a chunk, with its place in the order of all.
    pub(super) fn find(&self, id: &ChunkId, mut tell: impl FnMut(u64, Entry)) -> Result<(), SegmentError> {
        let prefix = prefix(id);
        for partition in self.partitions_of(prefix) {
            if !self.filters[partition].contains(prefix) {
                continue;
            }
            let first = partition * PARTITION_BLOCKS;
            let fences = &self.fences[first..(first + PARTITION_BLOCKS).min(self.fences.len())];
            let to = fences_up_to(fences, prefix);
            // What begins with the prefix may have begun in the block before.
            let from = match to {
                0 => 0,
                to if fences[to - 1] < prefix => to - 1,
                _ => fences.partition_point(|fence| *fence < prefix).saturating_sub(1),
            };
            for block in first + from..first + to {
                self.find_in_block(block as u64, id, &mut tell)?;
            }
        }
        Ok(())
    }

    /// Whether the filters let the chunk through.
    pub(super) fn may_have(&self, id: &ChunkId) -> bool {
        let prefix = prefix(id);
        self.partitions_of(prefix).any(|partition| self.filters[partition].contains(prefix))
    }

    /// The partitions in which the prefix can be: nearly always one.
    fn partitions_of(&self, prefix: u64) -> std::ops::Range<usize> {
        // The fences of partitions are every so many of the blocks'.
        let count = self.filters.len();
        let point = |is_before: &dyn Fn(u64) -> bool| {
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                match is_before(self.fences[middle * PARTITION_BLOCKS]) {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            low
        };
        let to = point(&|fence| fence <= prefix);
        // What begins with the prefix may have begun in the partition before.
        let from = match to {
            0 => 0,
            to if self.fences[(to - 1) * PARTITION_BLOCKS] < prefix => to - 1,
            _ => point(&|fence| fence < prefix).saturating_sub(1),
        };
        from..to
    }

    fn find_in_block(
        &self,
        number: u64,
        id: &ChunkId,
        tell: &mut impl FnMut(u64, Entry),
    ) -> Result<(), SegmentError> {
        let mut block = [0; BLOCK_BYTES];
        self.read_blocks(number, &mut block)?;
        let (entries, _) = block.as_chunks::<ENTRY_BYTES>();
        let entries = &entries[..self.entries_of_block(number)];
        let first = entries.partition_point(|entry| entry[..ChunkId::LENGTH] < id.as_bytes()[..]);
        let same = entries[first..].iter().take_while(|entry| entry[..ChunkId::LENGTH] == id.as_bytes()[..]);
        for (place, bytes) in (first..).zip(same) {
            let entry = self.checked(Entry::decode(bytes))?;
            tell(number * BLOCK_ENTRIES as u64 + place as u64, entry);
        }
        Ok(())
    }

    fn entries_of_block(&self, number: u64) -> usize {
        (self.head.entries - number * BLOCK_ENTRIES as u64).min(BLOCK_ENTRIES as u64) as usize
    }

    /// Reads whole blocks from this one on, and checks each.
    fn read_blocks(&self, number: u64, blocks: &mut [u8]) -> Result<(), SegmentError> {
        let read = self.file.read_exact_at(blocks, block_at(number)).map_err(SegmentError::from);
        let (each, _) = blocks.as_chunks_mut::<BLOCK_BYTES>();
        let key = &self.head.key;
        let checked = read.and_then(|()| {
            (number..).zip(each).try_for_each(|(number, block)| check_block(key, number, block))
        });
        checked.inspect_err(|error| self.note_damage(error))
    }

    /// A pack that is not in the table would be looked for in vain.
    fn checked(&self, entry: Entry) -> Result<Entry, SegmentError> {
        if (entry.pack as usize) < self.rows.packs.len() {
            return Ok(entry);
        }
        let error = SegmentError::Damaged("entry");
        self.note_damage(&error);
        Err(error)
    }

    fn note_damage(&self, error: &SegmentError) {
        if !self.is_damaged.swap(true, Ordering::Relaxed) {
            let file = self.path.as_deref().unwrap_or("(unnamed)".as_ref()).display();
            tracing::warn!(%file, %error, "a file of the local index is thrown away and made anew from the vault");
        }
    }
}

/// How many fences are not above the prefix. Prefixes are spread evenly, so that it is known where about to look: from there
/// it is few steps in near memory, and a search by halves would miss the processor's cache with each of its first steps.
fn fences_up_to(fences: &[u64], prefix: u64) -> usize {
    let (Some(first), Some(last)) = (fences.first(), fences.last()) else { return 0 };
    let share = prefix.saturating_sub(*first) as f64 / (last - first).max(1) as f64;
    let guess = ((share * fences.len() as f64) as usize).min(fences.len() - 1);
    let (mut low, mut high, mut step) = (0, fences.len(), GUESS_STEP);
    if fences[guess] <= prefix {
        low = guess + 1;
        while low + step < high {
            match fences[low + step] <= prefix {
                true => low += step + 1,
                false => high = low + step,
            }
            step *= 2;
        }
    } else {
        high = guess;
        while low + step < high {
            match fences[high - step] <= prefix {
                true => low = high - step + 1,
                false => high -= step,
            }
            step *= 2;
        }
    }
    low + fences[low..high].partition_point(|fence| *fence <= prefix)
}

type End = (Rows, Vec<u64>, Vec<Fuse>);

/// Reads the end of the file, hashing what is read: nothing of it is used before the hash is right.
fn read_end(file: &File, head: &Head) -> Result<End, SegmentError> {
    let damaged = || SegmentError::Damaged("end");
    let blocks = head.blocks() as usize;
    let fences_bytes = head.blocks() * 8;
    // Before anything is allocated: the length of the file bounds it.
    if head.rows.bytes() + fences_bytes > head.end_bytes {
        return Err(damaged());
    }
    let mut from = file;
    from.seek(SeekFrom::Start(head.end_at()))?;
    let buffered = BufReader::with_capacity(1 << 20, from.take(head.end_bytes));
    let mut end = Hashing { from: buffered, hasher: blake3::Hasher::new() };
    let rows = Rows::read(&mut end, head.rows)?.ok_or_else(damaged)?;
    let mut fences = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        let mut fence = [0; 8];
        end.read_exact(&mut fence)?;
        fences.push(u64::from_le_bytes(fence));
    }
    // Whoever looks for a prefix counts on it.
    if !fences.is_sorted() {
        return Err(damaged());
    }
    let mut filters = Vec::with_capacity(head.partitions() as usize);
    for _ in 0..head.partitions() {
        let mut bytes = [0; FUSE_HEAD_BYTES];
        end.read_exact(&mut bytes)?;
        let filter = Fuse::from_head(&bytes, PARTITION_BLOCKS * BLOCK_ENTRIES);
        let mut filter = filter.ok_or_else(damaged)?;
        end.read_exact(filter.fingerprints_mut())?;
        filters.push(filter);
    }
    let is_all = end.read(&mut [0])? == 0;
    match is_all && *end.hasher.finalize().as_bytes() == head.end_hash {
        true => Ok((rows, fences, filters)),
        false => Err(damaged()),
    }
}

struct Hashing<R> {
    from: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Reads the entries of a segment in order.
#[derive(Debug)]
pub(super) struct SegmentCursor {
    segment: Arc<Segment>,
    /// The place of the entry that comes next.
    next: u64,
    /// Blocks from `first_block` on.
    blocks: Vec<u8>,
    first_block: u64,
}

impl SegmentCursor {
    /// From the first entry on.
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, next: 0, blocks: Vec::new(), first_block: 0 }
    }

    /// Goes on with the entry in this place, or a later one; blocks in between are not read.
    pub(super) fn skip_to(&mut self, place: u64) {
        self.next = self.next.max(place);
    }

    /// The place of the entry that comes next.
    pub(super) fn place(&self) -> u64 {
        self.next
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
        let place = self.next;
        if place >= self.segment.entries() {
            return Ok(None);
        }
        let block = place / BLOCK_ENTRIES as u64;
        let held = (self.blocks.len() / BLOCK_BYTES) as u64;
        if block < self.first_block || block >= self.first_block + held {
            let count = BLOCKS_AT_ONCE.min(self.segment.head.blocks() - block);
            self.blocks.resize(count as usize * BLOCK_BYTES, 0);
            self.first_block = block;
            if let Err(error) = self.segment.read_blocks(block, &mut self.blocks) {
                self.blocks.clear();
                return Err(error);
            }
        }
        let at = (block - self.first_block) as usize * BLOCK_BYTES
            + (place % BLOCK_ENTRIES as u64) as usize * ENTRY_BYTES;
        let bytes = self.blocks[at..].first_chunk().expect("the block is held");
        self.next += 1;
        Ok(Some(self.segment.checked(Entry::decode(bytes))?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fences_up_to;

    proptest! {
        #[test]
        fn fences_are_counted_right_however_they_are_spread(
            mut fences in proptest::collection::vec(prop_oneof![any::<u64>(), 0..50u64, u64::MAX - 9..=u64::MAX], 0..300),
            prefix in prop_oneof![any::<u64>(), 0..50u64, u64::MAX - 9..=u64::MAX],
        ) {
            fences.sort_unstable();
            prop_assert_eq!(fences_up_to(&fences, prefix), fences.partition_point(|fence| *fence <= prefix));
        }
    }
}
