//! Which groups of small files a run should not refer to any more: most of what is in them, nobody needs. Owns the
//! choice; `split` writes what is still needed anew.

use std::collections::{BTreeMap, HashMap};

use backstay_core::fold::Cursor;
use backstay_core::id::ChunkId;
use backstay_core::kind::{ChunkRange, KindRules};
use backstay_core::run::Run;

use super::Custodian;
use super::merge::unreadable;
use crate::error::VaultError;
use crate::split::{GROUP_BYTES_MAX, SMALL_FILE_BYTES};
use crate::table::{LiveBytes, RunCursor, part_live};

/// A group is sparse when less than this share of it is referred to, in percent.
const LIVE_PERCENT: u64 = 75;

/// What is freed has to be one part of so many, at least, of all that the run refers to.
const WORTH_ONE_IN: u64 = 32;

/// Groups that one run gives up at once; the others at its next merge.
const GROUPS_MAX: usize = 1 << 16;

/// Stretches in them, which bounds the memory of a split.
const RANGES_MAX: usize = 1 << 20;

/// The stretches of one chunk that are referred to, which do not overlap, in order of offset.
pub(super) type Ranges = BTreeMap<u32, u32>;

/// Groups to be given up, in the order in which the run comes to them, and what is needed of each.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) order: Vec<ChunkId>,
    pub(super) ranges: HashMap<ChunkId, Ranges>,
}

impl Custodian<'_> {
    /// The sparse groups to which this run refers and none of `others`; none where giving them up frees little.
    pub(super) fn sparse(
        &self,
        rules: &dyn KindRules,
        run: &Run,
        others: &[&Run],
    ) -> Result<Sparse, VaultError> {
        let reader = &self.reader;
        let mut candidates = Candidates::default();
        let mut failure = None;
        let mut look = |live: LiveBytes| {
            candidates.look(live, || {
                let places = self.vault.places(&live.chunk).unwrap_or_else(|error| {
                    failure.get_or_insert(error);
                    Vec::new()
                });
                places.first().map_or(0, |place| u64::from(place.plain_length))
            });
        };
        run.parts.iter().try_for_each(|part| part_live(reader, part, &mut look))?;
        if let Some(error) = failure {
            return Err(error);
        }
        if !candidates.groups.is_empty() {
            let mut add = |live| candidates.add(live);
            run.parts.iter().try_for_each(|part| part_live(reader, part, &mut add))?;
        }
        let Candidates { mut groups, referred_bytes } = candidates;
        groups.retain(|_, group| group.is_sparse());
        for part in others.iter().flat_map(|run| &run.parts) {
            if !groups.is_empty() {
                part_live(reader, part, &mut |live| {
                    groups.remove(&live.chunk);
                })?;
            }
        }
        let freed: u64 = groups.values().map(|group| group.plain_bytes - group.live_bytes).sum();
        match freed > referred_bytes / WORTH_ONE_IN {
            true => self.ranges(rules, run, &groups),
            false => Ok(Sparse::default()),
        }
    }

    /// Goes through the run for what it needs of these groups.
    fn ranges(
        &self,
        rules: &dyn KindRules,
        run: &Run,
        groups: &HashMap<ChunkId, Group>,
    ) -> Result<Sparse, VaultError> {
        let mut sparse = Sparse::default();
        let mut count = 0;
        let mut tell = |range: ChunkRange| {
            if !groups.contains_key(&range.chunk) {
                return;
            }
            if !sparse.ranges.contains_key(&range.chunk) {
                if count >= RANGES_MAX {
                    return;
                }
                sparse.order.push(range.chunk);
            }
            add(sparse.ranges.entry(range.chunk).or_default(), range);
            count += 1;
        };
        let mut cursor = RunCursor::new(self.reader.clone(), &run.parts, b"");
        while cursor.advance().map_err(VaultError::from)? {
            let entry = cursor.entry();
            if let Some(value) = entry.change.value() {
                rules.references(entry.key, value, &mut tell).map_err(unreadable)?;
            }
        }
        // Files that are not small are read by other rules: a capture counts on their chunks.
        let has_large = |ranges: &Ranges| ranges.values().any(|length| *length as usize >= SMALL_FILE_BYTES);
        sparse.order.retain(|chunk| !has_large(&sparse.ranges[chunk]));
        Ok(sparse)
    }
}

