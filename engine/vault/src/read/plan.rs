//! Which stretches of packs to read for a set of chunks: each range of a pack once, near ones
//! together. Pure.

use backstay_core::id::{ChunkId, PackId};

use crate::index::Location;
use crate::pack::PACK_BYTES_MAX;

/// Records with no more than this between them are read together anywhere, bytes.
const GAP_BYTES_MAX: u32 = 64 << 10;

/// The same where requests cost, bytes, as long as no more is read in vain than is wanted.
const BRIDGED_BYTES_MAX: u32 = 1 << 20;

/// What a request costs more than so many bytes of an answer do, where requests cost.
const REQUEST_BYTES: u64 = 512 << 10;

/// Longest read, bytes; one longer record is read alone.
const READ_BYTES_MAX: u32 = 8 << 20;

/// How reads are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appetite {
    /// Longest read, bytes.
    read_bytes_max: u32,
    /// Longest gap that is read along while it makes up for a request, bytes.
    bridged_bytes_max: u32,
    /// Whether packs are read whole of which half is wanted, or a fourth in so many places that it costs less: what else is in
    /// them may be wanted next.
    takes_whole: bool,
}

impl Appetite {
    /// Of who reads from a store whose requests cost nothing: hardly anything is read that is not wanted.
    pub const SPARING: Self =
        Self { read_bytes_max: READ_BYTES_MAX, bridged_bytes_max: GAP_BYTES_MAX, takes_whole: false };

    /// Of who reads from a store whose requests cost: one request more costs as much time as many bytes.
    pub const BRIDGING: Self = Self { bridged_bytes_max: BRIDGED_BYTES_MAX, ..Self::SPARING };

    /// The same for who has memory for whole packs.
    pub const WHOLE_PACKS: Self =
        Self { read_bytes_max: PACK_BYTES_MAX as u32, takes_whole: true, ..Self::BRIDGING };

    /// The appetite for chunks of a store, by whether its requests cost.
    pub fn for_store(requests_cost: bool) -> Self {
        if requests_cost { Self::BRIDGING } else { Self::SPARING }
    }

    /// Whether the pack is read whole of which these reads were planned.
    fn takes_whole(self, reads: &[PackRead]) -> bool {
        let Some(PackRead { pack_bytes, .. }) = reads.first() else { return false };
        let pack_bytes = u64::from(*pack_bytes);
        let records = || reads.iter().flat_map(|read| &read.records);
        let wanted_bytes: u64 = records().map(|(.., length)| u64::from(*length)).sum();
        let pieces: u64 = reads.iter().map(|read| u64::from(read.length) + REQUEST_BYTES).sum();
        let is_mostly_wanted = pack_bytes <= 2 * wanted_bytes;
        let is_worth_it = records().count() > 1 && pack_bytes <= (4 * wanted_bytes).min(pieces);
        let all_are_in_it =
            reads.iter().all(|read| u64::from(read.offset) + u64::from(read.length) <= pack_bytes);
        self.takes_whole
            && (is_mostly_wanted || is_worth_it)
            && all_are_in_it
            && pack_bytes <= u64::from(self.read_bytes_max)
    }

    /// Whether the record at `next` is read with this stretch, of which so many bytes are wanted.
    fn joins(self, read: &PackRead, wanted_bytes: u32, next: &Location) -> bool {
        let end = read.offset.saturating_add(read.length);
        if read.pack != next.pack || next.offset < end {
            return false;
        }
        let (gap, length) = (next.offset - end, (next.offset - read.offset).saturating_add(next.length));
        let in_vain = (read.length - wanted_bytes).saturating_add(gap);
        let is_near = gap <= GAP_BYTES_MAX;
        let is_worth_it =
            gap <= self.bridged_bytes_max && in_vain <= wanted_bytes.saturating_add(next.length);
        (is_near || is_worth_it) && length <= self.read_bytes_max
    }
}

