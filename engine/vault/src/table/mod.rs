//! Sorted tables: runs as blocks of prefix-compressed entries (docs/format.md, section 7). Owns blocks,
//! index blocks, live tables and the part's root; where chunks come from and go to are seams.

mod block;
mod contents;
mod cursor;
mod live;
mod part;
mod root;

pub use block::{BlockBuilder, BlockReader};
pub use contents::{part_chunks, part_live, referred_bytes};
pub use cursor::{ChunkSource, PartCursor, RunCursor, TableError};
pub use live::{LiveBytes, LiveTable};
pub use part::{MetaSink, PartWriter, keeping_part};
pub use root::{IndexRow, PartRoot, decode_index};
