//! Splitting: where one chunk ends and the next begins (docs/format.md, section 12). Code of our own with golden
//! boundaries, because a boundary that moves stores everything again.

mod gear;
mod group;

pub use gear::{CHUNK_BYTES_GREATEST, CHUNK_BYTES_LEAST, Gear};
pub use group::{GROUP_BYTES_MAX, Group, GroupBuilder, Placed, SMALL_FILE_BYTES};
