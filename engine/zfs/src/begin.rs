//! The first record of a stream, BEGIN, as far as a holder has to see it before it lets the kernel receive: which snapshot it is,
//! on what it builds, and whether it is of a form that is taken here (OpenZFS, `include/sys/zfs_ioctl.h`, `drr_begin`).

use crate::guid::SnapshotGuid;

/// Length of a record without its payload.
pub const RECORD_BYTES: usize = 312;

/// `DMU_BACKUP_MAGIC`.
const MAGIC: u64 = 0x2_F5BA_CBAC;

const TYPE_BEGIN: u32 = 0;

/// Where fields begin.
const TYPE_AT: usize = 0;
const MAGIC_AT: usize = 8;
const VERSION_AT: usize = 16;
const TO_AT: usize = 40;
const FROM_AT: usize = 48;

/// Lowest two bits of the version: a stream by itself. Others are packages of several (`-R`, `-I`).
const HEADER_MASK: u64 = 3;
const HEADER_SUBSTREAM: u64 = 1;

/// Feature flags begin at this bit.
const FEATURES_AT: u32 = 2;
/// Features of streams that nobody sends here: deduplicated ones (0, 1), and redacted ones (21).
const FEATURES_REFUSED: u64 = 1 | 1 << 1 | 1 << 21;
const FEATURE_RAW: u64 = 1 << 24;

/// What BEGIN says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The snapshot.
    pub to: SnapshotGuid,
    /// On what it builds; nothing for a full.
    pub from: Option<SnapshotGuid>,
    /// Whether it is as it is encrypted on disk.
    pub is_raw: bool,
}

/// A first record that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// It is no BEGIN.
    #[error("it does not begin as a stream of ZFS does")]
    NotOne,
    /// It is a package of streams.
    #[error("it is a package of several streams")]
    Package,
    /// It has features that are never sent here.
    #[error("it is deduplicated or redacted (features {0:#x})")]
    Features(u64),
}

impl Begin {
    /// Reads it, of either byte order.
    pub fn parse(record: &[u8; RECORD_BYTES]) -> Result<Self, BeginError> {
        let bytes = |at: usize| -> [u8; 8] { std::array::from_fn(|place| record[at + place]) };
        let is_little = match (u64::from_le_bytes(bytes(MAGIC_AT)), u64::from_be_bytes(bytes(MAGIC_AT))) {
            (MAGIC, _) => true,
            (_, MAGIC) => false,
            _ => return Err(BeginError::NotOne),
        };
        let number =
            |at| if is_little { u64::from_le_bytes(bytes(at)) } else { u64::from_be_bytes(bytes(at)) };
        let kind: [u8; 4] = std::array::from_fn(|place| record[TYPE_AT + place]);
        // 0 in either order.
        if u32::from_le_bytes(kind) != TYPE_BEGIN {
            return Err(BeginError::NotOne);
        }
        let version = number(VERSION_AT);
        if version & HEADER_MASK != HEADER_SUBSTREAM {
            return Err(BeginError::Package);
        }
        let features = version >> FEATURES_AT;
        if features & FEATURES_REFUSED != 0 {
            return Err(BeginError::Features(features));
        }
        let from = Some(number(FROM_AT)).filter(|guid| *guid != 0).map(SnapshotGuid);
        Ok(Self { to: SnapshotGuid(number(TO_AT)), from, is_raw: features & FEATURE_RAW != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: u64, is_little: bool) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        for (at, number) in [(MAGIC_AT, MAGIC), (VERSION_AT, version), (TO_AT, 7), (FROM_AT, 6)] {
            let bytes = if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
            record[at..at + 8].copy_from_slice(&bytes);
        }
        record
    }

    #[test]
    fn the_snapshot_is_read_in_either_byte_order() {
        for is_little in [true, false] {
            let version = HEADER_SUBSTREAM | FEATURE_RAW << FEATURES_AT;
            let begin = Begin::parse(&record(version, is_little)).expect("it is one");
            assert_eq!((begin.to, begin.from, begin.is_raw), (SnapshotGuid(7), Some(SnapshotGuid(6)), true));
        }
    }

    #[test]
    fn packages_and_what_is_never_sent_are_refused() {
        assert_eq!(Begin::parse(&record(2, true)), Err(BeginError::Package));
        assert_eq!(Begin::parse(&record(1 | 1 << 23, true)), Err(BeginError::Features(1 << 21)));
        assert_eq!(Begin::parse(&[0; RECORD_BYTES]), Err(BeginError::NotOne));
        let mut other = record(1, true);
        other[0] = 1;
        assert_eq!(Begin::parse(&other), Err(BeginError::NotOne));
    }
}