/// One stretch of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRead {
    /// The pack.
    pub pack: PackId,
    /// How long the pack is, bytes.
    pub pack_bytes: u32,
    /// Where the stretch begins, bytes.
    pub offset: u32,
    /// How long it is, bytes.
    pub length: u32,
    /// The records in it: chunk, where the record begins within the stretch, its length.
    pub records: Vec<(ChunkId, u32, u32)>,
}

impl PackRead {
    /// A read of one record.
    pub(super) fn alone(chunk: ChunkId, at: &Location) -> Self {
        let Location { pack, pack_bytes, offset, length, .. } = *at;
        Self { pack, pack_bytes, offset, length, records: vec![(chunk, 0, length)] }
    }

    /// Whether all of a record is in it.
    pub fn has(&self, place: &Location) -> bool {
        let at = place.offset.checked_sub(self.offset);
        self.pack == place.pack
            && at.is_some_and(|at| u64::from(at) + u64::from(place.length) <= u64::from(self.length))
    }
}

/// Plans the reads for these chunks, in order of pack and offset. A chunk that is asked for twice is read once.
pub fn plan_reads(mut wanted: Vec<(ChunkId, Location)>, appetite: Appetite) -> Vec<PackRead> {
    wanted.sort_unstable_by_key(|(id, at)| (at.pack, at.offset, *id));
    wanted.dedup();
    let mut reads = Vec::new();
    for of_pack in wanted.chunk_by(|(_, one), (_, next)| one.pack == next.pack) {
        let first = reads.len();
        plan_pack(of_pack, appetite, &mut reads);
        if appetite.takes_whole(&reads[first..]) {
            reads.truncate(first);
            reads.push(whole_pack(of_pack));
        }
    }
    reads
}

/// One read of a pack from its beginning to its end.
fn whole_pack(wanted: &[(ChunkId, Location)]) -> PackRead {
    let Location { pack, pack_bytes, .. } = wanted[0].1;
    let records = wanted.iter().map(|(id, at)| (*id, at.offset, at.length)).collect();
    PackRead { pack, pack_bytes, offset: 0, length: pack_bytes, records }
}

