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
        let mut referred_bytes = 0u64;
        let mut groups: HashMap<ChunkId, Group> = HashMap::new();
        let mut failure = None;
        let mut look = |LiveBytes { chunk, bytes }| {
            referred_bytes = referred_bytes.saturating_add(bytes);
            if let Some(group) = groups.get_mut(&chunk) {
                group.live_bytes = group.live_bytes.saturating_add(bytes);
            } else if (Group { plain_bytes: GROUP_BYTES_MAX as u64, live_bytes: bytes }).is_sparse()
                && groups.len() < GROUPS_MAX
            {
                let places = self.vault.places(&chunk).unwrap_or_else(|error| {
                    failure.get_or_insert(error);
                    Vec::new()
                });
                let plain_bytes = places.first().map_or(0, |place| u64::from(place.plain_length));
                let group = Group { plain_bytes, live_bytes: bytes };
                if group.is_sparse() {
                    groups.insert(chunk, group);
                }
            }
        };
        run.parts.iter().try_for_each(|part| part_live(reader, part, &mut look))?;
        if let Some(error) = failure {
            return Err(error);
        }
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

/// A data chunk, and how much of it is referred to.
struct Group {
    plain_bytes: u64,
    live_bytes: u64,
}

impl Group {
    fn is_sparse(&self) -> bool {
        self.live_bytes.saturating_mul(100) < self.plain_bytes.saturating_mul(LIVE_PERCENT)
    }
}
