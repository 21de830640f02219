//! Reading parts and runs in key order, from the beginning or from a key, a few blocks at a time.

use std::collections::VecDeque;

use backstay_core::fold::Cursor;
use backstay_core::id::ChunkId;
use backstay_core::run::{Entry, PartRef};

use super::block::BlockReader;
use super::root::{IndexRow, PartRoot, decode_index};
use crate::malformed::{Malformed, decode_cbor};

/// How many blocks are fetched at once, at most; bounds the memory of a stack of runs. It begins with one, and doubles
/// while they are read one after the other.
const BLOCKS_AHEAD: usize = 8;

/// Gives metadata chunks by their ids.
pub trait ChunkSource {
    /// Why a chunk could not be had.
    type Error;

    /// The plaintexts of these metadata chunks, in the order asked for.
    fn fetch_meta(&self, chunks: &[ChunkId]) -> Result<Vec<Vec<u8>>, Self::Error>;
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError<E> {
    /// A chunk could not be had.
    #[error(transparent)]
    Source(E),
    /// A chunk does not hold what it should.
    #[error("block {chunk} of a run: {cause}; run `backstay vault check`")]
    Malformed {
        /// The chunk.
        chunk: ChunkId,
        /// What is wrong.
        cause: Malformed,
    },
}

/// Reads one part.
#[derive(Debug)]
pub struct PartCursor<S> {
    source: S,
    root: PartRoot,
    next_index: usize,
    rows: VecDeque<IndexRow>,
    /// Blocks that were fetched, each with its place in the index.
    blocks: VecDeque<(IndexRow, Vec<u8>)>,
    current: Option<(ChunkId, BlockReader)>,
    /// How many blocks are fetched next.
    ahead: usize,
    /// The last key of the block before.
    before: Option<Vec<u8>>,
    /// The first and the last key of the part.
    keys: (Vec<u8>, Vec<u8>),
    /// Keys below are passed over.
    from: Vec<u8>,
}

impl<S: ChunkSource> PartCursor<S> {
    /// Opens a part at the first key that is not below `from`.
    pub fn open(source: S, part: &PartRef, from: &[u8]) -> Result<Self, TableError<S::Error>> {
        let root = open_root(&source, part)?;
        let next_index =
            root.index.partition_point(|block| block.first_key.as_slice() <= from).saturating_sub(1);
        let from = from.to_vec();
        Ok(Self {
            source,
            root,
            next_index,
            rows: VecDeque::new(),
            blocks: VecDeque::new(),
            current: None,
            ahead: 1,
            before: None,
            keys: (part.first_key.clone(), part.last_key.clone()),
            from,
        })
    }

    /// The part's root.
    pub fn root(&self) -> &PartRoot {
        &self.root
    }

    /// Where the block begins that comes `further` blocks after the next one, as far as that is known without reading on:
    /// what was fetched, then the index block at hand, then the next index block.
    fn first_key(&self, further: usize) -> Option<&[u8]> {
        let fetched = self.blocks.get(further).map(|(row, _)| row);
        let row = fetched.or_else(|| self.rows.get(further.saturating_sub(self.blocks.len())));
        let next_index = || self.root.index.get(self.next_index).map(|block| block.first_key.as_slice());
        row.map(|row| row.first_key.as_slice()).or_else(next_index)
    }

    /// Leaves out all blocks that end before `key`.
    fn pass_blocks(&mut self, key: &[u8]) {
        let begins_by = |first: Option<&[u8]>| first.is_some_and(|first| first <= key);
        while !self.blocks.is_empty() && begins_by(self.first_key(1)) {
            self.blocks.pop_front();
        }
        if !self.blocks.is_empty() {
            return;
        }
        self.ahead = 1;
        self.pass_rows(key);
        if self.rows.len() == 1 && begins_by(self.first_key(1)) {
            self.rows.clear();
        }
        if self.rows.is_empty() {
            let begun = self.root.index.partition_point(|block| block.first_key.as_slice() <= key);
            self.next_index = self.next_index.max(begun.saturating_sub(1));
        }
    }