/// The reads for records of one pack.
fn plan_pack(wanted: &[(ChunkId, Location)], appetite: Appetite, reads: &mut Vec<PackRead>) {
    let first = reads.len();
    // Of the last one.
    let mut wanted_bytes = 0u32;
    for (id, at) in wanted {
        match reads[first..].last_mut() {
            Some(read) if appetite.joins(read, wanted_bytes, at) => {
                read.records.push((*id, at.offset - read.offset, at.length));
                read.length = at.offset - read.offset + at.length;
                wanted_bytes = wanted_bytes.saturating_add(at.length);
            }
            _ => {
                wanted_bytes = at.length;
                reads.push(PackRead::alone(*id, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pack: u8, offset: u32, length: u32) -> Location {
        Location { pack: PackId::new([pack; 32]), pack_bytes: u32::MAX, offset, length, plain_length: 1 }
    }

    fn chunk(n: u8) -> ChunkId {
        ChunkId::new([n; 32])
    }

    #[test]
    fn neighbours_are_read_together_and_each_once() {
        let reads = plan_reads(
            vec![
                (chunk(2), at(1, 200, 50)),
                (chunk(1), at(1, 100, 100)),
                (chunk(3), at(2, 0, 10)),
                (chunk(1), at(1, 100, 100)),
                (chunk(4), at(1, 1 << 20, 10)),
            ],
            Appetite::SPARING,
        );
        assert_eq!(reads.len(), 3);
        assert_eq!((reads[0].offset, reads[0].length), (100, 150));
        assert_eq!(reads[0].records, [(chunk(1), 0, 100), (chunk(2), 100, 50)]);
    }

    #[test]
    fn a_read_stays_below_its_bound() {
        let wanted: Vec<_> = (0..20).map(|n| (chunk(n), at(1, u32::from(n) << 20, 1 << 20))).collect();
        let reads = plan_reads(wanted.clone(), Appetite::BRIDGING);
        assert!(reads.len() >= 3 && reads.iter().all(|read| read.length <= READ_BYTES_MAX));
        assert_eq!(plan_reads(wanted, Appetite::WHOLE_PACKS).len(), 1);
    }

    /// Every `step`th of the records of 100 KiB of a pack of 320 of them.
    fn every(step: usize) -> Vec<(ChunkId, Location)> {
        (0..320).step_by(step).map(|n| (chunk(n as u8), at(1, n as u32 * (100 << 10), 100 << 10))).collect()
    }

    #[test]
    fn where_requests_cost_a_pack_of_which_half_is_wanted_is_read_at_once() {
        for (step, sparing, whole) in [(1, 4, 1), (2, 160, 1), (3, 107, 54)] {
            let counts = [Appetite::SPARING, Appetite::WHOLE_PACKS].map(|a| plan_reads(every(step), a).len());
            assert_eq!(counts, [sparing, whole], "one of {step} is wanted");
        }
    }

    #[test]
    fn no_more_is_read_in_vain_than_is_wanted_but_for_small_gaps() {
        // Small records with gaps of all sizes.
        for seed in 1..50u32 {
            let (mut offset, mut wanted) = (0u32, Vec::new());
            for n in 0..200u32 {
                let length = 1 + (n * seed * 7919) % (300 << 10);
                let gap = (n * seed * 104_729) % (600 << 10);
                wanted.push((chunk(n as u8), at(1, offset, length)));
                offset += length + gap;
            }
            for read in plan_reads(wanted, Appetite::WHOLE_PACKS) {
                let useful: u32 = read.records.iter().map(|(.., length)| length).sum();
                let gaps = read.records.len() as u32 * GAP_BYTES_MAX;
                assert!(read.length <= 2 * useful + gaps, "{} for {useful} bytes", read.length);
            }
        }
    }

    #[test]
    fn a_pack_of_which_half_is_wanted_is_read_to_its_end_and_a_fourth_in_many_places() {
        let of = |pack_bytes: u32, records: &[(u32, u32)]| -> Vec<PackRead> {
            let place = |(offset, length): &(u32, u32)| Location { pack_bytes, ..at(1, *offset, *length) };
            let wanted = records.iter().zip(0u8..).map(|(record, n)| (chunk(n), place(record)));
            plan_reads(wanted.collect(), Appetite::WHOLE_PACKS)
        };
        let lengths = |reads: Vec<PackRead>| reads.iter().map(|read| read.length).collect::<Vec<_>>();
        let mib = 1 << 20;
        let half = of(32 * mib, &[(mib, 4 * mib), (10 * mib, 4 * mib), (20 * mib, 8 * mib)]);
        assert_eq!(half[0].records[1], (chunk(1), 10 * mib, 4 * mib));
        assert_eq!(lengths(half), [32 * mib]);
        assert_eq!(lengths(of(32 * mib, &[(mib, 4 * mib), (20 * mib, 4 * mib)])), [4 * mib, 4 * mib]);
        // A third of it in many places.
        let places: Vec<(u32, u32)> = (0..16).map(|n| (n * (600 << 10), 200 << 10)).collect();
        assert_eq!(lengths(of(16 * (600 << 10), &places)), [16 * (600 << 10)]);
        assert_eq!(lengths(of(mib, &[(900_000, 10)])), [10]);
        // An index that says what cannot be.
        assert_eq!(lengths(of(10, &[(0, 10), (900_000, 10)])), [10, 10]);
    }

    #[test]
    fn one_small_record_is_read_alone() {
        let reads = plan_reads(
            vec![(chunk(1), at(1, 5 << 20, 3000)), (chunk(2), at(1, 6 << 20, 3000))],
            Appetite::WHOLE_PACKS,
        );
        assert_eq!(reads.iter().map(|read| read.length).collect::<Vec<_>>(), [3000, 3000]);
    }
}
