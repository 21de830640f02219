//! What a restore will want soon, by the packs in which it lies: whatever is read of a pack is read with all that is wanted
//! of it. Pure: owns the bounds on how far one looks ahead.

use std::collections::HashMap;

use backstay_core::id::{ChunkId, PackId};
use backstay_vault::index::Location;
use backstay_vault::read::{Appetite, PackRead, plan_reads};

/// Plain bytes that are looked at before they are wanted: those of many packs, since later captures have put what they found
/// changed into packs of their own, of which something is wanted everywhere.
const AHEAD_BYTES: u64 = 1 << 30;

/// Records that are remembered for it.
const EXPECTED_MAX: usize = 1 << 16;

/// Records that will be wanted.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    packs: HashMap<PackId, Vec<Expected>>,
    /// How many.
    count: usize,
    /// Plain bytes of all contents that were looked at, from the beginning of the restore.
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
struct Expected {
    chunk: ChunkId,
    place: Location,
    /// How many plain bytes are wanted before the last file that is known to want it.
    position: u64,
}

impl Foresight {
    /// Whether it has looked far enough, where so many bytes have been asked for.
    pub(super) fn is_far(&mut self, position: u64) -> bool {
        if self.count >= EXPECTED_MAX {
            // What was left out after all, as files are that are there already, is in the way.
            self.packs.retain(|_, expected| {
                expected.retain(|expected| expected.position >= position);
                !expected.is_empty()
            });
            self.count = self.packs.values().map(Vec::len).sum();
        }
        self.count >= EXPECTED_MAX || self.seen >= position.saturating_add(AHEAD_BYTES)
    }

    /// After so many bytes there are contents of this length, in this record; nowhere when it is in memory, or its place is not
    /// known.
    pub(super) fn expect(&mut self, position: u64, length_bytes: u64, record: Option<(ChunkId, Location)>) {
        if let Some((chunk, place)) = record {
            let of_pack = self.packs.entry(place.pack).or_default();
            match of_pack.last_mut() {
                // Small files in a row lie in one record.
                Some(last) if (last.chunk, last.place) == (chunk, place) => last.position = position,
                _ => {
                    of_pack.push(Expected { chunk, place, position });
                    self.count += 1;
                }
            }
        }
        self.seen = self.seen.max(position.saturating_add(length_bytes));
    }

    /// The reads for these records of one pack, which are wanted now, by somebody who has asked for so many bytes before: each
    /// with what is expected besides.
    pub(super) fn plan(
        &mut self,
        pack: PackId,
        wanted: &[(ChunkId, Location)],
        position: u64,
        appetite: Appetite,
    ) -> Vec<PackRead> {
        let expected = self.packs.remove(&pack).unwrap_or_default();
        self.count -= expected.len();
        let places = expected.iter().filter(|expected| expected.position >= position);
        let all = wanted.iter().copied().chain(places.map(|expected| (expected.chunk, expected.place)));
        let mut reads = plan_reads(all.collect(), appetite);
        reads.retain(|read| wanted.iter().any(|(_, place)| read.has(place)));
        let is_read = |expected: &Expected| reads.iter().any(|read| read.has(&expected.place));
        let left: Vec<Expected> = expected.into_iter().filter(|expected| !is_read(expected)).collect();
        self.count += left.len();
        if !left.is_empty() {
            self.packs.insert(pack, left);
        }
        reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u32, pack: u8) -> (ChunkId, Location) {
        let mut id = [pack; 32];
        id[..4].copy_from_slice(&n.to_le_bytes());
        let place = Location {
            pack: PackId::new([pack; 32]),
            pack_bytes: 33 << 20,
            // In no order of wants.
            offset: (n * 7919 % 320) * (100 << 10),
            length: 100 << 10,
            plain_length: 200 << 10,
        };
        (ChunkId::new(id), place)
    }

    fn plan(foresight: &mut Foresight, wanted: &[(ChunkId, Location)], position: u64) -> Vec<PackRead> {
        foresight.plan(wanted[0].1.pack, wanted, position, Appetite::WHOLE_PACKS)
    }

    #[test]
    fn a_pack_of_which_all_is_expected_is_read_at_once_and_never_again() {
        let mut foresight = Foresight::default();
        (0..320).for_each(|n| foresight.expect(u64::from(n) * (200 << 10), 200 << 10, Some(record(n, 1))));
        let reads = plan(&mut foresight, &[record(0, 1), record(1, 1)], 0);
        assert_eq!(reads.iter().map(|read| read.records.len()).collect::<Vec<_>>(), [320]);
        assert_eq!(foresight.count, 0);
    }

    #[test]
    fn what_is_expected_far_from_what_is_wanted_waits() {
        let mut foresight = Foresight::default();
        let far = |n: u32| {
            let (chunk, place) = record(n, 1);
            (chunk, Location { offset: n * (4 << 20), ..place })
        };
        (0..8).for_each(|n| foresight.expect(u64::from(n) * (200 << 10), 200 << 10, Some(far(n))));
        let reads = plan(&mut foresight, &[far(3)], 0);
        assert_eq!(
            reads.iter().map(|read| (read.offset, read.length)).collect::<Vec<_>>(),
            [(12 << 20, 100 << 10)]
        );
        assert_eq!(foresight.count, 7);
    }

    #[test]
    fn what_was_passed_over_is_not_read_along() {
        let mut foresight = Foresight::default();
        (0..320).for_each(|n| foresight.expect(u64::from(n), 1, Some(record(n, 1))));
        let reads = plan(&mut foresight, &[record(319, 1)], 319);
        assert_eq!(reads.iter().map(|read| read.length).collect::<Vec<_>>(), [100 << 10]);
    }

    #[test]
    fn a_record_that_many_files_in_a_row_want_is_remembered_once_and_until_the_last() {
        let mut foresight = Foresight::default();
        (0..2 * EXPECTED_MAX as u64).for_each(|n| foresight.expect(n, 1, Some(record(7, 1))));
        assert_eq!(foresight.count, 1);
        assert!(!foresight.is_far(0), "there is room for others");
        let positions: Vec<u64> =
            foresight.packs.values().flatten().map(|expected| expected.position).collect();
        assert_eq!(positions, [2 * EXPECTED_MAX as u64 - 1], "until the last has had it");
    }

    #[test]
    fn it_looks_as_far_as_its_bounds_and_goes_on_when_more_was_asked_for() {
        let mut foresight = Foresight::default();
        assert!(!foresight.is_far(0));
        foresight.expect(0, AHEAD_BYTES, None);
        assert!(foresight.is_far(0) && !foresight.is_far(1));
        let mut foresight = Foresight::default();
        (0..EXPECTED_MAX as u32)
            .for_each(|n| foresight.expect(u64::from(n), 1, Some(record(n, (n % 200) as u8))));
        assert!(foresight.is_far(0) && !foresight.is_far(1000), "what was passed over makes room");
    }
}