    /// Leaves out the blocks of the index block at hand that end before `key`.
    fn pass_rows(&mut self, key: &[u8]) {
        let begun = self.rows.partition_point(|row| row.first_key.as_slice() <= key);
        self.rows.drain(..begun.saturating_sub(1));
    }

    fn load_rows(&mut self) -> Result<(), TableError<S::Error>> {
        if self.rows.is_empty() && self.next_index < self.root.index.len() {
            let chunk = self.root.index[self.next_index].chunk;
            let bytes = fetch_one(&self.source, chunk)?;
            self.rows = decode_index(&bytes).map_err(|cause| TableError::Malformed { chunk, cause })?.into();
            self.next_index += 1;
            let from = std::mem::take(&mut self.from);
            self.pass_rows(&from);
            self.from = from;
        }
        Ok(())
    }

    fn load_blocks(&mut self) -> Result<(), TableError<S::Error>> {
        self.load_rows()?;
        let rows: Vec<IndexRow> = self.rows.drain(..self.ahead.min(self.rows.len())).collect();
        self.ahead = BLOCKS_AHEAD.min(2 * self.ahead);
        let chunks: Vec<ChunkId> = rows.iter().map(|row| row.chunk).collect();
        let plain = self.source.fetch_meta(&chunks).map_err(TableError::Source)?;
        self.blocks.extend(rows.into_iter().zip(plain));
        Ok(())
    }
}

impl<S: ChunkSource> Cursor for PartCursor<S> {
    type Error = TableError<S::Error>;

    fn advance(&mut self) -> Result<bool, Self::Error> {
        loop {
            if let Some((chunk, block)) = &mut self.current {
                let chunk = *chunk;
                let malformed = |cause| TableError::Malformed { chunk, cause };
                while block.advance().map_err(malformed)? {
                    // Within a block keys rise.
                    if self.before.take().is_some_and(|before| before.as_slice() >= block.entry().key) {
                        return Err(malformed(Malformed::Field("order of keys")));
                    }
                    // Whoever reads one part after the other counts on it that keys rise.
                    if block.entry().key < self.keys.0.as_slice() {
                        return Err(malformed(Malformed::Field("key before the beginning of the part")));
                    }
                    if block.entry().key >= self.from.as_slice() {
                        self.from.clear();
                        return Ok(true);
                    }
                }
                if block.last_key() > self.keys.1.as_slice() {
                    return Err(malformed(Malformed::Field("key beyond the end of the part")));
                }
                self.before = Some(block.last_key().to_vec());
                self.current = None;
            }
            if self.blocks.is_empty() {
                self.load_blocks()?;
            }
            match self.blocks.pop_front() {
                Some((row, bytes)) => self.current = Some((row.chunk, BlockReader::new(bytes))),
                None => return Ok(false),
            }
        }
    }

    fn seek(&mut self, key: &[u8]) -> Result<bool, Self::Error> {
        if self.first_key(0).is_some_and(|first| first <= key) {
            self.before =
                self.current.take().map(|(_, block)| block.last_key().to_vec()).or(self.before.take());
            self.pass_blocks(key);
        }
        if self.from.as_slice() < key {
            self.from = key.to_vec();
        }
        self.advance()
    }

    fn entry(&self) -> Entry<'_> {
        self.current.as_ref().expect("the cursor stands at an entry").1.entry()
    }
}

/// Reads one run: its parts one after the other.
#[derive(Debug)]
pub struct RunCursor<S> {
    source: S,
    parts: VecDeque<PartRef>,
    from: Vec<u8>,
    current: Option<PartCursor<S>>,
}

impl<S: ChunkSource + Clone> RunCursor<S> {
    /// Reads these parts, from the first key that is not below `from`.
    pub fn new(source: S, parts: &[PartRef], from: &[u8]) -> Self {
        let parts = parts.iter().filter(|part| part.last_key.as_slice() >= from).cloned().collect();
        Self { source, parts, from: from.to_vec(), current: None }
    }
}

impl<S: ChunkSource + Clone> Cursor for RunCursor<S> {
    type Error = TableError<S::Error>;

