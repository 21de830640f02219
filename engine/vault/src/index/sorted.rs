//! Several sorted sequences of entries read as one, so that all entries of a chunk come together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use backstay_core::id::ChunkId;

use super::entry::Entry;
use super::head::SegmentError;

/// A sequence that is sorted by chunk.
pub(super) trait Sorted {
    /// The next entry.
    fn next(&mut self) -> Result<Option<Entry>, SegmentError>;
}

/// Sequences, merged.
#[derive(Debug)]
pub(super) struct Merged<S> {
    sources: Vec<S>,
    /// The entry of each source that comes next; only those that the heap names count.
    heads: Vec<Option<Entry>>,
    heap: BinaryHeap<Reverse<(ChunkId, usize)>>,
}

impl<S: Sorted> Merged<S> {
    /// Reads the first entry of each.
    pub(super) fn new(mut sources: Vec<S>) -> Result<Self, SegmentError> {
        let heads = sources.iter_mut().map(S::next).collect::<Result<Vec<_>, _>>()?;
        let ids = heads.iter().enumerate();
        let heap = ids.filter_map(|(source, head)| Some(Reverse((head.as_ref()?.id, source)))).collect();
        Ok(Self { sources, heads, heap })
    }

    /// The next entry, and which sequence it is of.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Entry)>, SegmentError> {
        let Some(mut least) = self.heap.peek_mut() else { return Ok(None) };
        let source = least.0.1;
        let next = self.sources[source].next()?;
        match &next {
            Some(next) => *least = Reverse((next.id, source)),
            None => drop(PeekMut::pop(least)),
        }
        let entry = std::mem::replace(&mut self.heads[source], next);
        Ok(entry.map(|entry| (source, entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sorted for std::vec::IntoIter<Entry> {
        fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
            Ok(Iterator::next(self))
        }
    }

    fn source(ids: &[u8]) -> std::vec::IntoIter<Entry> {
        let entry =
            |n: &u8| Entry { id: ChunkId::new([*n; 32]), pack: 0, offset: 0, length: 0, plain_length: 0 };
        ids.iter().map(entry).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn entries_of_one_chunk_come_together_whichever_sequence_they_are_of() {
        let sources = vec![source(&[1, 3, 3]), source(&[]), source(&[2, 3]), source(&[0, 9])];
        let mut merged = Merged::new(sources).expect("reads");
        let mut seen = Vec::new();
        while let Some((source, entry)) = merged.next().expect("reads") {
            seen.push((entry.id.as_bytes()[0], source));
        }
        assert_eq!(seen, [(0, 3), (1, 0), (2, 2), (3, 0), (3, 0), (3, 2), (9, 3)]);
    }
}
