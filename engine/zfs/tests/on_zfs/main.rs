//! Replication on a real OpenZFS. What needs one is marked `#[ignore]` and runs in the virtual machine of `cargo xtask test zfs`;
//! the same decisions on ZFS in memory are `replication`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../replication/dying.rs"]
mod dying;
mod on_openzfs;
mod pools;