    fn advance(&mut self) -> Result<bool, Self::Error> {
        loop {
            if let Some(part) = &mut self.current
                && part.advance()?
            {
                return Ok(true);
            }
            match self.parts.pop_front() {
                Some(part) => self.current = Some(PartCursor::open(self.source.clone(), &part, &self.from)?),
                None => return Ok(false),
            }
        }
    }

    fn seek(&mut self, key: &[u8]) -> Result<bool, Self::Error> {
        self.from = key.to_vec();
        if let Some(part) = &mut self.current
            && part.seek(key)?
        {
            return Ok(true);
        }
        self.current = None;
        while self.parts.front().is_some_and(|part| part.last_key.as_slice() < key) {
            self.parts.pop_front();
        }
        self.advance()
    }

    fn entry(&self) -> Entry<'_> {
        self.current.as_ref().expect("the cursor stands at an entry").entry()
    }
}

/// Reads the root of a part; of a form that this version reads.
pub(super) fn open_root<S: ChunkSource>(
    source: &S,
    part: &PartRef,
) -> Result<PartRoot, TableError<S::Error>> {
    let root = fetch_one(source, part.root)?;
    let malformed = |cause| TableError::Malformed { chunk: part.root, cause };
    let root: PartRoot = decode_cbor(&root).map_err(malformed)?;
    match root.version != 0 || !root.range_tombstones.is_empty() {
        true => Err(malformed(Malformed::Field("version (it uses range tombstones or a newer form)"))),
        false => Ok(root),
    }
}