/// Adds a stretch; one that overlaps with others becomes one with them.
fn add(ranges: &mut Ranges, range: ChunkRange) {
    let (mut begins, mut end) = (range.offset, range.offset.saturating_add(range.length));
    while let Some((offset, length)) = ranges.range(..end).next_back().map(|(at, length)| (*at, *length))
        && offset + length > begins
    {
        ranges.remove(&offset);
        (begins, end) = (begins.min(offset), end.max(offset + length));
    }
    ranges.insert(begins, end - begins);
}

/// Groups that may be sparse: first it is looked which are in some part of the run, then all that refers to these is added
/// up. One of which nearly all is needed may be sparse in each of several parts.
#[derive(Debug, Default)]
struct Candidates {
    groups: HashMap<ChunkId, Group>,
    /// What the run refers to at all.
    referred_bytes: u64,
}

impl Candidates {
    fn look(&mut self, LiveBytes { chunk, bytes }: LiveBytes, plain_bytes: impl FnOnce() -> u64) {
        self.referred_bytes = self.referred_bytes.saturating_add(bytes);
        let is_sparse = |plain_bytes| Group { plain_bytes, live_bytes: bytes }.is_sparse();
        let may_be = is_sparse(GROUP_BYTES_MAX as u64) && !self.groups.contains_key(&chunk);
        if !may_be || self.groups.len() == GROUPS_MAX {
            return;
        }
        let plain_bytes = plain_bytes();
        // A greater chunk is no group, and is not to be read into memory with others.
        if is_sparse(plain_bytes) && plain_bytes <= GROUP_BYTES_MAX as u64 {
            self.groups.insert(chunk, Group { plain_bytes, live_bytes: 0 });
        }
    }

    fn add(&mut self, LiveBytes { chunk, bytes }: LiveBytes) {
        if let Some(group) = self.groups.get_mut(&chunk) {
            group.live_bytes = group.live_bytes.saturating_add(bytes);
        }
    }
}

/// A data chunk, and how much of it is referred to.
#[derive(Debug)]
struct Group {
    plain_bytes: u64,
    live_bytes: u64,
}

impl Group {
    fn is_sparse(&self) -> bool {
        self.live_bytes.saturating_mul(100) < self.plain_bytes.saturating_mul(LIVE_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(chunk: u8, bytes: u64) -> LiveBytes {
        LiveBytes { chunk: ChunkId::new([chunk; 32]), bytes }
    }

    /// The groups that are sparse by these references, each of a part of its own; all groups are so large.
    fn sparse(references: &[LiveBytes], plain_bytes: u64) -> Vec<u8> {
        let mut candidates = Candidates::default();
        references.iter().for_each(|live| candidates.look(*live, || plain_bytes));
        references.iter().for_each(|live| candidates.add(*live));
        let sparse = candidates.groups.iter().filter(|(_, group)| group.is_sparse());
        let mut sparse: Vec<u8> = sparse.map(|(chunk, _)| chunk.as_bytes()[0]).collect();
        sparse.sort_unstable();
        sparse
    }

    #[test]
    fn a_group_is_sparse_by_what_all_parts_of_a_run_need_of_it() {
        let references = [live(1, 900), live(2, 400), live(3, 400), live(1, 50), live(2, 400), live(3, 300)];
        assert_eq!(sparse(&references, 1000), [3], "of 1 and 2 more is needed than one part tells");
    }

    #[test]
    fn a_chunk_that_is_greater_than_any_group_is_none() {
        assert_eq!(sparse(&[live(1, 10)], GROUP_BYTES_MAX as u64), [1]);
        assert_eq!(sparse(&[live(1, 10)], GROUP_BYTES_MAX as u64 + 1), Vec::<u8>::new());
    }
}
