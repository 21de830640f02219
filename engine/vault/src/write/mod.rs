//! The way of bytes into a vault: chunks are named, sealed and packed by a pool of threads, and packs
//! go up while the next ones fill. Every queue is bounded.

mod budget;
mod packer;
mod pool;
mod writer;
mod written;

pub(crate) use packer::{Packer, StoredPack};
pub use pool::{CpuPool, Worker};
pub use writer::{ChunkWriter, Ticket, WriteMeter, WriteTotals};
pub use written::Written;