pub(super) fn fetch_one<S: ChunkSource>(source: &S, chunk: ChunkId) -> Result<Vec<u8>, TableError<S::Error>> {
    let mut plain = source.fetch_meta(&[chunk]).map_err(TableError::Source)?;
    plain.pop().ok_or(TableError::Malformed { chunk, cause: Malformed::Short })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::rc::Rc;

    use backstay_core::run::Change;

    use super::*;
    use crate::chunk::ChunkClass;
    use crate::keys::{Bundle, KeyRing};
    use crate::table::{MetaSink, PartWriter};

    #[derive(Clone)]
    struct Chunks(Rc<KeyRing>, Rc<RefCell<HashMap<ChunkId, Vec<u8>>>>);

    impl MetaSink for Chunks {
        type Error = Infallible;

        fn put_meta(&mut self, plain: Vec<u8>) -> Result<ChunkId, Infallible> {
            let id = self.0.chunk_id(ChunkClass::Meta, &plain).expect("names");
            self.1.borrow_mut().insert(id, plain);
            Ok(id)
        }
    }

    impl ChunkSource for Chunks {
        type Error = ChunkId;

        fn fetch_meta(&self, chunks: &[ChunkId]) -> Result<Vec<Vec<u8>>, ChunkId> {
            chunks.iter().map(|id| self.1.borrow().get(id).cloned().ok_or(*id)).collect()
        }
    }

    /// Counts the chunks that are asked for.
    #[derive(Clone)]
    struct Counted(Chunks, Rc<RefCell<usize>>);

    impl ChunkSource for Counted {
        type Error = ChunkId;

        fn fetch_meta(&self, chunks: &[ChunkId]) -> Result<Vec<Vec<u8>>, ChunkId> {
            *self.1.borrow_mut() += chunks.len();
            self.0.fetch_meta(chunks)
        }
    }

    fn key(n: u32) -> Vec<u8> {
        format!("directory/{n:08}").into_bytes()
    }

    fn write(ring: &Rc<KeyRing>, keys: impl Iterator<Item = u32>) -> (Chunks, PartRef) {
        let mut chunks = Chunks(Rc::clone(ring), Rc::default());
        let mut writer = PartWriter::new();
        for n in keys {
            let value = n.to_le_bytes().repeat(40);
            let entry = Entry { key: &key(n), change: Change::Put(&value), replaced: None };
            writer.push(ring, &mut chunks, &entry).expect("infallible");
        }
        let part = writer.finish(&mut chunks).expect("infallible").expect("not empty");
        (chunks, part)
    }

    fn read(chunks: &Chunks, part: &PartRef, from: &[u8]) -> Vec<Vec<u8>> {
        let mut cursor = PartCursor::open(chunks.clone(), part, from).expect("opens");
        let mut keys = Vec::new();
        while cursor.advance().expect("reads") {
            keys.push(cursor.entry().key.to_vec());
        }
        keys
    }

    #[test]
    fn a_part_of_many_blocks_reads_back_from_any_key() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (chunks, part) = write(&ring, 0..100_000);
        let all: Vec<_> = (0..100_000).map(key).collect();
        assert_eq!(read(&chunks, &part, b""), all);
        for n in [0, 1, 777, 50_000, 99_999] {
            assert_eq!(read(&chunks, &part, &key(n)), all[n as usize..], "from {n}");
        }
        assert!(read(&chunks, &part, b"z").is_empty());
    }

    #[test]
    fn a_part_is_gone_through_in_leaps_and_only_blocks_at_which_one_lands_are_read() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (chunks, part) = write(&ring, 0..100_000);
        for leap in [2, 3, 77, 3000, 20_000, 99_998] {
            let counted = Counted(chunks.clone(), Rc::default());
            let mut cursor = PartCursor::open(counted.clone(), &part, b"").expect("opens");
            let mut at = 0;
            while cursor.seek(&key(at)).expect("reads") {
                assert_eq!(cursor.entry().key, key(at), "leaps of {leap}");
                // What is not there, and lies before the next.
                let (mut between, next) = (key(at), cursor.entry().key < key(99_999).as_slice());
                between.push(0);
                assert_eq!(cursor.seek(&between).expect("reads"), next);
                assert!(!next || cursor.entry().key == key(at + 1), "leaps of {leap}");
                at += leap;
            }
            assert!(at >= 99_998);
            let (landed, read) = (100_000 / leap as usize, *counted.1.borrow());
            assert!(read <= 4 + 3 * landed, "leaps of {leap}: {read} chunks were read for {landed} landings");
        }
    }

    #[test]
    fn seeking_backwards_or_to_the_same_key_moves_to_the_next() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (chunks, part) = write(&ring, 0..5000);
        let mut cursor = PartCursor::open(chunks, &part, b"").expect("opens");
        for (to, lands) in [(2000, 2000), (2000, 2001), (10, 2002), (4999, 4999)] {
            assert!(cursor.seek(&key(to)).expect("reads"));
            assert_eq!(cursor.entry().key, key(lands));
        }
        assert!(!cursor.seek(&key(0)).expect("reads"));
    }

    #[test]
    fn a_part_with_keys_beyond_what_its_reference_says_is_refused() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (chunks, part) = write(&ring, 0..5000);
        let outcome = |part: &PartRef| {
            let mut cursor = PartCursor::open(chunks.clone(), part, b"").expect("opens");
            loop {
                match cursor.advance() {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error.to_string()),
                }
            }
        };
        assert_eq!(outcome(&part), Ok(()));
        let begins_late = PartRef { first_key: key(1), ..part.clone() };
        assert!(outcome(&begins_late).expect_err("refused").contains("before the beginning"));
        let ends_early = PartRef { last_key: key(4998), ..part.clone() };
        assert!(outcome(&ends_early).expect_err("refused").contains("beyond the end"));
    }

    #[test]
    fn equal_stretches_of_two_parts_give_equal_blocks() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (before, _) = write(&ring, 0..50_000);
        let (after, _) = write(&ring, (0..50_000).filter(|n| *n != 300));
        let shared = after.1.borrow().keys().filter(|id| before.1.borrow().contains_key(id)).count();
        let all = after.1.borrow().len();
        assert!(shared * 10 > all * 8, "{shared} of {all} chunks are shared");
    }

    #[test]
    fn a_missing_block_is_an_error_that_names_it() {
        let ring = Rc::new(KeyRing::new(&Bundle::generate()));
        let (chunks, part) = write(&ring, 0..10_000);
        let victim = *chunks.1.borrow().keys().find(|id| **id != part.root).expect("has blocks");
        chunks.1.borrow_mut().remove(&victim);
        let outcome = PartCursor::open(chunks.clone(), &part, b"").and_then(|mut cursor| {
            while cursor.advance()? {}
            Ok(())
        });
        assert!(matches!(outcome, Err(TableError::Source(id)) if id == victim));
    }
}
