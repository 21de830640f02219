//! Which stretches of packs to read for a set of chunks: each range of a pack once, near ones
//! together. Pure.

use backstay_core::id::{ChunkId, PackId};

use crate::index::Location;

/// Records with no more than this between them are read together, bytes.
const GAP_BYTES_MAX: u32 = 64 << 10;

/// Longest read, bytes; one longer record is read alone.
const READ_BYTES_MAX: u32 = 8 << 20;

/// One stretch of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRead {
    /// The pack.
    pub pack: PackId,
    /// Where the stretch begins, bytes.
    pub offset: u32,
    /// How long it is, bytes.
    pub length: u32,
    /// The records in it: chunk, where the record begins within the stretch, its length.
    pub records: Vec<(ChunkId, u32, u32)>,
}

/// Plans the reads for these chunks, in order of pack and offset. A chunk that is asked for twice is read once.
pub fn plan_reads(mut wanted: Vec<(ChunkId, Location)>) -> Vec<PackRead> {
    wanted.sort_unstable_by_key(|(id, at)| (at.pack, at.offset, *id));
    wanted.dedup();
    let mut reads: Vec<PackRead> = Vec::new();
    for (id, at) in wanted {
        match reads.last_mut() {
            Some(read) if fits(read, &at) => {
                read.records.push((id, at.offset - read.offset, at.length));
                read.length = at.offset - read.offset + at.length;
            }
            _ => reads.push(PackRead {
                pack: at.pack,
                offset: at.offset,
                length: at.length,
                records: vec![(id, 0, at.length)],
            }),
        }
    }
    reads
}

fn fits(read: &PackRead, next: &Location) -> bool {
    let end = read.offset + read.length;
    read.pack == next.pack
        && next.offset >= end
        && next.offset - end <= GAP_BYTES_MAX
        && next.offset - read.offset + next.length <= READ_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pack: u8, offset: u32, length: u32) -> Location {
        Location { pack: PackId::new([pack; 32]), offset, length, plain_length: 1 }
    }

    fn chunk(n: u8) -> ChunkId {
        ChunkId::new([n; 32])
    }

    #[test]
    fn neighbours_are_read_together_and_each_once() {
        let reads = plan_reads(vec![
            (chunk(2), at(1, 200, 50)),
            (chunk(1), at(1, 100, 100)),
            (chunk(3), at(2, 0, 10)),
            (chunk(1), at(1, 100, 100)),
            (chunk(4), at(1, 1 << 20, 10)),
        ]);
        assert_eq!(reads.len(), 3);
        assert_eq!((reads[0].offset, reads[0].length), (100, 150));
        assert_eq!(reads[0].records, [(chunk(1), 0, 100), (chunk(2), 100, 50)]);
    }

    #[test]
    fn a_read_stays_below_its_bound() {
        let reads = plan_reads((0..20).map(|n| (chunk(n), at(1, u32::from(n) << 20, 1 << 20))).collect());
        assert!(reads.len() >= 3 && reads.iter().all(|read| read.length <= READ_BYTES_MAX));
    }
}
