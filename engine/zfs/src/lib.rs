//! ZFS datasets as sources: how they are snapshotted, sent and received, and how a replica is kept that can take over
//! (docs/zfs.md). Owns what stands on pools and in which order it comes there; sockets, vaults and the schedule are
//! others'. All of it blocks and belongs on ordinary threads.

mod aside;
pub mod begin;
pub mod error;
pub mod forget;
pub mod guid;
pub mod lag;
mod library;
pub mod name;
mod nvlist;
pub mod plan;
pub mod prune;
pub mod replicate;
pub mod role;
pub mod state;
pub mod system;
pub mod take;
pub mod token;
pub mod worker;
pub mod zfs;

/// The kind of such sources, as points carry it.
pub const KIND: &str = "zfs";
