//! Groups: small files put together into one chunk, in walk order, with ends that the contents choose, so
//! that a change moves one group and not all that follow.

use backstay_core::id::ChunkId;
use bytes::{Bytes, BytesMut};

/// Files below this size are grouped, bytes.
pub const SMALL_FILE_BYTES: usize = 64 << 10;

/// From here on a file may end its group, bytes.
const GROUP_BYTES_LEAST: usize = 192 << 10;

/// No group is greater, bytes.
pub const GROUP_BYTES_MAX: usize = 512 << 10;

/// A file ends its group when the first byte of its hash is below this.
const END_BELOW: u8 = 32;

/// A closed group: one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The contents of its files, one after the other.
    pub contents: Bytes,
    /// Its number, rising from 0.
    pub number: u64,
}

/// Where a small file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Number of the group.
    pub group: u64,
    /// Where its contents begin in the group, bytes.
    pub offset: u32,
}

/// Collects small files into groups.
#[derive(Debug, Default)]
pub struct GroupBuilder {
    contents: BytesMut,
    number: u64,
}

impl GroupBuilder {
    /// Adds a stretch of data of a small file, with its keyed hash. Returns where it went, and the groups that this closes:
    /// one before it when it does not fit any more, its own when it ends it.
    pub fn add(&mut self, data: &[u8], hash: &ChunkId) -> (Placed, Vec<Group>) {
        debug_assert!(data.len() < SMALL_FILE_BYTES, "only small files are grouped");
        let mut closed = Vec::new();
        if self.contents.len() + data.len() > GROUP_BYTES_MAX {
            closed.extend(self.close());
        }
        let placed = Placed { group: self.number, offset: self.contents.len() as u32 };
        self.contents.extend_from_slice(data);
        if self.contents.len() >= GROUP_BYTES_LEAST && hash.as_bytes()[0] < END_BELOW {
            closed.extend(self.close());
        }
        (placed, closed)
    }

    /// Closes the group that is open, if there is one.
    pub fn close(&mut self) -> Option<Group> {
        if self.contents.is_empty() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        Some(Group { contents: std::mem::take(&mut self.contents).freeze(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(files: &[Vec<u8>]) -> Vec<Bytes> {
        let mut builder = GroupBuilder::default();
        let mut groups = Vec::new();
        for file in files {
            let hash = ChunkId::new(*blake3::hash(file).as_bytes());
            groups.extend(builder.add(file, &hash).1);
        }
        groups.extend(builder.close());
        groups.into_iter().map(|group| group.contents).collect()
    }

    fn files() -> Vec<Vec<u8>> {
        (0..2000u32).map(|n| n.to_le_bytes().repeat(500 + n as usize % 1000)).collect()
    }

    #[test]
    fn groups_are_bounded_and_hold_everything_in_order() {
        let groups = groups(&files());
        assert!(groups.iter().all(|group| group.len() <= GROUP_BYTES_MAX));
        assert!(groups[..groups.len() - 1].iter().all(|group| group.len() >= GROUP_BYTES_LEAST));
        assert_eq!(groups.concat(), files().concat());
    }

    #[test]
    fn a_changed_file_changes_few_groups() {
        let before = groups(&files());
        let mut changed = files();
        changed[700] = b"other".to_vec();
        let after = groups(&changed);
        let kept = after.iter().filter(|group| before.contains(group)).count();
        assert!(kept + 3 >= after.len(), "{kept} of {} groups stay", after.len());
    }

    #[test]
    fn a_file_is_where_its_place_says() {
        let mut builder = GroupBuilder::default();
        let (first, _) = builder.add(b"one", &ChunkId::new([255; 32]));
        let (second, _) = builder.add(b"two", &ChunkId::new([255; 32]));
        let group = builder.close().expect("open");
        assert_eq!((first.group, second.group, group.number), (0, 0, 0));
        assert_eq!(&group.contents[second.offset as usize..], b"two");
    }
}
