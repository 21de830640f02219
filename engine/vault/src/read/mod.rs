//! Reading chunks: which stretches of which packs, then open and check each record.

mod fetch;
mod older;
mod plan;
mod sealed;
mod whole;

pub use fetch::{ChunkReader, LostChunk, Opened};
pub use plan::{Appetite, PackRead, plan_reads};
pub(crate) use sealed::SealedReader;
